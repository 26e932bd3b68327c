/**
 * Removes what has no effect any more: after a start, and after an end of grace that is durable.
 *
 * A sweep touches only instances that are older than the last full one, and empty ones that were never completed. This
 * set only grows, so a sweep may go by an earlier look, and two may run at once. If a sweep is killed, or runs out of
 * time, the next one goes on.
 */
import type { Start } from '../rules/instance.ts'
import { markNames, type Recorded } from '../store/layout.ts'
import { unmark } from '../store/marks.ts'
import { directoryOf } from '../store/open-directories.ts'
import { entryAt, isStaged } from '../store/records.ts'
import { clientsOf, setAside, type StateDirectory } from '../store/state-directory.ts'
import * as disk from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { counted, quote } from '../text.ts'
import type { World } from './world.ts'

/** How long an upcall tidies up, at most: the kernel waits, and grants no new lock meanwhile. */
const longestMs = 1000

/** Whatever goes wrong here is for the next sweep. @param seen after the barrier that made it so. */
export function sweep({ calls, state, log }: World, seen: Recorded): void {
  const end = calls.monotonic() + longestMs
  const swept: Swept = { records: 0, aside: 0 }
  try {
    removeInstances(state, seen, () => calls.monotonic() < end, swept)
  } catch (thrown) {
    log.warning(`old instances could not be removed: ${String(thrown)}`)
  }
  if (swept.records > 0) log.notice(`removed ${counted(swept.records, 'record')} of clients that did not reclaim`)
  if (swept.aside > 0)
    log.error(
      `${counted(swept.aside, 'record')} could not be understood: kept in ${quote(`${state.clientsPath}/damaged`)}`,
    )
}

/** How many records were removed, and how many entries were set aside. */
interface Swept {
  records: number
  aside: number
}

function removeInstances(
  state: StateDirectory,
  { instance, starts, traces, format }: Recorded,
  hasTime: () => boolean,
  swept: Swept,
): void {
  if (format === 1 || (instance.kind !== 'full' && instance.kind !== 'partial')) return
  const lastFull = instance.kind === 'full' ? instance.start : instance.full
  for (const start of traces) {
    if (start >= instance.start || start === lastFull) continue
    const isOver = lastFull !== undefined && start < lastFull
    const directory = starts.includes(start) ? directoryOf(state, start) : undefined
    if (directory !== undefined) {
      if (isOver) empty({ state, start, directory, hasTime, swept })
      // A record that has moved on from there must not come back with its directory (remove.ts, mayComeBackIn): what is
      // gone from it is gone for good before it goes itself. If that fails, it stays, and every remove takes it into
      // account.
      else if (isEmpty(directory)) disk.sync(directory)
      else continue
    }
    if (!hasTime()) return
    if (!disk.removeIfEmpty(String(start), clientsOf(state))) continue
    for (const name of markNames) unmark(state, start, name)
  }
}

const isEmpty = (directory: Directory): boolean => disk.entriesOf(directory).next().done === true

interface Emptied {
  readonly state: StateDirectory
  readonly start: Start
  readonly directory: Directory
  readonly hasTime: () => boolean
  readonly swept: Swept
}

/**
 * Each entry is dealt with as it is read: that needs no memory for those that are left. What can't be understood is
 * kept aside.
 */
function empty({ state, start, directory, hasTime, swept }: Emptied): void {
  for (const { name } of disk.entriesOf(directory)) {
    if (!hasTime()) return
    const { kind } = isStaged(name) ? { kind: 'staged' } : entryAt(directory, name)
    if (kind === 'record' || kind === 'staged') {
      if (disk.remove(name, directory) && kind === 'record') swept.records++
    } else if (kind !== 'nothing' && setAside(state, name, directory, `${start}-${name}`) !== undefined) swept.aside++
  }
}
