/** Gives up rights before a message is read, and finds out whether a later mount is out of this process's reach. */
import { Failed, storageFailure } from '../failure.ts'
import { kernelLog, type Log } from '../kernel/log.ts'
import type { Settings } from '../settings/settings.ts'
import { atFlags, type Calls, type Status } from '../syscalls/calls.ts'
import { errno, errorName } from '../syscalls/errno.ts'
import { quote } from '../text.ts'

/**
 * Gives up rights as soon as rpc_pipefs is mounted, which is before any message is read. Not earlier: a right to a
 * directory (Landlock) does not extend to a file system that is mounted over it later, nor to the same one that is
 * unmounted and mounted again. A process that has no right to what is mounted now ends, and its successor gets the
 * right. The kernel then repeats its messages.
 * @returns a function that does so once, and afterwards checks whether the process still has the rights that it needs
 * @throws Failed, from that function, if the process has lost them
 */
export function confining(calls: Calls, settings: Settings, pipefs: string, log: Log): () => void {
  const { stateDirectory } = settings
  let confinedTo: { readonly pipes: Status; readonly state: Status | undefined } | undefined
  return () => {
    const pipes = statusAt(calls, `${pipefs}/nfsd`)
    if (confinedTo === undefined) {
      if (pipes === undefined) return
      confinedTo = { pipes, state: statusAt(calls, stateDirectory) }
      const answer = calls.confine(
        [stateDirectory, settings.runDirectory],
        [settings.nfsdDirectory, kernelLog, pipefs],
        ['/'],
        'waits',
      )
      if (answer < 0) log.warning(`can't give up rights that it does not need: ${errorName(answer)}`)
      return
    }
    if (pipes !== undefined && !isSame(pipes, confinedTo.pipes)) throw mountedAnew(`rpc_pipefs at ${quote(pipefs)}`)
    if (isLost(calls, stateDirectory, confinedTo.state)) throw mountedAnew(quote(stateDirectory))
  }
}

function statusAt(calls: Calls, path: string): Status | undefined {
  const status = calls.fstatat(atFlags.AT_FDCWD, path, 0)
  return typeof status === 'number' ? undefined : status
}

const isSame = (one: Status, other: Status): boolean => one.device === other.device && one.inode === other.inode

/**
 * Whether the state directory is out of reach. A disk that is mounted again may have the same device and inode numbers.
 * So this tries a rename that changes nothing, which fails without the right.
 */
function isLost(calls: Calls, stateDirectory: string, before: Status | undefined): boolean {
  const clients = `${stateDirectory}/v4clients`
  if (calls.renameat(atFlags.AT_FDCWD, clients, atFlags.AT_FDCWD, clients) === -errno.EACCES) return true
  const now = statusAt(calls, stateDirectory)
  return before !== undefined && now !== undefined && !isSame(now, before)
}

/**
 * Whether the right to the pipe is missing: an rpc_pipefs that was mounted again may have the same numbers as before.
 */
export function mayNotOpen(calls: Calls, pipe: string): boolean {
  const { O_RDWR, O_NONBLOCK, O_NOFOLLOW } = calls.flags
  const descriptor = calls.openat(atFlags.AT_FDCWD, pipe, O_RDWR | O_NONBLOCK | O_NOFOLLOW, 0)
  if (descriptor >= 0) calls.close(descriptor)
  return descriptor === -errno.EACCES
}

export const mountedAnew = (what: string): Failed =>
  storageFailure(`${what} was mounted anew, and this process gave up the right to it: start it again`)
