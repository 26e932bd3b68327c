/** The kernel's answers as errors: with the names that people know, in the form of Node's errors. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { atFlags } from '../../../lib/syscalls/calls.ts'
import { answered, errno, errorName, systemError } from '../../../lib/syscalls/errno.ts'
import { nodeCalls } from '../../../lib/syscalls/node.ts'

/** Node has no names for these. */
const byHeader = { EUCLEAN: 117, ENOKEY: 126 }

describe('an error number', () => {
  it("is this machine's own", () => {
    const known: Readonly<Record<string, number>> = { ...constants.errno, ...byHeader }
    for (const [name, number] of Object.entries(errno)) assert.equal(number, known[name], name)
  })

  it('has a name, or shows its number', () => {
    assert.equal(errorName(-errno.ENOSPC), 'ENOSPC')
    assert.equal(errorName(-constants.errno.EXDEV), 'EXDEV')
    assert.equal(errorName(-constants.errno.EPROTO), 'errno 71')
  })
})

const here = atFlags.AT_FDCWD

describe('an answer', () => {
  it('that is no error, or a tolerated one, is returned; any other is thrown, with call and path', () => {
    assert.equal(answered(3, 'open', '/x'), 3)
    assert.equal(answered(-errno.ENOENT, 'open', '/x', errno.EEXIST, errno.ENOENT), -errno.ENOENT)
    assert.throws(() => answered(-errno.EIO, 'fsync', '/x', errno.ENOENT), {
      code: 'EIO',
      errno: -errno.EIO,
      syscall: 'fsync',
      path: '/x',
    })
    assert.ok(systemError(-errno.EIO, 'fsync', '/x') instanceof Error)
  })

  it("of Node's file system is the kernel's; a path with a NUL is refused before the kernel is asked", () => {
    const calls = nodeCalls()
    assert.equal(calls.unlinkat(here, '/proc/no such file', 0), -errno.ENOENT)
    assert.equal(calls.readlinkat(here, '/'), -errno.EINVAL)
    assert.equal(calls.openat(here, '/proc/self/stat', calls.flags.O_DIRECTORY, 0), -errno.ENOTDIR)
    assert.equal(calls.fsync(987_654), -errno.EBADF)
    for (const word of ['/a\0b', '/\u0100']) assert.throws(() => calls.openat(here, word, 0, 0), { code: 'EINVAL' })
  })

  it('about a name in an open directory concerns that directory, wherever its path leads by now', () => {
    const calls = nodeCalls()
    const room = mkdtempSync(join(tmpdir(), 'calls-'))
    mkdirSync(join(room, 'mine'))
    const mine = calls.openat(here, join(room, 'mine'), calls.flags.O_DIRECTORY, 0)
    renameSync(join(room, 'mine'), join(room, 'moved'))
    symlinkSync('/etc', join(room, 'mine'))
    assert.equal(calls.symlinkat('\xff', mine, 'na\xefve'), 0)
    assert.equal(calls.readlinkat(mine, 'na\xefve'), '\xff')
    assert.equal(calls.entries(mine), 'l/na\xefve')
    assert.equal(calls.entries(mine), '')
    assert.equal(calls.names(mine, true, ''), 'l/na\xefve')
    assert.equal(calls.close(mine), 0)
    assert.deepEqual(readdirSync(join(room, 'moved'), 'latin1'), ['na\xefve'])
    rmSync(room, { recursive: true })
  })
})
