/**
 * A real full disk and a real read-only one: work that needs no space succeeds, and a known client is never refused.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, openSync, readdirSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { fileSystems, onItsOwnDisk } from './own-disk.ts'
import { done, eachArtefact, mayNotReclaim, server, storageFailed, unusableAtStart, type Server } from './server.ts'

/** Fills the disk to the last byte. */
function fill(s: Server): void {
  const file = openSync(join(s.stateDir, 'filler'), 'a')
  for (let size = 1 << 20; size >= 1; size = size >> 1)
    try {
      for (;;) writeSync(file, Buffer.alloc(size))
    } catch {
      // too large: try less
    }
  closeSync(file)
  execFileSync('sync', ['-f', s.stateDir])
  assert.throws(
    () => {
      writeFileSync(join(s.stateDir, 'more'), Buffer.alloc(1 << 16))
    },
    { code: 'ENOSPC' },
  )
}

eachArtefact('on a full disk', (artefact) => {
  for (const name of Object.keys(fileSystems) as (keyof typeof fileSystems)[])
    it(`a known client may reclaim, a remove and the end of grace succeed (${name})`, async () => {
      const s = server(artefact)
      onItsOwnDisk(s, name)
      await s.fullInstanceWith('v40', 'v41', 'gone')
      await s.init()
      fill(s)
      assert.equal((await s.check('v40', 'v4.0')).status, done)
      assert.equal((await s.check('v41', 'v4.1')).status, done)
      assert.equal((await s.check('eve', 'v4.0')).status, mayNotReclaim)
      assert.equal((await s.remove('gone')).status, done)
      assert.equal((await s.graceDone()).status, done)
      assert.equal(s.readState('new_boot_time'), undefined)
      assert.equal((await s.check('v40', 'v4.1')).status, done, 'it was carried over')
      assert.equal((await s.check('v41', 'v4.1')).status, mayNotReclaim)
      assert.equal((await s.remove('v40')).status, done)
    })
})

eachArtefact('on a read-only disk', (artefact) => {
  it('a known client may reclaim, which is logged as critical; nothing else is promised', async () => {
    const s = server(artefact)
    onItsOwnDisk(s, 'ext4 with 1 KiB blocks')
    await s.fullInstanceWith('v40', 'v41')
    await s.init()
    execFileSync('mount', ['-o', 'remount,ro', s.stateDir])
    const said = await s.check('v40', 'v4.0')
    assert.equal(said.status, done)
    assert.match(said.stderr, /critical: "v40" may reclaim, but its record can't be carried over \(EROFS\)/)
    assert.equal((await s.check('v41', 'v4.1')).status, done)
    assert.equal((await s.check('eve', 'v4.1')).status, mayNotReclaim)
    for (const refused of [await s.create('eve', 'v4.1'), await s.remove('v41'), await s.graceDone()]) {
      assert.equal(refused.status, storageFailed)
      assert.match(refused.stderr, /error: .*EROFS/)
    }
    const start = await s.init()
    assert.equal(start.status, unusableAtStart)
    assert.match(
      start.stderr,
      /EROFS; the server goes on without this tracker, so nobody may reclaim after its next start\n$/,
    )
    s.kernelGrace('Y\n')
    assert.equal((await s.check('v41', 'v4.1')).status, mayNotReclaim, 'the kernel has granted new locks')
  })
})

eachArtefact('in a directory that is immutable', (artefact) => {
  it('nothing is promised, and the line says where to look', async () => {
    const s = server(artefact)
    onItsOwnDisk(s, 'ext4')
    await s.fullInstanceWith('ada', 'bob')
    const instance = join(s.stateDir, 'v4clients', s.readState('boot_time')?.trim() ?? '')
    await s.init()
    execFileSync('chattr', ['+i', instance])
    assert.equal((await s.check('ada', 'v4.1')).status, done)
    for (const refused of [await s.create('ada', 'v4.1'), await s.remove('bob')]) {
      assert.equal(refused.status, storageFailed)
      assert.match(refused.stderr, /EPERM, perhaps it is immutable or append-only; see lsattr\(1\)/)
    }
    execFileSync('chattr', ['-i', instance])
    assert.equal((await s.init()).status, done)
    assert.equal((await s.check('bob', 'v4.1')).status, mayNotReclaim, 'the kernel has given away what it had')
  })
})

eachArtefact('an owner that a symbolic link can not hold', (artefact) => {
  for (const name of ['xfs', 'ext4 with 1 KiB blocks'] as const)
    it(`is recorded all the same (${name})`, async () => {
      const s = server(artefact)
      onItsOwnDisk(s, name)
      const owner = new Uint8Array(1024).fill(0xff)
      await s.fullInstanceWith(owner)
      await s.init()
      assert.equal((await s.check(owner, 'v4.0')).status, done)
      assert.equal((await s.create(owner, 'v4.1')).status, done)
      await s.graceDone()
      assert.equal((await s.check(owner, 'v4.1')).status, done)
      const instance = s.readState('boot_time')?.trim() ?? ''
      assert.equal(readdirSync(join(s.stateDir, 'v4clients', instance)).length, 1)
      assert.equal((await s.remove(owner)).status, done)
      assert.equal((await s.check(owner, 'v4.1')).status, mayNotReclaim)
    })
})
