/** What moves between this program and others: who may reclaim at the next start of the server, and nothing else. */
import { counted } from '../../failure.ts'
import type { ClientOwner } from '../../upcall/owner.ts'

export interface Movable {
  readonly owner: ClientOwner
  /** False also where it is not known: whoever has no session never says that it is done, so grace waits for it. */
  readonly session: boolean
  /** Seconds of the wall clock, for people. */
  readonly recorded: number
}

/** What a source tells. It may be more than memory should hold: each list is read anew whenever it is gone through. */
export interface Found {
  readonly kind: 'nfsdcltrack' | 'nfsdcld' | 'v4recovery' | 'state directory' | 'export'
  /** @throws Failed where the source can't be understood. Each owner once, unless an export names it twice. */
  readonly clients: () => Iterable<Movable>
  /** Clients of which only the MD5 of the owner is known, 32 hex digits each: the kernel's own tracker names them so. */
  readonly matchOnly: () => Iterable<string>
  /** What could not be taken as it was, a line each: known when the clients have been gone through. */
  readonly notes: () => readonly string[]
}

/** The MD5 that names a client in the kernel's own tracker. */
export const legacyName = /^[0-9a-f]{32}$/

/** NFS4_OPAQUE_LIMIT: no client can have said more. */
const longest = 1024

/** A time as a record can hold it. */
export const recordedFrom = (seconds: unknown, now: number): number =>
  typeof seconds === 'number' && Number.isSafeInteger(seconds) && seconds >= 0 && seconds <= 999_999_999_999
    ? seconds
    : now

/** Tells a source's rows that are clients, and counts those that are none. */
export function sieve(now: number): {
  readonly client: (bytes: Uint8Array | undefined, session: boolean, recorded: unknown) => Movable[]
  readonly notes: () => readonly string[]
} {
  const refused = new Map<string, number>()
  const refuse = (why: string): [] => {
    refused.set(why, (refused.get(why) ?? 0) + 1)
    return []
  }
  return {
    client: (bytes, session, recorded) => {
      if (bytes === undefined) return refuse('without an owner')
      if (bytes.length > longest) return refuse(`with an owner longer than ${longest} bytes`)
      return [
        { owner: Buffer.from(bytes) as Uint8Array as ClientOwner, session, recorded: recordedFrom(recorded, now) },
      ]
    },
    notes: () => [...refused].map(([why, count]) => `${counted(count, 'record')} ${why} left out`),
  }
}
