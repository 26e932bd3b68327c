/**
 * What the watch of a directory counts: the kernel's inotify(7) under the host (tests/host), and the one in memory
 * (tests/unit/memory.test.ts).
 */
import { atFlags, type Calls } from '../../lib/syscalls/calls.ts'
import { errno } from '../../lib/syscalls/errno.ts'

/** @param here the watched directory. @param there another one. */
type Change = (calls: Calls, here: number, there: number) => number

export const watchedChanges: readonly (readonly [what: string, reports: number, ...changes: readonly Change[]])[] = [
  ['a link is made', 1, ({ symlinkat }, here) => symlinkat('x', here, 'a')],
  ['one that is there is not', 0, ({ symlinkat }, here) => symlinkat('x', here, 'a') + errno.EEXIST],
  ['a name is moved within', 2, ({ renameat }, here) => renameat(here, 'a', here, 'b')],
  ['away', 1, ({ renameat }, here, there) => renameat(here, 'b', there, 'b')],
  ['a second name', 1, ({ linkat }, here, there) => linkat(there, 'b', here, 'c')],
  ['to its other name, which does nothing', 0, ({ renameat }, here, there) => renameat(there, 'b', here, 'c')],
  ['nothing happened', 0],
  ['elsewhere', 0, ({ unlinkat }, _, there) => unlinkat(there, 'b', 0)],
  ['over another, here', 1, ({ symlinkat }, _, there) => symlinkat('y', there, 'c'), moveHere],
  [
    'the same twice in a row is one',
    1,
    ({ symlinkat }, _, there) => symlinkat('z', there, 'c'),
    moveHere,
    again,
    moveHere,
  ],
  ['a link is removed', 1, ({ unlinkat }, here) => unlinkat(here, 'c', 0)],
  [
    'a name comes and goes, twice',
    4,
    ...[1, 2].flatMap((): Change[] => [
      ({ symlinkat }, here) => symlinkat('x', here, 'd'),
      ({ unlinkat }, here) => unlinkat(here, 'd', 0),
    ]),
  ],
  ['a link is read', 0, ({ readlinkat }, here) => (readlinkat(here, 'd') as number) + errno.ENOENT],
]

function moveHere({ renameat }: Calls, here: number, there: number): number {
  return renameat(there, 'c', here, 'c')
}
function again({ symlinkat }: Calls, _: number, there: number): number {
  return symlinkat('w', there, 'c')
}

/** What each of them is counted as, and the removal of the directory. @param top an empty directory */
export function countedChanges(calls: Calls, top: number): readonly (readonly [what: string, counted: number])[] {
  const open = (name: string): number => {
    calls.mkdirat(top, name, 0o700)
    return calls.openat(top, name, calls.flags.O_RDONLY | calls.flags.O_DIRECTORY, 0)
  }
  const [here, there] = [open('here'), open('there')]
  const watch = calls.watchNames(here)
  const counted = watchedChanges.map(([what, , ...changes]): readonly [string, number] => {
    const failed = changes.map((change) => change(calls, here, there)).find((answer) => answer !== 0)
    return [what, failed ?? calls.namesChanged(watch)]
  })
  calls.close(here)
  calls.unlinkat(top, 'here', atFlags.AT_REMOVEDIR)
  const gone = calls.namesChanged(watch)
  calls.close(there)
  return [...counted, ['the directory is removed', gone], ['closed', calls.close(watch)]]
}

export const expectedCounts: readonly (readonly [what: string, counted: number])[] = [
  ...watchedChanges.map(([what, reports]): readonly [string, number] => [what, reports]),
  ['the directory is removed', -errno.ESTALE],
  ['closed', 0],
]
