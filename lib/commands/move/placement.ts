/**
 * Where clients go that may reclaim at the next start: in the last full instance's directory, and nowhere later.
 *
 * That is where a client is that was active at the end of the last full instance and has not reclaimed. So whatever
 * happens while they are placed, even a start that nobody expected, they may reclaim in the next grace period, must do
 * so before it ends like everybody, and mean nothing after it. (In a later directory they would outlive an end of grace
 * in which they did not reclaim, and take back what others have had since: RFC 8881 8.4.3, the second edge condition.)
 *
 * Where no grace period was ever completed, all that was recorded since the beginning counts until one is. So there it
 * is an instance's directory that is older than the current one, and the last there is; where there is none, one is
 * made. Before the first start it is one whose number no start ever gets.
 *
 * Each record is one call, and they are durable together, by one barrier. A kill leaves some of them placed, each of
 * which may rightly reclaim, and a repeat places the rest. Records that are there stay as they are.
 *
 * It is right only while no server runs. A running one may have granted, or may grant until its next start, what
 * conflicts with the locks that these clients come for; and of those that leave meanwhile it tells its own tracker, not
 * their source.
 */
import fs from 'node:fs'
import { join } from 'node:path'
import { storageFailure } from '../../failure.ts'
import { reclaimableIn, type Start } from '../../rules/instance.ts'
import { recordLine, recordName } from '../../rules/record.ts'
import type { Recorded } from '../../store/layout.ts'
import { migrate } from '../../store/migrate.ts'
import { directoryOf } from '../../store/open-directories.ts'
import { entryAt, put } from '../../store/records.ts'
import {
  clientsOf,
  lookAt,
  makeStateDirectory,
  stateDirectory,
  syncStateDirectory,
  type StateDirectory,
} from '../../store/state-directory.ts'
import { ranUntracked } from '../../store/untracked.ts'
import { usualTop, legacyTopIn } from '../../store/v4recovery.ts'
import * as disk from '../../syscalls/files.ts'
import type { Directory } from '../../syscalls/files.ts'
import { oneLine, quote } from '../../text.ts'
import type { Context } from '../shared/context.ts'
import { underLock } from '../shared/lock.ts'
import { newestEntryOf } from '../shared/recorded-clients.ts'
import { nfsdThreads } from '../shared/service.ts'
import { survey } from '../shared/survey.ts'
import { factsOf, type Movable } from './movable.ts'

export interface Destination {
  readonly state: StateDirectory
  /**
   * Whether a client may reclaim at the next start as it is: it need not be placed. Or something newer stands under its
   * name that can't be understood, and decides: placing it would change nothing.
   */
  readonly standing: (client: Movable) => 'there' | 'blocked' | 'missing'
}

/** Where clients would be placed. @throws Failed storage: nowhere, and why. Nothing is changed. */
export function destinationAt(settings: Context): Destination {
  const { calls, stateDirectory: path, runDirectory, nfsdDirectory } = settings
  const state = stateDirectory(calls, path, runDirectory)
  const threads = nfsdThreads(nfsdDirectory)
  if (threads > 0)
    throw storageFailure(
      oneLine`
        nothing changed: nfsd is running (${threads} threads), and may grant locks that conflict with those of these
        clients; stop it, import, start it
      `,
    )
  if (ranUntracked(state))
    throw storageFailure(
      oneLine`
        nothing changed: a server instance ran that could not be recorded, or only in part, so at the next start nobody
        may reclaim; import after the grace period of that start
      `,
    )
  if (disk.kindAt(path, state.anywhere) === 'absent') return { state, standing: () => 'missing' }
  const surveyed = survey(settings, state)
  const { instance, counting } = surveyed
  if (instance.kind === 'damaged')
    throw storageFailure(
      `nothing changed: ${instance.file} in ${quote(path)} can't be understood (${instance.why}); see verify --repair`,
    )
  const filled = counting.filter((start) => !isEmpty(directoryOf(state, start)))
  const inFilled = { state, counting: filled }
  const where = placeIn(surveyed)
  return {
    state,
    standing: ({ owner }) => {
      if (filled.length === 0) return 'missing'
      const newest = newestEntryOf(inFilled, owner)
      if (newest.kind === 'record') return 'there'
      return newest.in !== undefined && where !== undefined && newest.in > where ? 'blocked' : 'missing'
    },
  }
}

const isEmpty = (directory: Directory | undefined): boolean =>
  directory === undefined || disk.entriesOf(directory).next().done === true

/** The last instance in which records count and have to be reclaimed; undefined, where one is to be made. */
function placeIn({ instance, starts }: Pick<Recorded, 'instance' | 'starts'>): Start | undefined {
  switch (instance.kind) {
    case 'full':
      return instance.start
    case 'partial':
      // In format 1 none before a first instance counted: then the two are one.
      return instance.full !== undefined && instance.full < instance.start
        ? instance.full
        : starts.filter((start) => start < instance.start).at(-1)
    case 'none':
      return beforeTheFirst
    case 'damaged':
      throw storageFailure(
        `nothing changed: ${instance.file} can't be understood (${instance.why}); see verify --repair`,
      )
    default:
      return instance satisfies never
  }
}

/** So many at a time: whoever else wants the lock does not wait for ever. */
const batch = 1000

/**
 * Places clients. When it returns they may reclaim at the next start, and a power cut does not change that.
 * @returns how many were not there.
 */
export function placeAll({ state }: Destination, clients: Iterable<Movable>): number {
  makeStateDirectory(state)
  migrate(state)
  const seen = lookAt(state)
  if (seen.instance.kind === 'none') syncStateDirectory(state)
  // An unconfirmed end of grace is made durable first, as by an upcall.
  if (seen.instance.kind === 'full' && seen.marks(seen.instance.start, 'unconfirmed')) disk.sync(clientsOf(state))
  const start = placeIn(seen) ?? newPlace(seen)
  let placed = 0
  const some: Movable[] = []
  const settle = (): void => {
    placed += underLock(state, () => fill(state, start, some))
    some.length = 0
  }
  for (const client of clients) {
    some.push(client)
    if (some.length === batch) settle()
  }
  settle()
  confirmPlaced(state, start)
  // A start alone would do no harm. But after the end of a grace period these records have no effect.
  const { instance, starts } = lookAt(state)
  if (instance.kind !== 'none' && !reclaimableIn(instance, starts).includes(start))
    throw storageFailure('a server ran meanwhile and completed its grace period: the clients may not reclaim')
  return placed
}

/**
 * Where no instance has started: no start ever gets this number (lib/rules/instance.ts). The latest directory would not
 * do, nor a new one, since both may be of a start that is on its way: then these clients would be taken for its own.
 */
const beforeTheFirst = 1 as Start

/** The name of a directory that is older than the current instance, and later than every other. */
function newPlace({ instance }: Recorded): Start {
  const start = 'start' in instance ? instance.start - 1 : beforeTheFirst
  if (start <= 0) throw storageFailure('nothing changed: there is no start left before the current one')
  return start as Start
}

/**
 * When it returns, whoever may reclaim stays there: an import that was killed may have left records without their
 * barrier where it places them, and an upcall in every instance that counts.
 *
 * @param place where some have just been placed.
 */
export function confirmPlaced(state: StateDirectory, place?: Start): void {
  const { instance, starts } = lookAt(state)
  const counting = instance.kind === 'none' ? starts : reclaimableIn(instance, starts)
  for (const start of new Set(place === undefined ? counting : [place, ...counting])) {
    const directory = directoryOf(state, start)
    if (directory !== undefined) disk.sync(directory)
  }
  disk.sync(clientsOf(state))
}

function fill(state: StateDirectory, start: Start, clients: readonly Movable[]): number {
  // It is gone if an upcall found that every client in it had reclaimed.
  if (directoryOf(state, start) === undefined) disk.makeDirectory(String(start), clientsOf(state))
  const directory = directoryOf(state, start)
  if (directory === undefined) throw storageFailure('the directory goes again and again')
  let placed = 0
  for (const client of clients) {
    const { owner } = client
    const facts = factsOf(client)
    // Almost always the name is free: then it is one call. Whatever that can't do, the way of an upcall can.
    const made = disk.tolerating(
      ['ENAMETOOLONG', 'EPERM', 'EOPNOTSUPP'],
      () => disk.makeLink(recordLine(owner, facts), recordName(owner), directory),
      false,
    )
    if (made) placed++
    else if (entryAt(directory, recordName(owner)).kind !== 'record') {
      put(state, { owner, facts }, start, [])
      placed++
    }
  }
  return placed
}

/**
 * Where the kernel's own tracker has its directories: a `check` names one there, and whoever has it may reclaim
 * (lib/rules/decide.ts). So a client of which only the MD5 is known is put there: it is looked for
 * exactly when nothing else knows the client, at no cost to other upcalls, taken over by its first `check`, and gone at
 * the end of grace. As for other clients, a repeat makes what is missing.
 *
 * @throws Failed storage, if a start would not see them there: it would not wait for them, nor would a grace end that
 * nobody told us of clear them away.
 */
export function legacyDestination(path: string, nfsdDirectory: string): string {
  const file = join(nfsdDirectory, 'nfsv4recoverydir')
  const told = fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim() : ''
  const top = told === '' ? usualTop : told
  if (top !== legacyTopIn(path))
    throw storageFailure(
      oneLine`
        clients known only by MD5 can't be imported: the kernel looks for them in ${quote(top)}, which is not beside the
        state directory, in ${quote(legacyTopIn(path))}
      `,
    )
  return top
}

/** Makes the directories of clients known by MD5. Durable when it returns. @returns how many were not there. */
export function placeMatchOnly(anywhere: Directory, topPath: string, hashes: Iterable<string>): number {
  if (disk.makeDirectory(topPath, anywhere)) disk.syncDirectory(disk.parentOf(topPath), anywhere)
  const top = disk.openDirectory(topPath, anywhere)
  if (typeof top !== 'object') throw storageFailure(`${quote(topPath)} is not a directory`)
  try {
    if (!disk.isOursAlone(disk.statusOf(top), top))
      throw storageFailure(`${quote(topPath)} is not ours alone: others may write to it`)
    let made = 0
    for (const hash of hashes) if (disk.makeDirectory(hash, top)) made++
    disk.sync(top)
    return made
  } finally {
    disk.close(top)
  }
}
