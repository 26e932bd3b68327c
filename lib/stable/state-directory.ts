/**
 * The state directory: what is where, whose it is, and what is damaged.
 *
 *     boot_time                 start of the last full instance
 *     new_boot_time             start of the current partial instance; gone once its grace is done
 *     old_boot_time             boot_time's predecessor, for people
 *     nfsd-userland-helper.lock while an upcall decides
 *     v4clients/
 *       1795328616/             a server instance, named by its start: one record per client owner
 *       1795328616.grace_start  the kernel's boot time that this instance's start was told
 *       1795328616.partial      its grace end is not yet known to be durable
 *       1795328616.may_end_early  no client without sessions was recorded in it
 *       damaged/                what could not be understood, kept as evidence
 *
 * Marks beside an instance are symbolic links, made with it: taking one away needs no free space, and can be done twice.
 */
import { Failed, quote } from '../failure.ts'
import { instanceFrom, startFromName, startFromText, startToText, type BootTime, type BootTimeFile, type Instance, type Start } from '../recovery/instance.ts'
import type { GraceStart } from '../upcall/request.ts'
import * as disk from './disk.ts'

/** Marks beside an instance's directory. */
export type Mark = 'grace_start' | 'partial' | 'may_end_early'

/** What an upcall finds when it looks. */
export interface Recorded {
  readonly instance: Instance
  /** Starts of the instances that have a directory, the oldest first. */
  readonly starts: readonly Start[]
  /** Starts of the instances that have anything here, be it only a mark. */
  readonly traces: readonly Start[]
  readonly marks: (start: Start, mark: Mark) => boolean
}

export interface StateDirectory {
  readonly path: string
  /** `v4clients`. */
  readonly clients: string
  readonly of: (start: Start) => string
  readonly mark: (start: Start, mark: Mark) => string
  readonly bootTime: (file: BootTimeFile) => string
  /** The new content of a boot time file, on its way; named by an instance, so never shared. */
  readonly staged: (file: BootTimeFile, start: Start) => string
}

export function stateDirectory(path: string): StateDirectory {
  const clients = `${path}/v4clients`
  return {
    path,
    clients,
    of: (start) => `${clients}/${String(start)}`,
    mark: (start, mark) => `${clients}/${start}.${mark}`,
    bootTime: (file) => `${path}/${file}`,
    staged: (file, start) => `${path}/${file}.${start}`,
  }
}

/** A boot time file as it is. @throws the file system's error if it is there and can't be read. */
export const readBootTime = (state: StateDirectory, file: BootTimeFile): BootTime => readBootTimeAt(state.bootTime(file))

export function readBootTimeAt(path: string): BootTime {
  const content = disk.readSmallFile(path, 32)
  if (content.kind === 'absent') return 'absent'
  if (content.kind === 'other') return { damaged: content.why }
  return startFromText(content.text) ?? { damaged: `it says ${quote(content.text)}` }
}

/** Everything an upcall decides by, but for the records themselves. Small: it does not grow with them. */
export function lookAt(state: StateDirectory): Recorded {
  assertOurs(state)
  // new_boot_time first: a grace end renames it over boot_time, so one of the two reads sees the new instance.
  const newBootTime = readBootTime(state, 'new_boot_time')
  const names: string[] = []
  const starts: Start[] = []
  const traces: Start[] = []
  const links: Start[] = []
  for (const { name, kind } of disk.entriesAt(state.clients)) {
    names.push(name)
    const dot = name.lastIndexOf('.')
    const trace = startFromName(dot < 0 ? name : name.slice(0, dot))
    if (trace === undefined) continue
    if (!traces.includes(trace)) traces.push(trace)
    if (dot < 0) (kind === 'link' || (kind === 'unknown' && disk.isLink(state.of(trace))) ? links : starts).push(trace)
  }
  const instance = instanceFrom(readBootTime(state, 'boot_time'), newBootTime)
  return {
    instance: 'start' in instance && links.includes(instance.start) ? linked(instance) : instance,
    starts: starts.length > 1 ? starts.sort((a, b) => a - b) : starts,
    traces,
    marks: (start, mark) => names.includes(`${start}.${mark}`),
  }
}

/** A link in the place of an instance's directory leads out of here: nothing is read or written through it. */
const linked = ({ kind }: Instance & { start: Start }): Instance => ({
  kind: 'damaged', file: kind === 'full' ? 'boot_time' : 'new_boot_time', why: "its instance's directory is a link",
})

/** The boot time that an instance's start was told. */
export const toldAtStart = (state: StateDirectory, start: Start): GraceStart | undefined =>
  disk.tolerating(['EINVAL'], () => disk.readLink(state.mark(start, 'grace_start')), undefined)

/** Who may put records here decides who may reclaim: nobody but us. */
function assertOurs(state: StateDirectory): void {
  const found = disk.directoryAt(state.clients)
  if (found === 'absent') {
    const kind = disk.kindAt(state.path)
    if (kind === 'directory') return
    throw kind === 'absent' ? storageFailure(`state directory ${quote(state.path)} is missing`) : notADirectory(state.path)
  }
  if (found === 'other') throw notADirectory(state.clients)
  if (found.uid !== process.geteuid?.()) throw storageFailure(`${quote(state.clients)} belongs to another user (${found.uid})`)
  if ((found.mode & 0o022) !== 0) throw storageFailure(`${quote(state.clients)} is writable by others`)
}

const notADirectory = (path: string): Failed => storageFailure(`${quote(path)} is not a directory`)

const storageFailure = (what: string): Failed => new Failed({ kind: 'storage', atStart: false, what })

/**
 * Makes the state directory and `v4clients`, with their parents, as far as they are missing.
 * Durable but for the entry of `v4clients`, which the sync of the state directory makes so.
 */
export function makeStateDirectory(state: StateDirectory): void {
  makeParents(state.path)
  if (disk.kindAt(state.path) === 'other') throw notADirectory(state.path)
  disk.makeDirectory(state.clients)
}

function makeParents(path: string): void {
  if (disk.kindAt(path) !== 'absent') return
  const parent = disk.parentOf(path)
  if (parent !== path) makeParents(parent)
  if (disk.makeDirectory(path)) disk.syncDirectory(parent)
  else if (disk.kindAt(path) === 'absent') throw storageFailure(`${quote(path)} is a link to nothing`)
}

/** Puts the content of a boot time file in place under its staged name, synced. */
export const stage = (state: StateDirectory, file: BootTimeFile, start: Start): void => {
  disk.remove(state.staged(file, start))
  disk.writeSynced(state.staged(file, start), startToText(start))
}

/** Moves something that can't be understood out of the way, and keeps it: evidence. */
export function setAside(state: StateDirectory, path: string, label: string): void {
  const room = `${state.clients}/damaged`
  if (disk.directoryAt(room) === 'other') disk.remove(room)
  disk.makeDirectory(room)
  disk.move(path, `${room}/${label.slice(0, 180)}.${Date.now()}.${process.pid}`)
}
