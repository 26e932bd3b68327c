/**
 * What a disk may hold when its power goes, out of the log of what it was told.
 *
 * For certain it holds what the log has up to a moment. Of the writes that the next flush made durable it holds any
 * subset, in the order of none: all of them were in its cache right before that flush, and a cache is written back as a
 * disk pleases. A write of several blocks may also be torn between them.
 *
 * Each moment is looked at with nothing of its cache, with all of it, with each beginning of it (as if the disk wrote
 * in order), and with subsets that are drawn by lot.
 */
import { createHash } from 'node:crypto'
import type { Entry, Write } from './log-writes.ts'

export interface DiskState {
  /** How many entries of the log it holds for certain. */
  readonly upTo: number
  /** What it holds of its cache as well. */
  readonly cached: readonly Write[]
  /** The same for two states that hold the same bytes. */
  readonly contents: string
}

/** Writes are torn between blocks of this size. Of one block a disk is taken to write all or nothing. */
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
    // Only where a cache begins: in its midst, what came before is in it as well.
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

/** The writes from here on up to whatever else comes. */
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
/** What a sector held before anything was written to it. */
type Original = (at: number, length: number) => Buffer

interface Contents {
  readonly put: (write: Write) => void
  readonly digest: (cached?: readonly Write[]) => string
}

/**
 * A disk's digest that is kept up to date write by write: the sum, without carry, of what its sectors differ by from
 * the original.
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
