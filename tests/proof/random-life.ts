/** A random life of a server: what happens next, after everything that the memory contains. */
import type { Event, Memory, Owner } from '../life/oracle.ts'
import { check, create, graceDone, remove, start } from './scenarios.ts'

export interface RandomLife {
  readonly next: (memory: Memory) => Event
  readonly start: () => Event
}

/** Starts have numbers from 1001 on. The first event is a start, because the memory is blank. */
export function randomLife(dice: () => number, clients: readonly Owner[]): RandomLife {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(dice() * list.length)] as T
  let boots = 1000
  const starts = (): Event => start(String(++boots))
  return {
    start: starts,
    next: ({ bootTime, full }) => {
      if (bootTime === undefined || dice() < 0.08) return starts()
      if (!full && dice() < 0.12) return graceDone(bootTime)
      const owner = pick(clients)
      return pick([create(owner, 'Y'), create(owner, 'N'), check(owner, 'N'), remove(owner)])
    },
  }
}
