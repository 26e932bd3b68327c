/**
 * Clients that are kept until a person has answered. As objects, a million would take a gigabyte: so they are kept as text, deflated,
 * some at a time, which takes 20 MB and three seconds.
 */
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import type { ClientOwner } from '../../upcall/owner.ts'
import type { Client } from './survey.ts'
import type { Told } from './view.ts'

export interface Kept extends Iterable<Told> {
  readonly count: number
}

/** So many in one piece. */
const batch = 1000

/** @param clients are gone through at once. */
export function kept(clients: Iterable<Client>): Kept {
  const pieces: Buffer[] = []
  let piece: unknown[] = []
  let count = 0
  const close = (): void => {
    if (piece.length > 0) pieces.push(deflateRawSync(JSON.stringify(piece), { level: 1 }))
    piece = []
  }
  for (const { owner, session, recorded, principal, in: start, standing, unseen } of clients) {
    count++
    piece.push({ owner: textOf(owner), session, recorded, principal, in: start, standing, unseen })
    if (piece.length === batch) close()
  }
  close()
  return {
    count,
    *[Symbol.iterator]() {
      for (const deflated of pieces)
        for (const client of JSON.parse(inflateRawSync(deflated).toString()) as (Told & { owner: string })[])
          yield { ...client, owner: Buffer.from(client.owner, 'latin1') as Uint8Array as ClientOwner }
    },
  }
}

/** Each byte a character; nothing is copied before. */
const textOf = ({ buffer, byteOffset, length }: ClientOwner): string =>
  Buffer.from(buffer, byteOffset, length).toString('latin1')
