/** What moves between this program and others: who may reclaim at the next start of the server, and nothing else. */
import { isPrincipal, latestRecorded, type Facts } from '../../rules/record.ts'
import { counted } from '../../text.ts'
import { longestOwner, type ClientOwner } from '../../upcall/owner.ts'
import type { Session } from '../../upcall/request.ts'

export interface Movable {
  readonly owner: ClientOwner
  readonly session: Session
  /** Seconds of the wall clock, for people. */
  readonly recorded: number
  /** SHA-256 of the Kerberos principal that it must have to reclaim, as a record has it. */
  readonly principal: string | undefined
}

/** What a source tells. It may be more than memory should hold: each list is read anew whenever it is gone through. */
export interface Found {
  readonly kind: 'nfsdcltrack' | 'nfsdcld' | 'v4recovery' | 'state directory' | 'export'
  /** @throws Failed where the source can't be understood. Each owner once, unless an export names it twice. */
  readonly clients: () => Iterable<Movable>
  /**
   * Clients of which only the MD5 of the owner is known, 32 hex digits each: the kernel's own tracker names them so.
   */
  readonly matchOnly: () => Iterable<string>
  /** What could not be taken as it was, a line each: known when the clients have been gone through. */
  readonly notes: () => readonly string[]
}

/** What a record says of a client that has moved. */
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

/** Tells a source's rows that are clients, and counts those that are none. */
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
      // Without it, anybody with that owner could reclaim.
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
