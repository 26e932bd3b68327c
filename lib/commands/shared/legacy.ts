/**
 * Clients that only the kernel's own tracker has recorded (lib/store/v4recovery.ts). Nothing is known of them but the
 * MD5 of their owner, so they are no records: they are told beside them, by that MD5.
 */
import { hasLegacyRecord, legacyNameOf, legacyRecordsIn, legacyTopIn, usualTop } from '../../store/v4recovery.ts'
import type { ClientOwner } from '../../upcall/owner.ts'
import { clientsIn, mayReclaim } from './recorded-clients.ts'
import type { Survey } from './survey.ts'

/** Where such clients are looked for: where a `remove` takes them out. */
export const legacyTopsOf = ({ state }: Pick<Survey, 'state'>): readonly string[] => [
  ...new Set([legacyTopIn(state.path), usualTop]),
]

/**
 * A client's directories, while they count. Also after an untracked instance: its mark may turn out to be that of a
 * start that was asked for twice (docs/protocol.md).
 */
export const legacyRecordsOf = (surveyed: Survey, owner: ClientOwner): readonly string[] =>
  surveyed.legacyCounts
    ? legacyTopsOf(surveyed)
        .map((top) => `${top}/${legacyNameOf(owner)}`)
        .filter((path) => hasLegacyRecord(path, surveyed.state.anywhere))
    : []

/**
 * Who may reclaim by such a directory alone, as 32 hex digits. Where there are any, every record is read: a client that
 * came back keeps its directory until grace is over.
 */
export function legacyClients(surveyed: Survey): readonly string[] {
  if (!surveyed.legacyCounts || surveyed.allVoid) return []
  const names = new Set(legacyTopsOf(surveyed).flatMap((top) => legacyRecordsIn(top, surveyed.state.anywhere)))
  if (names.size > 0)
    for (const client of clientsIn(surveyed)) if (mayReclaim(client)) names.delete(legacyNameOf(client.owner))
  return [...names].sort()
}
