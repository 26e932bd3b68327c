/**
 * Clients that only the kernel's own tracker has recorded (lib/store/v4recovery.ts). Only the MD5 of their owners is
 * known, so they are not records. They are shown beside the records, by that MD5.
 */
import { hasLegacyRecord, legacyNameOf, legacyRecordsIn, legacyTopIn, usualTop } from '../../store/v4recovery.ts'
import type { ClientOwner } from '../../upcall/owner.ts'
import { clientsIn, mayReclaim } from './recorded-clients.ts'
import type { Survey } from './survey.ts'

/** Where such clients are looked for: the directories from which `remove` takes them out. */
export const legacyTopsOf = ({ state }: Pick<Survey, 'state'>): readonly string[] => [
  ...new Set([legacyTopIn(state.path), usualTop]),
]

/**
 * A client's directories, while they count. This includes those after an untracked instance, because its mark may turn
 * out to be that of a start that was asked for twice (docs/protocol.md).
 */
export const legacyRecordsOf = (surveyed: Survey, owner: ClientOwner): readonly string[] =>
  surveyed.legacyCounts
    ? legacyTopsOf(surveyed)
        .map((top) => `${top}/${legacyNameOf(owner)}`)
        .filter((path) => hasLegacyRecord(path, surveyed.state.anywhere))
    : []

/**
 * The clients that may reclaim only because of such a directory, as 32 hex digits. If there are any, every record is
 * read, because a client that came back keeps its directory until grace is over.
 */
export function legacyClients(surveyed: Survey): readonly string[] {
  if (!surveyed.legacyCounts || surveyed.allVoid) return []
  const names = new Set(legacyTopsOf(surveyed).flatMap((top) => legacyRecordsIn(top, surveyed.state.anywhere)))
  if (names.size > 0)
    for (const client of clientsIn(surveyed)) if (mayReclaim(client)) names.delete(legacyNameOf(client.owner))
  return [...names].sort()
}
