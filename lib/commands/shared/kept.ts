/**
 * Keeps clients that are needed again, as they were: after a person has answered, or for a second list. As objects, a
 * million of them would take most of a gigabyte. So they are kept as text, which is compressed in batches.
 */
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import type { ClientOwner } from '../../upcall/owner.ts'
import type { Client } from './recorded-clients.ts'
import type { Told } from './view.ts'

export interface Kept extends Iterable<Told> {
  readonly count: number
}

/** This many in one batch. */
const batch = 1000

/** A client as it is stored. */
type Row = readonly [
  owner: string,
  session: Told['session'],
  recorded: number,
  principal: string | null,
  start: Told['in'],
  standing: Told['standing'],
  unseen: number,
]

/** @param clients are read at once */
export function kept(clients: Iterable<Client>): Kept {
  const pieces: Buffer[] = []
  let piece: Row[] = []
  let count = 0
  const close = (): void => {
    if (piece.length > 0) pieces.push(deflateRawSync(JSON.stringify(piece), { level: 1 }))
    piece = []
  }
  for (const { owner, session, recorded, principal, in: start, standing, unseen } of clients) {
    count++
    piece.push([textOf(owner), session, recorded, principal ?? null, start, standing, unseen])
    if (piece.length === batch) close()
  }
  close()
  return {
    count,
    *[Symbol.iterator]() {
      for (const deflated of pieces)
        for (const row of JSON.parse(inflateRawSync(deflated).toString()) as Row[]) {
          const [text, session, recorded, principal, start, standing, unseen] = row
          const owner = Buffer.from(text, 'latin1') as Uint8Array as ClientOwner
          yield { owner, session, recorded, principal: principal ?? undefined, in: start, standing, unseen }
        }
    },
  }
}

/** Makes each byte a character, without copying the bytes first. */
const textOf = ({ buffer, byteOffset, length }: ClientOwner): string =>
  Buffer.from(buffer, byteOffset, length).toString('latin1')
