/**
 * What we ask and tell the kernel, through the files of its `nfsd` file system.
 *
 * The control files take one plain write(2): writev(2) is EINVAL there. Opening never waits for a reader. Only files
 * that the kernel serves without nfsd_mutex may be read here: a start and a stop of the service hold it while they wait
 * for an upcall, so reading `nfsv4recoverydir` or `nfsv4gracetime` would hang both for good.
 */
import { bytesOf } from '../bytes.ts'
import { errorCode } from '../failure.ts'
import { atFlags, type Calls } from '../syscalls/calls.ts'
import { answered, errno } from '../syscalls/errno.ts'
import { escapeOwner, type ClientOwner } from '../upcall/owner.ts'

/**
 * Says that a client may reclaim. A function and no object, since a list may have a hundred thousand.
 * @param owner each character a byte: most often it is only passed on.
 * @param principal SHA-256 of the Kerberos principal that it was recorded with, 62 or 64 hex digits.
 * @returns whether more are wanted.
 */
export type Allow = (owner: string, principal: string | undefined) => boolean

export interface Nfsd {
  /** Has the kernel's grace period ended? 'unknown' where there is no such file. */
  readonly grace: () => 'over' | 'running' | 'unknown'
  /**
   * Asks for the end of grace. The kernel may answer by running `gracedone` before this returns (before 6.19), later
   * (since), or by EBUSY: it is asked, not told.
   * @returns 'asked', or why not.
   */
  readonly endGrace: () => string
  /** Whether the 2010 design's `allow_client` exists. */
  readonly takesAllowedClients: () => boolean
  /**
   * Names every client that may reclaim: newline-separated escaped owners, no line split over two writes. Opened and
   * closed even when there is none: that tells the kernel that the list is complete.
   * @param sayAll says each of them.
   * @returns how many.
   */
  readonly allowClients: (sayAll: (allow: Allow) => void, assertTimeLeft: () => void) => number
}

/** No write is larger than the kernel's simple transactions take (fs/libfs.c, SIMPLE_TRANSACTION_LIMIT): a page. */
const largestWrite = 4000

export function nfsdAt(calls: Calls, directory: string): Nfsd {
  const endGraceFile = `${directory}/v4_end_grace`
  const allowClientFile = `${directory}/allow_client`
  return {
    grace: () => {
      const text = readStart(calls, endGraceFile)
      return text === undefined ? 'unknown' : text.startsWith('Y') ? 'over' : 'running'
    },
    endGrace: () => {
      try {
        writing(calls, endGraceFile, (descriptor) =>
          answered(calls.write(descriptor, bytesOf('Y')), 'write', endGraceFile),
        )
        return 'asked'
      } catch (thrown) {
        return errorCode(thrown) ?? String(thrown)
      }
    },
    takesAllowedClients: () => typeof calls.fstatat(atFlags.AT_FDCWD, allowClientFile, 0) !== 'number',
    allowClients: (sayAll, assertTimeLeft) =>
      writing(calls, allowClientFile, (descriptor) => {
        let lines = ''
        let count = 0
        sayAll((owner) => {
          const line = `${escapeOwner(bytesOf(owner) as ClientOwner)}\n`
          if (lines.length + line.length > largestWrite) {
            writeAll({ calls, descriptor, path: allowClientFile }, lines, assertTimeLeft)
            lines = ''
          }
          lines += line
          count++
          return true
        })
        if (lines !== '') writeAll({ calls, descriptor, path: allowClientFile }, lines, assertTimeLeft)
        return count
      }),
  }
}

function writing<T>(calls: Calls, path: string, work: (descriptor: number) => T): T {
  const { O_WRONLY, O_NONBLOCK } = calls.flags
  const descriptor = answered(calls.openat(atFlags.AT_FDCWD, path, O_WRONLY | O_NONBLOCK, 0), 'open', path)
  try {
    return work(descriptor)
  } finally {
    calls.close(descriptor)
  }
}

/** The first bytes of a control file, or undefined where it can't be read. */
function readStart(calls: Calls, path: string): string | undefined {
  const { O_RDONLY, O_NONBLOCK } = calls.flags
  const descriptor = calls.openat(atFlags.AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0)
  if (descriptor < 0) return undefined
  const text = calls.readText(descriptor, 16)
  calls.close(descriptor)
  return typeof text === 'string' ? text : undefined
}

interface ControlFile {
  readonly calls: Calls
  readonly descriptor: number
  readonly path: string
}

/** One write for whole lines; again only for what a pipe did not take. */
function writeAll({ calls, descriptor, path }: ControlFile, lines: string, assertTimeLeft: () => void): void {
  for (let rest = bytesOf(lines); rest.length > 0;) {
    assertTimeLeft()
    const written = answered(calls.write(descriptor, rest), 'write', path, errno.EAGAIN)
    if (written >= 0) rest = rest.subarray(written)
    else calls.sleep(5)
  }
}
