/**
 * One `serve` for each state directory: two would mix two servers' clients, even with different pipes, namespaces and
 * run directories. So `serve` locks the directory itself (flock(2)), from before it takes the first message of a pipe
 * until the pipe is gone. Between servers the directory is not open, so that its disk can be unmounted. The kernel
 * releases the lock when the process ends, in any way: nothing is written, and nothing stays behind.
 *
 * A directory that does not exist yet has no clients. As soon as `serve` has made it, `serve` locks it, before it
 * answers any message.
 */
import { Failed } from '../failure.ts'
import type { Log } from '../kernel/log.ts'
import { atFlags, type Calls } from '../syscalls/calls.ts'
import { errno, errorName } from '../syscalls/errno.ts'
import { quote } from '../text.ts'

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
      // Code that needs the directory reports what is wrong with it.
      if (descriptor < 0) return
      const answer = calls.flock(descriptor)
      if (answer === -errno.EAGAIN) {
        calls.close(descriptor)
        throw anotherHas(path)
      }
      locked = descriptor
      if (answer === 0 || warned) return
      warned = true
      log.warning(`${quote(path)} can't be locked (${errorName(answer)}): make sure that no other serve uses it`)
    },
    release: () => {
      if (locked !== undefined) calls.close(locked)
      locked = undefined
    },
  }
}

export const anotherHas = (path: string): Failed =>
  new Failed({
    kind: 'unusable-at-start',
    what: `another serve has the state directory ${quote(path)}: two would mix two servers' clients`,
  })
