import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, fstatSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { helperParameter } from '../../../lib/kernel/nfsd-module.ts'
import { helperIsOurs, holderOf, watcherOf, whoStays } from '../../../lib/serve/others.ts'
import { atFlags, type Calls } from '../../../lib/syscalls/calls.ts'
import { errno } from '../../../lib/syscalls/errno.ts'
import { nodeCalls } from '../../../lib/syscalls/node.ts'

Object.assign(globalThis, { require: createRequire(import.meta.url) })
const room = mkdtempSync(join(tmpdir(), 'serve-others-'))
after(() => {
  rmSync(room, { recursive: true })
})

/**
 * Whether a server that started while nobody held its pipe is tracked by our helper.
 * @param named the value of the kernel's parameter.
 */
function trackedByOurs(named: string | undefined): boolean {
  const file = join(room, 'cltrack_prog')
  if (named !== undefined) writeFileSync(file, named)
  const calls = nodeCalls()
  return helperIsOurs({
    ...calls,
    openat: (at, path, flags, mode) =>
      path !== helperParameter
        ? calls.openat(at, path, flags, mode)
        : named === undefined
          ? -errno.ENOENT
          : calls.openat(at, file, flags, mode),
  })
}

describe('a server that started while nobody held its pipe', () => {
  const ours = join(room, 'nfsd-userland-helper')
  const another = join(room, 'nfsdcltrack')
  for (const program of [ours, another]) writeFileSync(program, '')

  it('is tracked by our helper if the kernel calls it: sysfs ends the name with a newline', () => {
    assert.equal(trackedByOurs(`${ours}\n`), true)
  })
  it('is not if the kernel calls no helper', () => {
    assert.equal(trackedByOurs(undefined), false)
  })
  it('is not if the kernel calls another helper, one that does not exist, or none', () => {
    for (const named of [`${another}\n`, '/nowhere/nfsd-userland-helper\n', '/nonexistent\n', '\n', ''])
      assert.equal(trackedByOurs(named), false, named)
  })
})

describe('who holds a pipe', () => {
  it('is another process that has it open, never this one', () => {
    mkdirSync(join(room, 'nfsd'))
    const pipe = openSync(join(room, 'nfsd/cld'), 'w+')
    const { dev, ino } = fstatSync(pipe)
    const status = { kind: 'other', uid: 0, mode: 0o600, mtime: 0, device: dev, inode: ino } as const
    assert.equal(holderOf(nodeCalls(), status), undefined)
    const holder = spawn('sleep', ['600'], { stdio: ['ignore', 'ignore', pipe] })
    assert.deepEqual(holderOf(nodeCalls(), status)?.process, holder.pid)
    assert.equal(holderOf(nodeCalls(), { ...status, inode: ino + 1 }), undefined)
    holder.kill()
    closeSync(pipe)
  })
})

describe('a program is started beside another', () => {
  const other = { process: 4711, name: 'nfsdcld' }
  /** @param until the look at which the other is gone. @returns who stays, and how long that took. */
  const afterLooks = (until: number): { stays: unknown; sleptMs: number; looks: number } => {
    let looks = 0
    let sleptMs = 0
    const stays = whoStays({ sleep: (ms) => (sleptMs += ms) }, () => (++looks < until ? other : undefined))
    return { stays, sleptMs, looks }
  }
  it('and is not refused if that one is gone within half a second: it was being killed, or only looked', () => {
    assert.deepEqual(afterLooks(6), { stays: undefined, sleptMs: 500, looks: 6 })
  })
  it('and is refused if that one stays', () => {
    assert.deepEqual(afterLooks(Infinity), { stays: other, sleptMs: 500, looks: 6 })
  })
  it('and does not wait if nobody is there', () => {
    assert.deepEqual(afterLooks(1), { stays: undefined, sleptMs: 0, looks: 1 })
  })
})

describe('who waits for a pipe', () => {
  // Where fdinfo and stat(2) give the same numbers: they do not on overlayfs.
  const directory = mkdtempSync('/dev/shm/serve-others-')
  const script = 'process.title = "nfsdcld"; require("fs").watch(process.argv[1], () => 0); console.log()'
  const watcher = spawn(process.execPath, ['-e', script, directory], { stdio: ['ignore', 'pipe', 'inherit'] })
  const watches = once(watcher.stdout, 'data')
  after(() => {
    watcher.kill()
    rmSync(directory, { recursive: true })
  })
  const found = nodeCalls().fstatat(atFlags.AT_FDCWD, directory, 0)
  assert.ok(typeof found === 'object')
  const status = found

  it('is a process of our user that has the name of a tracker and watches the directory', async () => {
    await watches
    assert.deepEqual(watcherOf(nodeCalls(), status), { process: watcher.pid, name: 'nfsdcld' })
    assert.equal(watcherOf(nodeCalls(), { ...status, inode: status.inode + 1 }), undefined)
    // Anybody may watch there under such a name, which must not keep us from answering.
    const ofAnother = { ...nodeCalls(), userId: () => nodeCalls().userId() + 1 }
    assert.equal(watcherOf(ofAnother, status), undefined)
  })

  for (const [what, opening, reading] of [
    ['that has closed the descriptor, or ended, before it is read', 0, -errno.ENOENT],
    ['that has ended before it is opened', -errno.ESRCH, 0],
  ] as const)
    it(`is no process ${what}`, async () => {
      await watches
      const calls = nodeCalls()
      let opened = ''
      const vanishing: Calls = {
        ...calls,
        openat: (at, path, flags, mode) => {
          opened = path
          return opening !== 0 && isDescriptor(path) ? opening : calls.openat(at, path, flags, mode)
        },
        readText: (descriptor, most) =>
          reading !== 0 && isDescriptor(opened) ? reading : calls.readText(descriptor, most),
      }
      assert.equal(watcherOf(vanishing, status), undefined)
    })
})

const isDescriptor = (path: string): boolean => /^\/proc\/[0-9]+\/fdinfo\/[0-9]+$/.test(path)
