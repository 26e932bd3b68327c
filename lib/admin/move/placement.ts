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
 * Where no instance is full, the clients become one that has completed its grace: started, filled, synced, then ended like
 * any other (lib/stable/instances.ts). Until that end is on the disk nobody of them may reclaim, after it all may. What was
 * recorded before counted at no later start: without a full instance it proves nothing.
 *
 * It is right only while no server runs. A running one may have granted, or may grant until its next start, what conflicts
 * with the locks that these clients come for; and of those that leave meanwhile it tells its own tracker, not their source.
 */
import { basename, dirname, join } from 'node:path'
import fs from 'node:fs'
import { Failed, quote } from '../../failure.ts'
import { startFromName, type Instance, type Start } from '../../recovery/instance.ts'
import { recordLine, recordName } from '../../recovery/record.ts'
import * as disk from '../../stable/disk.ts'
import * as instances from '../../stable/instances.ts'
import type { Prepared } from '../../stable/instances.ts'
import { usualTop, legacyTopIn } from '../../stable/legacy.ts'
import { place } from '../../stable/records.ts'
import { clientsOf, lookAt, makeStateDirectory, stateDirectory, usualRunDirectory, type StateDirectory } from '../../stable/state-directory.ts'
import { ranUntracked } from '../../stable/untracked.ts'
import { migrate } from '../../stable/migrate.ts'
import { showGraceEnd } from '../../stable/views.ts'
import { escapeOwner } from '../../upcall/owner.ts'
import { holding } from '../hold.ts'
import { reclaimableAtNextStart } from '../next-start.ts'
import { nfsdThreads } from '../service.ts'
import { survey, type Survey } from '../survey.ts'
import { refused } from './database.ts'
import type { Movable } from './movable.ts'

export type Place =
  | { readonly kind: 'last-full-instance'; readonly start: Start }
  | { readonly kind: 'new-full-instance' }

export interface Room {
  readonly state: StateDirectory
  readonly place: Place
  /** Whether a client may reclaim at the next start as it is: it need not be placed. */
  readonly has: (client: Movable) => boolean
  /** Whether something newer stands under its name that can't be understood, and decides: placing it would change nothing. */
  readonly isBlocked: (client: Movable) => boolean
}

/** Where clients would be placed. @throws Failed storage: nowhere, and why. Nothing is changed. */
export function roomIn(path: string, nfsdDirectory: string): Room {
  const threads = nfsdThreads(nfsdDirectory)
  if (threads > 0)
    throw refused(`nothing changed: nfsd is running (${threads} threads), and may grant what conflicts with the locks of these clients; stop it, import, start it`)
  if (ranUntracked({ runDirectory: usualRunDirectory, path }))
    throw refused('nothing changed: a server instance ran that could not be recorded, so at the next start nobody may reclaim; import after the grace period of that start')
  const state = stateDirectory(path)
  if (disk.kindAt(path) === 'absent') return { state, place: { kind: 'new-full-instance' }, has: () => false, isBlocked: () => false }
  const read = survey(path)
  const known = new Set(reclaimableAtNextStart(read).map(({ owner }) => escapeOwner(owner)))
  const place = placeFor(read.instance, path)
  const blocked = new Set(place.kind === 'new-full-instance' ? [] : damagedAfter(read, place.start))
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
      return instance.full === undefined ? { kind: 'new-full-instance' } : { kind: 'last-full-instance', start: instance.full }
    case 'none':
      return { kind: 'new-full-instance' }
    case 'damaged':
      throw refused(`nothing changed: ${instance.file} in ${quote(path)} can't be understood (${instance.why}); see verify --repair`)
    default:
      return instance satisfies never
  }
}

/** Places clients. When it returns they may reclaim at the next start, and a power cut does not change that. */
export function placeAll({ state, place: where }: Room, clients: readonly Movable[], nowMs: number, shown: (done: number) => void): void {
  if (where.kind === 'last-full-instance') {
    // An end of grace that nobody has made sure of is on the disk first, as for an upcall.
    migrate(state)
    if (lookAt(state).marks(where.start, 'unconfirmed')) disk.sync(clientsOf(state))
    holding(state, () => { fill(state, where.start, clients, shown) })
  } else {
    makeStateDirectory(state)
    migrate(state)
    const prepared = instances.prepareStart(state, nowMs, undefined, { mayEndEarly: false, nothingProven: false })
    fill(state, prepared.start, clients, shown)
    holding(state, () => { makeFull(state, prepared) })
  }
  // A start alone would not have mattered. After the end of a grace period these clients mean nothing any more.
  const { instance } = lookAt(state)
  const stillCounts = placeFor(instance, state.path)
  if (where.kind === 'last-full-instance' && (stillCounts.kind !== where.kind || stillCounts.start !== where.start))
    throw refused('a server ran meanwhile and completed its grace period: the clients may not reclaim')
}

/** What an import that was killed may have left without its barrier. When it returns, whoever is placed stays placed. */
export function confirmPlaced({ state, place: where }: Room): void {
  const directory = where.kind === 'last-full-instance' ? state.of(where.start) : undefined
  if (directory !== undefined) disk.sync(directory)
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

/** An instance's start and the end of its grace. Both are single renames, and both find out whether a server was quicker. */
function makeFull(state: StateDirectory, prepared: Prepared): void {
  const overtaken = (): Failed => refused('nothing imported: a server was started meanwhile; stop it, and import again')
  const place = placeFor(lookAt(state).instance, state.path)
  if (place.kind !== 'new-full-instance' || instances.commitStart(state, prepared).overtaken) throw overtaken()
  if (instances.commitGraceEnd(state, prepared.start) === 'gone') throw overtaken()
  disk.sync(clientsOf(state))
  instances.confirmGraceEnd(state, prepared.start)
  showGraceEnd(state, prepared.start)
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
