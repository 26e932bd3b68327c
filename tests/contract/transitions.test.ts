/** Who may reclaim, seen from outside: the design thread of 2010, RFC 7530 §9.6.3.4, RFC 8881 §8.4.2.1. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { removeSync } from 'fs-extra/esm'
import { done, eachArtefact, mayNotReclaim, otherInstance, server, storageFailed, unusableAtStart } from './server.ts'

eachArtefact('the reclaim rule', (artefact) => {
  it('a client recorded in the last full instance may reclaim, a stranger may not', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, done)
    assert.equal((await s.check('bob', 'v4.1')).status, mayNotReclaim)
  })

  it('at the first start nobody may reclaim, and the instance is recorded', async () => {
    const s = server(artefact)
    assert.equal((await s.init()).status, done)
    assert.match(s.readState('new_boot_time') ?? '', /^[0-9]+\n$/)
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
    assert.equal((await s.create('ada', 'v4.1')).status, done)
    const started = s.readState('new_boot_time')
    assert.equal((await s.graceDone()).status, done)
    assert.equal(s.readState('boot_time'), started)
    assert.equal(s.readState('new_boot_time'), undefined)
  })

  it('what was recorded in a first grace period that was interrupted may be reclaimed: no grace has ended yet', async () => {
    const s = server(artefact)
    await s.init()
    await s.create('ada', 'v4.1')
    await s.init()
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, done)
    assert.equal((await s.check('bob', 'v4.1')).status, mayNotReclaim)
    await s.graceDone()
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim, 'it has missed a whole grace period by now')
  })

  it('a client that misses one whole grace period may not reclaim in the next (edge condition 2)', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    await s.init()
    await s.create('bob', 'v4.1')
    await s.graceDone()
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
    assert.equal((await s.check('bob', 'v4.1')).status, done)
  })

  it('an expired client may not reclaim, in grace or after the next start (edge condition 1)', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    assert.equal((await s.remove('ada')).status, done)
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
    assert.equal((await s.remove('bob')).status, done)
    assert.equal((await s.check('bob', 'v4.1')).status, mayNotReclaim)
    await s.init()
    assert.equal((await s.check('bob', 'v4.1')).status, mayNotReclaim)
  })

  it('a client that reclaimed and then expired in the same grace period may not reclaim, now or later', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init()
    await s.create('ada', 'v4.1')
    await s.remove('ada')
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
  })

  it('crashes in grace lose no client, also not those that had yet to come back', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    await s.init()
    await s.create('ada', 'v4.1')
    await s.init()
    await s.init()
    for (const owner of ['ada', 'bob']) assert.equal((await s.check(owner, 'v4.1')).status, done, owner)
    await s.create('bob', 'v4.1')
    await s.graceDone()
    await s.init()
    assert.equal((await s.check('bob', 'v4.1')).status, done)
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim, 'ada was silent in the instance that completed')
  })

  it('a check without a session records the client in the new instance, one with a session does not', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('v40', 'v41')
    await s.init()
    assert.equal((await s.check('v40', 'v4.0')).status, done)
    assert.equal((await s.check('v41', 'v4.1')).status, done)
    await s.graceDone()
    await s.init()
    assert.equal((await s.check('v40', 'v4.0')).status, done)
    assert.equal((await s.check('v41', 'v4.1')).status, mayNotReclaim)
  })

  it('a check with a session changes nothing at all', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init()
    const before = s.snapshot()
    assert.equal((await s.check('ada', 'v4.1')).status, done)
    assert.equal((await s.check('bob', 'v4.1')).status, mayNotReclaim)
    assert.equal((await s.check('bob', 'v4.0')).status, mayNotReclaim)
    assert.equal(s.snapshot(), before)
  })

  it('a missing or unknown HAS_SESSION means no session', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init()
    const said = await s.call(['check', Buffer.from('ada').toString('hex')], { NFSDCLTRACK_CLIENT_HAS_SESSION: 'yes' })
    assert.equal(said.status, done)
    assert.match(said.stderr, /NFSDCLTRACK_CLIENT_HAS_SESSION can't be understood/)
    await s.graceDone()
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, done)
  })

  it('a reclaiming client has one record, in the new instance', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init()
    await s.create('ada', 'v4.1')
    const records = s
      .snapshot()
      .split('\n')
      .filter((line) => line.includes('/ada '))
    assert.equal(records.length, 1)
    assert.ok(records[0]?.includes(`/${s.readState('new_boot_time')?.trim() ?? '?'}/`))
  })

  it('both dialects mean the same clients', async () => {
    const s = server(artefact)
    await s.call(['start'])
    await s.call(['create_client', 'Linux\\040NFSv4.1\\040ada'])
    await s.call(['create_client', '\\x626f62'])
    await s.graceDone('17')
    await s.call(['start'])
    assert.equal((await s.check('Linux NFSv4.1 ada', 'v4.1')).status, done)
    assert.equal((await s.check('bob', 'v4.1')).status, done)
    assert.equal((await s.call(['expire_client', 'bob'])).status, done)
    assert.equal((await s.check('bob', 'v4.1')).status, mayNotReclaim)
  })
})

eachArtefact('every upcall may be repeated', (artefact) => {
  it('each verb twice gives the same status and the same verdicts', async () => {
    const s = server(artefact)
    for (const round of ['first instance', 'second instance']) {
      for (let twice = 0; twice < 2; twice++) assert.equal((await s.init('100')).status, done, round)
      for (let twice = 0; twice < 2; twice++) assert.equal((await s.create('ada', 'v4.1')).status, done)
      for (let twice = 0; twice < 2; twice++) assert.equal((await s.create('bob', 'v4.0')).status, done)
      for (let twice = 0; twice < 2; twice++) assert.equal((await s.remove('bob')).status, done)
      for (let twice = 0; twice < 2; twice++) assert.equal((await s.check('ada', 'v4.0')).status, done)
      for (let twice = 0; twice < 2; twice++) assert.equal((await s.check('bob', 'v4.0')).status, mayNotReclaim)
      for (let twice = 0; twice < 2; twice++) assert.equal((await s.graceDone('100')).status, done)
    }
  })

  it('gracedone when grace is over changes nothing', async () => {
    const s = server(artefact)
    await s.init('100')
    await s.create('ada', 'v4.1')
    await s.graceDone('100')
    await s.create('bob', 'v4.1')
    const before = s.snapshot()
    assert.equal((await s.graceDone('100')).status, done)
    assert.equal((await s.graceDone()).status, done)
    assert.equal(s.snapshot(), before)
  })

  it('a client that changes from no session to sessions, and back, keeps one record that says so', async () => {
    const s = server(artefact)
    await s.init()
    await s.create('ada', 'v4.0')
    await s.create('ada', 'v4.1')
    assert.match(s.snapshot(), /\/ada -> v2,session=Y/)
    await s.create('ada', 'v4.0')
    assert.match(s.snapshot(), /\/ada -> v2,session=N/)
    await s.graceDone()
    await s.init()
    await s.create('ada', 'v4.1')
    assert.deepEqual(s.snapshot().match(/\/ada -> v2,session=./g), ['/ada -> v2,session=Y'])
  })
})

eachArtefact('a grace end names its instance', (artefact) => {
  it('that of another instance is refused with ESTALE and changes nothing, in grace and after', async () => {
    const s = server(artefact)
    await s.init('100')
    await s.create('ada', 'v4.1')
    const inGrace = s.snapshot()
    for (const other of ['99', '101', '0', '9223372036854775807'])
      assert.equal((await s.graceDone(other)).status, otherInstance, other)
    assert.equal(s.snapshot(), inGrace)
    await s.graceDone('100')
    const over = s.snapshot()
    assert.equal((await s.graceDone('101')).status, otherInstance)
    assert.equal(s.snapshot(), over)
  })

  it('any is accepted if the start was told none', async () => {
    const s = server(artefact)
    await s.init()
    assert.equal((await s.graceDone('9223372036854775807')).status, done)
    assert.equal(s.readState('new_boot_time'), undefined)
  })

  it('a grace end keeps the old boot time for people, and removes who never reclaimed', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    const first = s.readState('boot_time')
    await s.init()
    await s.create('ada', 'v4.1')
    await s.graceDone()
    assert.equal(s.readState('old_boot_time'), first)
    assert.doesNotMatch(s.snapshot(), /\/bob /)
    const start = s.readState('boot_time')?.trim() ?? ''
    assert.deepEqual(readdirSync(join(s.stateDir, 'v4clients')).sort(), [start, `${start}.full`, 'format-2'])
  })
})

eachArtefact('a missed grace end heals', (artefact) => {
  for (const verb of ['create', 'remove', 'check'] as const)
    it(`a ${verb} that finds the kernel out of grace ends it first`, async () => {
      const s = server(artefact)
      await s.fullInstanceWith('ada', 'bob')
      s.kernelGrace('N\n')
      await s.init()
      await s.create('bob', 'v4.1')
      s.kernelGrace('Y\n')
      const said =
        verb === 'check'
          ? await s.check('bob', 'v4.1')
          : verb === 'create'
            ? await s.create('eve', 'v4.1')
            : await s.remove('nobody')
      assert.equal(said.status, done)
      assert.match(said.stderr, /the kernel is out of grace/)
      assert.equal(s.readState('new_boot_time'), undefined)
      assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
      await s.init()
      s.kernelGrace('N\n')
      assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim, 'somebody else may have had its locks')
      assert.equal((await s.check('bob', 'v4.1')).status, done)
    })

  it('is no error if gracedone follows, and an error at the next start if none does', async () => {
    for (const follows of [true, false]) {
      const s = server(artefact)
      await s.init('1000')
      s.kernelGrace('Y\n')
      const met = await s.create('ada', 'v4.1')
      assert.match(met.stderr, /notice: the kernel is out of grace/)
      assert.doesNotMatch(met.stderr, /error: /)
      if (follows) assert.equal((await s.graceDone('1000')).status, done)
      const next = await s.init('2000')
      assert.equal(/error: the kernel never said/.test(next.stderr), !follows, next.stderr)
    }
  })

  it('is ended by gracedone, and no error later, if the upcall died before it had ended anything', async () => {
    const s = server(artefact)
    await s.init('1000')
    const [partial = ''] = readdirSync(join(s.stateDir, 'v4clients')).filter((name) => name.endsWith('.partial'))
    symlinkSync('-', join(s.stateDir, 'v4clients', partial.replace('partial', 'unasked')))
    assert.equal((await s.graceDone('1000')).status, done)
    assert.doesNotMatch((await s.init('2000')).stderr, /error: /)
  })

  it('a check of a client that did not reclaim in time is refused', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init()
    s.kernelGrace('Y\n')
    assert.equal((await s.check('ada', 'v4.0')).status, mayNotReclaim)
    assert.equal(s.readState('new_boot_time'), undefined)
  })
})

eachArtefact('a state directory that is not there', (artefact) => {
  it('is made by a start, with the directories above it', async () => {
    const s = server(artefact)
    assert.equal((await s.call(['-s', join(s.stateDir, 'a/b/c'), 'init'])).status, done)
    assert.ok(existsSync(join(s.stateDir, 'a/b/c/new_boot_time')))
  })

  it('that was wiped under a running server is rebuilt by the next create', async () => {
    for (const wipe of ['', 'v4clients']) {
      const s = server(artefact)
      await s.fullInstanceWith('ada')
      removeSync(join(s.stateDir, wipe))
      assert.equal((await s.create('bob', 'v4.1')).status, done, `without ${wipe}`)
      await s.init()
      assert.equal((await s.check('bob', 'v4.1')).status, done, `without ${wipe}`)
      assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim, `without ${wipe}`)
    }
  })

  it('makes everything else fail: an unmounted disk must not look like an empty one', async () => {
    const s = server(artefact)
    for (const said of [await s.check('ada', 'v4.1'), await s.remove('ada'), await s.graceDone()]) {
      assert.equal(said.status, storageFailed)
      assert.match(said.stderr, /error: .*missing/)
    }
  })
})

eachArtefact('what is damaged lets nobody reclaim', (artefact) => {
  const junk = [
    '',
    'junk',
    '-5\n',
    '0x10\n',
    '010\n',
    '1e3\n',
    '12 34\n',
    '99999999999999999999\n',
    'x'.repeat(100_000),
    '17\0\n',
  ]

  it('a boot_time that can not be understood is kept as evidence, named, and the service starts', async () => {
    for (const text of junk) {
      const s = server(artefact)
      await s.fullInstanceWith('ada')
      s.asFormat1()
      s.writeState('boot_time', text)
      const said = await s.init()
      assert.equal(said.status, done)
      assert.match(said.stderr, /error: boot_time could not be understood/)
      assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
      const [kept] = readdirSync(join(s.stateDir, 'v4clients/damaged'))
      assert.ok(kept !== undefined && s.readState(`v4clients/damaged/${kept}`) === text, 'the evidence is as it was')
      await s.create('bob', 'v4.1')
      await s.graceDone()
      await s.init()
      assert.equal((await s.check('bob', 'v4.1')).status, done, 'and the next instance is sound')
    }
  })

  it('a new_boot_time that can not be understood hides whether grace ended: nobody may reclaim', async () => {
    for (const text of junk.slice(0, 3)) {
      const s = server(artefact)
      await s.fullInstanceWith('ada')
      await s.init()
      await s.create('ada', 'v4.1')
      s.asFormat1()
      s.writeState('new_boot_time', text)
      assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
      assert.equal((await s.create('bob', 'v4.1')).status, storageFailed)
      assert.equal((await s.graceDone()).status, storageFailed)
      assert.equal((await s.remove('ada')).status, done, 'a client can be taken away all the same')
      assert.equal((await s.init()).status, done)
      assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
      assert.equal(readdirSync(join(s.stateDir, 'v4clients/damaged')).length, 2)
    }
  })

  it('format 1 without its boot time files has no instance, and records of older ones count at no later start', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    s.asFormat1()
    rmSync(join(s.stateDir, 'boot_time'))
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
    assert.equal(readdirSync(join(s.stateDir, 'v4clients/damaged')).length, 1, 'it is kept')
  })

  it('a boot time file that is a link, a directory or a FIFO has no boot time', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    s.asFormat1()
    const text = s.readState('boot_time') ?? ''
    rmSync(join(s.stateDir, 'boot_time'))
    writeFileSync(join(s.nfsdDir, 'elsewhere'), text)
    symlinkSync(join(s.nfsdDir, 'elsewhere'), join(s.stateDir, 'boot_time'))
    assert.equal((await s.init()).status, done)
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
    s.asFormat1()
    rmSync(join(s.stateDir, 'new_boot_time'))
    s.writeState('new_boot_time/x', '')
    assert.equal((await s.init()).status, done)
    assert.equal((await s.create('bob', 'v4.1')).status, done)
    s.asFormat1()
    removeSync(join(s.stateDir, 'boot_time'))
    execFileSync('mkfifo', [join(s.stateDir, 'boot_time')])
    assert.equal((await s.init()).status, done)
    assert.equal((await s.check('bob', 'v4.1')).status, mayNotReclaim)
  })

  it('a boot time file that other users own, or may write to, is ignored', async () => {
    for (const meddle of [
      (path: string) => {
        chownSync(path, 12345, 12345)
      },
      (path: string) => {
        chmodSync(path, 0o666)
      },
    ]) {
      const s = server(artefact)
      await s.fullInstanceWith('ada')
      s.asFormat1()
      meddle(join(s.stateDir, 'boot_time'))
      const said = await s.init()
      assert.equal(said.status, done)
      assert.match(said.stderr, /boot_time could not be understood/)
      assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
    }
  })

  it('a record that was altered, emptied, or renamed to another client is reported and allows nothing', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    const directory = `v4clients/${s.readState('boot_time')?.trim() ?? ''}`
    const line = /\/bob -> (.*)/.exec(s.snapshot())?.[1] ?? ''
    await s.init()
    for (const target of [line, line.replace('=Y', '=N'), 'x', `${line}0`]) {
      rmSync(join(s.stateDir, directory, 'ada'))
      symlinkSync(target, join(s.stateDir, directory, 'ada'))
      const said = await s.check('ada', 'v4.1')
      assert.equal(said.status, mayNotReclaim)
      assert.match(said.stderr, /its record in instance [0-9]+ can't be understood/)
    }
    s.writeState(`${directory}/ada`, '')
    assert.equal((await s.check('ada', 'v4.0')).status, mayNotReclaim)
    assert.equal((await s.check('bob', 'v4.1')).status, done, 'the others are not concerned')
    await s.create('bob', 'v4.1')
    const ended = await s.graceDone()
    assert.equal(ended.status, done)
    assert.match(ended.stderr, /1 record could not be understood: kept in/)
    assert.equal(readdirSync(join(s.stateDir, 'v4clients/damaged')).length, 1)
  })

  it('a record that a newer program wrote is kept and reported, allows nothing, and is never replaced', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    const directory = join(s.stateDir, 'v4clients', s.readState('boot_time')?.trim() ?? '')
    for (const name of ['ada', 'bob']) {
      rmSync(join(directory, name))
      symlinkSync('v3,session=Y,recorded=1795328617,lease=90,check=00000000', join(directory, name))
    }
    await s.init()
    const said = await s.check('ada', 'v4.1')
    assert.equal(said.status, mayNotReclaim)
    assert.match(said.stderr, /a newer program wrote its record in instance [0-9]+/)
    assert.equal((await s.create('ada', 'v4.1')).status, done)
    assert.equal((await s.check('ada', 'v4.1')).status, done)
    await s.graceDone()
    assert.deepEqual(
      readdirSync(join(s.stateDir, 'v4clients/damaged'))
        .map((name) => name.replace(/^[0-9]+-(\w+)\..*/, '$1'))
        .sort(),
      ['ada', 'bob'],
    )
  })

  it('a state directory that a newer program has brought to its own format is refused, and left as it is', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    symlinkSync('-', join(s.stateDir, 'v4clients/format-3'))
    const before = s.snapshot()
    for (const [said, status] of [
      [await s.init(), unusableAtStart],
      [await s.create('ada', 'v4.1'), storageFailed],
      [await s.check('ada', 'v4.1'), storageFailed],
      [await s.graceDone(), storageFailed],
    ] as const) {
      assert.equal(said.status, status)
      assert.match(said.stderr, /is in format 3, which a newer program wrote: this one reads formats up to 2/)
    }
    assert.equal(s.snapshot(), before)
  })

  it('each of many damaged entries is kept under a name of its own, and a kept one is never replaced', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    const directory = join(s.stateDir, 'v4clients', s.readState('boot_time')?.trim() ?? '')
    s.writeState('v4clients/damaged', 'a file of this name is evidence too')
    for (let i = 0; i < 300; i++) writeFileSync(join(directory, `${'x'.repeat(200)}${i}`), `damage ${i}`)
    // An end of grace takes a second at most for this, and the next one goes on.
    for (let ends = 0; existsSync(directory); ends++) {
      assert.ok(ends < 20, 'twenty ends of grace did not move them all')
      await s.init()
      assert.equal((await s.graceDone()).status, done)
    }
    const kept = readdirSync(join(s.stateDir, 'v4clients/damaged'))
    assert.equal(kept.length, 300)
    assert.equal(new Set(kept.map((name) => s.readState(`v4clients/damaged/${name}`))).size, 300)
    assert.ok(readdirSync(join(s.stateDir, 'v4clients')).some((name) => name.startsWith('not-a-directory.')))
  })

  it('a create moves a damaged record aside and records the client', async () => {
    const s = server(artefact)
    await s.init()
    s.writeState(`v4clients/${s.readState('new_boot_time')?.trim() ?? ''}/ada`, 'junk')
    assert.equal((await s.create('ada', 'v4.1')).status, done)
    assert.equal((await s.check('ada', 'v4.1')).status, done)
    assert.equal(readdirSync(join(s.stateDir, 'v4clients/damaged')).length, 1)
  })
})

eachArtefact('an instance is named by a logical clock in the shape of a time', (artefact) => {
  it('it never repeats and never goes backwards, whatever instances there are', async () => {
    const s = server(artefact)
    let last = 0
    for (let i = 0; i < 4; i++) {
      await s.init()
      const start = Number(s.readState('new_boot_time'))
      assert.ok(start > last, `${start} after ${last}`)
      last = start
      if (i % 2 === 1) await s.graceDone()
    }
    const far = last + 100_000_000
    mkdirSync(join(s.stateDir, 'v4clients', String(far)))
    await s.init()
    assert.equal(Number(s.readState('new_boot_time')), far + 1)
  })

  it('at the largest number, a start gets one that can be read back, or fails and says so', async () => {
    for (const [seen, status] of [
      ['999999999998', done],
      ['999999999999', unusableAtStart],
      ['1000000000000', done],
      ['000000000001', done],
    ] as const) {
      const s = server(artefact)
      await s.fullInstanceWith('ada')
      mkdirSync(join(s.stateDir, 'v4clients', seen))
      const said = await s.init()
      assert.equal(said.status, status, seen)
      if (status === unusableAtStart) assert.match(said.stderr, /no start can be later than 999999999999/)
      else assert.equal((await s.check('ada', 'v4.1')).status, done, seen)
    }
  })
})
