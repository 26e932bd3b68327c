/** Every way in which an upcall can fail, its exit status and its sentence. */
import { quote } from './text.ts'

/**
 * The exit statuses and their meanings. They are public API: 256 minus an errno, as in nfsdcltrack, so that the two are
 * interchangeable. The kernel sees only zero or not zero (fs/nfsd/nfs4recover.c, nfsd4_umh_cltrack_upcall); scripts and
 * people see the number.
 *
 * `--help` prints this table. nfsd-userland-helper(8) repeats it, and tests/unit/texts.test.ts compares the two.
 */
export const exitStatuses = {
  done: { status: 0, errno: undefined, meaning: 'done, and durable; for `check`: the client may reclaim' },
  wrong: {
    status: 1,
    errno: undefined,
    meaning: '`doctor`, `verify`: a fault; `expire`: a client came back; `install`: the running system was not told',
  },
  mayNotReclaim: { status: 255, errno: 'EPERM', meaning: 'the client may not reclaim; no error' },
  otherInstance: { status: 140, errno: 'ESTALE', meaning: 'grace end of another server instance: nothing changed' },
  badArgument: { status: 234, errno: 'EINVAL', meaning: 'bad argument or option: nothing changed' },
  notHere: {
    status: 218,
    errno: 'ENOSYS',
    meaning: 'unknown verb, or a command that needs what is not here: nothing changed',
  },
  ownerTooLong: { status: 151, errno: 'ENOBUFS', meaning: 'client owner longer than 1024 bytes: nothing changed' },
  storageFailed: { status: 135, errno: 'EREMOTEIO', meaning: "storage failed, or the configuration can't be read" },
  unusableAtStart: {
    status: 243,
    errno: 'EACCES',
    meaning: "at the start of an instance: the state directory can't be used, or the configuration can't be read",
  },
  /** Given by the host in C (lib/syscalls/host/host.c), because without memory no script can run. */
  outOfMemory: { status: 244, errno: 'ENOMEM', meaning: 'out of memory' },
  outOfTime: { status: 146, errno: 'ETIMEDOUT', meaning: 'an upcall found no time left after 30 seconds' },
} as const

export type Failure =
  /** The verdict of `check`: the client may not reclaim. Not an error; RFC 7530 §9.6.3.4. */
  | { readonly kind: 'may-not-reclaim'; readonly owner: string; readonly because: string }
  | { readonly kind: 'other-instance'; readonly given: string; readonly current: string }
  | { readonly kind: 'bad-argument'; readonly why: string; readonly word?: string }
  | { readonly kind: 'unknown-verb'; readonly word: string }
  /** The executable has no commands for people: they are scripts for Node. */
  | { readonly kind: 'not-here'; readonly word: string; readonly missing: string }
  /** Node can't wait for a pipe. */
  | { readonly kind: 'needs-executable'; readonly word: string }
  | { readonly kind: 'owner-too-long'; readonly word: string; readonly longest: number }
  | { readonly kind: 'storage'; readonly what: string }
  /** Something that the start of an instance, or of `serve`, needs. It has a status of its own. */
  | { readonly kind: 'unusable-at-start'; readonly what: string }
  | { readonly kind: 'out-of-time'; readonly doing: string }

export class Failed extends Error {
  readonly failure: Failure
  constructor(failure: Failure) {
    super(failure.kind)
    this.failure = failure
  }
}

export const storageFailure = (what: string): Failed => new Failed({ kind: 'storage', what })

/** The only place where a failure becomes a status and a line. Words in it are quoted by {@link quote}. */
export function report(failure: Failure): { readonly status: number; readonly line: string } {
  switch (failure.kind) {
    case 'may-not-reclaim':
      return { status: exitStatuses.mayNotReclaim.status, line: `${failure.owner} may not reclaim: ${failure.because}` }
    case 'other-instance':
      return {
        status: exitStatuses.otherInstance.status,
        line:
          'grace end of another server instance refused: ' +
          `it started at ${failure.given}, this one at ${failure.current}`,
      }
    case 'bad-argument':
      return {
        status: exitStatuses.badArgument.status,
        line: failure.word === undefined ? failure.why : `${failure.why}: ${quote(failure.word)}`,
      }
    case 'unknown-verb':
      return {
        status: exitStatuses.notHere.status,
        line: `unknown verb or command: ${quote(failure.word)}; see --help`,
      }
    case 'not-here':
      return {
        status: exitStatuses.notHere.status,
        line: `not an upcall: ${quote(failure.word)}; help and commands for people need ${failure.missing}`,
      }
    case 'needs-executable':
      return {
        status: exitStatuses.notHere.status,
        line: `only the executable can ${quote(failure.word)}: Node has no way to wait for the pipe`,
      }
    case 'owner-too-long':
      return {
        status: exitStatuses.ownerTooLong.status,
        line: `client owner longer than ${failure.longest} bytes: ${quote(failure.word)}`,
      }
    case 'storage':
      return { status: exitStatuses.storageFailed.status, line: failure.what }
    case 'unusable-at-start':
      return { status: exitStatuses.unusableAtStart.status, line: failure.what }
    case 'out-of-time':
      return { status: exitStatuses.outOfTime.status, line: `out of time while ${failure.doing}` }
    default:
      return failure satisfies never
  }
}

/** The errno name of a thrown file system error, or undefined for anything else that was thrown. */
export const errorCode = (thrown: unknown): string | undefined =>
  thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : undefined

/**
 * Turns anything that was thrown into a failure. If it is not an error of the file system, it is a bug in this program,
 * and the line shows where.
 */
export function failureFrom(thrown: unknown): Failure {
  if (thrown instanceof Failed) return thrown.failure
  const code = errorCode(thrown)
  if (!(thrown instanceof Error)) return { kind: 'storage', what: `thrown: ${String(thrown)}` }
  if (code === undefined) {
    // Node's stack begins with the message, the executable's engine leaves it out.
    const stack = thrown.stack ?? ''
    return {
      kind: 'storage',
      what: `a bug: ${stack.includes(thrown.message) ? stack : `${String(thrown)} ${stack}`}`,
    }
  }
  const { syscall, path } = thrown as NodeJS.ErrnoException
  const where = path === undefined ? '' : ` ${quote(path)}`
  return { kind: 'storage', what: `${syscall ?? 'a call'}${where} failed: ${code}` }
}
