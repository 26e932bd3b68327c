/**
 * Client records in their instances' directories.
 *
 * A record is one directory entry: a symbolic link whose target is its line. One call makes it, it is never
 * half-written, and it becomes durable with its directory. Reclaiming moves it by one rename, which needs no space and
 * leaves it in one place or the other. Btrfs may bring a moved entry back in its old place after a power cut. So an
 * entry in an older directory never means more than "may reclaim, has not yet", and removing a client syncs every
 * directory that could bring it back. If a link can't hold the line (XFS: 1023 bytes), the record is a small file with
 * the same line, and costs a second barrier.
 */
import { storageFailure } from '../failure.ts'
import type { From } from '../rules/decide.ts'
import type { Start } from '../rules/instance.ts'
import {
  checkField,
  factsAfter,
  readRecord,
  lineOf,
  nameOf,
  recordLine,
  recordName,
  usualFacts,
  type Facts,
  type Record,
} from '../rules/record.ts'
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { quote } from '../text.ts'
import type { ClientOwner } from '../upcall/owner.ts'
import { made, removed } from './intent-log.ts'
import { directoryOf } from './open-directories.ts'
import { copyAside, setAside, type StateDirectory } from './state-directory.ts'

export type Entry =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'damaged' }
  /** A newer version of this program wrote it. It is kept, and lets nobody reclaim here. */
  | { readonly kind: 'newer' }
  | ({ readonly kind: 'record' } & Record)

/** The longest line: every byte of a 1024-byte owner percent-encoded, and the facts. */
const longestLine = 4096

/** What an instance's directory has under a name. @param meant the name that it had before it was moved, if it was. */
export function entryAt(directory: Directory, name: string, meant = name): Entry {
  const link = files.linkAt(name, directory)
  if (link === 'absent') return { kind: 'nothing' }
  let line
  if (link === 'no link') {
    const file = files.readSmallFile(name, longestLine, directory)
    if (file.kind === 'absent') return { kind: 'nothing' }
    if (file.kind === 'other') return { kind: 'damaged' }
    line = file.text
  } else line = link.text
  const record = readRecord(meant, line, directory.calls)
  return record === undefined
    ? { kind: 'damaged' }
    : record === 'newer'
      ? { kind: 'newer' }
      : { kind: 'record', owner: record.owner, facts: record.facts }
}

/** What an instance has under a name: nothing, if it has no directory. */
function entryIn(state: StateDirectory, start: Start, name: string): Entry {
  const directory = directoryOf(state, start)
  return directory === undefined ? { kind: 'nothing' } : entryAt(directory, name)
}

/** Looks for an owner's record, newest instance first. The newest entry decides, even if it is damaged. */
export function newestEntry(
  state: StateDirectory,
  owner: ClientOwner,
  newestFirst: readonly Start[],
): { entry: Entry; in: Start | undefined } {
  const name = recordName(owner, state.anywhere.calls)
  for (const start of newestFirst) {
    const entry = entryIn(state, start, name)
    if (entry.kind !== 'nothing') return { entry, in: start }
  }
  return { entry: { kind: 'nothing' }, in: undefined }
}

/** A client, and what the kernel said about it. */
export interface ClientFacts {
  readonly owner: ClientOwner
  readonly facts: Facts
}

export interface Put {
  /** Where the record is. */
  readonly directory: Directory
  /** Older instances that still have a record of the client: to be dropped once this one is durable. */
  readonly dropLater: readonly Start[]
  /** What the record says now. */
  readonly facts: Facts
  /** Where it was before; undefined, if it was here. */
  readonly from: From | undefined
  /** The change, as an intent log has it; undefined, if it is more than one new name. */
  readonly change?: string
}

/**
 * Records a client in `current`, by moving the record it has in an older instance or by a new one.
 * Durable once `current`'s directory is synced; until then the client is recorded as before, or anew.
 * @param begins called before the first change, if the client has no record there that counts
 * @returns undefined, if the current instance's directory is missing.
 */
export function put(
  state: StateDirectory,
  { owner, facts: told }: ClientFacts,
  current: Start,
  older: readonly Start[],
  begins?: (from: From) => void,
): Put | undefined {
  const directory = directoryOf(state, current)
  if (directory === undefined) return undefined
  const { calls } = directory
  const text = calls.textOf(owner)
  const name = nameOf(text, calls)
  // Most often the client has no record yet. Then this one call makes it.
  if (older.length === 0 && (begins === undefined || files.linkAt(name, directory) === 'absent')) {
    begins?.('nowhere')
    const line = lineOf(text, told, calls)
    if (calls.symlinkat(line, directory.descriptor, name) >= 0)
      return { directory, dropLater: older, facts: told, from: 'nowhere', change: made(name, line) }
  }
  return putBeside(state, directory, { text, name, told, current, older, begins })
}

/** The client has a record already, or the link could not be made. */
function putBeside(
  state: StateDirectory,
  directory: Directory,
  {
    text,
    name,
    told,
    current,
    older,
    begins,
  }: {
    readonly text: string
    readonly name: string
    readonly told: Facts
    readonly current: Start
    readonly older: readonly Start[]
    readonly begins: ((from: From) => void) | undefined
  },
): Put {
  const here = entryAt(directory, name)
  // What can't be understood stays until the record replaces it in one step. If it were moved away first, an upcall
  // that is killed or refused then would leave an older record that counts, or take away what another has recorded.
  const isUnreadable = here.kind === 'damaged' || here.kind === 'newer'
  const label = `${current}-${name}`
  if (isUnreadable) begins?.('unreadable')
  const stays = isUnreadable && copyAside(state, name, directory, label)
  if (isUnreadable && !stays) {
    // A directory can't be replaced, so it goes first, and then nothing hides what is older until the record is made.
    for (const start of older) dropNamed(state, name, start)
    setAside(state, name, directory, label)
  }
  const inOlder = older.flatMap((start) => {
    const entry = entryIn(state, start, name)
    return entry.kind === 'record' ? [{ start, facts: entry.facts }] : []
  })
  const dropLater = inOlder.map(({ start }) => start)
  const [newest] = inOlder
  const known = here.kind === 'record' ? here.facts : newest?.facts
  const facts = factsAfter(known, told)
  const isSaid = facts === known
  if (here.kind === 'record' && isSaid) return { directory, dropLater, facts, from: undefined }

  if (here.kind === 'nothing' && newest !== undefined && isSaid) {
    const from = directoryOf(state, newest.start)
    begins?.(newest.start)
    if (from !== undefined && files.move(name, name, from, directory))
      return { directory, dropLater: dropLater.slice(1), facts, from: newest.start }
  }
  const how = here.kind === 'record' || stays ? 'replaces' : 'new'
  // The older record stays until this one is durable. If it comes to that, this one is moved into its place.
  if (here.kind === 'nothing') begins?.(newest?.start ?? 'nowhere')
  write(directory, name, lineOf(text, facts, directory.calls), how)
  const from = here.kind === 'record' ? undefined : isUnreadable ? 'unreadable' : 'nowhere'
  return { directory, dropLater, facts, from }
}

/**
 * Makes a record, unless the name is taken. Durable once the directory is synced.
 * @returns 'taken', if it is; undefined, if the directory is missing.
 */
export function make(state: StateDirectory, { owner, facts }: ClientFacts, start: Start): 'made' | 'taken' | undefined {
  const directory = directoryOf(state, start)
  if (directory === undefined) return undefined
  const { calls } = directory
  return write(directory, recordName(owner, calls), recordLine(owner, facts, calls), 'new')
}

/** Moves a record unchanged. Needs no space. @returns false, if the record or the target directory is missing. */
export function move(state: StateDirectory, owner: ClientOwner, from: Start, to: Start): boolean {
  const name = recordName(owner, state.anywhere.calls)
  const [fromDirectory, toDirectory] = [directoryOf(state, from), directoryOf(state, to)]
  return fromDirectory !== undefined && toDirectory !== undefined && files.move(name, name, fromDirectory, toDirectory)
}

/** The change that {@link drop} has made, if it has dropped the record, as an intent log has it. */
export const dropped = (state: StateDirectory, owner: ClientOwner): string =>
  removed(recordName(owner, state.anywhere.calls))

/** Removes a record from one instance's directory. An entry that can't be understood stays: it lets nobody reclaim. */
export const drop = (
  state: StateDirectory,
  owner: ClientOwner,
  start: Start,
): 'dropped' | 'nothing' | 'damaged' | 'newer' => dropNamed(state, recordName(owner, state.anywhere.calls), start)

function dropNamed(state: StateDirectory, name: string, start: Start): ReturnType<typeof drop> {
  const directory = directoryOf(state, start)
  if (directory === undefined) return 'nothing'
  const { kind } = entryAt(directory, name)
  if (kind !== 'record') return kind
  return files.remove(name, directory) ? 'dropped' : 'nothing'
}

/**
 * The beginning of temporary names, which no owner's name has. What a kill leaves under such a name is no record. It is
 * removed with its instance.
 */
export const stagedPrefix = '%new-'
export const isStaged = (name: string): boolean => name.startsWith(stagedPrefix)

/** Makes an entry, or replaces one. A new entry never replaces another. */
function write(directory: Directory, name: string, line: string, as: 'new' | 'replaces'): 'made' | 'taken' {
  const staged = `${stagedPrefix}${directory.calls.processId()}-${directory.calls.now()}`
  const made = linked(directory, as === 'replaces' ? staged : name, line)
  if (made === 'cannot') {
    if (!files.writeSynced(staged, line, directory))
      throw storageFailure(`the temporary name ${quote(staged)} is taken`)
    rename(staged, name, directory)
  } else if (made === 'made' && as === 'replaces') rename(staged, name, directory)
  return made === 'taken' ? 'taken' : 'made'
}

/** Makes a link; 'cannot', if the file system has no links, or none that long. */
const linked = (directory: Directory, name: string, line: string): 'made' | 'taken' | 'cannot' =>
  files.tolerating(
    ['ENAMETOOLONG', 'EPERM', 'EOPNOTSUPP'],
    () => (files.makeLink(line, name, directory) ? 'made' : 'taken'),
    'cannot',
  )

function rename(staged: string, name: string, directory: Directory): void {
  if (!files.move(staged, name, directory)) throw files.missing(`${directory.path}/${staged}`)
}

/**
 * Calls `each` for all records of an instance. There may be a hundred thousand, so most are read without a step of this
 * program for each: one system call, and what the host does.
 * @param each gets owners of records (each character a byte) and the hash of their principal, and returns whether it
 * wants more.
 * @param unreadable gets the name of an entry that can't be understood.
 * @param links `links` of the table of calls, or another that does more: `each` gets those that it leaves.
 * @returns 'none', if there were none; 'enough', if `each` wanted no more.
 */
export function eachRecordIn(
  state: StateDirectory,
  start: Start,
  each: (owners: readonly string[], principal: string | undefined) => boolean,
  unreadable: (name: string) => void,
  links = state.anywhere.calls.links,
): 'none' | 'all' | 'enough' {
  const directory = directoryOf(state, start)
  if (directory === undefined) return 'none'
  let found: 'none' | 'all' = 'none'
  for (const { plain, others, written } of files.linksOf(directory, usualFacts(), checkField, links)) {
    if (plain.length > 0 || written > 0) {
      found = 'all'
      if (!each(plain, undefined)) return 'enough'
    }
    for (const { name, decoded, digits } of others) {
      if (decoded !== undefined) {
        found = 'all'
        if (!each([decoded], digits)) return 'enough'
        continue
      }
      if (isStaged(name)) continue
      found = 'all'
      const entry = entryAt(directory, name)
      if (entry.kind === 'record') {
        if (!each([entry.owner], entry.facts.principal)) return 'enough'
      } else if (entry.kind !== 'nothing') unreadable(name)
    }
  }
  return found
}
