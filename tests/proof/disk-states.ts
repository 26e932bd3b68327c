/**
 * The states that a disk may be in after a power cut, computed from the log of its writes.
 *
 * It durably has what is in the log up to a moment. Of the writes that the next flush made durable, it may have any
 * subset, in any order: all of them were in its cache just before that flush, and a disk writes its cache back in any
 * order. A write of several blocks may also be torn between them.
 *
 * For each moment, these states are tried: nothing of the cache, all of it, each prefix of it (as if the disk wrote in
 * order), and random subsets.
 */
import { createHash } from 'node:crypto'
import type { Entry, Write } from './log-writes.ts'

export interface DiskState {
  /** How many entries of the log are durable. */
  readonly upTo: number
  /** Which entries of its cache it has as well. */
  readonly cached: readonly Write[]
  /** The same for two states with the same bytes. */
  readonly contents: string
}

/** Writes are torn between blocks of this size. A disk is assumed to write all or nothing of one block. */
const block = 4096

export function* diskStates(
  entries: readonly Entry[],
  original: Original,
  dice: () => number,
  lots: number,
): Generator<DiskState> {
  const disk = contentsOf(original)
  for (const [n, entry] of entries.entries()) {
    if (entry.kind === 'write') disk.put(entry)
    yield { upTo: n + 1, cached: [], contents: disk.digest() }
    // Only where a cache begins: later moments include what came before in the same cache.
    const cache = isCached(entry) ? [] : cacheFrom(entries, n + 1)
    const pieces = cache.flatMap(torn)
    if (pieces.length < 2) continue
    for (let lot = 0; lot < lots; lot++) {
      const share = dice()
      const cached = (dice() < 0.5 ? cache : pieces).filter(() => dice() < share)
      yield { upTo: n + 1, cached, contents: disk.digest(cached) }
    }
  }
}

const isCached = (entry: Entry): entry is Write => entry.kind === 'write' && !entry.durable

/** The writes from here up to the next entry of another kind. */
function cacheFrom(entries: readonly Entry[], from: number): Write[] {
  const cache: Write[] = []
  for (let n = from, entry = entries[n]; entry !== undefined && isCached(entry); entry = entries[++n]) cache.push(entry)
  return cache
}

const torn = (write: Write): Write[] =>
  Array.from({ length: Math.ceil(write.bytes.length / block) }, (_, n) => ({
    ...write,
    at: write.at + n * block,
    bytes: write.bytes.subarray(n * block, (n + 1) * block),
  }))

const sector = 512
/** The contents of a sector before anything was written to it. */
type Original = (at: number, length: number) => Buffer

interface Contents {
  readonly put: (write: Write) => void
  readonly digest: (cached?: readonly Write[]) => string
}

/**
 * A disk's digest, updated with each write: the sum, without carry, of the differences between its sectors and the
 * original ones.
 */
function contentsOf(original: Original): Contents {
  const sectors = new Map<number, bigint>()
  let sum = 0n
  const of = (at: number, bytes: Buffer): bigint =>
    createHash('sha256').update(`${at} `).update(bytes).digest().readBigUInt64LE()
  const fold = (into: Map<number, bigint>, before: bigint, { at, bytes }: Write): bigint => {
    let after = before
    for (let n = 0; n < bytes.length; n += sector) {
      const was = into.get(at + n) ?? sectors.get(at + n) ?? of(at + n, original(at + n, sector))
      const is = of(at + n, bytes.subarray(n, n + sector))
      into.set(at + n, is)
      after ^= was ^ is
    }
    return after
  }
  return {
    put: (write) => {
      sum = fold(sectors, sum, write)
    },
    digest: (cached = []) => {
      const changed = new Map<number, bigint>()
      return cached.reduce((before, write) => fold(changed, before, write), sum).toString(16)
    },
  }
}
