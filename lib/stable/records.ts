/**
 * Client records in their instances' directories.
 *
 * A record is one directory entry, a symbolic link whose target is its line: made by one call, never half-written, and
 * durable with its directory. Reclaiming moves it by one rename, which needs no space and leaves it in one place or the
 * other. Btrfs may bring a moved entry back in its old place after a power cut, so an entry in an older directory never
 * means more than "may reclaim, has not yet", and taking a client away syncs every directory that could bring it back.
 * Where a link can't hold the line (XFS: 1023 bytes), the record is a small file with the same line, and costs a
 * second barrier.
 */
import type { Start } from '../recovery/instance.ts'
import { readRecord, recordLine, recordName, type Facts } from '../recovery/record.ts'
import type { ClientOwner } from '../upcall/owner.ts'
import * as disk from './disk.ts'
import { setAside, type StateDirectory } from './state-directory.ts'

export type Entry =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'damaged' }
  | { readonly kind: 'record'; readonly owner: ClientOwner; readonly facts: Facts }

/** The longest line: every byte of a 1024-byte owner percent-encoded, and the facts. */
const longestLine = 4096

/** What stands under a name in an instance's directory. */
export function entryAt(directory: string, name: string): Entry {
  const path = `${directory}/${name}`
  // EINVAL: not a link.
  const target = disk.tolerating(['EINVAL'], () => disk.readLink(path) ?? 'absent', 'not a link')
  let line = target
  if (target === 'absent') return { kind: 'nothing' }
  if (target === 'not a link') {
    const file = disk.readSmallFile(path, longestLine)
    if (file.kind === 'absent') return { kind: 'nothing' }
    if (file.kind === 'other') return { kind: 'damaged' }
    line = file.text
  }
  const record = readRecord(name, line)
  return record === undefined ? { kind: 'damaged' } : { kind: 'record', ...record }
}

/** Looks for an owner's record, newest instance first; the newest entry decides, be it damaged. */
export function newestEntry(state: StateDirectory, owner: ClientOwner, newestFirst: readonly Start[]): { entry: Entry; in: Start | undefined } {
  const name = recordName(owner)
  for (const start of newestFirst) {
    const entry = entryAt(state.of(start), name)
    if (entry.kind !== 'nothing') return { entry, in: start }
  }
  return { entry: { kind: 'nothing' }, in: undefined }
}

/**
 * Records a client in `current`, by moving the record it has in an older instance or by a new one.
 * Durable once `current`'s directory is synced; until then the client is recorded as before, or anew.
 * @returns whether records in older directories are still to be dropped, once this one is durable.
 */
export function place(
  state: StateDirectory,
  owner: ClientOwner,
  facts: Facts,
  current: Start,
  older: readonly Start[],
): { readonly dropLater: readonly Start[] } {
  const name = recordName(owner)
  const path = `${state.of(current)}/${name}`
  const here = entryAt(state.of(current), name)
  if (here.kind === 'damaged') setAside(state, path, `${current}-${name}`)
  const inOlder: Start[] = []
  for (const start of older) if (entryAt(state.of(start), name).kind === 'record') inOlder.push(start)
  if (here.kind === 'record' && here.facts.session === facts.session) return { dropLater: inOlder }

  const [newest, ...rest] = inOlder
  if (here.kind !== 'record' && newest !== undefined) {
    const from = entryAt(state.of(newest), name)
    if (from.kind === 'record' && from.facts.session === facts.session && disk.move(`${state.of(newest)}/${name}`, path))
      return { dropLater: rest }
  }
  write(state.of(current), name, recordLine(owner, facts), here.kind === 'record')
  return { dropLater: inOlder }
}

/** Moves a record as it is. Needs no space. @returns false if it is gone. */
export const carryOver = (state: StateDirectory, owner: ClientOwner, from: Start, to: Start): boolean =>
  disk.move(`${state.of(from)}/${recordName(owner)}`, `${state.of(to)}/${recordName(owner)}`)

/** Takes a record out of one instance's directory; a damaged entry stays, since it allows nothing. */
export function drop(state: StateDirectory, owner: ClientOwner, start: Start): 'dropped' | 'nothing' | 'damaged' {
  const name = recordName(owner)
  const { kind } = entryAt(state.of(start), name)
  if (kind !== 'record') return kind
  return disk.remove(`${state.of(start)}/${name}`) ? 'dropped' : 'nothing'
}

/** A name that no owner has: what a kill leaves of it is no record, and is swept with its instance. */
const stagedPrefix = '%new-'

/** Puts an entry into a directory. A name that is taken is only replaced if the caller says so. */
function write(directory: string, name: string, line: string, replace: boolean): void {
  const path = `${directory}/${name}`
  const staged = replace ? stagedIn(directory) : path
  const linked = disk.tolerating(
    ['ENAMETOOLONG', 'EPERM', 'EOPNOTSUPP'],
    () => (disk.makeLink(line, staged) ? 'made' : 'taken'),
    'cannot',
  )
  if (linked === 'cannot') {
    const file = stagedIn(directory)
    disk.writeSynced(file, line)
    disk.replace(file, path)
  } else if (linked === 'made' && replace) disk.replace(staged, path)
}

const stagedIn = (directory: string): string => `${directory}/${stagedPrefix}${process.pid}-${Date.now()}`

/** Every entry of an instance, but for what a killed upcall left. */
export function* recordsIn(state: StateDirectory, start: Start): Generator<Entry & { readonly name: string }> {
  for (const name of disk.namesIn(state.of(start)))
    if (!name.startsWith(stagedPrefix)) yield { name, ...entryAt(state.of(start), name) }
}

/** Removes what killed upcalls left in an instance. */
export function removeLeftovers(state: StateDirectory, start: Start): void {
  for (const name of disk.namesIn(state.of(start)))
    if (name.startsWith(stagedPrefix)) disk.remove(`${state.of(start)}/${name}`)
}
