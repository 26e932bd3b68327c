/**
 * Where clients go that may reclaim at the next start: in the last full instance's directory, and nowhere else.
 *
 * That is where a client is that was active at the end of the last full instance and has not reclaimed. So whatever happens
 * while they are placed, even a start that nobody expected, they may reclaim in the next grace period, must do so before
 * it ends like everybody, and mean nothing after it. (In a later directory they would outlive an end of grace in which they
 * did not reclaim, and take back what others have had since: RFC 8881 8.4.3, the second edge condition.)
 *
 * Each record is one call, and they are durable together, by one barrier. A kill leaves some of them placed, each of which
 * may rightly reclaim, and a repeat places the rest. Records that are there stay as they are.
 *
 * Where no instance was ever full, they become one that has started, and never completed its grace: filled and synced, then
 * started by one call. What was recorded before it counts as it did, since nothing ended.
 *
 * It is right only while no server runs. A running one may have granted, or may grant until its next start, what conflicts
 * with the locks that these clients come for; and of those that leave meanwhile it tells its own tracker, not their source.
 */
import { basename, dirname, join } from 'node:path'
import fs from 'node:fs'
import { quote } from '../../failure.ts'
import { reclaimableIn, startFromName, type Instance, type Start } from '../../recovery/instance.ts'
import { recordLine, recordName } from '../../recovery/record.ts'
import * as disk from '../../stable/disk.ts'
import * as instances from '../../stable/instances.ts'
import { usualTop, legacyTopIn } from '../../stable/legacy.ts'
import { place } from '../../stable/records.ts'
import { clientsOf, lookAt, makeStateDirectory, stateDirectory, type StateDirectory } from '../../stable/state-directory.ts'
import { ranUntracked } from '../../stable/untracked.ts'
import { migrate } from '../../stable/migrate.ts'
import { escapeOwner } from '../../upcall/owner.ts'
import { holding } from '../hold.ts'
import { reclaimableAtNextStart } from '../next-start.ts'
import { nfsdThreads } from '../service.ts'
import { survey, type Survey } from '../survey.ts'
import { refused } from './database.ts'
import type { Movable } from './movable.ts'

export type Place =
  | { readonly kind: 'last-full-instance'; readonly start: Start }
  | { readonly kind: 'new-instance' }

export interface Room {
  readonly state: StateDirectory
  readonly place: Place
  /** Whether a client may reclaim at the next start as it is: it need not be placed. */
  readonly has: (client: Movable) => boolean
  /** Whether something newer stands under its name that can't be understood, and decides: placing it would change nothing. */
  readonly isBlocked: (client: Movable) => boolean
}

/** Where clients would be placed. @throws Failed storage: nowhere, and why. Nothing is changed. */
export function roomIn(path: string, nfsdDirectory: string, runDirectory: string): Room {
  const threads = nfsdThreads(nfsdDirectory)
  if (threads > 0)
    throw refused(`nothing changed: nfsd is running (${threads} threads), and may grant what conflicts with the locks of these clients; stop it, import, start it`)
  if (ranUntracked({ runDirectory, path }))
    throw refused('nothing changed: a server instance ran that could not be recorded, so at the next start nobody may reclaim; import after the grace period of that start')
  const state = stateDirectory(path)
  if (disk.kindAt(path) === 'absent') return { state, place: { kind: 'new-instance' }, has: () => false, isBlocked: () => false }
  const read = survey(path)
  const known = new Set(reclaimableAtNextStart(read).map(({ owner }) => escapeOwner(owner)))
  const place = placeFor(read.instance, path)
  const blocked = new Set(place.kind === 'new-instance' ? [] : damagedAfter(read, place.start))
  return {
    state,
    place,
    has: ({ owner }) => known.has(escapeOwner(owner)),
    isBlocked: ({ owner }) => blocked.has(recordName(owner)),
  }
}

/** Names of entries in instances after `start` that can't be understood. */
const damagedAfter = ({ oddities }: Survey, start: Start): string[] =>
  oddities
    .filter(({ kind, path }) => kind === 'damaged' && (startFromName(basename(dirname(path))) ?? 0) > start)
    .map(({ path }) => basename(path))

function placeFor(instance: Instance, path: string): Place {
  switch (instance.kind) {
    case 'full':
      return { kind: 'last-full-instance', start: instance.start }
    case 'partial':
      // In format 1 none before the current one counted.
      return instance.full === undefined || instance.full === instance.start ? { kind: 'new-instance' } : { kind: 'last-full-instance', start: instance.full }
    case 'none':
      return { kind: 'new-instance' }
    case 'damaged':
      throw refused(`nothing changed: ${instance.file} in ${quote(path)} can't be understood (${instance.why}); see verify --repair`)
    default:
      return instance satisfies never
  }
}

/** Places clients. When it returns they may reclaim at the next start, and a power cut does not change that. */
export function placeAll({ state, place: where }: Room, clients: readonly Movable[], nowMs: number, shown: (done: number) => void): void {
  let start: Start
  if (where.kind === 'last-full-instance') {
    // An end of grace that nobody has made sure of is on the disk first, as for an upcall.
    migrate(state)
    if (lookAt(state).marks(where.start, 'unconfirmed')) disk.sync(clientsOf(state))
    holding(state, () => { fill(state, where.start, clients, shown) })
    start = where.start
  } else {
    makeStateDirectory(state)
    migrate(state)
    const prepared = instances.prepareStart(state, nowMs, undefined, { mayEndEarly: false, nothingProven: false })
    fill(state, prepared.start, clients, shown)
    // A server that was started meanwhile waits for these clients too.
    holding(state, () => instances.commitStart(state, prepared))
    disk.sync(clientsOf(state))
    start = prepared.start
  }
  // A start alone would not have mattered. After the end of a grace period these clients mean nothing any more.
  const { instance, starts } = lookAt(state)
  if (!reclaimableIn(instance, starts).includes(start)) throw refused('a server ran meanwhile and completed its grace period: the clients may not reclaim')
}

/** What an import that was killed may have left without its barrier. When it returns, whoever is placed stays placed. */
export function confirmPlaced({ state }: Room): void {
  const { instance, starts } = lookAt(state)
  for (const start of reclaimableIn(instance, starts)) {
    const directory = state.of(start)
    if (directory !== undefined) disk.sync(directory)
  }
  disk.sync(clientsOf(state))
}

function fill(state: StateDirectory, start: Start, clients: readonly Movable[], shown: (done: number) => void): void {
  // Gone, if everybody in it had reclaimed when an upcall looked.
  if (state.of(start) === undefined) instances.restoreDirectory(state, start)
  const directory = state.of(start)
  if (directory === undefined) throw refused('the directory goes again and again')
  for (const [at, { owner, session, recorded }] of clients.entries()) {
    const facts = { session, recorded }
    // Almost always the name is free: then it is one call. Whatever that can't do, the way of an upcall can.
    const made = disk.tolerating(
      ['ENAMETOOLONG', 'EPERM', 'EOPNOTSUPP'],
      () => disk.makeLink(recordLine(owner, facts), recordName(owner), directory),
      false,
    )
    if (!made) place(state, owner, facts, start, [])
    shown(at + 1)
  }
  disk.sync(directory)
}

/**
 * Where the kernel's own tracker has its directories: a `check` names one there, and whoever has it may reclaim
 * (lib/transitions/client.ts, takeOverLegacy). So a client of which only the MD5 is known is put there: it is looked for
 * exactly when nothing else knows the client, at no cost to other upcalls, taken over by its first `check`, and gone at
 * the end of grace. As for other clients, a repeat makes what is missing.
 *
 * @throws Failed storage, if a start would not see them there: it would not wait for them, nor would a grace end that
 * nobody told us of clear them away.
 */
export function legacyRoom(path: string, nfsdDirectory: string): string {
  const file = join(nfsdDirectory, 'nfsv4recoverydir')
  const told = disk.exists(file) ? fs.readFileSync(file, 'utf8').trim() : ''
  const top = told === '' ? usualTop : told
  if (top !== legacyTopIn(path))
    throw refused(
      `clients known by MD5 only can't be imported: the kernel looks for them in ${quote(top)}, and that is not beside the state directory, `
        + `in ${quote(legacyTopIn(path))}`,
    )
  return top
}

/** Makes the directories of clients known by MD5. Durable when it returns. @returns how many were not there. */
export function placeMatchOnly(top: string, hashes: readonly string[], shown: (done: number) => void): number {
  if (disk.makeDirectory(top)) disk.syncDirectory(dirname(top))
  let made = 0
  for (const [at, hash] of hashes.entries()) {
    if (disk.makeDirectory(join(top, hash))) made++
    shown(at + 1)
  }
  disk.syncDirectory(top)
  return made
}
