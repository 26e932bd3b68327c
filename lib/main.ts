/** An upcall's words and environment in, status out. The only place that catches what the rest throws. */
import { perform } from './events/perform.ts'
import { errorCode, Failed, failureFrom, type Failure } from './failure.ts'
import { startDeadline } from './kernel/deadline.ts'
import { kernelLog, openLog, type Log } from './kernel/log.ts'
import { nfsdAt } from './kernel/nfsd.ts'
import { serve } from './serve/serve.ts'
import { isNoted, noteDirectory, sinceStart } from './settings/last-start.ts'
import { parseWords, type Words } from './settings/options.ts'
import { runDirectoryFrom, settingsFrom, type Settings } from './settings/settings.ts'
import { forgetBegun } from './store/begun.ts'
import { stateDirectory, type StateDirectory } from './store/state-directory.ts'
import { distrust, noteStart } from './store/untracked.ts'
import type { Calls } from './syscalls/calls.ts'
import { errorName } from './syscalls/errno.ts'
import { anywhere } from './syscalls/files.ts'
import { quote } from './text.ts'
import { parseRequest, type Request } from './upcall/request.ts'
import { isVerb, verbs, type Verb } from './upcall/verbs.ts'

/** The variables of the process, by name. */
type Environment = Readonly<Record<string, string | undefined>>

/**
 * One upcall.
 * @param calls the system
 * @param words the command line after the program's name
 * @returns the exit status; 0 is a promise that a power cut can't break. Undefined: these words are no upcall.
 */
export function main(calls: Calls, words: readonly string[], environment: Environment): number | undefined {
  let parsed: Words
  try {
    parsed = parseWords(words)
  } catch (thrown) {
    if (thrown instanceof Failed) return undefined
    throw thrown
  }
  const { verb } = parsed
  // Help is printed by the program for people.
  if (verb === 'serve' && !parsed.rest.some((word) => word === '--help' || word === '-h'))
    return serve(calls, parsed, environment)
  return verb !== undefined && isVerb(verb) ? upcall(calls, parsed, verb, environment) : undefined
}

function upcall(calls: Calls, { given, rest }: Words, verb: Verb, environment: Environment): number {
  const deadline = startDeadline(calls)
  const { event } = verbs[verb]
  const atStart = event === 'start'
  // Modes of files and directories are exact, whatever umask the caller left.
  calls.umask(0o077)
  let log = openLog(calls, { foreground: given.has('foreground'), debug: given.has('debug') })
  let path: string | undefined
  let [asked, state]: [Request?, StateDirectory?] = []
  try {
    const settings = settingsFrom(calls, given)
    if (settings.debug) log = openLog(calls, settings)
    for (const complaint of settings.complaints) log.warning(complaint)
    path = settings.stateDirectory
    if (!atStart) path = directoryOfStart(calls, settings, log)
    confine(calls, [path, settings.runDirectory], settings, log)
    const { request, ignored } = parseRequest(verb, rest, environment)
    for (const name of ignored) log.warning(`${name} can't be understood, ignored: ${quote(environment[name] ?? '')}`)
    if (atStart) noteBeginning(calls, settings, log)
    asked = request
    state = stateDirectory(calls, path, settings.runDirectory)
    perform(
      {
        calls,
        state,
        nfsd: nfsdAt(calls, settings.nfsdDirectory),
        log,
        deadline,
        isUpcall: true,
      },
      request,
    )
    log.debug?.(`${verb}: done`)
    return 0
  } catch (thrown) {
    const failure = explained(thrown)
    const isMarked =
      leavesMark(event, failure) &&
      leaveMark(calls, log, { given, path, event, kernelBootTime: environment['NFSDCLTRACK_GRACE_START'] })
    // The mark stands for more than the note. Until a start, the client may reclaim as if nothing had been asked.
    if (isMarked && asked?.event === 'remove' && state !== undefined) forgetBegun(state, asked.owner)
    return log.failed(
      atStart && failure.kind === 'storage' ? { ...failure, kind: 'unusable-at-start' } : failure,
      verb,
      isMarked ? (atStart ? withoutUs : lost) : undefined,
    )
  }
}

/** What may be behind an error of the storage, where its name does not tell. */
const hints: Readonly<Record<string, string>> = {
  // An upcall has given up the capability by which root passes whatever the owner and the mode are.
  EACCES: 'perhaps by its owner or mode; see nfsd-userland-helper doctor',
  EPERM: 'perhaps it is immutable or append-only; see lsattr(1)',
  EUCLEAN: 'the file system is damaged',
}

function explained(thrown: unknown): Failure {
  const failure = failureFrom(thrown)
  const hint = hints[errorCode(thrown) ?? '']
  return failure.kind === 'storage' && hint !== undefined ? { ...failure, what: `${failure.what}, ${hint}` } : failure
}

/** The rest of the upcall handles bytes from the network, so it keeps only the rights that it needs. */
function confine(calls: Calls, changed: readonly string[], { nfsdDirectory }: Settings, log: Log): void {
  // The kernel's own tracker may have its directories anywhere, and a killed end of grace may have noted where.
  const emptied = ['/']
  const answer = calls.confine(changed, [nfsdDirectory, kernelLog], emptied)
  if (answer < 0) log.warning(`can't give up rights that it does not need: ${errorName(answer)}`)
}

const withoutUs = 'the server goes on without this tracker, so nobody may reclaim after its next start'
const lost = 'the server goes on all the same, so nobody may reclaim after its next start'

/**
 * Of these two a failure costs a client its locks, at most (lib/events/take-back.ts). Of any other it could give a
 * client what somebody else has had since.
 */
const isHarmless = (event: Request['event']): boolean => event === 'create' || event === 'check'

/** A start that fails for any reason is not recorded. Another event may also fail because its words are wrong. */
const leavesMark = (event: Request['event'], { kind }: Failure): boolean =>
  event === 'start' ? kind !== 'bad-argument' : !isHarmless(event) && (kind === 'storage' || kind === 'out-of-time')

interface FailedUpcall {
  readonly given: Words['given']
  /** Of the state directory; undefined, if the configuration can't be read. */
  readonly path: string | undefined
  readonly event: Request['event']
  readonly kernelBootTime: string | undefined
}

/**
 * A start, a remove or an end of grace has failed, and the kernel goes on as if it had not. So the next start must let
 * nobody reclaim.
 * @returns whether that is noted.
 */
function leaveMark(calls: Calls, log: Log, { given, path, event, kernelBootTime }: FailedUpcall): boolean {
  try {
    const marked = { anywhere: anywhere(calls), runDirectory: runDirectoryFrom(calls, given), path }
    const unmarked =
      event === 'start'
        ? noteStart(
            marked,
            kernelBootTime !== undefined && /^[0-9]{1,19}$/.test(kernelBootTime) ? kernelBootTime : undefined,
          ).unmarked
        : distrust(marked, 'start')
    if (unmarked === undefined) return true
    log.critical(
      `${event === 'start' ? 'the server starts without a tracker' : 'the server goes on'}, ` +
        `nor can that be noted (${unmarked}): let nobody reclaim after the next start`,
    )
  } catch {
    // The upcall's own failure is logged below. Most often it has the same cause.
  }
  return false
}

/** Notes the state directory of a start. @throws if it can't be noted, and upcalls would go by an earlier start's. */
function noteBeginning(calls: Calls, settings: Settings, log: Log): void {
  try {
    const changed = noteDirectory(calls, settings)
    if (changed !== undefined) log.warning(changed)
  } catch (thrown) {
    if (isNoted(calls, settings)) throw thrown
    log.error(
      "the state directory of this start can't be noted, so no change of the configuration will be noticed: " +
        String(thrown),
    )
  }
}

/** The state directory of an upcall between two starts. */
function directoryOfStart(calls: Calls, settings: Settings, log: Log): string {
  const { stateDirectory: path, changed } = sinceStart(calls, settings)
  if (changed !== undefined) log.error(changed)
  return path
}
