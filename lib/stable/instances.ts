/**
 * Server instances on the disk: how one starts, how its grace ends, how it is swept away.
 *
 * Starting prepares everything under names that are the new instance's own, and commits by one rename to
 * `new_boot_time`: before it nothing has changed for anybody, after it everything is as after a start.
 * Grace ends by one rename of `new_boot_time`'s file over `boot_time`, which moves the reclaimable set from the old records to
 * the new ones at once; the mark `partial` stays until that rename is known to be durable, so that an upcall that finds
 * grace over can tell whether it must sync first.
 * Sweeping touches only instances that are older than `boot_time`, which nothing looks at any more.
 */
import { errorCode } from '../failure.ts'
import { bootTimeFiles, instanceFrom, nextStart, olderThan, type BootTimeFile, type PartialInstance, type Start } from '../recovery/instance.ts'
import type { GraceStart } from '../upcall/request.ts'
import * as disk from './disk.ts'
import { recordsIn, removeLeftovers } from './records.ts'
import { lookAt, makeStateDirectory, readBootTime, readBootTimeAt, setAside, stage, type Mark, type Recorded, type StateDirectory } from './state-directory.ts'

const marks: readonly Mark[] = ['grace_start', 'partial', 'may_end_early']

/** Makes a new instance's directory and marks under a start that nobody else has, and makes them durable. */
function prepare(state: StateDirectory, nowMs: number, told: GraceStart | undefined, begins: readonly Mark[]): Start {
  makeStateDirectory(state)
  const files = bootTimeFiles.map((file) => readBootTime(state, file))
  const seen = [...lookAt(state).traces, ...files.filter((content) => typeof content === 'number')]
  let start = nextStart(nowMs, seen)
  while (!disk.makeDirectory(state.of(start))) start = nextStart(nowMs, [...seen, start])
  if (told !== undefined) disk.makeLink(told, state.mark(start, 'grace_start'))
  for (const mark of begins) disk.makeLink('-', state.mark(start, mark))
  disk.syncDirectory(state.clients)
  return start
}

/** A new partial instance, prepared and durable under names of its own; nobody looks at it yet. */
export function prepareStart(
  state: StateDirectory,
  nowMs: number,
  told: GraceStart | undefined,
  mayEndEarly: boolean,
): Start {
  const start = prepare(state, nowMs, told, mayEndEarly ? ['partial', 'may_end_early'] : ['partial'])
  stage(state, 'new_boot_time', start)
  return start
}

/**
 * Makes a prepared instance the current one. Durable once the state directory is synced.
 * A damaged new_boot_time may hide a grace that ended in the kernel and not on the disk: then boot_time proves nothing
 * either, and both are set aside.
 * @param nothingProven an instance ran that was not recorded: boot_time proves nothing about who may reclaim.
 * @returns what was set aside, and whether the start was overtaken by a later one (then nothing has changed).
 */
export function commitStart(
  state: StateDirectory,
  start: Start,
  nothingProven: boolean,
): { readonly setAside: readonly string[]; readonly overtaken: boolean } {
  const bootTime = readBootTime(state, 'boot_time')
  const newBootTime = readBootTime(state, 'new_boot_time')
  if ([bootTime, newBootTime].some((seen) => typeof seen === 'number' && seen >= start)) {
    disk.remove(state.staged('new_boot_time', start))
    return { setAside: [], overtaken: true }
  }
  const instance = instanceFrom(bootTime, newBootTime)
  const doubtful: BootTimeFile[] = []
  // boot_time first: killed in between, a damaged new_boot_time still stands, and still says that nobody may reclaim.
  if (nothingProven || instance.kind === 'damaged' || typeof bootTime === 'object') doubtful.push('boot_time')
  if (instance.kind === 'damaged' && instance.file === 'new_boot_time') doubtful.push('new_boot_time')
  for (const file of doubtful) setAside(state, state.bootTime(file), file)
  // A directory in the place of new_boot_time has been set aside; a rename replaces anything else.
  disk.replace(state.staged('new_boot_time', start), state.bootTime('new_boot_time'))
  return { setAside: doubtful, overtaken: false }
}

/**
 * Begins a full instance where nothing is recorded at all: a state directory wiped under a running server.
 * Durable when it returns. Needs no lock: only the first of two who try succeeds, and both go on with its instance.
 */
export function rebuild(state: StateDirectory, nowMs: number, told: GraceStart | undefined): void {
  const start = prepare(state, nowMs, told, [])
  stage(state, 'boot_time', start)
  // The server may have started anew since this upcall looked: then that instance is the current one.
  if (lookAt(state).instance.kind === 'none') disk.makeHardLink(state.staged('boot_time', start), state.bootTime('boot_time'))
  disk.remove(state.staged('boot_time', start))
  disk.syncDirectory(state.path)
}

/**
 * Commits a partial instance as full. Durable once the state directory is synced.
 *
 * What is renamed over boot_time is a second name of the file that was read, so that an upcall which sleeps between its
 * look and its rename can't commit an instance that has started meanwhile. From then on new_boot_time says the same as
 * boot_time, which means full, until {@link confirmGraceEnd} takes it away. Where there is no room for a second name,
 * new_boot_time itself is renamed: that needs no space.
 * @returns 'committed', 'overtaken' by another upcall or instance, and why old_boot_time could not be kept, if so: it is
 * for people, and no reason to fail.
 */
export function commitGraceEnd(
  state: StateDirectory,
  { start }: PartialInstance,
): { readonly outcome: 'committed' | 'overtaken'; readonly lost: string | undefined } {
  const [bootTime, newBootTime, own] = [state.bootTime('boot_time'), state.bootTime('new_boot_time'), state.staged('boot_time', start)]
  disk.remove(own)
  const named = disk.tolerating(disk.cannotGrow, () => disk.makeHardLink(newBootTime, own), 'no room')
  if (readBootTimeAt(named === 'no room' ? newBootTime : own) !== start) {
    disk.remove(own)
    return { outcome: 'overtaken', lost: undefined }
  }
  if (typeof readBootTimeAt(bootTime) === 'object') setAside(state, bootTime, 'boot_time')
  const lost = keepOldBootTime(state)
  return { outcome: disk.move(named === 'no room' ? newBootTime : own, bootTime) ? 'committed' : 'overtaken', lost }
}

function keepOldBootTime(state: StateDirectory): string | undefined {
  try {
    disk.remove(state.bootTime('old_boot_time'))
    disk.makeHardLink(state.bootTime('boot_time'), state.bootTime('old_boot_time'))
    return undefined
  } catch (thrown) {
    return errorCode(thrown)
  }
}

/**
 * The grace end of a full instance is durable: takes away what said that nobody had made sure, last what the next upcall
 * would go by. Only then may new_boot_time go: gone before boot_time is durable, it would leave the instance before.
 */
export function confirmGraceEnd(state: StateDirectory, start: Start): void {
  if (readBootTime(state, 'new_boot_time') === start) {
    const own = state.staged('new_boot_time', start)
    // Under a name of its own it can be looked at once more: a start may have put its own in place meanwhile.
    if (disk.move(state.bootTime('new_boot_time'), own) && readBootTimeAt(own) !== start)
      disk.makeHardLink(own, state.bootTime('new_boot_time'))
    disk.remove(own)
  }
  disk.remove(state.mark(start, 'may_end_early'))
  disk.remove(state.mark(start, 'partial'))
}

/** Makes sure that an instance's directory is there: it may have been removed under a running server. */
export function restoreDirectory(state: StateDirectory, start: Start): void {
  makeStateDirectory(state)
  disk.makeDirectory(state.of(start))
  disk.syncDirectory(state.clients)
  disk.syncDirectory(state.path)
}

/**
 * Whether everybody recorded in older instances has reclaimed: then their directories are gone, the oldest first, so
 * that where any is gone the last full instance's is. Not durable, and need not be, but see {@link mayComeBackIn}.
 */
export function nobodyIsLeft(state: StateDirectory, instance: PartialInstance, starts: readonly Start[]): boolean {
  const newestFirst = olderThan(instance, starts)
  for (let start = newestFirst.pop(); start !== undefined; start = newestFirst.pop())
    if (!disk.removeIfEmpty(state.of(start))) return false
  return true
}

/**
 * The directories that a power cut could bring a client back in, unless they are synced after it is taken out: every
 * instance's, and the one that holds those that were removed when they were empty.
 */
export function mayComeBackIn(state: StateDirectory, { instance, starts }: Recorded): readonly string[] {
  const oldest = instance.kind === 'full' ? instance.start : instance.kind === 'partial' ? instance.full : undefined
  const counting = starts.filter((start) => oldest === undefined || start >= oldest)
  const emptied = instance.kind === 'partial' && oldest !== undefined && !starts.includes(oldest)
  return [...counting.map((start) => state.of(start)), ...(emptied ? [state.clients] : [])]
}

/**
 * Removes what nothing looks at any more: instances before the last full one, and empty ones that never were completed.
 * Entries that can't be understood are kept aside. Stops when `hasTime` says so; the next sweep goes on.
 * @returns how many records were removed, and how many entries were set aside.
 */
export function sweep(state: StateDirectory, hasTime: () => boolean): { removed: number; aside: number } {
  const { instance, starts, traces } = lookAt(state)
  const done = { removed: 0, aside: 0 }
  if (instance.kind !== 'full' && instance.kind !== 'partial') return done
  const oldest = instance.kind === 'full' ? instance.start : instance.full
  for (const start of traces) {
    if (start >= instance.start || !hasTime()) continue
    const isOver = oldest !== undefined && start < oldest
    if (isOver && starts.includes(start)) empty(state, start, hasTime, done)
    if (start === oldest) continue
    // A record that has moved on from there must not come back with its directory, see mayComeBackIn: what is gone from it
    // is gone for good before it goes itself. If that fails, it stays, and every remove takes it into account.
    if (!isOver && starts.includes(start)) {
      if (disk.namesIn(state.of(start)).length > 0) continue
      disk.syncDirectory(state.of(start))
    }
    if (!disk.removeIfEmpty(state.of(start))) continue
    for (const mark of marks) disk.remove(state.mark(start, mark))
    disk.remove(state.staged('new_boot_time', start))
    disk.remove(state.staged('boot_time', start))
  }
  return done
}

function empty(state: StateDirectory, start: Start, hasTime: () => boolean, done: { removed: number; aside: number }): void {
  for (const { kind, name } of recordsIn(state, start)) {
    if (!hasTime()) return
    if (kind === 'record') {
      disk.remove(`${state.of(start)}/${name}`)
      done.removed++
    } else if (kind === 'damaged') {
      setAside(state, `${state.of(start)}/${name}`, `${start}-${name}`)
      done.aside++
    }
  }
  removeLeftovers(state, start)
}
