/**
 * One `serve` a state directory: two would mix two servers' clients, whatever pipes, namespaces and run directories they have. So the
 * directory itself is locked (flock(2)), from before the first message of a pipe is taken until the pipe is gone. Between servers
 * it is free, since an open directory would keep its disk from being unmounted. The kernel lets go of the lock when
 * its process is no more, however it ended: nothing is left behind, and nothing is written.
 *
 * A directory that is not there yet has nobody's clients. It is locked by the work that makes it, before anything is answered.
 */
import { Failed, quote } from '../failure.ts'
import type { Log } from '../kernel/log.ts'
import { atFlags, type Calls } from '../syscalls/calls.ts'
import { errno, errorName } from '../syscalls/errno.ts'

export interface Claim {
  /** Locks the directory, if it is there and not locked yet. @throws Failed, if another serve has it. */
  readonly take: () => void
  readonly release: () => void
}

export function claimOn(calls: Calls, path: string, log: Log): Claim {
  let locked: number | undefined
  let warned = false
  return {
    take: () => {
      if (locked !== undefined) return
      const { O_RDONLY, O_DIRECTORY } = calls.flags
      const descriptor = calls.openat(atFlags.AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0)
      // What is wrong with it will be said by whoever has a use for it.
      if (descriptor < 0) return
      const answer = calls.flock(descriptor)
      if (answer === -errno.EAGAIN) {
        calls.close(descriptor)
        throw anotherHas(path)
      }
      locked = descriptor
      if (answer === 0 || warned) return
      warned = true
      log.warning(`${quote(path)} can't be locked (${errorName(answer)}): see to it that no other serve has it`)
    },
    release: () => {
      if (locked !== undefined) calls.close(locked)
      locked = undefined
    },
  }
}

export const anotherHas = (path: string): Failed =>
  new Failed({
    kind: 'storage',
    atStart: true,
    what: `another serve has the state directory ${quote(path)}: two would mix two servers' clients`,
  })
