/** Who may reclaim when this server starts the next time, if nothing else happens before: what moves to others. */
import { mayReclaim, walk, type Walk } from './recorded-clients.ts'
import type { Where } from './survey.ts'

export function reclaimableAtNextStart(where: Where): Walk {
  const walked = walk(where, mayReclaim)
  return walked.surveyed.untracked ? { ...walked, clients: [] } : walked
}
