/**
 * Messages that the storage refused, and that the kernel does not send again.
 *
 * `serve` retries a Create that fails: the kernel takes any answer for a record (nfsd4_cld_create sets STABLE), so its
 * client depends on one. A Remove or a GraceDone that fails is more dangerous: a client could still reclaim whose locks
 * others may have had. So before the kernel gets the answer, the run directory is marked as after an instance that ran
 * without us: after the next start no client may reclaim. The mark is removed when everything that it stands for has
 * succeeded. What is left outlives the process (kept.ts).
 *
 * There may be as many clients as the server has memory for, and some may choose long names. So what is kept for a
 * retry has a limit, far below the memory of this process. A request beyond it is not retried.
 */
import { Failed } from '../failure.ts'
import type { Asked } from '../upcall/request.ts'
import { keyOf, type Kept, type Left } from './kept.ts'

export interface Unfinished {
  /**
   * Notes what failed.
   * @param instance in which it was asked, if that is known
   * @returns false, if too much is left already: then this is not retried
   */
  readonly add: (request: Asked, instance: number | undefined) => boolean
  /** Removes what a later message has settled, or what has succeeded. */
  readonly settle: (request: Asked) => void
  /** Removes everything: a new instance has begun. */
  readonly clear: () => void
  readonly all: () => readonly Asked[]
  readonly count: () => number
  readonly hasDangerous: () => boolean
  /** The requests to try next, at most so many. */
  readonly next: (most: number) => readonly Asked[]
  /** It has failed again: others are tried before it. */
  readonly putOff: (request: Asked) => void
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
  /** The storage works again: the next attempt is due. */
  readonly hasten: () => void
  /** Continues with what the last process left undone at this pipe. @returns that; undefined, if it is not known */
  readonly takeOver: (pipe: string) => readonly Asked[] | undefined
  /** Writes down for the next process what is left. To be called before the kernel is answered. */
  readonly keep: (pipe: string) => 'done' | 'stale'
}

const soonestMs = 1000
const latestMs = 30_000

/**
 * What is left may take so many bytes of memory, with the texts that are made of it: 13 000 clients with names of 50
 * bytes, or 1400 with names of 1024. The host ends a process that takes 64 MB.
 */
const mostWeight = 16 << 20

/** What a request takes, as measured with names of 50 and of 1024 bytes. */
const weightOf = (request: Asked): number => 700 + ('owner' in request ? 11 * request.owner.length : 0)

/** Whether its failure could let a client reclaim that must not. */
export const isDangerous = ({ event }: Asked): boolean => event === 'remove' || event === 'grace-done'

/** Whether the storage failed: then a retry may succeed. */
export const isStorageFailure = (thrown: unknown): boolean =>
  !(thrown instanceof Failed) || thrown.failure.kind === 'storage' || thrown.failure.kind === 'out-of-time'

export function unfinished(monotonic: () => number, kept: Kept): Unfinished {
  const left = new Map<string, Asked>()
  const instances = new Map<Asked, number | undefined>()
  let weight = 0
  let dueAt: number | undefined
  let pause = soonestMs
  const remove = (key: string): boolean => {
    const request = left.get(key)
    if (request === undefined) return false
    left.delete(key)
    instances.delete(request)
    weight -= weightOf(request)
    return true
  }
  const settleNow = (): void => {
    if (left.size > 0) return
    dueAt = undefined
    pause = soonestMs
  }
  const add: Unfinished['add'] = (request, instance) => {
    const key = keyOf(request)
    // Kept in the order in which they came, so the last request about a client is at its place.
    const isKnown = remove(key)
    if (!isKnown && weight + weightOf(request) > mostWeight) return false
    instances.set(request, instance)
    left.set(key, request)
    weight += weightOf(request)
    dueAt ??= monotonic() + pause
    return true
  }
  const settle: Unfinished['settle'] = (request) => {
    // Nothing is left. To ask for the size of a map takes longer.
    if (weight === 0 || !remove(keyOf(request))) return
    kept.drop(request)
    settleNow()
  }
  const all = (): readonly Left[] =>
    [...left.values()].map((request) => ({ request, instance: instances.get(request) }))
  return {
    add: (request, instance) => {
      if (!add(request, instance)) return false
      kept.add({ request, instance })
      return true
    },
    settle,
    clear: () => {
      for (const request of [...left.values()]) settle(request)
    },
    all: () => [...left.values()],
    count: () => left.size,
    hasDangerous: () => {
      for (const request of left.values()) if (isDangerous(request)) return true
      return false
    },
    next: (most) => {
      const first: Asked[] = []
      for (const request of left.values()) {
        if (first.length >= most) break
        first.push(request)
      }
      return first
    },
    putOff: (request) => {
      const key = keyOf(request)
      if (left.delete(key)) left.set(key, request)
    },
    isOfAnother: (request, instance) => {
      const asked = instances.get(request)
      return asked !== undefined && instance !== undefined && asked !== instance
    },
    notRecorded: () => {
      const keys: string[] = []
      for (const [key, { event }] of left) if (event === 'create') keys.push(key)
      return keys
    },
    dueAt: () => dueAt,
    postpone: () => {
      pause = Math.min(2 * pause, latestMs)
      dueAt = left.size > 0 ? monotonic() + pause : undefined
    },
    hasten: () => {
      pause = soonestMs
      dueAt = left.size > 0 ? monotonic() : undefined
    },
    takeOver: (pipe) => {
      const found = kept.read(pipe)
      const isWhole = found?.every(({ request, instance }) => add(request, instance))
      return isWhole === true ? found?.map(({ request }) => request) : undefined
    },
    keep: (pipe) => kept.write(pipe, left, all),
  }
}
