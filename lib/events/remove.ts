/**
 * A client is gone: it may not reclaim any more.
 *
 * It is removed from the directories of the kernel's own tracker while they count, and then from every instance. A
 * client that moves meanwhile moves towards the newest instance, so the newest comes last. A removal is right in every
 * state, so a `remove` that is killed half-way does no harm, and may be repeated.
 *
 * A power cut may bring back what was removed from a directory, or moved out of it (btrfs), unless that directory is
 * synced. So every directory that counts is synced: one out of grace, each instance's in grace.
 */
import { storageFailure } from '../failure.ts'
import type { Start } from '../rules/instance.ts'
import type { Recorded } from '../store/layout.ts'
import { directoryOf, openClients } from '../store/open-directories.ts'
import * as records from '../store/records.ts'
import { type StateDirectory } from '../store/state-directory.ts'
import { legacyTopIn, removeLegacyRecord, syncLegacyRecords, usualTop } from '../store/v4recovery.ts'
import type { Directory } from '../syscalls/files.ts'
import { quote } from '../text.ts'
import { showOwner, type ClientOwner } from '../upcall/owner.ts'
import type { Settlement, World } from './world.ts'

/** Removes a client from every instance, or from `those`. */
export function forgetClient(
  world: World,
  recorded: Recorded,
  owner: ClientOwner,
  those: readonly Start[] = recorded.starts,
): Settlement {
  const { state, log } = world
  const confirmLegacyGone = forgetLegacy(world, recorded, owner)
  let change: string | undefined
  for (const start of those) {
    const outcome = records.drop(state, owner, start)
    if (outcome === 'dropped' && those.length === 1 && state.intents !== undefined)
      change = records.dropped(state, owner)
    if (outcome === 'damaged' || outcome === 'newer')
      log.error(`the record of ${showOwner(owner)} in instance ${start} can't be understood: it allows nothing`)
  }
  log.debug?.(`${showOwner(owner)} forgotten`)
  return { sync: mayComeBackIn(state, recorded), then: confirmLegacyGone, change }
}

/** The directories of instances that count, and `v4clients`, in which empty ones were removed. */
function mayComeBackIn(state: StateDirectory, { instance, starts, traces }: Recorded): Settlement['sync'] {
  const oldest = instance.kind === 'full' ? instance.start : instance.kind === 'partial' ? (instance.full ?? 0) : 0
  const directories: (Directory | undefined)[] = []
  for (let at = 0; at < starts.length; at++) {
    const start = starts[at]
    if (start !== undefined && start >= oldest) directories.push(directoryOf(state, start))
  }
  // Each instance that has a directory is among the traces.
  if (traces.length > starts.length && traces.some((start) => start >= oldest && !starts.includes(start)))
    directories.push(openClients(state))
  return directories
}

/** @returns what remains to be done without the lock, if anything does. */
function forgetLegacy({ state }: World, { instance, isUnconfirmed }: Recorded, owner: ClientOwner): Settlement['then'] {
  if (instance.kind === 'full' && !isUnconfirmed) return undefined
  const tops = new Set([legacyTopIn(state.path), usualTop])
  const removed = Array.from(tops, (top) => ({ top, now: removeLegacyRecord(top, state.anywhere, owner) }))
  return () => {
    for (const { top, now } of removed) {
      if (now !== 'no place') syncLegacyRecords(top, state.anywhere)
      if (now === 'stays')
        throw storageFailure(
          `the directory of ${showOwner(owner)} in ${quote(top)} can't be removed: it would let the client reclaim`,
        )
    }
  }
}
