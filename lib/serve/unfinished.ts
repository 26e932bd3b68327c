/**
 * Messages that the storage refused, and that the kernel does not send again.
 *
 * `serve` retries a Create that fails: the kernel takes any answer for a record (nfsd4_cld_create sets STABLE), so its
 * client depends on one. A Remove or a GraceDone that fails is more dangerous: a client could still reclaim whose locks
 * others may have had. So before the kernel gets the answer, the run directory is marked as after an instance that ran
 * without us: after the next start no client may reclaim. The mark is removed when everything that it stands for has
 * succeeded. What is left outlives the process (kept.ts).
 */
import { Failed } from '../failure.ts'
import { hexOf } from '../upcall/hex.ts'
import type { Asked } from '../upcall/request.ts'
import { keyOf, type Kept, type Left } from './kept.ts'

export interface Unfinished {
  /** Notes what failed. @param instance in which it was asked, if that is known */
  readonly add: (request: Asked, instance: number | undefined) => void
  /** Removes what a later message has settled, or what has succeeded. */
  readonly settle: (request: Asked) => void
  /** Removes everything: a new instance has begun. */
  readonly clear: () => void
  readonly all: () => readonly Asked[]
  /**
   * Whether it was asked in another instance than this one. A start has taken it into account, so it no longer matters.
   */
  readonly isOfAnother: (request: Asked, instance: number | undefined) => boolean
  /** The clients that need a record and have none, as hex. */
  readonly notRecorded: () => readonly string[]
  /** When to try again, in milliseconds of the monotonic clock; undefined, if nothing is left to do. */
  readonly dueAt: () => number | undefined
  /** Sets the next attempt, after a longer pause. */
  readonly postpone: () => void
  /** Continues with what the last process left undone at this pipe. @returns that; undefined, if it is not known */
  readonly takeOver: (pipe: string) => readonly Asked[] | undefined
  /** Writes down for the next process what is left. To be called before the kernel is answered. */
  readonly keep: (pipe: string) => 'done' | 'stale'
}

const soonestMs = 1000
const latestMs = 30_000

/** Whether its failure could let a client reclaim that must not. */
export const isDangerous = ({ event }: Asked): boolean => event === 'remove' || event === 'grace-done'

/** Whether the storage failed: then a retry may succeed. */
export const isStorageFailure = (thrown: unknown): boolean =>
  !(thrown instanceof Failed) || thrown.failure.kind === 'storage' || thrown.failure.kind === 'out-of-time'

export function unfinished(monotonic: () => number, kept: Kept): Unfinished {
  const left = new Map<string, Asked>()
  const instances = new Map<Asked, number | undefined>()
  let dueAt: number | undefined
  let pause = soonestMs
  const settleNow = (): void => {
    if (left.size > 0) return
    instances.clear()
    dueAt = undefined
    pause = soonestMs
  }
  const add: Unfinished['add'] = (request, instance) => {
    instances.set(request, instance)
    // Kept in the order in which they came, so the last request about a client is at its place.
    left.delete(keyOf(request))
    left.set(keyOf(request), request)
    dueAt ??= monotonic() + pause
  }
  const settle: Unfinished['settle'] = (request) => {
    if (left.size === 0 || !left.delete(keyOf(request))) return
    kept.drop(request)
    settleNow()
  }
  const all = (): readonly Left[] =>
    [...left.values()].map((request) => ({ request, instance: instances.get(request) }))
  return {
    add: (request, instance) => {
      add(request, instance)
      kept.add({ request, instance })
    },
    settle,
    clear: () => {
      for (const request of left.values()) settle(request)
    },
    all: () => [...left.values()],
    isOfAnother: (request, instance) => {
      const asked = instances.get(request)
      return asked !== undefined && instance !== undefined && asked !== instance
    },
    notRecorded: () =>
      [...left.values()].flatMap((request) => (request.event === 'create' ? [hexOf(request.owner)] : [])),
    dueAt: () => dueAt,
    postpone: () => {
      pause = Math.min(2 * pause, latestMs)
      dueAt = left.size > 0 ? monotonic() + pause : undefined
    },
    takeOver: (pipe) => {
      const found = kept.read(pipe)
      for (const { request, instance } of found ?? []) add(request, instance)
      return found?.map(({ request }) => request)
    },
    keep: (pipe) => kept.write(pipe, left.size, all),
  }
}
