/** What the model of a disk leaves of a file that is overwritten in place (tests/proof/power-loss.ts). */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Calls } from '../../lib/syscalls/calls.ts'
import { diskAt, type Disk } from '../proof/power-loss.ts'
import { memoryFiles } from '../support/memory/files.ts'
import { callsIn, textIn } from '../support/strace.ts'

/** A file of three blocks of zeros that is on the disk, its calls, and what a cut may leave of it. */
function preallocated(size = 3 * 4096): { calls: Calls; file: number; disk: Disk; left: () => string[] } {
  const { calls, hooks } = memoryFiles()
  calls.mkdirat(-100, '/top', 0o700)
  const disk = diskAt('/top')
  hooks.changed = (made) => {
    disk.apply(made)
  }
  const top = calls.openat(-100, '/top', calls.flags.O_RDONLY | calls.flags.O_DIRECTORY, 0)
  const file = calls.openat(top, 'log', calls.flags.O_RDWR | calls.flags.O_CREAT, 0o600)
  calls.write(file, new Uint8Array(size))
  for (const written of [file, top]) calls.fsync(written)
  const left = (): string[] => {
    const found = new Set<string>()
    for (const tree of disk.afterCut(() => assert.fail('too many'))) {
      const node = tree.get('log')
      assert.equal(node?.kind, 'file')
      found.add(node.bytes.replace(/\0+/g, (zeros) => `<${zeros.length}>`))
    }
    return [...found].sort()
  }
  return { calls, file, disk, left }
}

describe('after a power cut, an overwritten file', () => {
  it('has in each block what was synced, what was written, or the first half of it', () => {
    const { calls, file, left } = preallocated()
    calls.writeAt(file, 'abcd', 10)
    assert.deepEqual(left(), ['<10>ab<12276>', '<10>abcd<12274>', '<12288>'])
    calls.fdatasync(file)
    assert.deepEqual(left(), ['<10>abcd<12274>'])
    calls.writeAt(file, 'wxyz', 4094)
    assert.deepEqual(
      left(),
      [
        '<10>abcd<4080>w<8193>',
        '<10>abcd<4080>w<1>y<8191>',
        '<10>abcd<4080>w<1>yz<8190>',
        '<10>abcd<4080>wx<8192>',
        '<10>abcd<4080>wxy<8191>',
        '<10>abcd<4080>wxyz<8190>',
        '<10>abcd<4082>y<8191>',
        '<10>abcd<4082>yz<8190>',
        '<10>abcd<12274>',
      ].sort(),
    )
    calls.fsync(file)
    assert.deepEqual(left(), ['<10>abcd<4080>wxyz<8190>'])
  })

  it('may have any of the contents that a block had since it was synced', () => {
    const { calls, file, left } = preallocated()
    for (const text of ['aa', 'bb', '\0\0', 'cc']) calls.writeAt(file, text, 0)
    const all = ['<12288>', 'a<12287>', 'aa<12286>', 'ba<12286>', 'bb<12286>', '<1>b<12286>', 'c<12287>', 'cc<12286>']
    assert.deepEqual(left(), all.sort())
    calls.fdatasync(file)
    calls.writeAt(file, 'c', 1)
    assert.deepEqual(left(), ['cc<12286>'])
  })

  it('has what follows the synced bytes as any other file has it', () => {
    const { calls, file, left } = preallocated(4)
    calls.writeAt(file, 'ab', 3)
    assert.deepEqual(left(), ['<3>a', '<3>ab', '<3>a<1>', '<4>', '<4>b', '<5>'].sort())
    calls.fsync(file)
    assert.deepEqual(left(), ['<3>ab'])
  })

  it('stays as it was if its mode changes; what the model does not know it refuses', () => {
    const { calls, file, disk, left } = preallocated(1)
    calls.fchmod(file, 0o400)
    assert.deepEqual(left(), ['<1>'])
    calls.writeAt(file, 'a', 0)
    for (const [name, text] of [
      ['ftruncate', '3, 0'],
      ['pwritev', '3, [], 0, 0'],
    ] as const)
      assert.throws(() => {
        disk.apply({ name, text, paths: ['/top/log'] })
      }, /the model does not know/)
  })
})

it('a long text is read as strace shows it, and none that it has cut short', () => {
  const zeros = '\\0'.repeat(131_072)
  const [call] = callsIn(`7 pwrite64(3</top/log>, "${zeros}\\3771\\n\\\\\\"\\0001", 131078, 4096) = 131078\n`)
  assert.equal(textIn(call?.text ?? ''), `${'\0'.repeat(131_072)}\xff1\n\\"\x001`)
  assert.throws(() => textIn('3</top/log>, "ab"..., 4, 0'), /cut/)
})
