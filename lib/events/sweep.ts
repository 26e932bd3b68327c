/**
 * Removes what has no effect any more, after a start and after a durable end of grace.
 *
 * A sweep touches only instances that are older than the last full one, and empty ones that were never completed. This
 * set only grows, so a sweep may rely on what was read earlier, and two may run at once. If a sweep is killed, or runs
 * out of time, the next one continues.
 */
import type { Start } from '../rules/instance.ts'
import { markNames, type Recorded } from '../store/layout.ts'
import { unmark } from '../store/marks.ts'
import { directoryOf } from '../store/open-directories.ts'
import { entryAt, isStaged } from '../store/records.ts'
import { clientsOf, setAside, type StateDirectory } from '../store/state-directory.ts'
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { counted, quote } from '../text.ts'
import type { World } from './world.ts'

/** How long a sweep may take: the kernel waits for the upcall, and grants no new lock meanwhile. */
const longestMs = 1000

/** A failure is only logged, and the next sweep tries again. @param seen what was read after the barrier */
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
      // A record that was moved from this directory must not come back with it after a power cut (remove.ts,
      // mayComeBackIn). So the directory is synced before it is removed. If that fails, it stays, and every remove
      // takes it into account.
      else if (isEmpty(directory)) files.sync(directory)
      else continue
    }
    if (!hasTime()) return
    if (!files.removeIfEmpty(String(start), clientsOf(state))) continue
    for (const name of markNames) unmark(state, start, name)
  }
}

const isEmpty = (directory: Directory): boolean => files.entriesOf(directory).next().done === true

interface Emptied {
  readonly state: StateDirectory
  readonly start: Start
  readonly directory: Directory
  readonly hasTime: () => boolean
  readonly swept: Swept
}

/**
 * Handles each entry as it is read, so that memory does not grow with their number. What can't be understood is moved
 * aside.
 */
function empty({ state, start, directory, hasTime, swept }: Emptied): void {
  for (const { name } of files.entriesOf(directory)) {
    if (!hasTime()) return
    const { kind } = isStaged(name) ? { kind: 'staged' } : entryAt(directory, name)
    if (kind === 'record' || kind === 'staged') {
      if (files.remove(name, directory) && kind === 'record') swept.records++
    } else if (kind !== 'nothing' && setAside(state, name, directory, `${start}-${name}`) !== undefined) swept.aside++
  }
}
