/** An admin can leave this program: other trackers answer from what it exports. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { ensureDirSync } from 'fs-extra/esm'
import { badArgument, done, forPeople, hex, mayNotReclaim, server, storageFailed } from '../contract/server.ts'
import { beside, exportOf, odd } from '../support/people.ts'
import { nfsdcldOpens, nfsdcldTells, nfsdcltrack, sql } from './peers.ts'

forPeople('export', (artefact) => {
  it('to nfsdcltrack: the real one lets the same clients reclaim, until it ends grace', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob', odd)
    await s.create('old style', 'v4.0')
    const storage = beside(s, 'nfsdcltrack')
    assert.equal(nfsdcltrack(storage, ['init']), done)
    sql(join(storage, 'main.sqlite'), 'DROP TABLE clients; DROP TABLE parameters;')
    const database = beside(s, 'main.sqlite')
    const said = await s.call(['export', '--to', 'nfsdcltrack', '--output', database])
    assert.equal(said.status, done, said.stderr)
    writeFileSync(join(storage, 'main.sqlite'), readFileSync(database))

    const bootTime = String(Math.floor(Date.now() / 1000))
    const check = (owner: string | Buffer, session: 'Y' | 'N'): number | null =>
      nfsdcltrack(storage, ['check', hex(owner)], {
        NFSDCLTRACK_CLIENT_HAS_SESSION: session,
        NFSDCLTRACK_GRACE_START: bootTime,
      })
    assert.equal(nfsdcltrack(storage, ['init']), done)
    assert.equal(sql(join(storage, 'main.sqlite'), "SELECT value FROM parameters WHERE key = 'version'"), '2\n')
    assert.deepEqual([check('ada', 'Y'), check(odd, 'Y'), check('old style', 'N')], [done, done, done])
    assert.notEqual(check('eve', 'Y'), done)
    assert.equal(nfsdcltrack(storage, ['gracedone', bootTime]), done)
    assert.equal(check('old style', 'N'), done, 'it reclaimed')
    assert.notEqual(check('ada', 'Y'), done, 'it did not reclaim in time')
  })

  it('to nfsdcltrack: a client recorded while the clock was ahead does not outlive an end of grace', async () => {
    const s = server(artefact)
    writeFileSync(beside(s, 'clients.json'), exportOf('ada').replace('"recorded":1', '"recorded":99999999999'))
    assert.equal((await s.call(['import', '--yes', beside(s, 'clients.json')])).status, done)
    assert.equal((await s.call(['export', '--to', 'nfsdcltrack', '-o', beside(s, 'main.sqlite')])).status, done)
    assert.equal(
      sql(beside(s, 'main.sqlite'), `SELECT count(*) FROM clients WHERE time < ${Math.floor(Date.now() / 1000)}`),
      '1\n',
    )
  })

  it('to nfsdcld: a client whose name would be taken for the MD5 of another is left out', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', `hash:${'0'.repeat(32)}`)
    const database = beside(s, 'main.sqlite')
    const said = await s.call(['export', '--to', 'nfsdcld', '-o', database])
    assert.equal(said.status, done)
    assert.match(
      said.stderr,
      /1 client left out: an owner that begins with hash: would let another client reclaim there/,
    )
    assert.equal(sql(database, 'SELECT id FROM "rec-0000000000000001"'), 'ada\n')
  })

  it('to nfsdcld: the real one opens it as its own, and does not replace its contents by those of other trackers', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', odd)
    const storage = beside(s, 'nfsdcld')
    await nfsdcldOpens(storage)
    const own = sql(join(storage, 'main.sqlite'), '.schema')
    const database = beside(s, 'main.sqlite')
    assert.equal((await s.call(['export', '--to', 'nfsdcld', '--output', database])).status, done)
    const schema = (text: string): string[] =>
      text.replaceAll('IF NOT EXISTS ', '').replaceAll(' ,', ',').split('\n').sort()
    assert.deepEqual(schema(sql(database, '.schema')), schema(own))
    writeFileSync(join(storage, 'main.sqlite'), readFileSync(database))
    const said = await nfsdcldOpens(storage)
    assert.match(said, /current_epoch=1 recovery_epoch=0/)
    assert.match(said, /sqlite_check_db_health: returning 0/)
    assert.doesNotMatch(said, /num_cltrack_records/)
    const rows = sql(
      join(storage, 'main.sqlite'),
      'SELECT lower(hex(id)), princhash IS NULL FROM "rec-0000000000000001" ORDER BY id',
    )
    assert.equal(rows, `${hex('ada')}|1\n${hex(odd)}|1\n`)
    const told = await nfsdcldTells(storage)
    assert.deepEqual(
      told.map(hex).sort(),
      [hex('ada'), hex(odd)].sort(),
      'that is what it tells the kernel when its server starts',
    )
  })

  it('includes clients that are known by MD5 only', async () => {
    const [s, other] = [server(artefact), server(artefact)]
    await s.fullInstanceWith('ada')
    const hash = '0123456789abcdef0123456789abcdef'
    ensureDirSync(join(s.stateDir, 'v4recovery', hash))
    const storage = beside(s, 'nfsdcld')
    mkdirSync(storage, { mode: 0o700 })
    assert.equal((await s.call(['export', '--to', 'nfsdcld', '-o', join(storage, 'main.sqlite')])).status, done)
    assert.deepEqual(
      (await nfsdcldTells(storage)).map(String).sort(),
      ['ada', `hash:${hash}\0`],
      'as it names them itself',
    )
    writeFileSync(beside(s, 'clients.json'), (await s.call(['export'])).stdout)
    writeFileSync(join(other.nfsdDir, 'nfsv4recoverydir'), `${join(other.stateDir, 'v4recovery')}\n`)
    assert.equal((await other.call(['import', '--yes', beside(s, 'clients.json')])).status, done)
    assert.deepEqual(readdirSync(join(other.stateDir, 'v4recovery')), [hash])
    assert.equal(
      (await other.call(['import', '--yes', join(other.stateDir, 'v4recovery')])).status,
      badArgument,
      'the helper looks there by itself',
    )
  })

  it('and import give back the same clients', async () => {
    const [s, other] = [server(artefact), server(artefact)]
    await s.fullInstanceWith('ada', odd, 'x'.repeat(1000))
    await s.create('old style', 'v4.0')
    const { stdout, status } = await s.call(['export'])
    assert.equal(status, done)
    writeFileSync(beside(s, 'clients.json'), stdout)
    assert.equal((await other.call(['import', '--yes', beside(s, 'clients.json')])).status, done)
    interface Document {
      clients: unknown[]
      match_only: unknown[]
    }
    const back = JSON.parse((await other.call(['export'])).stdout) as Document
    assert.equal(back.clients.length, 4)
    assert.deepEqual(back.clients, (JSON.parse(stdout) as Document).clients)
    assert.deepEqual(Object.keys(back), ['format', 'version', 'exported', 'clients', 'match_only'])
    await other.init()
    for (const owner of ['ada', odd, 'x'.repeat(1000), 'old style'])
      assert.equal((await other.check(owner, 'v4.1')).status, done)
    assert.equal((await other.check('eve', 'v4.1')).status, mayNotReclaim)
  })

  it('in grace includes the clients that may still reclaim, and in a first instance those that are recorded', async () => {
    const s = server(artefact)
    const names = async (): Promise<unknown[]> => {
      const { clients } = JSON.parse((await s.call(['export'])).stdout) as { clients: { owner: string }[] }
      return clients.map(({ owner }) => owner).sort()
    }
    await s.init()
    await s.create('ada', 'v4.1')
    assert.deepEqual(await names(), ['ada'])
    await s.graceDone()
    await s.init()
    await s.create('new', 'v4.1')
    assert.deepEqual(await names(), ['ada', 'new'])
  })

  it('is empty after a server instance that could not be recorded: after the next start nobody may reclaim', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    symlinkSync('0', beside(s, 'run/unknown-directory'))
    const { stdout, stderr } = await s.call(['export'])
    assert.deepEqual((JSON.parse(stdout) as { clients: unknown[] }).clients, [])
    assert.match(stderr, /a server instance ran that could not be recorded/)
    const listed = JSON.parse((await s.call(['list', '--json'])).stdout) as {
      ran_untracked: boolean
      clients: { may_reclaim: boolean }[]
    }
    assert.deepEqual([listed.ran_untracked, listed.clients.map((client) => client.may_reclaim)], [true, [false]])
    const shown = JSON.parse((await s.call(['show', 'ada', '--json'])).stdout) as {
      ran_untracked: boolean
      may_reclaim: boolean
    }
    assert.deepEqual([shown.ran_untracked, shown.may_reclaim], [true, false])
    assert.match((await s.call(['show', 'ada'])).stdout, /but +a server instance ran that could not be recorded/)
  })

  it('makes the directory of a tracker that never ran, and no other', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    const directory = beside(s, 'nfsdcld')
    assert.equal((await s.call(['export', '--to', 'nfsdcld', '-o', join(directory, 'main.sqlite')])).status, done)
    assert.equal(statSync(directory).mode & 0o777, 0o700)
    for (const words of [
      ['-o', join(beside(s, 'nowhere'), 'clients.json')],
      ['--to', 'nfsdcltrack', '-o', join(beside(s, 'nowhere'), 'nfsdcltrack', 'main.sqlite')],
    ]) {
      const said = await s.call(['export', ...words])
      assert.equal(said.status, badArgument)
      assert.match(said.stderr, /^nfsd-userland-helper: error: this directory does not exist: '[^']*\/nowhere[^']*'\n$/)
    }
    assert.equal(existsSync(beside(s, 'nowhere')), false)
  })

  it('changes no records, and no existing file', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    const before = s.snapshot()
    const file = beside(s, 'out.json')
    assert.match((await s.call(['export', '--dry-run', '-o', file])).stdout, /^1 client would be written/)
    assert.equal(existsSync(file), false)
    assert.equal((await s.call(['export', '-o', file])).status, done)
    assert.equal(statSync(file).mode & 0o777, 0o600)
    writeFileSync(file, 'mine')
    assert.equal((await s.call(['export', '-o', file])).status, badArgument)
    assert.equal(readFileSync(file, 'utf8'), 'mine')
    assert.equal(s.snapshot(), before)
    assert.deepEqual(readdirSync(join(s.stateDir, '..')).sort(), ['nfsd', 'out.json', 'run', 'state'])
  })

  it('leaves no file if the disk is full, and reports that', async () => {
    const s = server(artefact)
    const long = Array.from({ length: 20 }, (_, at) => `client ${at} `.padEnd(1000, 'x'))
    writeFileSync(beside(s, 'clients.json'), exportOf(...long))
    assert.equal((await s.call(['import', '--yes', beside(s, 'clients.json')])).status, done)
    const full = beside(s, 'full')
    mkdirSync(full)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'full', full])
    s.atEnd(() => execFileSync('umount', [full]))
    for (const to of ['json', 'nfsdcltrack', 'nfsdcld']) {
      const { status, stderr } = await s.call(['export', '--to', to, '-o', join(full, 'out')])
      assert.deepEqual([status, readdirSync(full)], [storageFailed, []], to)
      assert.match(stderr, /write failed: ENOSPC/, to)
    }
  })

  it('is refused without a file for a database, for an unknown tracker, and without any clients', async () => {
    const s = server(artefact)
    assert.equal((await s.call(['export'])).status, storageFailed)
    await s.fullInstanceWith('ada')
    assert.equal((await s.call(['export', '--to', 'nfsdcld'])).status, badArgument)
    assert.equal((await s.call(['export', '--to', 'ganesha'])).status, badArgument)
    unlinkSync(join(s.stateDir, 'v4clients/format-2'))
    s.writeState('new_boot_time', 'never\n')
    assert.match((await s.call(['export'])).stderr, /new_boot_time .* can't be understood/)
  })
})
