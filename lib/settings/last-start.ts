/**
 * The state directory that the running server instance began in.
 *
 * The configuration is read anew by each upcall. Should it lead elsewhere while the server runs, be it by a change or
 * because an editor or a broken disk left nothing of it, an upcall that went there would acknowledge what no later
 * start looks for. So a start notes, in the run directory, where it begins; upcalls go there, and say so loudly, until
 * the next start. The note is made before the start is: an instance that began is noted rightly, whenever it was
 * killed.
 *
 * A note is a symbolic link, named by the configuration that led to the directory: `configured:DIRECTORY`, or
 * `empty:DIRECTORY` where nothing was in it. The command line names a directory for one call only: then nothing is
 * noted, nor looked at.
 */
import { atFlags, type Calls } from '../syscalls/calls.ts'
import { answered, errno } from '../syscalls/errno.ts'
import { quote } from '../text.ts'
import type { Configuration, Settings } from './settings.ts'

const here = atFlags.AT_FDCWD
const { ENOENT, ENOTDIR, EACCES, EINVAL, EEXIST } = errno

/** Nothing but a name for a file whose path has any length: a longer one than a name may be can't be noted. */
const noteOf = (runDirectory: string, { file }: Configuration): string =>
  `${runDirectory}/start-${encodeURIComponent(file)}`

const textFor = ({ empty }: Configuration, stateDirectory: string): string =>
  `${empty ? 'empty' : 'configured'}:${stateDirectory}`

/** Notes where an instance begins. @throws the system's error. */
export function noteDirectory(calls: Calls, { runDirectory, configuration, stateDirectory }: Settings): void {
  if (configuration === undefined) return
  const note = noteOf(runDirectory, configuration)
  const text = textFor(configuration, stateDirectory)
  if (calls.readlinkat(here, note) === text) return
  answered(calls.mkdirat(here, runDirectory, 0o755), 'mkdir', runDirectory, EEXIST)
  const staged = `${note}.new`
  answered(calls.unlinkat(here, staged, 0), 'unlink', staged, ENOENT)
  // Another start may do the same at this moment, by the same name: what comes last is one of the two notes.
  answered(calls.symlinkat(text, here, staged), 'symlink', staged, EEXIST)
  answered(calls.renameat(here, staged, here, note), 'rename', note, ENOENT)
}

/** Whether an earlier start is noted, which would lead the upcalls of this one astray. */
export const isNoted = (calls: Calls, { runDirectory, configuration }: Settings): boolean =>
  configuration !== undefined && typeof calls.readlinkat(here, noteOf(runDirectory, configuration)) === 'string'

export interface SinceStart {
  readonly stateDirectory: string
  /** What is not as it was at the start. */
  readonly changed: string | undefined
}

/** Where an upcall goes. One call of the kernel. */
export function sinceStart(calls: Calls, { runDirectory, configuration, stateDirectory }: Settings): SinceStart {
  const unchanged: SinceStart = { stateDirectory, changed: undefined }
  if (configuration === undefined) return unchanged
  const note = noteOf(runDirectory, configuration)
  const text = calls.readlinkat(here, note)
  if (text === textFor(configuration, stateDirectory)) return unchanged
  if (typeof text === 'number') {
    // Only root can read the run directory, and only root can change anything.
    answered(text, 'readlink', note, ENOENT, ENOTDIR, EACCES, EINVAL)
    return text === -EINVAL
      ? { stateDirectory, changed: `${quote(note)} is not a link: the state directory of the last start is not known` }
      : unchanged
  }
  const [, was, directory] = /^(configured|empty):(\/.*)$/s.exec(text) ?? []
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
