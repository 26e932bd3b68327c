/**
 * Server instances on the disk: how one starts, how its grace ends, how it is swept away.
 *
 * An instance has started from the moment that its mark `partial` is there, and has completed its grace from the moment that
 * the mark is called `full`: each is one call on a name that is this instance's own. So a start or an end of grace that is
 * run twice, beside another, or long after it was decided changes nothing of any other instance, and what is made of all
 * marks is the same in whatever order they come (lib/rules/instance.ts).
 * Sweeping touches only instances that are older than the last full one, which nothing looks at any more.
 */
import {
  latestStart,
  nextStart,
  olderThan,
  startFromName,
  type PartialInstance,
  type Start,
} from '../rules/instance.ts'
import type { KernelBootTime } from '../upcall/request.ts'
import * as disk from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { entryAt, isStaged } from './records.ts'
import { markNames, markOf, type Mark, type Recorded } from './layout.ts'
import {
  clientsOf,
  lookAt,
  makeStateDirectory,
  setAside,
  storageFailure,
  type StateDirectory,
} from './state-directory.ts'

/** A new instance's directory, under a start that nobody else has: later than every one seen so far. */
function claimStart(state: StateDirectory, nowMs: number): Start {
  const clients = makeStateDirectory(state)
  const { instance, traces } = lookAt(state)
  const seen = [...traces, ...('start' in instance ? [instance.start] : [])]
  for (;;) {
    const start = nextStart(nowMs, seen)
    if (start === undefined)
      throw storageFailure(`no start after ${latestStart} can be written: move it out of '${state.clientsPath}'`)
    if (disk.makeDirectory(String(start), clients)) return start
    seen.push(start)
  }
}

/** A new instance on its way: nobody looks at it before it is committed. */
export interface Prepared {
  readonly start: Start
  /** An instance without records, to be full before this one starts: then no older record counts. */
  readonly boundary: Start | undefined
}

/** Makes a new instance's directory and marks. Not durable, and need not be. */
export function prepareStart(
  state: StateDirectory,
  nowMs: number,
  kernelBootTime: KernelBootTime | undefined,
  { mayEndEarly, nothingProven }: { readonly mayEndEarly: boolean; readonly nothingProven: boolean },
): Prepared {
  const boundary = nothingProven ? claimStart(state, nowMs) : undefined
  const start = claimStart(state, nowMs)
  const clients = clientsOf(state)
  if (boundary !== undefined) disk.makeLink('-', markOf(boundary, 'untracked'), clients)
  if (kernelBootTime !== undefined) disk.makeLink(kernelBootTime, markOf(start, 'grace_start'), clients)
  for (const mark of ['unconfirmed', ...(mayEndEarly ? (['may_end_early'] as const) : [])] as const)
    disk.makeLink('-', markOf(start, mark), clients)
  return { start, boundary }
}

/**
 * Starts a prepared instance. Durable once `v4clients` is synced.
 * @returns whether a later start was there already: this one is then an instance that nobody was active in.
 */
export function commitStart(state: StateDirectory, { start, boundary }: Prepared): { readonly overtaken: boolean } {
  const clients = clientsOf(state)
  if (boundary !== undefined) disk.makeLink('-', markOf(boundary, 'full'), clients)
  disk.makeLink('-', markOf(start, 'partial'), clients)
  const { instance } = lookAt(state)
  return { overtaken: !('start' in instance) || instance.start > start }
}

/** The name under which a state directory that was wiped is begun anew. */
const rebuilt = 'rebuilt'

/**
 * Begins a full instance where nothing is recorded at all: a state directory wiped under a running server. Durable when it
 * returns. Of several who try, all begin the instance of the first; a start that goes by meanwhile is later than it.
 */
export function rebuild(state: StateDirectory, nowMs: number, kernelBootTime: KernelBootTime | undefined): void {
  const own = claimStart(state, nowMs)
  const clients = clientsOf(state)
  if (kernelBootTime !== undefined) disk.makeLink(kernelBootTime, markOf(own, 'grace_start'), clients)
  if (!disk.makeLink(String(own), rebuilt, clients)) {
    disk.removeIfEmpty(String(own), clients)
    disk.remove(markOf(own, 'grace_start'), clients)
  }
  const start = startFromName(disk.readLink(rebuilt, clients) ?? '')
  if (start === undefined) throw storageFailure(`'${state.clientsPath}/${rebuilt}' can't be understood: move it away`)
  disk.makeDirectory(String(start), clients)
  disk.makeLink('-', markOf(start, 'unconfirmed'), clients)
  if (lookAt(state).instance.kind === 'none') disk.makeLink('-', markOf(start, 'full'), clients)
  disk.sync(clients)
}

/**
 * Completes an instance's grace. Durable once `v4clients` is synced. Needs no space.
 * @returns 'gone', if the instance is no more: a later one has completed its grace.
 */
export function commitGraceEnd(state: StateDirectory, start: Start): 'full' | 'gone' {
  const clients = clientsOf(state)
  if (disk.move(markOf(start, 'partial'), markOf(start, 'full'), clients)) return 'full'
  return disk.lookAtName(markOf(start, 'full'), clients) === undefined ? 'gone' : 'full'
}

/** The end of an instance's grace is durable, and what follows from it is done. */
export function confirmGraceEnd(state: StateDirectory, start: Start): void {
  // Last the one that an upcall goes by.
  for (const mark of ['legacy', 'may_end_early', 'unconfirmed'] as const) unmark(state, start, mark)
}

/** Makes a mark, whether or not it is there. */
export const mark = (state: StateDirectory, start: Start, name: Mark, text = '-'): void =>
  void disk.makeLink(text, markOf(start, name), clientsOf(state))

/** Takes a mark away. A directory that stands in its place is kept aside: it must not stop every later start. */
export function unmark(state: StateDirectory, start: Start, name: Mark): void {
  const [mark, clients] = [markOf(start, name), clientsOf(state)]
  if (disk.tolerating(['EISDIR'], () => disk.remove(mark, clients), 'directory') === 'directory')
    setAside(state, mark, clients, mark)
}

/** A mark's text. */
export const readMark = (state: StateDirectory, start: Start, name: Mark): string | undefined =>
  disk.readLink(markOf(start, name), clientsOf(state))

/** Makes sure that an instance's directory is there: it may have been removed under a running server. */
export function restoreDirectory(state: StateDirectory, start: Start): void {
  const clients = makeStateDirectory(state)
  disk.makeDirectory(String(start), clients)
  disk.sync(clients)
  state.reopen()
}

/**
 * Whether everybody recorded in older instances has reclaimed: then their directories are gone, the oldest first. Not
 * durable, and need not be, but see {@link mayComeBackIn}.
 */
export function nobodyIsLeft(state: StateDirectory, instance: PartialInstance, starts: readonly Start[]): boolean {
  const clients = clientsOf(state)
  return olderThan(instance, starts)
    .reverse()
    .every((start) => disk.removeIfEmpty(String(start), clients))
}

/**
 * The directories that a power cut could bring a client back in, unless they are synced after it is taken out: every
 * instance's that counts, and the one that holds those that were removed when they were empty.
 */
export function mayComeBackIn(state: StateDirectory, { instance, starts, traces }: Recorded): readonly Directory[] {
  const oldest = instance.kind === 'full' ? instance.start : instance.kind === 'partial' ? (instance.full ?? 0) : 0
  const directories = starts.filter((start) => start >= oldest).map(state.directoryOf)
  const emptied = traces.some((start) => start >= oldest && !starts.includes(start))
  return [...directories, ...(emptied ? [state.clients()] : [])].filter((directory) => directory !== undefined)
}

/**
 * Removes what nothing looks at any more: instances before the last full one, and empty ones that were never completed.
 * Entries that can't be understood are kept aside. Each entry is dealt with as it is read, so a round that stops because
 * `hasTime` says so has got somewhere, and needs no memory for those that are left; the next sweep goes on.
 * @returns how many records were removed, and how many entries were set aside.
 */
export function sweep(state: StateDirectory, hasTime: () => boolean): { removed: number; aside: number } {
  const { instance, starts, traces, format } = lookAt(state)
  const done = { removed: 0, aside: 0 }
  if (format === 1 || (instance.kind !== 'full' && instance.kind !== 'partial')) return done
  const clients = clientsOf(state)
  const oldest = instance.kind === 'full' ? instance.start : instance.full
  for (const start of traces) {
    if (start >= instance.start || start === oldest) continue
    const isOver = oldest !== undefined && start < oldest
    const directory = starts.includes(start) ? state.directoryOf(start) : undefined
    if (directory !== undefined) {
      if (isOver) empty(state, start, directory, hasTime, done)
      // A record that has moved on from there must not come back with its directory, see mayComeBackIn: what is gone from it
      // is gone for good before it goes itself. If that fails, it stays, and every remove takes it into account.
      else if (isEmpty(directory)) disk.sync(directory)
      else continue
    }
    if (!hasTime()) return done
    if (!disk.removeIfEmpty(String(start), clients)) continue
    for (const name of markNames) unmark(state, start, name)
  }
  return done
}

const isEmpty = (directory: Directory): boolean => disk.entriesOf(directory).next().done === true

function empty(
  state: StateDirectory,
  start: Start,
  directory: Directory,
  hasTime: () => boolean,
  done: { removed: number; aside: number },
): void {
  for (const { name } of disk.entriesOf(directory)) {
    if (!hasTime()) return
    const { kind } = isStaged(name) ? { kind: 'staged' } : entryAt(directory, name)
    if (kind === 'record' || kind === 'staged') {
      if (disk.remove(name, directory) && kind === 'record') done.removed++
    } else if (kind !== 'nothing' && setAside(state, name, directory, `${start}-${name}`) !== undefined) done.aside++
  }
}
