/** The end of grace, found by an upcall that is about something else: most often there is nothing to do (see grace-end.ts). */
import type { Recorded } from '../store/layout.ts'
import { followUp, sweep } from './grace-end.ts'
import { settled, type Settlement, type World } from './world.ts'

/** What any upcall owes that finds grace over, when nobody has made sure that its end is on the disk. */
export function unconfirmedGraceEnd(world: World, { instance, marks }: Recorded): Settlement {
  if (instance.kind !== 'full' || !marks(instance.start, 'unconfirmed')) return settled
  return {
    sync: [world.state.clients()],
    then: () => {
      followUp(world, instance.start)
      sweep(world)
    },
  }
}
