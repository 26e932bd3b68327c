/** The file system in memory answers like a real one: the same calls are made on both. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { after, describe, it } from 'node:test'
import fc from 'fast-check'
import { atFlags, type Calls } from '../../lib/syscalls/calls.ts'
import { namesOf } from '../../lib/syscalls/files.ts'
import { nodeCalls } from '../../lib/syscalls/node.ts'
import { expectedOfLocks, locked } from '../support/locked-files.ts'
import { memoryFiles } from '../support/memory/files.ts'
import { countedChanges, expectedCounts } from '../support/watched-names.ts'

/** A tmpfs, so that the errors are the kernel's own, whatever the disk is. */
const scratch = mkdtempSync('/dev/shm/memory-')
after(() => {
  rmSync(scratch, { recursive: true, force: true })
})

const names = ['a', 'b', 'c', 'a/b', 'a/c', 'b/a/c', '.', 'x'.repeat(256)]
const name = fc.constantFrom(...names)
const { AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW } = atFlags

/** A call, as a function of a directory. */
type Step = (calls: Calls, top: number) => unknown

const open = (
  { openat, close }: Calls,
  answer: (descriptor: number) => unknown,
  ...words: Parameters<Calls['openat']>
) => {
  const descriptor = openat(...words)
  if (descriptor < 0) return descriptor
  const seen = answer(descriptor)
  close(descriptor)
  return seen
}
const kindOf = (status: ReturnType<Calls['fstat']>): unknown =>
  typeof status === 'number' ? status : status.kind === 'link' ? status.kind : [status.kind, status.mode, status.uid]

const step: fc.Arbitrary<readonly [string, Step]> = fc.oneof(
  name.map((a): [string, Step] => [`mkdir ${a}`, (calls, top) => calls.mkdirat(top, a, 0o700)]),
  fc
    .tuple(fc.constantFrom('a', 'b/c', '-', 'a/b', 'c'), name)
    .map(([text, a]): [string, Step] => [`symlink ${text} ${a}`, (calls, top) => calls.symlinkat(text, top, a)]),
  name.map((a): [string, Step] => [`unlink ${a}`, (calls, top) => calls.unlinkat(top, a, 0)]),
  fc
    .constantFrom(...names.filter((a) => a !== '.'))
    .map((a): [string, Step] => [`rmdir ${a}`, (calls, top) => calls.unlinkat(top, a, AT_REMOVEDIR)]),
  fc
    .tuple(fc.constantFrom('a', 'b', 'c', 'a/b'), fc.constantFrom('a', 'b', 'c', 'a/b', 'a/c'))
    .map(([a, b]): [string, Step] => [`rename ${a} ${b}`, (calls, top) => calls.renameat(top, a, top, b)]),
  fc
    .tuple(fc.constantFrom('a', 'b', 'a/b'), fc.constantFrom('b', 'c', 'a/c'))
    .map(([a, b]): [string, Step] => [`link ${a} ${b}`, (calls, top) => calls.linkat(top, a, top, b)]),
  name.map((a): [string, Step] => [`readlink ${a}`, (calls, top) => calls.readlinkat(top, a)]),
  name.map((a): [string, Step] => [`stat ${a}`, (calls, top) => kindOf(calls.fstatat(top, a, 0))]),
  name.map((a): [string, Step] => [`lstat ${a}`, (calls, top) => kindOf(calls.fstatat(top, a, AT_SYMLINK_NOFOLLOW))]),
  name.map((a): [string, Step] => [
    `list ${a}`,
    (calls, top) =>
      open(
        calls,
        (descriptor) => {
          const entries = calls.entries(descriptor)
          return typeof entries === 'number'
            ? entries
            : namesOf(entries)
                .map((name, at) => `${name} ${entries.charAt(at)}`)
                .sort()
        },
        top,
        a,
        calls.flags.O_RDONLY | calls.flags.O_DIRECTORY | calls.flags.O_NOFOLLOW,
        0,
      ),
  ]),
  name.map((a): [string, Step] => [
    `write ${a}`,
    (calls, top) =>
      open(
        calls,
        (descriptor) => [
          calls.write(descriptor, Buffer.from(`in ${a}\n`)),
          calls.write(descriptor, Buffer.from('more')),
          calls.fsync(descriptor),
          kindOf(calls.fstat(descriptor)),
        ],
        top,
        a,
        calls.flags.O_WRONLY | calls.flags.O_CREAT | calls.flags.O_EXCL | calls.flags.O_NOFOLLOW,
        0o600,
      ),
  ]),
  fc
    .tuple(name, fc.constantFrom(-1, 0, 3, 5000), fc.constantFrom('', 'over', 'ab\xff\0'.repeat(30)))
    .map(([a, at, text]): [string, Step] => [
      `overwrite ${a} at ${at}`,
      (calls, top) =>
        open(
          calls,
          (descriptor) => [
            calls.writeAt(descriptor, text, at),
            calls.fdatasync(descriptor),
            calls.readText(descriptor, 8192),
            calls.writeAt(descriptor, 'x', 2),
            calls.write(descriptor, Buffer.from('more')),
            calls.readText(descriptor, 8192),
            calls.fchmod(descriptor, 0o640),
            kindOf(calls.fstat(descriptor)),
          ],
          top,
          a,
          calls.flags.O_RDWR | calls.flags.O_CREAT | calls.flags.O_NOFOLLOW,
          0o600,
        ),
    ]),
  name.map((a): [string, Step] => [
    `read ${a}`,
    (calls, top) =>
      open(
        calls,
        (descriptor) => [
          calls.readText(descriptor, 4),
          calls.readText(descriptor, 100),
          calls.readText(descriptor, 100),
        ],
        top,
        a,
        calls.flags.O_RDONLY | calls.flags.O_NOFOLLOW | calls.flags.O_NONBLOCK,
        0,
      ),
  ]),
)

describe('the file system in memory', () => {
  it('answers each call as the kernel does', () => {
    let rooms = 0
    const real = nodeCalls()
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 25 }), (steps) => {
        const memory = memoryFiles().calls
        const room = `${scratch}/${++rooms}`
        const tops = (
          [
            [real, room],
            [memory, '/top'],
          ] as const
        ).map(([calls, path]) => {
          assert.equal(calls.mkdirat(atFlags.AT_FDCWD, path, 0o700), 0)
          return calls.openat(atFlags.AT_FDCWD, path, calls.flags.O_RDONLY | calls.flags.O_DIRECTORY, 0)
        })
        for (const [what, work] of steps) assert.deepEqual(work(memory, tops[1] ?? 0), work(real, tops[0] ?? 0), what)
        real.close(tops[0] ?? 0)
        rmSync(room, { recursive: true })
      }),
      { numRuns: 2000, seed: 4 },
    )
  })
})

/** tests/host/calls.ts has the same for the kernel. */
it('the changes of names in a directory in memory are counted as the kernel counts them', () => {
  const { calls } = memoryFiles()
  calls.mkdirat(-100, '/top', 0o700)
  const top = calls.openat(-100, '/top', calls.flags.O_RDONLY | calls.flags.O_DIRECTORY, 0)
  assert.deepEqual(countedChanges(calls, top), expectedCounts)
})

it('a call for what is not open, or with a character that is no byte, is answered as the kernel does', () => {
  for (const calls of [memoryFiles().calls, nodeCalls()]) {
    assert.deepEqual(
      [calls.writeAt(987_654, 'x', 0), calls.fdatasync(987_654), calls.fchmod(987_654, 0o600)],
      [-9, -9, -9],
    )
    assert.throws(() => calls.writeAt(987_654, '\u0100', 0), RangeError)
  }
})

describe('the lock of a file in memory', () => {
  const open = ({ openat, flags }: Calls): number =>
    openat(-100, '/file', flags.O_RDWR | flags.O_CREAT | flags.O_NOFOLLOW, 0o600)

  it('is had as the kernel gives it', () => {
    const { calls } = memoryFiles()
    calls.mkdirat(-100, '/top', 0o700)
    const top = calls.openat(-100, '/top', calls.flags.O_RDONLY | calls.flags.O_DIRECTORY, 0)
    assert.deepEqual(locked(calls, top), expectedOfLocks)
  })

  it('is held against other processes, until the process ends', () => {
    const files = memoryFiles()
    const { calls } = files
    const tries = (): number => calls.flock(open(calls))
    assert.equal(tries(), 0)
    assert.equal(files.meanwhile(tries), -11)
    const another = files.another()
    assert.equal(another(tries), -11)
    assert.equal(files.copy().calls.flock(3), -9)
    const copy = files.copy().calls
    assert.equal(copy.flock(open(copy)), 0)
    files.end()
    // That process has ended at once, the other one goes on.
    assert.equal(files.meanwhile(tries), 0)
    assert.equal(another(tries), 0)
    assert.equal(tries(), -11)
  })
})

it('a file in memory is written in place, unless a test says otherwise', () => {
  const files = memoryFiles()
  const { calls } = files
  const file = calls.openat(-100, '/file', calls.flags.O_RDWR | calls.flags.O_CREAT, 0o600)
  assert.equal(calls.isWrittenInPlace(file), true)
  assert.equal(calls.isWrittenInPlace(987_654), false)
  files.disk.isWrittenInPlace = false
  assert.equal(calls.isWrittenInPlace(file), false)
  const copy = files.copy().calls
  assert.equal(copy.isWrittenInPlace(copy.openat(-100, '/file', copy.flags.O_RDONLY, 0)), false)
})
