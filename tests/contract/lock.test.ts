/** The lock gives upcalls an order and costs milliseconds. Correctness does not depend on it. */
import assert from 'node:assert/strict'
import {
  existsSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
} from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { ensureDirSync } from 'fs-extra/esm'
import { clockAt, inForeground, settings } from '../support/artefacts.ts'
import { isCall, named, stoppedBefore, traced } from '../support/strace.ts'
import { done, eachArtefact, hex, mayNotReclaim, otherInstance, server, type Server } from './server.ts'

const lockOf = (s: Server): string => join(s.stateDir, 'v4clients/lock')
const waited = /goes on without the lock/

/** The lock of a process that is alive: this test. */
async function heldByTheLiving(s: Server): Promise<void> {
  const name = await holderName(s)
  const startTime = readFileSync('/proc/self/stat', 'latin1').split(') ')[1]?.split(' ')[19] ?? ''
  symlinkSync([process.pid, startTime, ...name.split('.').slice(2)].join('.'), lockOf(s))
}

/** A lock that has been taken over once is removed, so that the others need not wait two seconds each. */
const givenUp = (s: Server): void => {
  rmSync(lockOf(s))
}

/** The helper's name for a holder. It comes from a helper that is killed while it holds the lock. */
async function holderName(s: Server): Promise<string> {
  await traced(s, ['remove', hex('killed')], {}, ['-e', `inject=${named('unlink')}:signal=SIGKILL`])
  const name = readlinkSync(lockOf(s))
  rmSync(lockOf(s))
  return name
}

eachArtefact('the lock', (artefact) => {
  it('is held while an upcall decides, and not a moment longer', async () => {
    const s = server(artefact)
    await s.init()
    const { calls } = await traced(s, ['create', hex('ada')])
    assert.equal(calls.filter(({ text }) => isCall(text, 'symlink', 'lock')).length, 1)
    assert.ok(!existsSync(lockOf(s)))
  })

  it('of a killed holder is taken over at once', async () => {
    const s = server(artefact)
    await s.init()
    const killed = await traced(s, ['create', hex('ada')], {}, [
      '-e',
      `inject=${named('unlink')}:signal=SIGKILL:when=1`,
    ])
    assert.notEqual(killed.status, done)
    assert.ok(existsSync(join(s.stateDir, 'v4clients')) && readlinkSync(lockOf(s)) !== '', 'the lock was left behind')
    const next = await s.create('bob', 'v4.1')
    assert.equal(next.status, done)
    assert.doesNotMatch(next.stderr, waited)
    assert.ok(!existsSync(lockOf(s)))
  })

  it('left by a power cut is taken over at once', async () => {
    const s = server(artefact)
    await s.init()
    const [, , boot, machine, space] = (await holderName(s)).split('.')
    const earlierBoot = `${boot === 'ffffffffffff' ? '0' : 'f'}${boot?.slice(1) ?? ''}`
    symlinkSync([process.pid, 1, earlierBoot, machine, space].join('.'), lockOf(s))
    assert.doesNotMatch((await s.create('ada', 'v4.1')).stderr, waited)
  })

  it('of a dead process is taken over, even if another process now has its id', async () => {
    const s = server(artefact)
    await s.init()
    const [, , ...rest] = (await holderName(s)).split('.')
    symlinkSync([process.pid, 1, ...rest].join('.'), lockOf(s))
    assert.doesNotMatch((await s.create('ada', 'v4.1')).stderr, waited)
  })

  it('of a living holder that never releases it delays the others by two seconds, and they log that', async () => {
    const s = server(artefact)
    await s.init()
    await heldByTheLiving(s)
    const said = await s.create('ada', 'v4.1')
    assert.equal(said.status, done)
    assert.match(said.stderr, new RegExp(`goes on without the lock: held for 2 s by ${process.pid}\\.`))
    assert.ok(said.ms > 1900)
    assert.ok(
      existsSync(join(s.stateDir, 'v4clients')) && readlinkSync(lockOf(s)).startsWith(`${process.pid}.`),
      'it was not stolen',
    )
  })

  it('is neither lost nor stuck if the clock is stepped', async () => {
    const hour = 3600
    for (const ahead of [-hour, hour, 50 * 365 * 24 * hour]) {
      const s = server(artefact)
      await s.init()
      const clock = clockAt(Math.floor(Date.now() / 1000) + ahead)
      const at = (owner: string) => inForeground(artefact, [...settings(s.machine), 'create', hex(owner)], clock)
      // The lock of a dead holder is free, whatever its age seems to be.
      const dead = await holderName(s)
      symlinkSync(dead, lockOf(s))
      lutimesSync(lockOf(s), Date.now() / 1000 + hour, Date.now() / 1000 + hour)
      assert.doesNotMatch((await at('ada')).stderr, waited, `dead, ${ahead}`)
      // That of a living holder is not.
      await heldByTheLiving(s)
      assert.match((await at('bob')).stderr, waited, `alive, ${ahead}`)
      assert.ok(readlinkSync(lockOf(s)).startsWith(`${process.pid}.`))
    }
  })

  it('of another machine is judged by its age', async () => {
    const s = server(artefact)
    await s.init()
    const [, , boot, machine, space] = (await holderName(s)).split('.')
    const theirs = [
      1,
      1,
      boot,
      `${machine?.startsWith('f') === true ? '0' : 'f'}${machine?.slice(1) ?? ''}`,
      space,
    ].join('.')
    symlinkSync(theirs, lockOf(s))
    // Fresh, however long it takes until it is looked at.
    lutimesSync(lockOf(s), Date.now() / 1000 + 60, Date.now() / 1000 + 60)
    assert.match((await s.create('ada', 'v4.1')).stderr, waited)
    lutimesSync(lockOf(s), Date.now() / 1000 - 60, Date.now() / 1000 - 60)
    assert.doesNotMatch((await s.create('bob', 'v4.1')).stderr, waited)
    // Its clock was wrong: it would hold for a year.
    symlinkSync(theirs, lockOf(s))
    lutimesSync(lockOf(s), Date.now() / 1000 + 31_536_000, Date.now() / 1000 + 31_536_000)
    assert.doesNotMatch((await s.create('cal', 'v4.1')).stderr, waited)
  })

  it('that can not be removed does not undo what was done under it', async () => {
    const s = server(artefact)
    await s.init()
    const session = { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' }
    const first = ['-e', `inject=${named('unlink')}:error=EIO:when=1`]
    const said = await traced(s, ['create', hex('ada')], session, first)
    assert.equal(said.status, done)
    assert.match(said.stderr, /warning: the lock can't be removed: EIO/)
    assert.equal((await s.remove('bob')).status, done, 'its holder is dead')
    assert.equal((await s.check('ada', 'v4.1')).status, done)
  })

  it('is taken by no create once grace is over: each is one name, which no other upcall changes', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await heldByTheLiving(s)
    const { status, stderr, calls } = await traced(s, ['create', hex('bob')])
    assert.equal(status, done)
    assert.doesNotMatch(stderr, waited)
    assert.ok(!calls.some(({ text }) => isCall(text, 'symlink', 'lock')))
    assert.match((await s.remove('ada')).stderr, waited, 'a remove waits for it')
  })

  it('is left alone if something else has its name, and the upcall works without it', async () => {
    const s = server(artefact)
    await s.init()
    mkdirSync(lockOf(s))
    const said = await s.create('ada', 'v4.1')
    assert.equal(said.status, done)
    assert.match(said.stderr, waited)
  })

  it('sixty upcalls at once all succeed', async () => {
    const s = server(artefact)
    await s.init()
    const owners = Array.from({ length: artefact.name === 'executable' ? 60 : 20 }, (_, i) => `client ${i}`)
    const said = await Promise.all(owners.map((owner) => s.create(owner, 'v4.1')))
    assert.deepEqual(
      said.map(({ status }) => status).filter((status) => status !== done),
      [],
    )
    await s.graceDone()
    for (const owner of owners.slice(0, 5)) assert.equal((await s.check(owner, 'v4.1')).status, done)
  })
})

eachArtefact('a holder that is stopped and wakes when its lock has been passed by', (artefact) => {
  for (const [title, injection] of [
    ['has dropped', []],
    ['has made worthless, and was killed before it could drop it', ['-e', 'inject=fsync:signal=SIGKILL:when=2']],
  ] as const)
    it(`carries over no record that the end of grace ${title}`, async () => {
      const s = server(artefact)
      await s.fullInstanceWith('ada')
      await s.init()
      const start = s.readState('new_boot_time')?.trim() ?? ''
      // Stopped between looking and moving.
      const wake = await stoppedBefore(s, ['check', hex('ada')], {}, { name: 'rename', nth: 1 })
      await traced(s, ['grace_done'], {}, injection)
      assert.ok(readdirSync(join(s.stateDir, 'v4clients')).includes(`${start}.full`), 'grace is over')
      assert.equal((await wake()).status, mayNotReclaim)
      await s.init()
      assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
    })

  it('ends the grace of its own instance, never that of one which has started meanwhile', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init('100')
    const second = s.readState('new_boot_time')
    await s.create('ada', 'v4.1')
    const wake = await stoppedBefore(s, ['gracedone', '100'], {}, { name: 'rename', nth: 1 })
    assert.equal((await s.init('200')).status, done)
    const third = s.readState('new_boot_time')
    assert.notEqual(third, second)
    assert.equal((await wake()).status, done)
    assert.equal(s.readState('new_boot_time'), third, 'the third is still in grace')
    assert.equal(s.readState('boot_time'), second, 'the second was ended, as the kernel said')
    assert.equal((await s.check('ada', 'v4.1')).status, done)
    assert.equal((await s.graceDone('200')).status, done)
  })

  for (const [moment, status] of [
    ['during', done],
    ['after', otherInstance],
  ] as const)
    it(`ends a grace that has ended already, with a start since, ${moment} the next grace, and takes nothing from anybody`, async () => {
      const s = server(artefact)
      await s.fullInstanceWith('ada', 'bob')
      await s.init('100')
      await s.create('ada', 'v4.1')
      const wake = await stoppedBefore(s, ['gracedone', '100'], {}, { name: 'rename', nth: 1 })
      assert.equal((await s.graceDone('100')).status, done)
      givenUp(s)
      assert.equal((await s.init('200')).status, done)
      assert.equal((await s.create('new', 'v4.1')).status, done)
      if (moment === 'during') assert.equal((await wake()).status, status)
      assert.equal((await s.create('ada', 'v4.1')).status, done)
      assert.equal((await s.graceDone('200')).status, done)
      if (moment === 'after') assert.equal((await wake()).status, status)
      await s.init('300')
      for (const [owner, due] of [
        ['new', done],
        ['ada', done],
        ['bob', mayNotReclaim],
      ] as const)
        assert.equal((await s.check(owner, 'v4.1')).status, due, owner)
    })

  it('records its client in the instance that has started since it found nothing recorded', async () => {
    const s = server(artefact)
    ensureDirSync(s.stateDir)
    const session = { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' }
    const wake = await stoppedBefore(s, ['create', hex('ada')], session, { name: 'symlink', nth: 2 })
    assert.equal((await s.init('100')).status, done)
    const started = s.readState('new_boot_time')
    const woken = await wake()
    assert.equal(woken.status, done, woken.stderr)
    assert.equal(s.readState('new_boot_time'), started)
    assert.equal((await s.graceDone('100')).status, done)
    await s.init('200')
    assert.equal((await s.check('ada', 'v4.1')).status, done)
  })

  it('takes what another upcall has done meanwhile for done, and succeeds', async () => {
    const ended = server(artefact)
    await ended.fullInstanceWith('ada')
    await ended.init('100')
    const checked = server(artefact)
    await checked.fullInstanceWith('ada')
    await checked.init()
    const firstRename = { name: 'rename', nth: 1 }
    const slow = [
      await stoppedBefore(ended, ['gracedone', '100'], {}, firstRename),
      await stoppedBefore(checked, ['check', hex('ada')], {}, firstRename),
    ]
    assert.equal((await ended.graceDone('100')).status, done)
    assert.equal((await checked.check('ada', 'v4.0')).status, done)
    for (const wake of slow) {
      const { status, stderr } = await wake()
      assert.equal(status, done, stderr)
    }
    await checked.graceDone()
    await checked.init()
    assert.equal((await checked.check('ada', 'v4.1')).status, done)
  })
})
