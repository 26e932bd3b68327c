/**
 * The clients that may reclaim after the next start of this server, if nothing else happens before. These are moved to
 * other trackers.
 */
import { mayReclaimLater, walk, type Walk } from './recorded-clients.ts'
import type { Where } from './survey.ts'

export function reclaimableAtNextStart(where: Where): Walk {
  const walked = walk(where, mayReclaimLater)
  return walked.surveyed.untracked ? { ...walked, clients: [] } : walked
}
