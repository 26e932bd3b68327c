/**
 * The state directory in which the running server instance started.
 *
 * Each upcall reads the configuration again. It may name another directory while the server runs: somebody has changed
 * it, or an editor or a broken disk has emptied it. An upcall that used that directory would acknowledge a record that
 * no later start finds. So a start notes its directory in the run directory. Until the next start, upcalls use the
 * noted directory, and log an error if the configuration names another. The note is made before the start begins, so it
 * is right whenever the start is killed.
 *
 * A note is a symbolic link, named after the configuration file. It leads to `configured:DIRECTORY`, or to
 * `empty:DIRECTORY` if the configuration was empty. If the command line names the directory, it does so for one call
 * only, and notes are neither made nor read.
 */
import { atFlags, type Calls } from '../syscalls/calls.ts'
import { answered, errno } from '../syscalls/errno.ts'
import { anywhere, kindAt, whyNotOursAt } from '../syscalls/files.ts'
import { quote } from '../text.ts'
import type { Configuration, Settings } from './settings.ts'

const here = atFlags.AT_FDCWD
const { ENOENT, ENOTDIR, EACCES, EINVAL, EEXIST } = errno

/** The note of a configuration file. If the path of that file is too long for a name, no note can be made. */
const noteOf = (runDirectory: string, { file }: Configuration): string =>
  `${runDirectory}/start-${encodeURIComponent(file)}`

const textFor = ({ empty }: Configuration, stateDirectory: string): string =>
  `${empty ? 'empty' : 'configured'}:${stateDirectory}`

/**
 * Notes the state directory of a start.
 * @returns what has changed since the last start, as a sentence.
 * @throws the system's error.
 */
export function noteDirectory(
  calls: Calls,
  { runDirectory, configuration, stateDirectory }: Settings,
): string | undefined {
  if (configuration === undefined) return undefined
  const note = noteOf(runDirectory, configuration)
  const text = textFor(configuration, stateDirectory)
  const before = calls.readlinkat(here, note)
  if (before === text) return undefined
  // A start that makes no mark there says why (lib/events/start.ts).
  if (
    answered(calls.mkdirat(here, runDirectory, 0o755), 'mkdir', runDirectory, EEXIST) < 0 &&
    kindAt(runDirectory, anywhere(calls)) === 'directory' &&
    isForeign(calls, runDirectory)
  )
    return undefined
  const staged = `${note}.new`
  answered(calls.unlinkat(here, staged, 0), 'unlink', staged, ENOENT)
  // Another start may use the same temporary name at the same moment. Then one of the two notes remains.
  answered(calls.symlinkat(text, here, staged), 'symlink', staged, EEXIST)
  answered(calls.renameat(here, staged, here, note), 'rename', note, ENOENT)
  const { was, directory } = noted(before)
  if (directory === undefined) return undefined
  const emptied = configuration.empty && was === 'configured'
  const how = emptied ? 'is empty or missing now, and was not at the last start' : 'has changed since the last start'
  const what = `configuration ${quote(configuration.file)} ${how}`
  if (directory !== stateDirectory)
    return `${what}: the state directory was ${quote(directory)}, and is ${quote(stateDirectory)} from now on`
  return emptied ? what : undefined
}

/** Whether somebody else could have made the note: then it says nothing. */
const isForeign = (calls: Calls, runDirectory: string): boolean =>
  whyNotOursAt(runDirectory, anywhere(calls)) !== undefined

/** What a note says. */
function noted(text: string | number): { readonly was?: string | undefined; readonly directory?: string | undefined } {
  const [, was, directory] = (typeof text === 'string' ? /^(configured|empty):(\/.*)$/s.exec(text) : undefined) ?? []
  return { was, directory }
}

/** Whether an earlier start has left a note. Upcalls after this start would use its directory. */
export const isNoted = (calls: Calls, { runDirectory, configuration }: Settings): boolean =>
  configuration !== undefined && typeof calls.readlinkat(here, noteOf(runDirectory, configuration)) === 'string'

export interface SinceStart {
  readonly stateDirectory: string
  /** What has changed since the start, as a sentence. */
  readonly changed: string | undefined
}

/** The state directory that an upcall uses. It takes one system call. */
export function sinceStart(calls: Calls, { runDirectory, configuration, stateDirectory }: Settings): SinceStart {
  const unchanged: SinceStart = { stateDirectory, changed: undefined }
  if (configuration === undefined) return unchanged
  const note = noteOf(runDirectory, configuration)
  const text = calls.readlinkat(here, note)
  if (text === textFor(configuration, stateDirectory)) return unchanged
  // Only root can read the run directory, and only root can change anything.
  if (typeof text === 'number' && answered(text, 'readlink', note, ENOENT, ENOTDIR, EACCES, EINVAL) !== -EINVAL)
    return unchanged
  // Most upcalls have returned by now.
  if (isForeign(calls, runDirectory)) return unchanged
  if (typeof text === 'number')
    return {
      stateDirectory,
      changed: `${quote(note)} is not a link: the state directory of the last start is not known`,
    }
  const { was, directory } = noted(text)
  if (directory === undefined)
    return {
      stateDirectory,
      changed: `${quote(note)} can't be understood: the state directory of the last start is not known`,
    }
  const emptied = configuration.empty && was === 'configured'
  const how = emptied
    ? 'is empty or missing now, and was not when the server started'
    : 'has changed since the server started'
  const what = `configuration ${quote(configuration.file)} ${how}`
  if (directory !== stateDirectory)
    return {
      stateDirectory: directory,
      changed:
        `${what}: the state directory would be ${quote(stateDirectory)}, ` +
        `but until the next start it is ${quote(directory)}`,
    }
  return emptied ? { stateDirectory, changed: what } : unchanged
}
