/**
 * Upcalls that ran at once: is there an order of them in which the rule gives exactly the statuses that were given? The
 * order must respect what had ended before something else began.
 *
 * Clients do not know of each other. So each is judged alone, together with the starts and ends of grace, which all
 * share.
 */
import { blank, judge, remember, type Event, type Memory, type Owner } from '../life/oracle.ts'
import { futuresByRule, type Futures } from './futures.ts'
import type { Scenario } from './scenarios.ts'

export interface Run {
  readonly event: Event
  /** All by one clock. */
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
  endIsUnrecorded,
}: Memory): string =>
  JSON.stringify([
    everFull,
    full,
    bootTime,
    [...reclaimable],
    [...active],
    [...legacy],
    untracked,
    doubtful,
    endIsUnrecorded,
  ])

/** What is known of one client before all this began. */
const about = (memory: Memory, owner: Owner): Memory => ({
  ...remember(memory),
  reclaimable: new Set([...memory.reclaimable].filter((each) => each === owner)),
  active: new Map([...memory.active].filter(([each]) => each === owner)),
})

/** Whether the runs that concern an owner have such an order. `from`: the memory before. */
export function hasOrder(runs: readonly Run[], owner: Owner, from: Memory = blank()): boolean {
  const concerned = runs.filter(({ event }) => !('owner' in event) || event.owner === owner)
  const seen = new Set<string>()
  const search = (done: ReadonlySet<number>, memory: Memory): boolean => {
    if (done.size === concerned.length) return true
    const here = `${[...done].sort((a, b) => a - b).join(',')} ${key(memory)}`
    if (seen.has(here)) return false
    seen.add(here)
    const open = [...concerned.keys()].filter((at) => !done.has(at))
    // The next one must not have begun after another had ended.
    const firstEnd = Math.min(...open.map((at) => concerned[at]?.ended ?? Infinity))
    for (const at of open) {
      const run = concerned[at]
      if (run === undefined || run.began > firstEnd) continue
      const later = remember(memory)
      const { statuses } = judge(later, run.event)
      const with_ = new Set([...done, at])
      if (run.status === undefined) {
        if (search(with_, later) || search(with_, memory)) return true
      } else if (typeof run.status === 'number' && statuses.includes(run.status) && search(with_, later)) return true
    }
    return false
  }
  return search(new Set(), about(from, owner))
}

/**
 * The possible outcomes of two upcalls, by the rule: the first one's statuses, the other's, and what holds afterwards.
 */
export interface Outcome {
  readonly first: readonly number[]
  readonly other: readonly number[]
  readonly futures: Futures
}

/** What the kernel's file reads for an event: it is the new server's from the moment at which it starts. */
export const graceFor = ({ event }: Event, grace: Scenario['grace']): Scenario['grace'] =>
  event === 'start' && grace !== undefined ? 'running' : grace

export interface InTurn {
  readonly statuses: readonly (readonly number[])[]
  readonly memory: Memory
}

/** What the rule makes of events one after the other, whatever the kernel does about its grace in between. */
export function inTurn(
  memory: Memory,
  grace: Scenario['grace'],
  events: readonly Event[],
  statuses: InTurn['statuses'] = [],
  by: typeof judge = judge,
): InTurn[] {
  const [event, ...rest] = events
  if (event === undefined) return [{ statuses, memory }]
  const reads = graceFor(event, grace)
  const later = remember(memory)
  const verdict = by(later, event, { graceOver: reads === 'over' })
  const mayBeAsked = reads === 'running' && verdict.endGrace !== 'must not'
  return [reads, ...(mayBeAsked ? ['over' as const] : [])].flatMap((next) =>
    inTurn(later, next, rest, [...statuses, verdict.statuses], by),
  )
}

/**
 * Two upcalls at once: what comes of one order, and of the other.
 * @param grace what the kernel's `v4_end_grace` reads when the first one begins.
 * @param clients whose futures are asked about.
 */
export function outcomesOf(
  memory: Memory,
  grace: Scenario['grace'],
  { first, other, clients }: { readonly first: Event; readonly other: Event; readonly clients: readonly Owner[] },
): Outcome[] {
  const reads = graceFor(first, grace)
  const firstThenOther = (from: Memory, now: Scenario['grace']): Outcome[] =>
    inTurn(from, now, [first, other]).map(({ statuses: [a = [], b = []], memory: after }) => ({
      first: a,
      other: b,
      futures: futuresByRule(after, clients),
    }))
  const otherThenFirst = (from: Memory, now: Scenario['grace']): Outcome[] =>
    inTurn(from, now, [other, first]).map(({ statuses: [b = [], a = []], memory: after }) => ({
      first: a,
      other: b,
      futures: futuresByRule(after, clients),
    }))
  const inOrder = [...firstThenOther(memory, reads), ...otherThenFirst(memory, reads)]
  if (other.event !== 'start' || reads !== 'over') return inOrder
  // A server whose grace is over, and has not been heard to be, is gone when another one starts. The first upcall has
  // looked at the kernel's file after that; or before it, and has ended that grace, and then belongs to the new server.
  const ended = remember(memory)
  judge(ended, { event: 'grace done', bootTime: undefined })
  return [...inOrder, ...firstThenOther(memory, 'running'), ...otherThenFirst(ended, 'running')]
}
