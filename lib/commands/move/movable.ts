/**
 * What is moved between this program and others: which clients may reclaim at the next start of the server, and nothing
 * else.
 */
import { isPrincipal, latestRecorded, type Facts } from '../../rules/record.ts'
import { counted } from '../../text.ts'
import { longestOwner, type ClientOwner } from '../../upcall/owner.ts'
import type { Session } from '../../upcall/request.ts'

export interface Movable {
  readonly owner: ClientOwner
  readonly session: Session
  /** In seconds of the wall clock, for people. */
  readonly recorded: number
  /** SHA-256 of the Kerberos principal that the client must have to reclaim, in the form of a record. */
  readonly principal: string | undefined
}

/** What a source contains. It may not fit into memory, so each list is read again whenever it is gone through. */
export interface Found {
  readonly kind: 'nfsdcltrack' | 'nfsdcld' | 'v4recovery' | 'state directory' | 'export'
  /** @throws Failed, if the source can't be understood. Each owner comes once, unless an export names it twice. */
  readonly clients: () => Iterable<Movable>
  /**
   * Clients of which only the MD5 of the owner is known, as 32 hex digits: this is how the kernel's own tracker names
   * them.
   */
  readonly matchOnly: () => Iterable<string>
  /** What could not be taken over unchanged, one line each. It is complete when the clients have been gone through. */
  readonly notes: () => readonly string[]
}

/** The content of a record for a client that is moved here. */
export const factsOf = ({ session, recorded, principal }: Movable): Facts => ({
  session,
  recorded,
  ...(principal === undefined ? {} : { principal }),
})

/** A time as a record can hold it. */
export const recordedFrom = (seconds: unknown, now: number): number =>
  typeof seconds === 'number' && Number.isSafeInteger(seconds) && seconds >= 0 && seconds <= latestRecorded
    ? seconds
    : now

/** Selects the rows of a source that are clients, and counts the others. */
export function sieve(now: number): {
  readonly client: (row: {
    readonly bytes: Uint8Array | undefined
    readonly session: Session
    readonly recorded: unknown
    /** Hex digits; '' for none. */
    readonly principal: string
  }) => Movable[]
  readonly notes: () => readonly string[]
} {
  const refused = new Map<string, number>()
  const refuse = (why: string): [] => {
    refused.set(why, (refused.get(why) ?? 0) + 1)
    return []
  }
  return {
    client: ({ bytes, session, recorded, principal }) => {
      if (bytes === undefined) return refuse('without an owner')
      if (bytes.length > longestOwner) return refuse(`with an owner longer than ${longestOwner} bytes`)
      // Without the principal, any client with that owner could reclaim.
      if (principal !== '' && !isPrincipal(principal)) return refuse("with a principal's digest of another length")
      return [
        {
          owner: Buffer.from(bytes) as Uint8Array as ClientOwner,
          session,
          recorded: recordedFrom(recorded, now),
          principal: principal === '' ? undefined : principal,
        },
      ]
    },
    notes: () => [...refused].map(([why, count]) => `${counted(count, 'record')} ${why} left out`),
  }
}
