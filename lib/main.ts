/** An upcall's words and environment in, status out. The only place that catches what the rest throws. */
import { startDeadline } from './deadline.ts'
import { nfsdAt } from './downcall/nfsd.ts'
import { Failed, failureFrom, quote } from './failure.ts'
import { openLog, type Log } from './log.ts'
import { run } from './run.ts'
import { isNoted, noteDirectory, sinceStart } from './settings/last-start.ts'
import { parseWords, type Words } from './settings/options.ts'
import { settingsFrom, type Settings } from './settings/settings.ts'
import { stateDirectory } from './stable/state-directory.ts'
import { noteUntracked } from './stable/untracked.ts'
import { calls } from './system/kernel.ts'
import { parseRequest } from './upcall/request.ts'
import { isVerb, verbs, type Verb } from './upcall/verbs.ts'

/**
 * One upcall.
 * @param words the command line after the program's name
 * @returns the exit status; 0 is a promise that a power cut can't break. Undefined: these words are no upcall.
 */
export function main(words: readonly string[], environment: NodeJS.ProcessEnv): number | undefined {
  let parsed: Words
  try {
    parsed = parseWords(words)
  } catch (thrown) {
    if (thrown instanceof Failed) return undefined
    throw thrown
  }
  const { verb } = parsed
  return verb !== undefined && isVerb(verb) ? upcall(parsed, verb, environment) : undefined
}

function upcall({ given, rest }: Words, verb: Verb, environment: NodeJS.ProcessEnv): number {
  const deadline = startDeadline()
  const atStart = verbs[verb].event === 'start'
  // Modes of files and directories are exact, whatever umask the caller left.
  calls.umask(0o077)
  let log = openLog({ foreground: given.has('foreground'), debug: given.has('debug') })
  let settings: Settings | undefined
  try {
    settings = settingsFrom(given)
    log = openLog(settings)
    for (const complaint of settings.complaints) log.warning(complaint)
    const { request, ignored } = parseRequest(verb, rest, environment)
    for (const name of ignored) log.warning(`${name} can't be understood, ignored: ${quote(environment[name] ?? '')}`)
    const path = atStart ? beginIn(settings, log) : directoryOfStart(settings, log)
    run({ state: stateDirectory(path), nfsd: nfsdAt(settings.nfsdDirectory), log, deadline, now: Date.now }, request)
    log.debug(() => `${verb}: done`)
    return 0
  } catch (thrown) {
    const failure = failureFrom(thrown)
    if (atStart && failure.kind !== 'bad-argument' && settings !== undefined) startFailed(settings.stateDirectory, log)
    return log.failed(failure.kind === 'storage' ? { ...failure, atStart } : failure, verb)
  }
}

/** The state directory of a start. @throws if it can't be noted, and upcalls would go by an earlier start's. */
function beginIn(settings: Settings, log: Log): string {
  try {
    noteDirectory(settings)
  } catch (thrown) {
    if (isNoted(settings)) throw thrown
    log.error(`the state directory of this start can't be noted, so no change of the configuration will be noticed: ${String(thrown)}`)
  }
  return settings.stateDirectory
}

/** The state directory of an upcall between two starts. */
function directoryOfStart(settings: Settings, log: Log): string {
  const { stateDirectory: path, changed } = sinceStart(settings)
  if (changed !== undefined) log.error(changed)
  return path
}

/** The kernel goes on without us: a later start must know. */
function startFailed(stateDirectory: string, log: Log): void {
  try {
    noteUntracked(stateDirectory)
  } catch (thrown) {
    log.critical(`an instance starts that can't be recorded, nor the fact noted: ${String(thrown)}`)
  }
}
