/**
 * Upcalls that ran at once: is there an order of them, which respects what was over before what began, in which the
 * rule gives every status that was given?
 *
 * Clients do not know of each other, so each is judged alone, together with the starts and ends of grace that all
 * share.
 */
import { blank, judge, remember, type Event, type Memory, type Owner } from '../life/oracle.ts'

export interface Run {
  readonly event: Event
  /** On one clock for all. */
  readonly began: number
  readonly ended: number
  /** undefined: killed, so it may have happened or not. */
  readonly status: number | string | undefined
}

const key = ({
  everFull,
  full,
  bootTime,
  reclaimable,
  active,
  legacy,
  untracked,
  doubtful,
  endLacks,
}: Memory): string =>
  JSON.stringify([everFull, full, bootTime, [...reclaimable], [...active], [...legacy], untracked, doubtful, endLacks])

/** What is known of one client before it all began. */
const about = (memory: Memory, owner: Owner): Memory => ({
  ...remember(memory),
  reclaimable: new Set([...memory.reclaimable].filter((each) => each === owner)),
  active: new Map([...memory.active].filter(([each]) => each === owner)),
})

/** Whether the runs that concern an owner have such an order. `from`: what was remembered before. */
export function hasOrder(runs: readonly Run[], owner: Owner, from: Memory = blank()): boolean {
  const concerned = runs.filter(({ event }) => !('owner' in event) || event.owner === owner)
  const seen = new Set<string>()
  const search = (done: ReadonlySet<number>, memory: Memory): boolean => {
    if (done.size === concerned.length) return true
    const here = `${[...done].sort((a, b) => a - b).join(',')} ${key(memory)}`
    if (seen.has(here)) return false
    seen.add(here)
    const open = [...concerned.keys()].filter((at) => !done.has(at))
    // Whatever is next must not have begun after another was over.
    const firstEnd = Math.min(...open.map((at) => concerned[at]?.ended ?? Infinity))
    for (const at of open) {
      const run = concerned[at]
      if (run === undefined || run.began > firstEnd) continue
      const later = remember(memory)
      const { statuses } = judge(later, run.event, false)
      const with_ = new Set([...done, at])
      if (run.status === undefined) {
        if (search(with_, later) || search(with_, memory)) return true
      } else if (typeof run.status === 'number' && statuses.includes(run.status) && search(with_, later)) return true
    }
    return false
  }
  return search(new Set(), about(from, owner))
}
