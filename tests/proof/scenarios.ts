/**
 * Every upcall in every state that matters, as events of the protocol. One table for all techniques: kills, power cuts,
 * failing calls, delays, and the comparison with nfsdcltrack.
 */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { blank, judge, remember, type Event, type Memory, type Owner, type Session } from '../life/oracle.ts'
import type { Environment, Machine } from '../support/artefacts.ts'
export { remember } from '../life/oracle.ts'

const owner = (name: string): Owner => Buffer.from(name).toString('hex')
export const [ann, bob, cal, dan] = ['ann', 'bob', 'cal', 'dan'].map(owner) as [Owner, Owner, Owner, Owner]
/** The longest possible owner: its name is a digest, and its record holds the owner. */
export const long: Owner = owner('L'.repeat(1024))

export const start = (bootTime: string): Event => ({ event: 'start', bootTime })
export const graceDone = (bootTime: string): Event => ({ event: 'grace done', bootTime })
export const create = (who: Owner, session: Session): Event => ({ event: 'create', owner: who, session })
export const check = (who: Owner, session: Session): Event => ({ event: 'check', owner: who, session })
export const remove = (who: Owner): Event => ({ event: 'remove', owner: who })
export const expire = (who: Owner): Event => ({ event: 'expire', owner: who })
export const allow = (who: Owner): Event => ({ event: 'allow', owner: who })
export const prune: Event = { event: 'prune' }
export const legacy = (who: Owner): Event => ({ event: 'legacy', owner: who })

export interface Scenario {
  readonly name: string
  readonly before: readonly Event[]
  /** One upcall for most; several if the second relies on what the first promised. */
  readonly act: readonly Event[]
  /** What the kernel's `v4_end_grace` reads during the act; undefined: there is no such file. */
  readonly grace?: 'running' | 'over'
  /** Its first upcall is killed before its barrier, when others have seen what it did: that must not be lost then. */
  readonly unfinished?: true
}

/** A full instance with these clients, then a restart: in grace. */
const restartWith = (...clients: readonly Event[]): Event[] => [
  start('1000'),
  ...clients,
  graceDone('1000'),
  start('2000'),
]
const three = [create(ann, 'Y'), create(bob, 'N'), create(cal, 'Y')]

export const scenarios: readonly Scenario[] = [
  { name: 'the first start', before: [], act: [start('1000')] },
  { name: 'start after a full instance', before: [start('1000'), ...three, graceDone('1000')], act: [start('2000')] },
  {
    name: 'start after a crash in grace',
    before: [...restartWith(...three), create(ann, 'Y'), check(bob, 'N')],
    act: [start('3000')],
  },
  {
    name: 'start after two crashes in grace',
    before: [...restartWith(...three), create(ann, 'Y'), start('3000'), create(bob, 'N')],
    act: [start('4000')],
  },
  { name: 'start a second time in a row', before: restartWith(...three), act: [start('2000')] },
  { name: 'create, new, in the first grace', before: [start('1000')], act: [create(ann, 'Y')] },
  { name: 'create without a session, new, in the first grace', before: [start('1000')], act: [create(ann, 'N')] },
  {
    name: 'create, new, out of grace',
    before: [start('1000'), create(ann, 'Y'), graceDone('1000')],
    act: [create(bob, 'Y')],
  },
  { name: 'create, new, in grace', before: restartWith(...three), act: [create(dan, 'Y')] },
  { name: 'create without a session, new, in grace', before: restartWith(...three), act: [create(dan, 'N')] },
  { name: 'create of the longest owner', before: restartWith(...three), act: [create(long, 'Y')] },
  { name: 'create again', before: [start('1000'), create(ann, 'Y'), graceDone('1000')], act: [create(ann, 'Y')] },
  {
    name: 'create again, now with a session',
    before: [start('1000'), create(ann, 'N'), graceDone('1000')],
    act: [create(ann, 'Y')],
  },
  { name: 'create, reclaiming', before: restartWith(...three), act: [create(ann, 'Y')] },
  { name: 'create, reclaiming, now with a session', before: restartWith(...three), act: [create(bob, 'Y')] },
  {
    name: 'create, reclaiming from a partial instance',
    before: [...restartWith(...three), create(ann, 'Y'), start('3000')],
    act: [create(ann, 'Y')],
  },
  {
    name: 'create, the last to reclaim: grace ends early',
    before: restartWith(create(ann, 'Y')),
    act: [create(ann, 'Y')],
    grace: 'running',
  },
  { name: 'check of a v4.0 client, promoting', before: restartWith(...three), act: [check(bob, 'N')] },
  {
    name: 'check of a v4.0 client, again',
    before: [...restartWith(...three), check(bob, 'N')],
    act: [check(bob, 'N')],
  },
  {
    name: 'check of a v4.0 client out of grace',
    before: [start('1000'), ...three, graceDone('1000')],
    act: [check(bob, 'N')],
  },
  { name: 'check of a v4.1 client', before: restartWith(...three), act: [check(ann, 'Y')] },
  { name: 'check of a stranger', before: restartWith(...three), act: [check(dan, 'N')] },
  { name: 'remove out of grace', before: [start('1000'), ...three, graceDone('1000')], act: [remove(ann)] },
  { name: 'remove in grace, not reclaimed', before: restartWith(...three), act: [remove(ann)] },
  { name: 'remove in grace, reclaimed', before: [...restartWith(...three), create(ann, 'Y')], act: [remove(ann)] },
  {
    name: 'remove in grace, a v4.0 client that reclaimed',
    before: [...restartWith(...three), check(bob, 'N')],
    act: [remove(bob)],
  },
  {
    name: 'start after a crash in the first grace',
    before: [start('1000'), create(ann, 'Y'), create(bob, 'N')],
    act: [start('2000')],
  },
  {
    name: 'create, reclaiming from a first instance that never was full',
    before: [start('1000'), create(ann, 'Y'), create(bob, 'N'), start('2000')],
    act: [create(ann, 'Y')],
  },
  {
    name: 'grace done, the first after a crash',
    before: [start('1000'), create(ann, 'Y'), create(bob, 'N'), start('2000'), create(ann, 'Y')],
    act: [graceDone('2000')],
  },
  {
    name: 'check of a legacy client of v4.1',
    before: [legacy(ann), legacy(bob), start('1000')],
    act: [check(ann, 'Y')],
  },
  {
    name: 'check of a legacy client of v4.0',
    before: [legacy(ann), legacy(bob), start('1000')],
    act: [check(bob, 'N')],
  },
  { name: 'remove of a legacy client', before: [legacy(ann), legacy(bob), start('1000')], act: [remove(ann)] },
  {
    name: 'grace done, with legacy clients',
    before: [legacy(ann), legacy(bob), start('1000'), check(ann, 'Y'), check(bob, 'N')],
    act: [graceDone('1000')],
  },
  {
    name: 'start after a crash in grace, with legacy clients',
    before: [legacy(ann), legacy(bob), start('1000'), check(ann, 'Y'), check(bob, 'N')],
    act: [start('2000')],
  },
  {
    name: 'grace done, the first',
    before: [start('1000'), create(ann, 'Y'), create(bob, 'N')],
    act: [graceDone('1000')],
  },
  {
    name: 'grace done, some reclaimed',
    before: [...restartWith(...three), create(ann, 'Y')],
    act: [graceDone('2000')],
  },
  {
    name: 'grace done after a crash in grace',
    before: [...restartWith(...three), create(ann, 'Y'), start('3000'), check(bob, 'N')],
    act: [graceDone('3000')],
  },
  {
    name: 'grace done again',
    before: [...restartWith(...three), create(ann, 'Y'), graceDone('2000')],
    act: [graceDone('2000')],
  },
  {
    name: 'grace over in the kernel and nobody told us: check',
    before: [...restartWith(...three), create(ann, 'Y')],
    act: [check(ann, 'N')],
    grace: 'over',
  },
  {
    name: 'grace over in the kernel and nobody told us: create',
    before: [...restartWith(...three), create(ann, 'Y')],
    act: [create(dan, 'Y')],
    grace: 'over',
  },
  {
    name: 'grace over in the kernel and nobody told us: remove',
    before: [...restartWith(...three), create(ann, 'Y')],
    act: [remove(ann)],
    grace: 'over',
  },
]

/** A trace does not have clients that were recorded by other means than an upcall. */
export const isTraced = ({ before }: Scenario): boolean => !before.some(({ event }) => event === 'legacy')

/** One of each kind, where it does most: what a pull request waits for. */
const essential = [
  'the first start',
  'start after a crash in grace',
  'create, new, out of grace',
  'create, reclaiming',
  'create again, now with a session',
  'create of the longest owner',
  'check of a v4.0 client, promoting',
  'remove out of grace',
  'remove in grace, reclaimed',
  'grace done, some reclaimed',
  'start after a crash in the first grace',
  'grace done, with legacy clients',
]
export const isEssential = ({ name }: Scenario): boolean => essential.includes(name)

/** One upcall's promise depends on another's: for power cuts, which may undo what was never synced. */
export const sequences: readonly Scenario[] = [
  {
    name: 'check of a v4.0 client, then grace done',
    before: restartWith(...three),
    act: [check(bob, 'N'), graceDone('2000')],
  },
  {
    name: 'grace done because of a create that had no time for its barrier',
    before: restartWith(create(ann, 'Y')),
    act: [create(ann, 'Y'), graceDone('2000')],
    unfinished: true,
  },
  {
    name: 'create reclaiming, grace done, start',
    before: restartWith(...three),
    act: [create(ann, 'Y'), graceDone('2000'), start('3000')],
  },
  {
    name: 'check of a v4.0 client, remove, start',
    before: restartWith(...three),
    act: [check(bob, 'N'), remove(bob), start('3000')],
  },
  {
    name: 'remove, then create again',
    before: [start('1000'), ...three, graceDone('1000')],
    act: [remove(ann), create(ann, 'Y')],
  },
  {
    name: 'remove in grace, then grace done',
    before: [...restartWith(...three), create(ann, 'Y')],
    act: [remove(ann), graceDone('2000')],
  },
  {
    name: 'start, create, grace done, start: the first life',
    before: [],
    act: [start('1000'), create(ann, 'Y'), graceDone('1000'), start('2000')],
  },
  {
    name: 'reclaiming twice, over two crashes in grace',
    before: restartWith(...three),
    act: [check(bob, 'N'), start('3000'), check(bob, 'N'), remove(bob)],
  },
]

/** What the rule makes of events, one after the other. */
export function memoryAfter(events: readonly Event[], from: Memory = blank(), grace?: Scenario['grace']): Memory {
  const memory = remember(from)
  for (const event of events) judge(memory, event, { graceOver: grace === 'over' })
  return memory
}

/**
 * What may be remembered when an upcall of a scenario ended without 0: what was before, what is after, or a step
 * between.
 */
export function eitherWay({ grace }: Scenario, before: Memory, event: Event): Memory[] {
  // An end of grace that nobody told us is made up for first; before the barrier either may be on the disk alone.
  const healed =
    grace === 'over'
      ? [memoryAfter([{ event: 'grace done', bootTime: undefined }], before), memoryAfter([event], before)]
      : []
  return [before, ...healed, memoryAfter([event], before, grace)]
}

/** The clients of a scenario, and one that it does not know. */
export function clientsOf({ before, act }: Scenario): Owner[] {
  const named = [...before, ...act].flatMap((event) => ('owner' in event ? [event.owner] : []))
  return [...new Set([...named, dan])]
}

export interface Upcall {
  readonly words: readonly string[]
  readonly env: Environment
}

const legacyTop = ({ stateDir }: Machine): string => join(stateDir, 'v4recovery')
/** The directory in which the kernel's own tracker has a client. */
export const legacyRecord = (machine: Machine, owner: Owner): string =>
  join(legacyTop(machine), createHash('md5').update(Buffer.from(owner, 'hex')).digest('hex'))

/** An event, and what the kernel calls the instance in which it happens. */
export interface Happening {
  readonly event: Event
  readonly bootTime: string | undefined
}

/**
 * An event as the kernel spells it, or a person. `bootTime`: what the kernel calls the instance, which every create
 * repeats. `machine`: where the kernel's own tracker would have what it has.
 */
export function upcallFor(event: Event, bootTime?: string, machine?: Machine): Upcall {
  const graceStart: Environment = bootTime === undefined ? {} : { NFSDCLTRACK_GRACE_START: bootTime }
  const session = (given: Session): Environment =>
    given === undefined ? {} : { NFSDCLTRACK_CLIENT_HAS_SESSION: given }
  switch (event.event) {
    case 'start':
    case 'failed start':
      return { words: ['init'], env: event.bootTime === undefined ? {} : { NFSDCLTRACK_GRACE_START: event.bootTime } }
    case 'create':
      return { words: ['create', event.owner], env: { ...session(event.session), ...graceStart } }
    case 'check':
      return {
        words: ['check', event.owner],
        env: {
          ...session(event.session),
          ...(machine === undefined ? {} : { NFSDCLTRACK_LEGACY_RECDIR: legacyRecord(machine, event.owner) }),
        },
      }
    case 'remove':
      return { words: ['remove', event.owner], env: {} }
    case 'grace done':
      return event.bootTime === undefined
        ? { words: ['grace_done'], env: {} }
        : {
            words: ['gracedone', event.bootTime],
            env: machine === undefined ? {} : { NFSDCLTRACK_LEGACY_TOPDIR: legacyTop(machine) },
          }
    case 'expire':
    case 'allow':
      return { words: [event.event, '--yes', `\\x${event.owner}`], env: {} }
    case 'prune':
      return { words: ['prune', '--yes', '--unseen', '1'], env: {} }
    case 'legacy':
    case 'import':
    case 'not done':
    case 'end not recorded':
      throw new Error(`${event.event} is no call of the program with words alone`)
    default:
      return event satisfies never
  }
}

/** What the kernel calls the instance in which the last of these events happens. */
export const bootTimeAt = (events: readonly Event[]): string | undefined =>
  events.findLast((event) => event.event === 'start')?.bootTime
