/**
 * What a state directory means: who may reclaim, in every future that the rule tells apart. Here it is computed by the
 * rule (tests/life/oracle.ts). Whatever the helper did is right if and only if its own answers agree.
 *
 *   now        each client's check, as the server stands
 *   restart    the same after a start
 *   graceDone  the same after the end of grace and a start
 *   nextLife   after that start: one client reclaims, one is new, grace ends, the server restarts: exactly these two
 */
import { judge, type Event, type Memory, type Owner } from '../life/oracle.ts'
import { check, remember, start } from './scenarios.ts'

/** Owners that may reclaim, joined: easy to compare, easy to read. */
export interface Futures {
  readonly now: string
  readonly restart: string
  readonly graceDone: string
  /** undefined: not asked. */
  readonly nextLife: string | undefined
}

export interface Observed extends Futures {
  /** Unexpected events on the way: a wrong status, or an upcall that took too long. */
  readonly trouble: readonly string[]
}

export const stranger: Owner = Buffer.from('zoe').toString('hex')

export const readable = (owners: readonly Owner[]): string =>
  owners.map((owner) => Buffer.from(owner, 'hex').toString('latin1').slice(0, 8)).join(' ')

/** What the rule says. */
export function futuresByRule(memory: Memory, clients: readonly Owner[]): Futures {
  const checks = (of: Memory): string =>
    readable(clients.filter((owner) => judge(remember(of), check(owner, 'Y')).statuses.includes(0)))
  const after = (...events: readonly Event[]): Memory => {
    const later = remember(memory)
    for (const event of events) judge(later, event)
    return later
  }
  const lone: Event = { event: 'grace done', bootTime: undefined }
  return {
    now: checks(memory),
    restart: checks(after(start('9000'))),
    graceDone: checks(after(lone, start('9000'))),
    nextLife: readable([...new Set([clients[0] ?? stranger, stranger])]),
  }
}

const asked = { kill: ['now', 'restart', 'graceDone', 'nextLife'], 'power cut': ['restart', 'nextLife'] } as const
const when = {
  now: 'now',
  restart: 'after a restart',
  graceDone: 'after the end of grace and a restart',
  nextLife: "after the next instance's end",
} as const

/** In one clause, why an observation agrees with none of the allowed memories; undefined if it agrees with one. */
export function disagreement(
  observed: Observed,
  allowed: readonly Futures[],
  after: 'kill' | 'power cut',
): string | undefined {
  if (observed.trouble.length > 0) return observed.trouble.join('; ')
  const agrees = (future: keyof Futures, { [future]: right }: Futures): boolean =>
    observed[future] === undefined || observed[future] === right
  if (allowed.some((futures) => asked[after].every((future) => agrees(future, futures)))) return undefined
  const nobody = (owners: string | undefined): string => (owners === undefined || owners === '' ? 'nobody' : owners)
  // Each future by itself may agree with a different memory. Then their combination is wrong.
  const wrong = asked[after].find((future) => !allowed.some((futures) => agrees(future, futures)))
  const show = (futures: Futures): string =>
    (wrong === undefined ? asked[after] : [wrong])
      .map((future) => `${nobody(futures[future])}${wrong === undefined ? ` ${when[future]}` : ''}`)
      .join(', ')
  return `${wrong === undefined ? '' : `${when[wrong]}, `}may reclaim: ${show(observed)}; by the rule: ${[...new Set(allowed.map(show))].join(', or ')}`
}
