/**
 * Who gets a file's lock: by the kernel's flock(2) under the host (tests/host), and by the one in memory
 * (tests/unit/memory.test.ts).
 */
import type { Calls } from '../../lib/syscalls/calls.ts'
import { errno } from '../../lib/syscalls/errno.ts'

/** @param directory an empty one. @returns what the calls answer. */
export function locked({ openat, linkat, close, flock, flags }: Calls, directory: number): number[] {
  const { O_RDWR, O_CREAT } = flags
  const open = (name: string): number => openat(directory, name, O_RDWR | O_CREAT, 0o600)
  const [first, second, other] = [open('file'), open('file'), open('other')]
  linkat(directory, 'file', directory, 'second name')
  const third = open('second name')
  const answers = [first, second, third, other, first, 987_654].map((descriptor) => flock(descriptor))
  for (const closed of [second, first]) {
    close(closed)
    answers.push(flock(third))
  }
  for (const descriptor of [third, other]) close(descriptor)
  const again = open('file')
  answers.push(flock(again))
  close(again)
  return answers
}

export const expectedOfLocks = [0, -errno.EAGAIN, -errno.EAGAIN, 0, 0, -errno.EBADF, -errno.EAGAIN, 0, 0]
