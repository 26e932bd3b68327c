/** Who may reclaim when this server starts the next time, if nothing else happens before: what moves to others. */
import { mayReclaim, walk, type Walk } from './recorded-clients.ts'
import type { Where } from './survey.ts'

export const reclaimableAtNextStart = (where: Where): Walk => walk(where, mayReclaim)
