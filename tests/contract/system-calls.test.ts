/** The kernel's calls as each artefact makes them: the same files, whatever their names and wherever they are. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, renameSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { it } from 'node:test'
import { recordLine, recordName } from '../../lib/rules/record.ts'
import type { ClientOwner } from '../../lib/upcall/owner.ts'
import { settings } from '../support/artefacts.ts'
import { traced } from '../support/strace.ts'
import { onItsOwnDisk } from './own-disk.ts'
import { done, eachArtefact, hex, mayNotReclaim, server, storageFailed, unusableAtStart } from './server.ts'

const session = { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' }

eachArtefact('a state directory', (artefact) => {
  const names = {
    'that is not ASCII': 'zustand \u00fc \u72b6\u614b \u{1f512}',
    'with a path as long as paths may be': Array.from({ length: 15 }, () => 'd'.repeat(240)).join('/'),
  }
  for (const [what, name] of Object.entries(names))
    it(`${what} works like any other`, async () => {
      const s = server(artefact)
      const there = ['-s', join(s.nfsdDir, name)]
      assert.equal((await s.call([...there, 'init'])).status, done)
      assert.equal((await s.call([...there, 'create', hex('ada')], session)).status, done)
      assert.equal((await s.call([...there, 'grace_done'])).status, done)
      assert.equal((await s.call([...there, 'init'])).status, done)
      assert.equal((await s.call([...there, 'check', hex('ada')], session)).status, done)
      assert.equal((await s.call([...there, 'check', hex('eve')], session)).status, mayNotReclaim)
      assert.deepEqual(readdirSync(join(s.nfsdDir, name)).sort(), ['boot_time', 'new_boot_time', 'v4clients'])
    })

  it('is the same however its path is spelled', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init()
    for (const spelled of [
      `${s.stateDir}/`,
      `${s.stateDir}/.`,
      `${s.stateDir}//`,
      `${s.nfsdDir}/../${s.stateDir.slice(s.stateDir.lastIndexOf('/') + 1)}`,
    ])
      assert.equal((await s.call(['-s', spelled, 'check', hex('ada')], session)).status, done, spelled)
    for (const spelled of [
      `${s.nfsdDir}/missing/`,
      `${s.nfsdDir}/./missing`,
      `${s.nfsdDir}//missing`,
      `${s.nfsdDir}/../${s.nfsdDir.slice(s.nfsdDir.lastIndexOf('/') + 1)}/missing`,
    ])
      assert.ok(
        (await s.call(['-s', spelled, 'check', hex('ada')], session)).stderr.includes(
          `state directory '${s.nfsdDir}/missing' is missing: is its disk mounted?`,
        ),
        spelled,
      )
  })

  for (const target of ['srv/nfs', '../state-on-disk/srv/nfs'])
    it(`to which a link leads (${target}): if a start fails while its disk is not mounted, nobody may reclaim after the next start`, async () => {
      const s = server(artefact)
      const disk = join(dirname(s.stateDir), 'state-on-disk')
      const there = ['-s', join(disk, 'link')]
      mkdirSync(join(disk, 'srv/nfs'), { recursive: true })
      symlinkSync(target, join(disk, 'link'))
      for (const words of [['init'], ['create', hex('ada')], ['grace_done']])
        assert.equal((await s.call([...there, ...words], session)).status, done)
      renameSync(join(disk, 'srv'), join(disk, 'away'))
      assert.equal((await s.call([...there, 'init'])).status, unusableAtStart)
      renameSync(join(disk, 'away'), join(disk, 'srv'))
      assert.equal((await s.call([...there, 'init'])).status, done)
      assert.equal((await s.call([...there, 'check', hex('ada')], session)).status, mayNotReclaim)
      assert.deepEqual(
        readdirSync(s.runDir).filter((name) => /^[0-9a-f]{64}/.test(name)),
        [],
      )
    })

  it('with a path longer than any is refused, and nothing is made', async () => {
    const s = server(artefact)
    const { status, stderr } = await s.call(['-s', join(s.nfsdDir, 'd/'.repeat(2100)), 'init'])
    assert.equal(status, unusableAtStart)
    assert.match(stderr, /ENAMETOOLONG/)
    assert.ok(!existsSync(join(s.nfsdDir, 'd')))
  })

  it('may be swept by two upcalls at once: what the other has removed meanwhile counts as empty', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    const old = join(s.stateDir, 'v4clients', s.readState('boot_time')?.trim() ?? '')
    await s.init()
    const { status, stderr, calls } = await traced(s, ['grace_done'], {}, [
      '-P',
      old,
      '-e',
      'inject=getdents64:error=ENOENT',
    ])
    assert.ok(calls.some(({ text }) => text.includes('ENOENT (No such file or directory) (INJECTED)')))
    assert.equal(status, done)
    assert.doesNotMatch(stderr, /warning: /)
  })

  it('is understood also on a file system that does not tell the types of entries', async () => {
    const s = server(artefact)
    onItsOwnDisk(s, 'ext4 that tells no types')
    await s.fullInstanceWith('ada')
    await s.init()
    assert.equal((await s.check('ada', 'v4.0')).status, done)
    await s.graceDone()
    const instance = join(s.stateDir, 'v4clients', (s.readState('boot_time') ?? '').trim())
    renameSync(instance, join(s.stateDir, 'elsewhere'))
    symlinkSync('../elsewhere', instance)
    assert.equal((await s.create('new', 'v4.1')).status, storageFailed, 'a link leads out of the state directory')
    assert.equal((await s.check('ada', 'v4.1')).status, storageFailed)
  })

  it('with more clients than one call of the kernel returns is swept completely', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    const old = join(s.stateDir, 'v4clients', (s.readState('boot_time') ?? '').trim())
    for (let i = 0; i < 600; i++) {
      const owner = Buffer.from(`client ${i} that does not come back`) as Uint8Array as ClientOwner
      symlinkSync(recordLine(owner, { session: 'has session', recorded: 1 }), join(old, recordName(owner)))
    }
    await s.init()
    await s.create('ada', 'v4.1')
    const { status, stderr } = await s.graceDone()
    assert.equal(status, done)
    assert.match(stderr, /removed 600 records of clients that did not reclaim/)
    assert.ok(!existsSync(old))
  })

  it('without /proc works the same, or is refused in one line', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init()
    const before = s.snapshot()
    const [program, ...rest] = [...artefact.command, '-f', ...settings(s.machine), 'check', hex('ada')]
    const said = spawnSync('unshare', ['--mount', 'sh', '-c', 'umount -l /proc && exec "$@"', 'sh', program, ...rest], {
      encoding: 'utf8',
      env: { ...process.env, ...session },
    })
    assert.ok(
      said.status === done ||
        (said.status === storageFailed && /^[^\n]*\/proc, and it is not mounted[^\n]*\n$/.test(said.stderr)),
      `${said.status} ${said.stderr}`,
    )
    assert.equal(s.snapshot(), before)
  })

  it('with names that are not UTF-8 keeps these untouched', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    mkdirSync(Buffer.concat([Buffer.from(`${s.stateDir}/v4clients/`), Buffer.from([0x31, 0xff, 0xfe])]))
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, done)
  })
})
