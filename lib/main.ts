/** Words and environment in, status out. The only place that catches what the rest throws, and the only one that ends. */
import { isCommand } from './admin/commands.ts'
import { startDeadline } from './deadline.ts'
import { nfsdAt } from './downcall/nfsd.ts'
import { Failed, errorCode, quote, report, type Failure } from './failure.ts'
import { openLog, type Log } from './log.ts'
import { run } from './run.ts'
import { parseWords, type Words } from './settings/options.ts'
import { settingsFrom } from './settings/settings.ts'
import { stateDirectory } from './stable/state-directory.ts'
import { noteUntracked } from './stable/untracked.ts'
import { parseRequest } from './upcall/request.ts'
import { isVerb, verbs, type Verb } from './upcall/verbs.ts'

/**
 * One call of the program.
 * @param words the command line after the program's name
 * @returns the exit status; 0 is a promise that a power cut can't break.
 */
export function main(words: readonly string[], environment: NodeJS.ProcessEnv): number | Promise<number> {
  const parsed = tryToParse(words)
  if (!(parsed instanceof Failed) && parsed.verb !== undefined && isVerb(parsed.verb))
    return upcall(parsed, parsed.verb, environment)
  const isForPeople = !(parsed instanceof Failed) && parsed.verb !== undefined && isCommand(parsed.verb)
  if (isForPeople || asksForHelp(words))
    return import('./cli.ts')
      .then(({ people }) => people(words))
      .then(() => 0, (thrown: unknown) => fail(openLog({ foreground: true, debug: false }), failureFrom(thrown)))
  const failure: Failure =
    parsed instanceof Failed
      ? parsed.failure
      : parsed.verb === undefined
        ? { kind: 'bad-argument', why: 'no verb given; see --help' }
        : { kind: 'unknown-verb', word: parsed.verb }
  return fail(openLog({ foreground: asksForForeground(words), debug: false }), failure)
}

function upcall({ given, rest }: Words, verb: Verb, environment: NodeJS.ProcessEnv): number {
  const deadline = startDeadline()
  const settings = settingsFrom(given)
  const log = openLog(settings)
  // Modes of files and directories are exact, whatever umask the caller left.
  process.umask(0o077)
  for (const complaint of settings.complaints) log.warning(complaint)
  try {
    const { request, ignored } = parseRequest(verb, rest, environment)
    for (const name of ignored) log.warning(`${name} can't be understood, ignored: ${quote(environment[name] ?? '')}`)
    run(
      { state: stateDirectory(settings.stateDirectory), nfsd: nfsdAt(settings.nfsdDirectory), log, deadline, now: Date.now },
      request,
    )
    log.debug(() => `${verb}: done`)
    return 0
  } catch (thrown) {
    const failure = failureFrom(thrown)
    const atStart = verbs[verb].event === 'start'
    if (atStart && failure.kind !== 'bad-argument') startFailed(settings.stateDirectory, log)
    return fail(log, failure.kind === 'storage' ? { ...failure, atStart } : failure, verb)
  }
}

/** The kernel goes on without us: a later start must know. */
function startFailed(stateDirectory: string, log: Log): void {
  try {
    noteUntracked(stateDirectory)
  } catch (thrown) {
    log.critical(`an instance starts that can't be recorded, nor the fact noted: ${String(thrown)}`)
  }
}

/** Everything that can be thrown is a failure that has a status; what is not the disk's is ours, and shows where. */
function failureFrom(thrown: unknown): Failure {
  if (thrown instanceof Failed) return thrown.failure
  const code = errorCode(thrown)
  if (!(thrown instanceof Error)) return { kind: 'storage', atStart: false, what: `thrown: ${String(thrown)}` }
  if (code === undefined) return { kind: 'storage', atStart: false, what: `a bug: ${thrown.stack ?? thrown.message}` }
  const { syscall, path } = thrown as NodeJS.ErrnoException
  const where = path === undefined ? '' : ` ${quote(path)}`
  return { kind: 'storage', atStart: false, what: `${syscall ?? 'a call'}${where} failed: ${code}` }
}

function fail(log: Log, failure: Failure, verb?: Verb): number {
  const { status, line } = report(failure)
  const text = verb === undefined ? line : `${verb}: ${line}`
  if (failure.kind === 'may-not-reclaim') log.warning(text)
  else log.error(text)
  return status
}

function tryToParse(words: readonly string[]): Words | Failed {
  try {
    return parseWords(words)
  } catch (thrown) {
    if (thrown instanceof Failed) return thrown
    throw thrown
  }
}

const asksForHelp = (words: readonly string[]): boolean =>
  words.some((word) => ['--help', '-h', '--version', '-V'].includes(word)) || words[0] === 'help'

const asksForForeground = (words: readonly string[]): boolean => words.some((word) => /^(?:--foreground|-[df]*f[df]*)$/.test(word))
