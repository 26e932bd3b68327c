/**
 * The whole state directory as plain data: what the commands for people show, search and mend.
 *
 * Read without the lock, beside upcalls: older instances first, and records move only towards newer ones, so a client
 * that reclaims meanwhile may be seen twice (the newest entry decides, as it does for an upcall) and is never missed. If
 * the instance itself changes meanwhile, all is read again. Who holds the lock gets the same, and nothing moves.
 */
import { join } from 'node:path'
import { Failed, quote } from '../failure.ts'
import { bootTimeFiles, reclaimableIn, startFromName, type BootTime, type BootTimeFile, type Instance, type Start } from '../recovery/instance.ts'
import * as disk from '../stable/disk.ts'
import { readBootTime } from '../stable/format1.ts'
import { recordsIn } from '../stable/records.ts'
import { lookAt, markNames, stateDirectory, toldAtStart, type Mark, type StateDirectory } from '../stable/state-directory.ts'
import type { ClientOwner } from '../upcall/owner.ts'
import type { GraceStart } from '../upcall/request.ts'

/**
 * What a record means now.
 * current: in the current instance. In grace its client has reclaimed, or is new; after it, it may reclaim at the next start.
 * waiting: in an older instance that still counts, so we are in grace. Its client may reclaim, and has not.
 * void: nothing looks at it any more.
 */
export type Standing = 'current' | 'waiting' | 'void'

export interface Client {
  readonly owner: ClientOwner
  readonly session: boolean | 'unknown'
  /** When the client was first recorded, in seconds of the wall clock at that time. */
  readonly recorded: number
  /** The instance in which it was last active. */
  readonly in: Start
  readonly standing: Standing
  /** How many instances have started since, at least: those that nobody reclaimed in are not kept. */
  readonly unseen: number
  readonly path: string
}

/** What does not belong where it is, or says nothing that can be understood. */
export interface Oddity {
  /**
   * damaged: can't be understood, and allows nothing. stray: not ours. leftover: of an upcall that was killed, harmless.
   * missing: should be there. set-aside: was damaged, and is kept as evidence.
   */
  readonly kind: 'damaged' | 'newer' | 'stray' | 'leftover' | 'missing' | 'set-aside'
  readonly path: string
  readonly why: string
}

export interface Survey {
  readonly state: StateDirectory
  readonly instance: Instance
  readonly bootTimes: Readonly<Record<BootTimeFile, BootTime>>
  /** The kernel's boot time of its nfsd that the current instance's start was told, if it was. */
  readonly told: GraceStart | undefined
  /** Marks of the current instance. */
  readonly marks: Readonly<Record<Mark, boolean>>
  /** Instances that have a directory, the oldest first. */
  readonly starts: readonly Start[]
  /** Every record that can be understood, the oldest instance first. */
  readonly clients: readonly Client[]
  readonly oddities: readonly Oddity[]
}

/** Reads everything. @throws Failed, if the state directory is missing or not ours alone; the file system's errors. */
export function survey(path: string): Survey {
  const state = stateDirectory(path)
  assertMayLook(state)
  for (let attempt = 1; ; attempt++) {
    const read = readAll(state)
    // An end of grace or a start in between mixes two truths. Nobody starts a server three times in a row meanwhile.
    if (attempt === 3 || JSON.stringify(lookAt(state).instance) === JSON.stringify(read.instance)) return read
  }
}

/** Whether a client may reclaim: now, if we are in grace, else at the next start. */
export const mayReclaim = ({ standing }: Client): boolean => standing !== 'void'

/**
 * Whether a client of the current instance was known before it: it has reclaimed. For people: it rests on the clock at
 * that time, since a record does not say where it came from.
 */
export const wasKnownBefore = (client: Client): boolean => client.standing === 'current' && client.recorded < client.in

/** Records are for root's eyes only; for anybody else they would only seem to belong to the wrong user. */
function assertMayLook({ clientsPath }: StateDirectory): void {
  const found = disk.directoryAt(clientsPath)
  if (typeof found === 'object' && found.uid === 0 && process.geteuid?.() !== 0)
    throw new Failed({ kind: 'storage', atStart: false, what: `${quote(clientsPath)} belongs to root, and only root may look at it` })
}

function readAll(state: StateDirectory): Survey {
  const { instance, starts, traces, marks } = lookAt(state)
  const current = 'start' in instance ? instance.start : undefined
  const oddities = [...oddBootTimes(state), ...oddNames(state)]
  const counting = new Set(reclaimableIn(instance, starts))
  const found: Omit<Client, 'standing'>[] = []
  /** For each name the newest instance that counts and has it, understood or not. */
  const newest = new Map<string, Start>()

  for (const start of starts) {
    const directory = state.pathOf(start)
    if (disk.directoryAt(directory) === 'other') {
      oddities.push({ kind: 'stray', path: directory, why: 'it has the name of a server instance, and is not a directory' })
      continue
    }
    const leftovers = new Set(disk.namesIn(directory))
    const unseen = traces.filter((later) => later > start && (current === undefined || later <= current)).length
    for (const entry of recordsIn(state, start)) {
      leftovers.delete(entry.name)
      if (entry.kind === 'nothing') continue
      const entryPath = join(directory, entry.name)
      if (counting.has(start)) newest.set(entry.name, start)
      if (entry.kind === 'newer') oddities.push({ kind: 'newer', path: entryPath, why: 'a newer program wrote it: it allows nothing here' })
      else if (entry.kind === 'damaged') oddities.push({ kind: 'damaged', path: entryPath, why: 'no record that can be understood' })
      else found.push({ owner: entry.owner, ...entry.facts, in: start, unseen, path: entryPath })
    }
    for (const name of leftovers) oddities.push({ kind: 'leftover', path: join(directory, name), why: 'a record on its way' })
  }
  if (current !== undefined && !starts.includes(current))
    oddities.push({ kind: 'missing', path: state.pathOf(current), why: 'the directory of the current server instance' })

  const standing = ({ path, in: start }: { path: string; in: Start }): Standing =>
    newest.get(path.slice(path.lastIndexOf('/') + 1)) !== start ? 'void' : start === current ? 'current' : 'waiting'
  const has = (mark: Mark): boolean => current !== undefined && marks(current, mark)
  return {
    state,
    instance,
    bootTimes: bootTimesOf(state),
    told: current === undefined ? undefined : toldAtStart(state, current),
    marks: Object.fromEntries(markNames.map((mark) => [mark, has(mark)])) as Record<Mark, boolean>,
    starts,
    clients: found.map((client) => ({ ...client, standing: standing(client) })),
    oddities,
  }
}

/**
 * In the state directory itself only names of our own shape are judged: /var/lib/nfs belongs to others too.
 * What an upcall is about to rename there is no oddity, but what a killed one left is: an instance's start tells.
 */
function* oddBootTimes(state: StateDirectory): Generator<Oddity> {
  for (const [file, content] of Object.entries(bootTimesOf(state)))
    if (typeof content === 'object') yield { kind: 'damaged', path: join(state.path, file), why: content.damaged }
  for (const name of disk.namesIn(state.path)) {
    const [, file, start = ''] = /^((?:new_)?boot_time)\.([0-9]+)$/.exec(name) ?? []
    if (file !== undefined && startFromName(start) !== undefined)
      yield { kind: 'leftover', path: join(state.path, name), why: `a ${file} on its way` }
    if (/^selftest-.{6}$/.test(name)) yield { kind: 'leftover', path: join(state.path, name), why: 'of a selftest' }
  }
}

/** The three files, as they are. In format 2 they are for people only. */
function bootTimesOf(state: StateDirectory): Record<BootTimeFile, BootTime> {
  const root = disk.openDirectory(state.path, disk.anywhere, 'follow')
  const read = (file: BootTimeFile): BootTime => (typeof root === 'object' ? readBootTime(file, root) : 'absent')
  const all = Object.fromEntries(bootTimeFiles.map((file) => [file, read(file)])) as Record<BootTimeFile, BootTime>
  if (typeof root === 'object') disk.close(root)
  return all
}

function* oddNames(state: StateDirectory): Generator<Oddity> {
  for (const name of disk.namesIn(state.clientsPath)) {
    if (/^(?:format-[0-9]+|lock|rebuilt)$/.test(name)) continue
    const [start = '', mark, ...more] = name.split('.')
    const isMark = mark !== undefined && more.length === 0 && (markNames as readonly string[]).includes(mark)
    if (startFromName(start) !== undefined && (mark === undefined || isMark)) continue
    const path = join(state.clientsPath, name)
    if (name !== 'damaged') yield { kind: 'stray', path, why: 'no name that this program gives' }
    else for (const kept of disk.namesIn(path)) yield { kind: 'set-aside', path: join(path, kept), why: 'it could not be understood' }
  }
}
