/** The kernel's answers as errors: by the names that people know, in the shape that Node gives them. */
import assert from 'node:assert/strict'
import { constants } from 'node:os'
import { describe, it } from 'node:test'
import { answered, errno, errorName, systemError } from '../../lib/system/errno.ts'
import { nodeCalls } from '../../lib/system/node.ts'

describe('an error number', () => {
  it('is the one of this machine', () => {
    for (const [name, number] of Object.entries(errno)) assert.equal(number, constants.errno[name as keyof typeof constants.errno], name)
  })

  it('has a name, also where this program has no use for it', () => {
    assert.equal(errorName(-errno.ENOSPC), 'ENOSPC')
    assert.equal(errorName(-constants.errno.EMFILE), 'EMFILE')
  })
})

describe('an answer', () => {
  it('that is no error, or a tolerated one, is given back; any other is thrown, with call and path', () => {
    assert.equal(answered(3, 'open', '/x'), 3)
    assert.equal(answered(-errno.ENOENT, 'open', '/x', errno.EEXIST, errno.ENOENT), -errno.ENOENT)
    assert.throws(() => answered(-errno.EIO, 'fsync', '/x', errno.ENOENT), { code: 'EIO', errno: -errno.EIO, syscall: 'fsync', path: '/x' })
    assert.ok(systemError(-errno.EIO, 'fsync', '/x') instanceof Error)
  })

  it("of Node's file system is the kernel's, and a NUL is refused before it is asked", () => {
    const calls = nodeCalls()
    assert.equal(calls.unlink('/proc/no such file'), -errno.ENOENT)
    assert.equal(calls.readlink('/'), -errno.EINVAL)
    assert.equal(calls.entries('/proc/self/stat'), -errno.ENOTDIR)
    assert.equal(calls.fsync(987_654), -constants.errno.EBADF)
    assert.throws(() => calls.open('/a\0b', 0, 0), { code: 'EINVAL' })
  })
})
