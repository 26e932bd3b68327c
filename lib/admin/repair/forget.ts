/**
 * Clients that may not reclaim any more. What the upcall `remove` does (lib/transitions/client.ts, forgetClient), for several
 * at once: taken out of every instance, the oldest first, then every directory that may bring one back is synced. Dropping
 * is right in every state, so it needs not know whether grace is over; killed in between, some are gone and some are not.
 */
import * as disk from '../../stable/disk.ts'
import type { Directory } from '../../stable/disk.ts'
import { lookAt } from '../../stable/state-directory.ts'
import { forgetClient } from '../../transitions/client.ts'
import type { World } from '../../transitions/world.ts'
import type { ClientOwner } from '../../upcall/owner.ts'
import { holding } from '../hold.ts'

/** When it returns, none of them may reclaim, and a power cut does not change that. */
export function forgetAll(world: World, owners: readonly ClientOwner[], shown: (done: number) => void): void {
  const synced = new Set<Directory>()
  const then: (() => void)[] = []
  holding(world.state, () => {
    const recorded = lookAt(world.state)
    for (const [at, owner] of owners.entries()) {
      const settlement = forgetClient(world, recorded, owner)
      for (const directory of settlement.sync) if (directory !== undefined) synced.add(directory)
      if (settlement.then !== undefined) then.push(settlement.then)
      shown(at + 1)
    }
  })
  for (const directory of synced) disk.sync(directory)
  for (const work of then) work()
}
