/**
 * The recorded clients, and what each record means now.
 *
 * Records are read without the lock, while upcalls run. Older instances are read first, and records move only to newer
 * ones, so a client that reclaims meanwhile may be seen twice, but is never missed. If there are few clients, they are
 * kept in memory, and given once and in order. If there are many, each is given as it is read, so that memory does not
 * grow with them.
 */
import { Failed, storageFailure } from '../../failure.ts'
import type { Start } from '../../rules/instance.ts'
import { ownerIn, recordName } from '../../rules/record.ts'
import { directoryOf, pathOf } from '../../store/open-directories.ts'
import { entryAt, isStaged, type Entry } from '../../store/records.ts'
import { glanceAt, type StateDirectory } from '../../store/state-directory.ts'
import * as files from '../../syscalls/files.ts'
import type { Directory } from '../../syscalls/files.ts'
import type { ClientOwner } from '../../upcall/owner.ts'
import type { Session } from '../../upcall/request.ts'
import { survey, type Survey, type Where } from './survey.ts'

/**
 * current: it is in the current instance. In grace, its client has reclaimed, or is new. After grace, the client may
 * reclaim at the next start. waiting: it is in an older instance that still counts, so the server is in grace. Its
 * client may reclaim, and has not. void: it has no effect any more.
 */
export type Standing = 'current' | 'waiting' | 'void'

export interface Client {
  readonly kind: 'record'
  readonly owner: ClientOwner
  readonly session: Session
  /** When the client was first recorded, in seconds of the wall clock at that time. */
  readonly recorded: number
  /**
   * SHA-256 of the Kerberos principal that the client must have to reclaim, 62 or 64 hex digits: its first 31 bytes, or
   * all.
   */
  readonly principal: string | undefined
  /** The instance in which the client was last active. */
  readonly in: Start
  readonly standing: Standing
  /** The next start takes it out: it should have been removed, or was not promised (lib/store/begun.ts). */
  readonly isCutShort: boolean
  /** How many instances have started since, at least: those in which no client reclaimed are not kept. */
  readonly unseen: number
  readonly path: string
}

/** Something that does not belong where it is, or that can't be understood. */
export interface Oddity {
  /**
   * damaged: it can't be understood, and lets no client reclaim. newer: a newer program wrote it. stray: it is not
   * ours. open: others may write there. leftover: a killed process left it, and it is harmless. missing: it should be
   * there. set-aside: it was damaged, and is kept as evidence.
   */
  readonly kind: 'damaged' | 'newer' | 'stray' | 'open' | 'leftover' | 'missing' | 'set-aside'
  readonly path: string
  readonly why: string
  /** Its name and its place. */
  readonly name: string
  readonly in: 'state directory' | 'v4clients' | Start
}

/** Whether a client may reclaim: now, if the server is in grace, otherwise at the next start. */
export const mayReclaim = ({ standing }: Pick<Client, 'standing'>): boolean => standing !== 'void'

/**
 * Whether a client of the current instance was known before it, and so has reclaimed. For people only: it relies on the
 * clock at that time, because a record does not say where it came from.
 */
export const wasKnownBefore = (client: Pick<Client, 'standing' | 'recorded' | 'in'>): boolean =>
  client.standing === 'current' && client.recorded < client.in

/** Whether a client may reclaim after the next start. */
export const mayReclaimLater = (client: Pick<Client, 'standing' | 'isCutShort'>): boolean =>
  mayReclaim(client) && !client.isCutShort

/** Whether the next start takes out a record, because an upcall about it was cut short. */
function isTakenOut({ begun, counting }: Survey, start: Start, name: string): boolean {
  const about = begun.get(name)
  return (
    about?.kind === 'remove' ||
    (about?.in === start && !(typeof about.from === 'number' && counting.includes(about.from)))
  )
}

/** Sorts by instance, the newest first, and then by owner. */
const newestFirst = (a: Client, b: Client): number => b.in - a.in || Buffer.compare(a.owner, b.owner)

/** Up to this many clients are kept in memory, to be given once and in order. */
const few = 20_000

export interface Walk {
  readonly surveyed: Survey
  /**
   * Every client that is wanted. The records are read again each time, unless there are few.
   * @throws Failed, at the end, if a start or an end of grace came meanwhile: then the result mixes two states
   */
  readonly clients: Iterable<Client>
  /** How many entries could not be understood the last time. */
  readonly damaged: () => number
}

/** Goes through the clients. */
export function walk(where: Where, wanted: (client: Client) => boolean = () => true): Walk {
  for (let attempt = 1; ; attempt++) {
    const surveyed = survey(where)
    const held: Client[] = []
    let damaged = 0
    const all = function* (): Generator<Client> {
      damaged = 0
      for (const seen of recordsOf(surveyed))
        if (seen.kind === 'damaged') damaged++
        else if (seen.kind === 'record' && wanted(seen)) yield seen
    }
    for (const client of all()) {
      held.push(client)
      if (held.length === few)
        return { surveyed, clients: { [Symbol.iterator]: () => ifUnchanged(all(), surveyed) }, damaged: () => damaged }
    }
    // A server does not start three times within one listing.
    if (attempt === 3 || isAsItWas(surveyed))
      return { surveyed, clients: eachOnce(held).filter(wanted).sort(newestFirst), damaged: () => damaged }
  }
}

const isAsItWas = ({ state, recorded }: Survey): boolean =>
  JSON.stringify(glanceAt(state).instance) === JSON.stringify(recorded)

function* ifUnchanged(clients: Iterable<Client>, surveyed: Survey): Generator<Client> {
  yield* clients
  if (!isAsItWas(surveyed))
    throw storageFailure('a server instance started, or its grace ended, while the records were read: read them again')
}

/**
 * A client that moved while the records were read is there twice. Its newest entry decides, as it does for an upcall.
 */
function eachOnce(clients: readonly Client[]): Client[] {
  const newest = new Map<string, Client>()
  const nameOf = ({ path }: Client): string => path.slice(path.lastIndexOf('/'))
  for (const client of clients) if (mayReclaim(client)) newest.set(nameOf(client), client)
  return clients.map((client) =>
    mayReclaim(client) && newest.get(nameOf(client)) !== client ? { ...client, standing: 'void' } : client,
  )
}

/** Every record that can be understood, from the oldest instance to the newest. */
export function* clientsIn(surveyed: Survey): Generator<Client> {
  for (const seen of recordsOf(surveyed)) if (seen.kind === 'record') yield seen
}

/**
 * The records of one client, the newest first. They are read in the order of all reads, so one that moves meanwhile is
 * not missed.
 */
export function recordsOfOwner(surveyed: Survey, owner: ClientOwner): Client[] {
  const { state, starts, counting } = surveyed
  const name = recordName(owner)
  const entries = starts.map((start) => {
    const directory = readableDirectory(state, start)
    return { start, entry: 'path' in directory ? entryAt(directory, name) : ({ kind: 'nothing' } as const) }
  })
  let decided = false
  return entries.reverse().flatMap(({ start, entry }) => {
    const counts = !decided && counting.includes(start)
    if (counts && entry.kind !== 'nothing') decided = true
    return entry.kind === 'record' ? [clientOf(surveyed, { start, name, entry, counts })] : []
  })
}

/** The state of an owner's newest entry among the instances that count. */
export function newestEntryOf(
  { state, counting, begun }: Pick<Survey, 'state' | 'counting' | 'begun'>,
  owner: ClientOwner,
): { readonly kind: Entry['kind']; readonly in: Start | undefined } {
  const name = recordName(owner)
  if (begun.get(name)?.kind === 'remove') return { kind: 'nothing', in: undefined }
  const entries = [...counting].reverse().map((start) => {
    const directory = directoryOf(state, start)
    return { kind: directory === undefined ? ('nothing' as const) : entryAt(directory, name).kind, in: start }
  })
  return entries.findLast(({ kind }) => kind !== 'nothing') ?? { kind: 'nothing', in: undefined }
}

/** Every record, and every oddity among them, from the oldest instance to the newest. */
export function* recordsOf(surveyed: Survey): Generator<Client | Oddity> {
  const { state, instance, starts, counting } = surveyed
  for (const start of starts) {
    const directory = readableDirectory(state, start)
    if (!('path' in directory)) {
      if (directory.why !== undefined)
        yield { kind: 'open', path: pathOf(state, start), why: directory.why, name: String(start), in: 'v4clients' }
      continue
    }
    const counts = counting.includes(start)
    const unseen = unseenSince(surveyed, start)
    const newer = counting.filter((later) => later > start).map((later) => namesOf(state, later))
    for (const { name } of files.entriesOf(directory)) {
      const odd = { path: `${pathOf(state, start)}/${name}`, name, in: start }
      if (isStaged(name)) {
        yield { ...odd, kind: 'leftover', why: 'a record that was not finished' }
        continue
      }
      const entry = entryAt(directory, name)
      if (entry.kind === 'damaged') yield { ...odd, kind: 'damaged', why: 'no record that can be understood' }
      else if (entry.kind === 'newer')
        yield { ...odd, kind: 'newer', why: 'a newer program wrote it: it allows nothing here' }
      else if (entry.kind === 'record')
        yield clientOf(surveyed, { start, name, entry, counts: counts && !newer.some((has) => has(name)), unseen })
    }
  }
  if ('start' in instance && !starts.includes(instance.start))
    yield {
      kind: 'missing',
      path: pathOf(state, instance.start),
      why: 'the directory of the current server instance',
      name: String(instance.start),
      in: 'v4clients',
    }
}

/** An instance's directory, or why nothing in it counts; undefined, if it is gone. */
function readableDirectory(state: StateDirectory, start: Start): Directory | { readonly why: string | undefined } {
  try {
    return directoryOf(state, start) ?? { why: undefined }
  } catch (thrown) {
    if (thrown instanceof Failed && thrown.failure.kind === 'storage')
      return { why: `${thrown.failure.what}: look at what is in it` }
    throw thrown
  }
}

/** Up to this many names are kept as they are. */
const fewNames = 1000

/**
 * Whether an instance has a name. If there are many names, each sets one bit of 16 MB, chosen by its digest. A name
 * whose bit is not set does not exist. One whose bit is set is looked up. Looking up every name took a third of the
 * time of `status` with a million clients in grace; a Set of digests took 40 MB.
 */
function namesOf(state: StateDirectory, start: Start): (name: string) => boolean {
  const directory = readableDirectory(state, start)
  if (!('path' in directory)) return () => false
  const names = new Set<string>()
  let bits: Uint8Array | undefined
  for (const { name } of files.entriesOf(directory)) {
    if (bits === undefined && names.size < fewNames) {
      names.add(name)
      continue
    }
    bits ??= new Uint8Array(1 << 24)
    const digest = digestOf(name)
    bits[digest >>> 8] = (bits[digest >>> 8] ?? 0) | (1 << (digest & 7))
  }
  return (name) => {
    if (names.has(name)) return files.lookAtName(name, directory) !== undefined
    const digest = digestOf(name)
    const mayHave = bits !== undefined && ((bits[digest >>> 8] ?? 0) & (1 << (digest & 7))) !== 0
    return mayHave && files.lookAtName(name, directory) !== undefined
  }
}

/** FNV-1a. Names that are made to collide each cost one look-up, and nothing else. */
function digestOf(name: string): number {
  let digest = 0x811c9dc5
  for (let at = 0; at < name.length; at++) digest = Math.imul(digest ^ name.charCodeAt(at), 0x01000193)
  return digest
}

/** How many instances have started since, up to the current one. */
const unseenSince = ({ instance, traces }: Survey, start: Start): number =>
  traces.filter((later) => later > start && (!('start' in instance) || later <= instance.start)).length

interface Seen {
  readonly start: Start
  readonly name: string
  readonly entry: Entry & { kind: 'record' }
  readonly counts: boolean
  /** Given, if it has been counted already. */
  readonly unseen?: number
}

function clientOf(surveyed: Survey, { start, name, entry, counts, unseen }: Seen): Client {
  const { state, instance } = surveyed
  const { facts } = entry
  const current = 'start' in instance ? instance.start : undefined
  const isCutShort = isTakenOut(surveyed, start, name)
  return {
    kind: 'record',
    owner: ownerIn(entry),
    session: facts.session,
    recorded: facts.recorded,
    principal: facts.principal,
    in: start,
    // In grace it counts until the next start, unless the kernel has gone on as if the client were removed.
    standing:
      !counts || (isCutShort && (instance.kind === 'full' || surveyed.begun.get(name)?.kind === 'remove'))
        ? 'void'
        : start === current
          ? 'current'
          : 'waiting',
    isCutShort,
    unseen: unseen ?? unseenSince(surveyed, start),
    path: `${pathOf(state, start)}/${name}`,
  }
}
