/** What moves between this program and others: who may reclaim at the next start of the server, and nothing else. */
import { escapeOwner, type ClientOwner } from '../../upcall/owner.ts'

export interface Movable {
  readonly owner: ClientOwner
  /** False also where it is not known: whoever has no session never says that it is done, so grace waits for it. */
  readonly session: boolean
  /** Seconds of the wall clock, for people. */
  readonly recorded: number
}

export interface Found {
  readonly kind: 'nfsdcltrack' | 'nfsdcld' | 'v4recovery' | 'state directory' | 'export'
  readonly clients: readonly Movable[]
  /** Clients of which only the MD5 of the owner is known, 32 hex digits each: the kernel's own tracker names them so. */
  readonly matchOnly: readonly string[]
  /** What could not be taken as it was, a line each. */
  readonly notes: readonly string[]
}

/** The MD5 that names a client in the kernel's own tracker. */
export const legacyName = /^[0-9a-f]{32}$/

/** NFS4_OPAQUE_LIMIT: no client can have said more. */
const longest = 1024

/** One row or line of a source: an owner, or why it is none. */
export function ownerFrom(bytes: Uint8Array | undefined): ClientOwner | string {
  if (bytes === undefined) return 'without an owner'
  if (bytes.length > longest) return `with an owner longer than ${longest} bytes`
  return Buffer.from(bytes) as Uint8Array as ClientOwner
}

/** A time as a record can hold it. */
export const recordedFrom = (seconds: unknown, now: number): number =>
  typeof seconds === 'number' && Number.isSafeInteger(seconds) && seconds >= 0 && seconds <= 999_999_999_999 ? seconds : now

/** Collects a source's clients, each owner once, and counts what is none. */
export function collector(now: number): {
  readonly add: (bytes: Uint8Array | undefined, session: boolean, recorded: unknown) => void
  readonly clients: () => readonly Movable[]
  readonly notes: () => readonly string[]
} {
  const found = new Map<string, Movable>()
  const refused = new Map<string, number>()
  return {
    add: (bytes, session, recorded) => {
      const owner = ownerFrom(bytes)
      if (typeof owner === 'string') refused.set(owner, (refused.get(owner) ?? 0) + 1)
      else found.set(escapeOwner(owner), { owner, session, recorded: recordedFrom(recorded, now) })
    },
    clients: () => [...found.values()],
    notes: () => [...refused].map(([why, count]) => `${count} records ${why} left out`),
  }
}
