/**
 * Grace ends: by the kernel's word, by ours (it is over as soon as nobody is left to reclaim), or found over when nobody
 * told us.
 *
 * The end is one rename. Before it the old records let their clients reclaim, after it they mean nothing, and no state
 * lies in between; run twice or beside another, it finds itself done. What the kernel may have granted since is safe
 * once the rename is durable, so nothing that changes a record is answered before that: the mark `partial` tells an
 * upcall that finds grace over whether anybody has seen to it.
 */
import { Failed, quote } from '../failure.ts'
import type { PartialInstance } from '../recovery/instance.ts'
import * as instances from '../stable/instances.ts'
import { removeLegacyRecords } from '../stable/legacy.ts'
import { lookAt, type Recorded } from '../stable/state-directory.ts'
import { settled, type Settlement, type World } from './world.ts'

/** How long an upcall tidies up, at most: the kernel waits, and grants no new lock meanwhile. */
const tidyMs = 1000

/** Commits the end of a partial instance's grace. */
export function endGrace(world: World, instance: PartialInstance, legacyTop: string | undefined): Settlement {
  const { state, log } = world
  const { outcome, lost } = instances.commitGraceEnd(state, instance)
  if (outcome === 'overtaken') {
    const { instance: now } = lookAt(state)
    if (now.kind !== 'full' || now.start !== instance.start) throw new Failed({ kind: 'other-instance', given: String(instance.start), told: 'start' in now ? String(now.start) : 'no time' })
  }
  if (lost !== undefined) log.warning(`old_boot_time could not be kept: ${lost}`)
  return {
    sync: [state.path],
    then: () => {
      instances.confirmGraceEnd(state, instance.start)
      log.notice(`grace of server instance ${instance.start} is over`)
      sweep(world)
      clearLegacy(world, legacyTop)
    },
  }
}

/** Grace is over already: what an upcall that died half-way left undone is done now. */
export function confirmGraceEnd(world: World, legacyTop: string | undefined): Settlement {
  return { sync: [], then: () => { clearLegacy(world, legacyTop) } }
}

/** What any upcall owes that finds grace over, when nobody has made sure that its end is on the disk. */
export function unconfirmedGraceEnd(world: World, { instance, marks }: Recorded): Settlement {
  if (instance.kind !== 'full' || !marks(instance.start, 'partial')) return settled
  return {
    sync: [world.state.path],
    then: () => {
      instances.confirmGraceEnd(world.state, instance.start)
      sweep(world)
    },
  }
}

/**
 * Asks the kernel to end grace, if everybody recorded has reclaimed and said so. A client without a session never says
 * that it is done, so one of them is enough to wait for the end of the grace time (field `has_session` in nfsdcltrack).
 */
export function endGraceEarly({ state, nfsd, log }: World, seen: Recorded, instance: PartialInstance): void {
  // Most often somebody is left, and one call tells. If not, what was seen before the barrier is seen anew.
  if (nfsd.grace() !== 'running' || !instances.nobodyIsLeft(state, instance, seen.starts)) return
  const { marks, starts } = lookAt(state)
  if (!marks(instance.start, 'may_end_early') || !instances.nobodyIsLeft(state, instance, starts)) return
  log.notice(`nobody is left to reclaim: asked the kernel to end grace (${nfsd.endGrace()})`)
}

/** Removes what nothing looks at any more. Whatever goes wrong here is for the next sweep. */
export function sweep({ state, log }: World): void {
  const end = performance.now() + tidyMs
  try {
    const { removed, aside } = instances.sweep(state, () => performance.now() < end)
    if (removed > 0) log.notice(`removed ${removed} records of clients that did not reclaim`)
    if (aside > 0) log.error(`${aside} records could not be understood: kept in ${quote(`${state.clients}/damaged`)}`)
  } catch (thrown) {
    log.warning(`old instances could not be removed: ${String(thrown)}`)
  }
}

/** The end of grace for clients of the kernel's own tracker: one that stayed could reclaim in any later instance. */
export function clearLegacy({ log }: World, top: string | undefined): void {
  if (top === undefined) return
  const left = removeLegacyRecords(top)
  if (left.length === 0) return
  const what = `${left.length} entries of ${quote(top)} could not be removed: they would let clients reclaim later`
  log.critical(what)
  throw new Failed({ kind: 'storage', atStart: false, what })
}
