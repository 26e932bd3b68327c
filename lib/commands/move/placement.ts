/**
 * Records clients that may reclaim at the next start: in the last full instance's directory, and nowhere later.
 *
 * A client that was active at the end of the last full instance and has not reclaimed is recorded there. So whatever
 * happens meanwhile, even an unexpected start, these clients may reclaim in the next grace period, must do so before it
 * ends like every client, and their records have no effect after it. (In a later directory they would outlive an end of
 * grace in which they did not reclaim, and could reclaim what other clients have had since: RFC 8881 8.4.3, the second
 * edge condition.)
 *
 * Until a first grace period is completed, every record since the beginning counts. Then the directory is that of the
 * latest instance before the current one. If there is none, one is made. Before the first start it has a number that no
 * start ever gets.
 *
 * Each record is one call, and one barrier makes all of them durable. After a kill some of them are there, each of
 * which may rightly reclaim, and a repeat makes the rest. Existing records stay as they are.
 *
 * This is right only while no server runs. A running one may have granted, or may grant until its next start, locks
 * that conflict with those of these clients. And when one of these clients leaves, the server tells its own tracker,
 * not the source.
 */
import fs from 'node:fs'
import { join } from 'node:path'
import { storageFailure, type Failed } from '../../failure.ts'
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
import { isMarked } from '../../store/untracked.ts'
import { usualTop, legacyTopIn } from '../../store/v4recovery.ts'
import * as files from '../../syscalls/files.ts'
import type { Directory } from '../../syscalls/files.ts'
import { oneLine, quote } from '../../text.ts'
import type { Context } from '../shared/context.ts'
import { underLock } from '../shared/lock.ts'
import { newestEntryOf } from '../shared/recorded-clients.ts'
import { nfsdThreads } from '../shared/service.ts'
import { atNextStart, survey } from '../shared/survey.ts'
import { factsOf, type Movable } from './movable.ts'

export interface Destination {
  readonly state: StateDirectory
  /**
   * 'there': the client may reclaim at the next start already. 'blocked': a newer entry of its name can't be
   * understood, and decides, so placing the client would change nothing. 'missing': it must be placed.
   */
  readonly standing: (client: Movable) => 'there' | 'blocked' | 'missing'
}

const ranUntracked = (): Failed =>
  storageFailure(
    oneLine`
      nothing changed: a server instance ran that could not be recorded, or only in part, so at the next start nobody
      may reclaim; import after the grace period of that start
    `,
  )

/** Finds where clients would be placed. It changes nothing. @throws Failed storage: why they can't be placed */
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
  if (isMarked(state)) throw ranUntracked()
  if (files.kindAt(path, state.anywhere) === 'absent') return { state, standing: () => 'missing' }
  const surveyed = survey(settings, state)
  const { instance, counting } = surveyed
  if (surveyed.untracked) throw ranUntracked()
  if (instance.kind === 'damaged')
    throw storageFailure(
      `nothing changed: ${instance.file} in ${quote(path)} can't be understood (${instance.why}); see verify --repair`,
    )
  const filled = counting.filter((start) => !isEmpty(directoryOf(state, start)))
  const inFilled = { state, counting: filled, begun: surveyed.begun }
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
  directory === undefined || files.entriesOf(directory).next().done === true

/** The latest instance whose records count and must be reclaimed; undefined, if one must be made. */
function placeIn({ instance, starts }: Pick<Recorded, 'instance' | 'starts'>): Start | undefined {
  switch (instance.kind) {
    case 'full':
      return instance.start
    case 'partial':
      // In format 1 nothing before a first instance counted: then `full` and `start` are the same.
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

/** This many are handled at a time, so that no other process waits for the lock for ever. */
const batch = 1000

/**
 * Places clients. When it returns they may reclaim at the next start, and a power cut does not change that.
 * @returns how many were not recorded before
 */
export function placeAll({ state }: Destination, clients: Iterable<Movable>): number {
  makeStateDirectory(state)
  migrate(state)
  const seen = lookAt(state)
  if (seen.instance.kind === 'none') syncStateDirectory(state)
  // An unconfirmed end of grace is made durable first, as by an upcall.
  if (seen.instance.kind === 'full' && seen.marks(seen.instance.start, 'unconfirmed')) files.sync(clientsOf(state))
  const start = placeIn({ ...seen, instance: atNextStart(state, seen.instance) }) ?? newPlace(seen)
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
 * Used before the first start: no start ever gets this number (lib/rules/instance.ts). The latest directory must not be
 * used, nor a new one, because both may belong to a start that is not complete: these clients would be taken for its
 * own.
 */
const beforeTheFirst = 1 as Start

/** A name for a directory that is older than the current instance, and later than every other. */
function newPlace({ instance }: Recorded): Start {
  const start = 'start' in instance ? instance.start - 1 : beforeTheFirst
  if (start <= 0) throw storageFailure('nothing changed: there is no start left before the current one')
  return start as Start
}

/**
 * Makes the records of all clients that may reclaim durable. A killed import may have left records without a barrier in
 * the directory that it used, and an upcall in every instance that counts.
 *
 * @param place the directory in which clients have just been placed
 */
export function confirmPlaced(state: StateDirectory, place?: Start): void {
  const { instance, starts } = lookAt(state)
  const counting = instance.kind === 'none' ? starts : reclaimableIn(instance, starts)
  for (const start of new Set(place === undefined ? counting : [place, ...counting])) {
    const directory = directoryOf(state, start)
    if (directory !== undefined) files.sync(directory)
  }
  files.sync(clientsOf(state))
}

function fill(state: StateDirectory, start: Start, clients: readonly Movable[]): number {
  // The directory is gone if an upcall found that every client in it had reclaimed.
  if (directoryOf(state, start) === undefined) files.makeDirectory(String(start), clientsOf(state))
  const directory = directoryOf(state, start)
  if (directory === undefined) throw storageFailure('the directory goes again and again')
  let placed = 0
  for (const client of clients) {
    const { owner } = client
    const facts = factsOf(client)
    // The name is almost always free, and then one call is enough. What that call can't do is done as by an upcall.
    const made = files.tolerating(
      ['ENAMETOOLONG', 'EPERM', 'EOPNOTSUPP'],
      () => files.makeLink(recordLine(owner, facts), recordName(owner), directory),
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
 * The directory of the kernel's own tracker, in which a client is recorded of which only the MD5 is known. A `check`
 * names an entry there, and a client that has one may reclaim (lib/rules/decide.ts). An entry is looked for only when
 * nothing else knows the client, so it costs other upcalls nothing. The client's first `check` takes it over, and the
 * end of grace removes it. As for other clients, a repeat makes what is missing.
 *
 * @throws Failed storage, if a start would not find the entries there: it would not wait for these clients, and an end
 * of grace that the kernel did not report would not remove the entries
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

/** Makes the directories of clients known by MD5. They are durable when it returns. @returns how many did not exist */
export function placeMatchOnly(anywhere: Directory, topPath: string, hashes: Iterable<string>): number {
  if (files.makeDirectory(topPath, anywhere)) files.syncDirectory(files.parentOf(topPath), anywhere)
  const top = files.openDirectory(topPath, anywhere)
  if (typeof top !== 'object') throw storageFailure(`${quote(topPath)} is not a directory`)
  try {
    if (!files.isOursAlone(files.statusOf(top), top))
      throw storageFailure(`${quote(topPath)} is not ours alone: others may write to it`)
    let made = 0
    for (const hash of hashes) if (files.makeDirectory(hash, top)) made++
    files.sync(top)
    return made
  } finally {
    files.close(top)
  }
}
