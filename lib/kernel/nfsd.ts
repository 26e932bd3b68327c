/**
 * What this program reads from and writes to the kernel's `nfsd` file system.
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
 * Called for clients that may reclaim. It takes many at once, because a list may have a hundred thousand.
 * @param owners each character a byte
 * @param principal SHA-256 of the Kerberos principal that they were recorded with, 62 or 64 hex digits.
 * @returns whether more are wanted.
 */
export type Allow = (owners: readonly string[], principal: string | undefined) => boolean

export interface Nfsd {
  /** Whether the kernel's grace period has ended; 'unknown' if the kernel has no such file. */
  grace(): 'over' | 'running' | 'unknown'
  /**
   * Asks the kernel to end grace. It may run `gracedone` before this returns (before 6.19) or later (since then), or
   * refuse with EBUSY.
   * @returns 'asked', or why not.
   */
  endGrace(): string
  /** Whether the 2010 design's `allow_client` exists. */
  takesAllowedClients(): boolean
  /**
   * Names every client that may reclaim: an escaped owner on each line, and no line is split over two writes. The file
   * is opened and closed even if there is no client, because closing it tells the kernel that the list is complete.
   * @param sayAll calls its argument for all of them. The second one, if it is given, may be used in the place of that
   * call to read records that all may reclaim: it says some, and leaves others.
   * @returns how many.
   */
  allowClients(sayAll: (allow: Allow, links?: Calls['links']) => void, assertTimeLeft: () => void): number
}

/** The kernel takes at most a page at once (fs/libfs.c, SIMPLE_TRANSACTION_LIMIT). */
const largestWrite = 4000

export const nfsdAt = (calls: Calls, directory: string): Nfsd => new NfsdAt(calls, directory)

/** A class: four functions, made anew in each process, would be a ninetieth of a check. */
class NfsdAt implements Nfsd {
  private readonly calls: Calls
  private readonly directory: string

  constructor(calls: Calls, directory: string) {
    this.calls = calls
    this.directory = directory
  }

  grace(): ReturnType<Nfsd['grace']> {
    const text = readStart(this.calls, this.endGraceFile())
    return text === undefined ? 'unknown' : text.startsWith('Y') ? 'over' : 'running'
  }

  endGrace(): string {
    const { calls } = this
    const file = this.endGraceFile()
    try {
      writing(calls, file, (descriptor) => answered(calls.write(descriptor, bytesOf('Y')), 'write', file))
      return 'asked'
    } catch (thrown) {
      return errorCode(thrown) ?? String(thrown)
    }
  }

  takesAllowedClients(): boolean {
    return typeof this.calls.fstatat(atFlags.AT_FDCWD, this.allowClientFile(), 0) !== 'number'
  }

  allowClients(sayAll: (allow: Allow) => void, assertTimeLeft: () => void): number {
    const { calls } = this
    const path = this.allowClientFile()
    return writing(calls, path, (descriptor) => {
      let lines = ''
      let count = 0
      sayAll((owners) => {
        for (const owner of owners) {
          const line = `${escapeOwner(bytesOf(owner) as ClientOwner)}\n`
          if (lines.length + line.length > largestWrite) {
            writeAll({ calls, descriptor, path }, lines, assertTimeLeft)
            lines = ''
          }
          lines += line
        }
        count += owners.length
        return true
      })
      if (lines !== '') writeAll({ calls, descriptor, path }, lines, assertTimeLeft)
      return count
    })
  }

  private endGraceFile(): string {
    return `${this.directory}/v4_end_grace`
  }

  private allowClientFile(): string {
    return `${this.directory}/allow_client`
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

/** One write for whole lines, and more only if a pipe does not take all. */
function writeAll({ calls, descriptor, path }: ControlFile, lines: string, assertTimeLeft: () => void): void {
  for (let rest = bytesOf(lines); rest.length > 0;) {
    assertTimeLeft()
    const written = answered(calls.write(descriptor, rest), 'write', path, errno.EAGAIN)
    if (written >= 0) rest = rest.subarray(written)
    else calls.sleep(5)
  }
}
