/**
 * What an upcall has begun. If it is killed, the next start completes it or takes it back (lib/events/cut-short.ts).
 *
 * The kernel takes a killed upcall for one that failed. After a `remove` it goes on as if the client were gone. After a
 * `create` or a `check` it goes on without ever saying that the client is gone (nfs4recover.c, NFSD4_CLIENT_STABLE). So
 * an upcall notes the client before its first change, and removes the note when what it promises is durable. A note
 * that is there at a start is of an upcall that did not come so far, however it ended. (Of a start and of an end of
 * grace, untracked.ts has notes.)
 *
 * A note is a symbolic link in the run directory, which survives what kills an upcall, but no reboot. It is named like
 * the client's record, so each client has one note at most, and an upcall that succeeds removes that of an earlier one
 * about the same client: the kernel runs these one after the other (nfs4recover.c, NFSD4_CLIENT_UPCALL_LOCK).
 *
 * Its text is shorter than 128 bytes, so a full tmpfs still takes it (mm/shmem.c, SHORT_SYMLINK_LEN). Only where the
 * name is the digest of a long owner, the text has that owner, if the file system takes it: without it, the start can't
 * tell about whom the note is, and lets nobody reclaim.
 */
import { errorCode, failureFrom, report, storageFailure } from '../failure.ts'
import type { Begun } from '../rules/decide.ts'
import { startFromName } from '../rules/instance.ts'
import { isDigest, ownerNamed, recordName } from '../rules/record.ts'
import { errno, errorName } from '../syscalls/errno.ts'
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { quote } from '../text.ts'
import { bytesFromHex, hexOf } from '../upcall/hex.ts'
import { longestOwner, type ClientOwner } from '../upcall/owner.ts'
import { holderName, lifeOf } from './process.ts'
import { isStaged, stagedPrefix } from './records.ts'
import { makeRunDirectory, startMark } from './run-directory.ts'
import { holderOf, type StateDirectory } from './state-directory.ts'

export type BegunAbout = Begun & { readonly owner: ClientOwner }

export interface Note {
  /** The note's path. */
  readonly path: string
  readonly begun: BegunAbout
  /** Whether its upcall still runs. */
  readonly goesOn: boolean
}

/** NAME_MAX */
const longestName = 255

const prefix = 'begun-'

/**
 * The directory of notes. It is named after the state directory as it is spelled, because to resolve that would take
 * several calls in each upcall. A start looks for all spellings ({@link directoriesOf}).
 */
const directoryFor = (state: StateDirectory): string => (state.notesPath ??= notesPathFor(state))

function notesPathFor({ runDirectory, path, anywhere }: StateDirectory): string {
  const name = prefix + anywhere.calls.percentEncoded(path)
  return name.length > longestName ? `${startMark(runDirectory, path, anywhere)}.${prefix}` : `${runDirectory}/${name}`
}

const noteFor = (state: StateDirectory, owner: ClientOwner): string =>
  directoryFor(state) + '/' + recordName(owner, state.anywhere.calls)

/** The directory of notes, open. @throws Failed, if others can write to it */
function openNotes(state: StateDirectory): Directory | undefined {
  if (state.notes !== undefined) return state.notes
  const opened = openOurs(directoryFor(state), state.anywhere)
  if (opened === 'absent') return undefined
  if (opened === 'other') throw storageFailure(`${quote(directoryFor(state))} is no directory of ours alone`)
  return (state.notes = opened)
}

function makeNotes(state: StateDirectory): Directory {
  makeRunDirectory(state.runDirectory, state.anywhere)
  files.makeDirectory(directoryFor(state), state.anywhere)
  const made = openNotes(state)
  if (made === undefined) throw files.missing(directoryFor(state))
  return made
}

/** Opens the directory of notes, or makes it. To be called before the lock is taken: others wait for that. */
export function openForNotes(state: StateDirectory): void {
  try {
    if (openNotes(state) === undefined) makeNotes(state)
  } catch {
    // Whoever notes something says why it can't.
  }
}

/**
 * Notes what is about to be done. A `remove` that was cut short stays noted: to complete it takes out whatever a later
 * upcall has put into place and did not promise.
 * @returns why it can't be noted, if it can't
 */
export function noteBegun(state: StateDirectory, begun: BegunAbout): string | undefined {
  state.forgotten = undefined
  const name = recordName(begun.owner, state.anywhere.calls)
  const what = begun.kind === 'remove' ? removal : `${String(begun.in)}/${String(begun.from)}`
  // A remove takes the lock next, by its whole name. A create may need none.
  const us = begun.kind === 'remove' ? holderOf(state) : (state.us ?? holderName(state.anywhere, 'this boot'))
  const text = `${what}/${us}`
  if (isDigest(name) && note(state, name, `${text}/${hexOf(begun.owner)}`) === undefined) return undefined
  return note(state, name, text)
}

/** @returns why it can't be made, if it can't */
function note(state: StateDirectory, name: string, text: string): string | undefined {
  try {
    const notes = openNotes(state) ?? makeNotes(state)
    if (files.makeLink(text, name, notes)) return undefined
    if (files.readLink(name, notes)?.startsWith(`${removal}/`) !== true)
      files.replaceLink(text, name, `${stagedPrefix}${notes.calls.processId()}`, notes)
    return undefined
  } catch (thrown) {
    return errorCode(thrown) ?? report(failureFrom(thrown)).line
  }
}

const removal = 'remove/-'

/**
 * What is promised about a client is durable. It may be called again: only the first call that succeeds does anything.
 * @returns why the note stays, if it does: then the promise can't be given
 */
export function forgetBegun(state: StateDirectory, owner: ClientOwner): string | undefined {
  if (state.forgotten === owner) return undefined
  try {
    const notes = openNotes(state)
    if (notes === undefined) return undefined
    const name = recordName(owner, notes.calls)
    const answer = notes.calls.unlinkat(notes.descriptor, name, 0)
    if (answer >= 0 || answer === -errno.ENOENT) {
      state.forgotten = owner
      return undefined
    }
    // A read-only file system refuses to remove even what is not there.
    return typeof notes.calls.readlinkat(notes.descriptor, name) === 'string' ? errorName(answer) : undefined
  } catch {
    // It could not be made either. That was logged.
    return undefined
  }
}

/**
 * For a process that lives long: upcalls may have made the directory of notes since, or another one in its place.
 * @returns whether there is one
 */
export function lookForNotes(state: StateDirectory): boolean {
  if (state.notes !== undefined) files.close(state.notes)
  state.notes = undefined
  state.forgotten = undefined
  const { calls, descriptor } = state.anywhere
  // Most often there is none, and to open it would take ten times as long.
  if (calls.identityAt(descriptor, directoryFor(state)) === -errno.ENOENT) return false
  try {
    return openNotes(state) !== undefined
  } catch {
    // What others could have written lets nobody reclaim after the next start, whatever is promised now.
    return false
  }
}

/** What is noted about a client. A note that can't be understood counts as a removal. */
export function begunAbout(state: StateDirectory, owner: ClientOwner): Begun | undefined {
  const { calls, descriptor } = state.anywhere
  const text = calls.readlinkat(descriptor, noteFor(state, owner))
  // No link stands there, or /run can't be read: as if nothing were noted.
  return typeof text === 'string' ? (begunIn(text) ?? { kind: 'remove' }) : undefined
}

/**
 * @param mark the state directory's mark of a start, if the caller knows its name
 * @returns the notes about a state directory, under any spelling; in `unknown`, the paths of those that can't be
 * understood, or that somebody else could have made
 */
export function notesOf(
  state: StateDirectory,
  mark = startMark(state.runDirectory, state.path, state.anywhere),
): { readonly notes: readonly Note[]; readonly unknown: string[] } {
  const notes: Note[] = []
  const unknown: string[] = []
  const directories = directoriesOf(state, mark)
  // Somebody else's, who does not let us read it. A start goes on, and lets nobody reclaim.
  if (directories === undefined) return { notes, unknown: [state.runDirectory] }
  for (const path of directories) {
    const within = openOurs(path, state.anywhere)
    if (within === 'absent') continue
    if (within === 'other') {
      // Whatever is in it, somebody else could have made it.
      if (files.directoryAt(path, state.anywhere) === 'other' || files.namesIn(path, state.anywhere).length > 0)
        unknown.push(path)
      continue
    }
    for (const { name } of files.allIn(within, ({ name }) => !isStaged(name))) {
      const link = files.linkAt(name, within)
      if (link === 'absent') continue
      const note = link === 'no link' ? undefined : noteIn(`${path}/${name}`, name, link.text, state)
      if (note === undefined) unknown.push(`${path}/${name}`)
      else notes.push(note)
    }
    files.close(within)
  }
  return { notes, unknown }
}

/** Removes the notes of upcalls that have ended: no record counts any more of which they tell. */
export function forgetNotes(state: StateDirectory): void {
  const { notes, unknown } = notesOf(state)
  for (const { path, goesOn } of notes) if (!goesOn) removeNote(path, state)
  for (const path of unknown) removeNote(path, state)
}

/** Removes a note by its path, if it is in a directory of ours. */
export function removeNote(path: string, { anywhere }: StateDirectory): void {
  const within = openOurs(files.parentOf(path), anywhere)
  if (typeof within === 'string') return
  // A directory in a note's place stays, and counts again. Above the run directory nothing may be removed.
  files.tolerating(['EISDIR', 'EACCES'], () => files.remove(path.slice(path.lastIndexOf('/') + 1), within), false)
  files.close(within)
}

/** Names in it are chosen by clients. So none of whoever owns the run directory may lead elsewhere. */
function openOurs(path: string, anywhere: Directory): Directory | 'absent' | 'other' {
  const opened = files.openDirectory(path, anywhere)
  if (opened === 'other') return files.exists(path, anywhere) ? 'other' : 'absent'
  if (opened === 'absent' || files.isOursAlone(files.statusOf(opened), opened)) return opened
  files.close(opened)
  return 'other'
}

function noteIn(path: string, name: string, text: string, state: StateDirectory): Note | undefined {
  const { anywhere } = state
  const begun = begunIn(text)
  const [, , holder = '', hex] = text.split('/')
  const owner = hex === undefined ? ownerNamed(name, anywhere.calls) : longOwner(hex, name, anywhere)
  if (begun === undefined || owner === undefined) return undefined
  return { path, begun: { ...begun, owner }, goesOn: lifeOf(holder, holderOf(state), anywhere) === 'alive' }
}

function longOwner(hex: string, name: string, { calls }: Directory): ClientOwner | undefined {
  const owner = bytesFromHex(hex)
  if (owner === undefined || owner.length > longestOwner) return undefined
  return recordName(owner as ClientOwner, calls) === name ? (owner as ClientOwner) : undefined
}

function begunIn(text: string): Begun | undefined {
  if (text.startsWith(`${removal}/`)) return { kind: 'remove' }
  const [first = '', second = ''] = text.split('/')
  const start = startFromName(first)
  const from = second === 'nowhere' || second === 'unreadable' ? second : startFromName(second)
  return start === undefined || from === undefined ? undefined : { kind: 'put', in: start, from }
}

/**
 * The directories of notes about this state directory, under whatever names it has been used; undefined, if that can't
 * be found out.
 */
function directoriesOf(state: StateDirectory, mark: string): string[] | undefined {
  const { runDirectory, path, anywhere } = state
  return files
    .tolerating(['EACCES'], () => files.namesIn(runDirectory, anywhere), undefined)
    ?.filter((name) => name.startsWith(prefix))
    .filter((name) => {
      const spelled = anywhere.calls.percentDecoded(name.slice(prefix.length))
      return spelled !== undefined && (spelled === path || startMark(runDirectory, spelled, anywhere) === mark)
    })
    .map((name) => `${runDirectory}/${name}`)
    .concat(`${mark}.${prefix}`)
}
