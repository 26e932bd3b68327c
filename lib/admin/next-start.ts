/** Who may reclaim when this server starts the next time, if nothing else happens before: what moves to others. */
import { mayReclaim, type Client, type Survey } from './survey.ts'

/**
 * Records of a first instance that never got through its grace count now, but at no later start: without a full instance
 * nothing tells that no conflicting lock was granted before (lib/recovery/instance.ts).
 */
export function reclaimableAtNextStart({ instance, clients }: Survey): readonly Client[] {
  const counts = instance.kind === 'full' || (instance.kind === 'partial' && instance.full !== undefined)
  return counts ? clients.filter(mayReclaim) : []
}
