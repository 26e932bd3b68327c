/** A person removes clients and allows them again: the effect is that of an upcall. */
import assert from 'node:assert/strict'
import { readdirSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { ensureDirSync } from 'fs-extra/esm'
import { badArgument, done, forPeople, hex, server, storageFailed, type Server } from '../contract/server.ts'
import { mayReclaim, onTerminal } from '../support/people.ts'
import { barriers, traced } from '../support/strace.ts'

/** The mark of a server instance that could not be recorded. */
const mark = (s: Server): string => join(s.stateDir, '../run/unknown-directory')

forPeople('expire', (artefact) => {
  it('removes clients, named as they are printed, by a prefix, or in hex', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('Linux NFSv4.1 ada', 'Linux NFSv4.1 bob', 'cid', 'dan')
    const { status, stdout } = await s.call([
      'expire',
      '--yes',
      '--prefix',
      'Linux NFSv4.1 ada',
      'Linux\\040NFSv4.1\\040b',
      'cid',
      'cid',
    ])
    assert.equal(status, done)
    assert.deepEqual(stdout.split('\n'), [
      'expired "Linux NFSv4.1 ada"',
      'expired "Linux NFSv4.1 bob"',
      'expired "cid"',
      '',
    ])
    assert.equal((await s.call(['expire', '--yes', '--hex', hex('dan')])).status, done)
    await s.create('eve', 'v4.1')
    await s.init()
    assert.deepEqual(await mayReclaim(s, 'Linux NFSv4.1 ada', 'Linux NFSv4.1 bob', 'cid', 'dan', 'eve'), ['eve'])
  })

  it('in a script removes only clients named by their whole owner: a repeated prefix would mean another client', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('Linux ada', 'Linux adam')
    for (let twice = 0; twice < 2; twice++) await s.call(['expire', '--yes', 'Linux ada'])
    const refused = await s.call(['expire', '--yes', 'Linux ad'])
    assert.equal(refused.status, badArgument)
    assert.match(
      refused.stderr,
      /no client has this whole owner; with --prefix it would mean "Linux adam": 'Linux ad'\n$/,
    )
    await s.init()
    assert.deepEqual(await mayReclaim(s, 'Linux ada', 'Linux adam'), ['Linux adam'])
    assert.equal((await s.call(['expire', '--yes', '--prefix', 'Linux ad'])).status, done)
    assert.deepEqual(await mayReclaim(s, 'Linux ada', 'Linux adam'), [])
  })

  it('in grace removes from every instance, and syncs every directory that could bring a client back once', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob', 'cid')
    await s.init()
    await s.create('bob', 'v4.1')
    const { status, calls } = await traced(s, ['expire', '--yes', 'ada', 'bob'])
    assert.equal(status, done)
    assert.deepEqual(
      barriers(s, calls).map((path) => path.replace(/\d{6,}/, 'T')),
      ['/v4clients/T', '/v4clients/T'],
    )
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob', 'cid'), ['cid'])
  })

  it("changes nothing for a dry run, without a yes, or if one of the names is nobody's or several clients'", async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'adam')
    const before = s.snapshot()
    assert.equal((await s.call(['expire', '--dry-run', 'adam'])).stdout, 'would expire "adam"\n')
    for (const words of [
      ['adam'],
      ['--yes', 'adam', 'eve'],
      ['--yes', 'ad'],
      ['--yes'],
      ['--yes', '--hex', 'zz'],
      ['--yes', 'adam', '--force'],
    ])
      assert.equal((await s.call(['expire', ...words])).status, badArgument, words.join(' '))
    assert.equal(s.snapshot(), before)
    const { expired } = JSON.parse((await s.call(['expire', '--yes', '--json', 'ada'])).stdout) as { expired: unknown }
    assert.deepEqual(
      expired,
      [{ owner: 'ada', owner_hex: hex('ada'), live: null, legacy: false }],
      'a whole owner is meant, though it begins another',
    )
  })

  it('keeps a client that came back while a person was asked, and says so', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    await s.init()
    await s.create('cid', 'v4.1')
    const { status, said } = await onTerminal(s, ['expire', 'ada', 'bob', 'cid'], () => s.create('ada', 'v4.1'))
    assert.equal(status, 1, said)
    assert.match(said, /not expired "ada": it came back meanwhile\r?\nexpired "bob"\r?\nexpired "cid"/)
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob', 'cid'), ['ada'])
  })

  it('reports a client that the kernel still has, and how to revoke its locks as well', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    ensureDirSync(join(s.nfsdDir, 'clients/17'))
    writeFileSync(
      join(s.nfsdDir, 'clients/17/info'),
      'clientid: 0x1\naddress: "192.0.2.1:700"\nstatus: confirmed\nname: "ada"\nminor version: 1\n',
    )
    assert.match((await s.call(['expire', '--yes', 'ada'])).stdout, /echo expire > .*\/clients\/17\/ctl/)
  })
})

forPeople('prune', (artefact) => {
  /**
   * ada has not been seen since the full instance, bob since the first crash. Both crashed instances had some client.
   */
  const crashed = async (s: Server): Promise<void> => {
    await s.fullInstanceWith('ada', 'bob')
    await s.init()
    await s.create('bob', 'v4.1')
    await s.init()
    await s.create('cid', 'v4.1')
    await s.init()
    await s.create('cid', 'v4.1')
  }

  it('removes clients for which that many instances have waited in vain, and names them', async () => {
    const s = server(artefact)
    await crashed(s)
    const dry = await s.call(['prune', '--unseen', '3', '--dry-run'])
    assert.match(dry.stdout, /UNSEEN .*\n +3 .* "ada"\n1 client would be pruned\n$/)
    const { pruned } = JSON.parse((await s.call(['prune', '--unseen', '3', '--yes', '--json'])).stdout) as {
      pruned: { owner: string; instances_unseen: number }[]
    }
    assert.deepEqual(
      pruned.map(({ owner, instances_unseen: unseen }) => [owner, unseen]),
      [['ada', 3]],
    )
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob', 'cid'), ['bob', 'cid'])
    assert.match((await s.call(['prune', '--unseen', '3', '--yes'])).stdout, /^0 clients pruned/)
  })

  it('keeps a client that came back while a person was asked, and says so', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    await s.init()
    await s.create('bob', 'v4.1')
    await s.init()
    await s.create('cid', 'v4.1')
    const { status, said } = await onTerminal(s, ['prune', '--unseen', '1'], () => s.create('bob', 'v4.1'))
    assert.equal(status, done, said)
    assert.match(said, /1 client pruned\r?\nnot pruned "bob": it came back meanwhile/)
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob', 'cid'), ['bob', 'cid'])
  })

  it('asks the kernel to end grace, if no client is left to wait for', async () => {
    const s = server(artefact)
    await crashed(s)
    s.kernelGrace('N\n')
    assert.equal((await s.call(['prune', '--unseen', '3', '--yes'])).status, done)
    assert.equal(s.kernelWasAskedToEndGrace(), false, 'bob is still waited for')
    assert.equal((await s.call(['prune', '--unseen', '1', '--yes'])).status, done)
    assert.equal(s.kernelWasAskedToEndGrace(), true)
  })

  it('finds no client once grace is over, and asks before it changes anything', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    assert.match((await s.call(['prune', '--unseen', '1', '--yes'])).stdout, /^0 clients pruned/)
    await s.init()
    const before = s.snapshot()
    for (const words of [
      [],
      ['--unseen'],
      ['--unseen', '0', '--yes'],
      ['--unseen', '1.5', '--yes'],
      ['--unseen', 'x', '--yes'],
      ['--unseen', '1'],
    ])
      assert.equal((await s.call(['prune', ...words])).status, badArgument, words.join(' '))
    assert.equal(s.snapshot(), before)
  })
})

forPeople('allow', (artefact) => {
  it('lets a client that was removed by mistake reclaim after the next start', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    await s.remove('ada')
    assert.match((await s.call(['allow', 'ada', '--dry-run'])).stdout, /^"ada" could reclaim after the next start\n$/)
    assert.equal((await s.call(['allow', 'ada'])).status, badArgument)
    const { status, stdout } = await s.call(['allow', '--yes', 'ada', 'bob'])
    assert.equal(status, done)
    assert.equal(stdout, '"ada" may reclaim after the next start\n"bob" may reclaim already\n')
    const after = s.snapshot()
    const repeated = await traced(s, ['allow', '--yes', 'ada'])
    assert.equal(repeated.status, done)
    assert.equal(barriers(s, repeated.calls).length, 1, 'the first may have been killed before its barrier')
    assert.equal(s.snapshot(), after)
    await s.init()
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob', 'eve'), ['ada', 'bob'])
  })

  it('in grace lets it reclaim until grace is over, and not after that', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    await s.init()
    await s.remove('ada')
    await s.remove('bob')
    const { stdout } = await s.call(['allow', '--yes', '--json', 'ada', 'bob'])
    const { allowed } = JSON.parse(stdout) as { allowed: { owner: string }[] }
    assert.deepEqual(
      allowed.map(({ owner }) => owner),
      ['ada', 'bob'],
    )
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob'), ['ada', 'bob'])
    await s.create('ada', 'v4.1')
    await s.graceDone()
    await s.init()
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob'), ['ada'])
  })

  it('in a grace period in which all clients have come back makes the directory for it again', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init()
    await s.remove('ada')
    s.kernelGrace('N\n')
    await s.create('bob', 'v4.1')
    assert.equal(s.kernelWasAskedToEndGrace(), true)
    s.kernelGrace('N\n')
    assert.equal((await s.call(['allow', '--yes', 'ada'])).status, done)
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob'), ['ada', 'bob'])
  })

  it('looks again after the answer: the record of a client that came back is kept, and if grace is over meanwhile no client is allowed', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    await s.init()
    await s.remove('ada')
    const cameBack = await onTerminal(s, ['allow', 'ada'], () => s.create('ada', 'v4.1'))
    assert.equal(cameBack.status, done)
    assert.match(cameBack.said, /"ada" may reclaim already/)
    await s.remove('bob')
    const over = await onTerminal(s, ['allow', 'bob'], () => s.graceDone())
    assert.equal(over.status, storageFailed, over.said)
    assert.match(
      over.said,
      /"bob" is not allowed: by now it could only reclaim after the next start; run the command again/,
    )
    await s.init()
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob'), ['ada'])
  })

  it('in a first instance records the client as active, and lets grace last its whole time', async () => {
    const s = server(artefact)
    await s.init()
    s.kernelGrace('N\n')
    assert.equal((await s.call(['allow', '--yes', 'ada'])).status, done)
    await s.create('bob', 'v4.1')
    assert.equal(s.kernelWasAskedToEndGrace(), false)
    await s.graceDone()
    await s.init()
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob'), ['ada', 'bob'])
  })

  it('is refused if it would have no effect', async () => {
    const s = server(artefact)
    const refused = async (why: RegExp): Promise<void> => {
      const { status, stderr } = await s.call(['allow', '--yes', 'ada'])
      assert.equal(status, storageFailed)
      assert.match(stderr, why)
    }
    await refused(/state directory .* is missing/)
    await s.fullInstanceWith('ada')
    await s.remove('ada')
    symlinkSync('0', mark(s))
    await refused(/could not be recorded, or only in part, so after the next start no client may reclaim/)
    unlinkSync(mark(s))
    await s.init()
    s.kernelGrace('Y\n')
    await refused(/grace is over in the kernel, but that is not recorded yet/)
    s.kernelGrace('N\n')
    await s.create('ada', 'v4.1')
    s.kernelGrace('N\n')
    const room = join(s.stateDir, 'v4clients')
    const [link = ''] = readdirSync(room, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('/ada'))
    unlinkSync(join(room, link))
    symlinkSync('session=Y', join(room, link))
    await refused(/a record of "ada" can't be understood/)
    unlinkSync(join(room, 'format-2'))
    s.writeState('new_boot_time', 'never\n')
    await refused(/new_boot_time can't be understood/)
    for (const words of [[], ['--hex', 'xyz'], ['\\9'], ['ada', '--force']])
      assert.equal((await s.call(['allow', '--yes', ...words])).status, badArgument, words.join(' '))
  })
})
