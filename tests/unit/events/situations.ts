/**
 * The states in which two upcalls may meet: what has happened on a machine in memory, and what the kernel may ask then.
 */
import assert from 'node:assert/strict'
import { errno } from '../../../lib/syscalls/errno.ts'
import { blank, judge, storageFailed, type Event, type Memory, type Owner, type Verdict } from '../../life/oracle.ts'
import {
  ann,
  bob,
  cal,
  check,
  create,
  dan,
  graceDone,
  legacy,
  legacyRecord,
  memoryAfter,
  remove,
  start,
} from '../../proof/scenarios.ts'
import type { Tree } from '../../proof/trees.ts'
import type { Made } from '../../support/memory/files.ts'
import { machineWith, runDirectory, stateDirectory, Stopped, type Machine } from '../../support/memory/machine.ts'
import { places, play } from './states.ts'

/** What the kernel's `v4_end_grace` reads. */
export type Grace = 'running' | 'over'

export interface Situation {
  readonly name: string
  readonly before: readonly Event[]
  /** An upcall that is then killed, and at which call. `counts`: what it means by the rule. */
  readonly killed?: { readonly event: Event; readonly at: (made: Made) => boolean; readonly counts: Event }
  /** An upcall that then fails on the disk, and at which call; and what happens after that. */
  readonly refused?: {
    readonly event: Event
    readonly at: (made: Made) => boolean
    readonly counts: Event
    readonly then: readonly Event[]
  }
  /** How the state directory is then changed, and what that means by the rule. */
  readonly recast?: { readonly as: (tree: Tree) => Tree; readonly counts: readonly Event[] }
  /** The contents of the state directory, instead of what the program would have made. */
  readonly planted?: Tree
  /** Undefined: the kernel has no such file. */
  readonly grace?: Grace
  readonly upcalls: readonly Event[]
  /**
   * A start meets no other upcall, as a kernel asks. Here a start records two facts: that the instance before is full,
   * and its own instance. What comes between them may be taken for the former's. Or it completes what another upcall
   * has begun that was killed, and so may take out what a third one promises meanwhile.
   */
  readonly startsAlone?: true
  /** The rule, if it is not the oracle's alone. */
  readonly rule?: { readonly memory: Memory; readonly judge: typeof judge }
}

const graceEnds: Event = { event: 'grace done', bootTime: undefined }

const restartWith = (...them: readonly Event[]): Event[] => [start('1000'), ...them, graceDone('1000'), start('2000')]
const three = [create(ann, 'Y'), create(bob, 'N'), create(cal, 'Y')]
const inGrace = restartWith(...three)
const byLegacy = [legacy(ann), legacy(bob), start('1000')]

const ofClients = [
  create(ann, 'Y'),
  create(bob, 'N'),
  create(dan, 'Y'),
  check(ann, 'Y'),
  check(bob, 'N'),
  remove(ann),
  remove(bob),
]
/** All that a kernel may ask in an instance. */
const anything = (bootTime: string): Event[] => [
  ...ofClients,
  start('3000'),
  graceDone(bootTime),
  graceDone('7'),
  graceEnds,
]

const beforeItsBarrier = ({ name, paths: [path = ''] }: Made): boolean =>
  name === 'fsync' && path.endsWith('/v4clients')

const itsOwnBarrier = ({ name, paths: [path = ''] }: Made): boolean =>
  name === 'fsync' && /\/v4clients\/[0-9]+$/.test(path)

const removing =
  (name: string) =>
  (made: Made): boolean =>
    made.name === 'unlinkat' && made.paths.some((path) => path.startsWith('/var/') && path.endsWith(`/${name}`))

/** As release 0.1.0 left it: `partial` stays until the end of grace is durable (lib/store/format1.ts). */
function asFormat1(tree: Tree): Tree {
  const old = new Map([...tree].filter(([path]) => !/boot_time$|\/format-2$|\.(?:full|unconfirmed)$/.test(path)))
  const startsWith = (mark: string): number[] =>
    [...tree.keys()].flatMap((path) => {
      const [, start] = new RegExp(`/([0-9]+)\\.${mark}$`).exec(path) ?? []
      return start === undefined ? [] : [Number(start)]
    })
  const [full, partial] = [Math.max(...startsWith('full')), Math.max(...startsWith('partial'))]
  const file = (start: number) => ({ kind: 'file', bytes: `${start}\n` }) as const
  if (full > 0) old.set('boot_time', file(full))
  if (partial > full) old.set('new_boot_time', file(partial))
  if (full > partial && startsWith('unconfirmed').includes(full)) old.set(`v4clients/${full}.partial`, link('-'))
  return old
}

/** The client's record in the latest instance that has one can't be understood. */
const spoilt =
  (who: string, where: 'its place' | 'a later place', by: 'link' | 'directory' = 'link') =>
  (tree: Tree): Tree => {
    const place = [...tree.keys()].filter((path) => path.endsWith(`/${who}`)).at(-1)
    const latest = [...tree.keys()].filter((path) => /^v4clients\/[0-9]+$/.test(path)).at(-1)
    assert.ok(place !== undefined && latest !== undefined)
    const wrong = where === 'its place' ? place : `${latest}/${who}`
    assert.ok(where === 'its place' || wrong !== place)
    return new Map([...tree, [wrong, by === 'link' ? link('nothing of ours') : directory]])
  }

/** Format 1, one of whose two files can't be understood: nobody may reclaim, neither before a start nor after it. */
const withoutTime = (tree: Tree): Tree =>
  new Map([...asFormat1(tree), ['new_boot_time', { kind: 'file', bytes: 'soon\n' } as const]])

/** The rule for an instance that can't be understood. */
const unknown = {
  memory: { ...blank(), started: true, everFull: true, full: true, doubtful: true, bootTime: 'unknown' },
  judge: (memory: Memory, event: Event, how?: { readonly graceOver?: boolean }): Verdict =>
    memory.bootTime === 'unknown' && (event.event === 'create' || event.event === 'grace done')
      ? { statuses: [storageFailed], because: 'nobody knows of which instance', endGrace: 'must not' }
      : judge(memory, event, how),
}

const directory = { kind: 'directory' } as const
const link = (target: string) => ({ kind: 'link', target }) as const

export const situations: readonly Situation[] = [
  { name: 'nothing is there', before: [], upcalls: [start('3000'), create(ann, 'Y'), create(dan, 'N')] },
  {
    name: 'in the first grace',
    before: [start('1000'), create(ann, 'Y'), create(bob, 'N')],
    upcalls: anything('1000'),
  },
  {
    name: 'in the first grace, after a crash in it',
    before: [start('1000'), create(ann, 'Y'), create(bob, 'N'), start('2000')],
    upcalls: anything('2000'),
  },
  { name: 'in grace', before: inGrace, upcalls: anything('2000') },
  {
    name: 'in grace, in which some have reclaimed',
    before: [...inGrace, create(ann, 'Y'), check(bob, 'N')],
    upcalls: anything('2000'),
  },
  {
    name: 'in grace, after a crash in it',
    before: [...inGrace, create(ann, 'Y'), start('2500')],
    upcalls: anything('2500'),
  },
  {
    name: 'in grace, which ends early',
    before: restartWith(create(ann, 'Y')),
    grace: 'running',
    upcalls: anything('2000'),
  },
  { name: 'grace is over, unheard', before: inGrace, grace: 'over', upcalls: anything('2000') },
  {
    name: 'out of grace',
    before: [start('1000'), ...three, graceDone('1000')],
    grace: 'over',
    upcalls: anything('1000'),
  },
  {
    name: 'out of grace, after an end that was killed',
    before: inGrace,
    killed: { event: graceDone('2000'), at: beforeItsBarrier, counts: graceEnds },
    upcalls: anything('2000'),
  },
  {
    name: 'in grace, after a start that was killed',
    before: inGrace,
    killed: { event: start('2500'), at: beforeItsBarrier, counts: { event: 'failed start', bootTime: '2500' } },
    upcalls: [start('2500'), start('3000')],
  },
  { name: 'before the first start, with legacy clients', before: [legacy(ann), legacy(bob)], upcalls: [start('3000')] },
  { name: 'in the first grace, with legacy clients', before: byLegacy, upcalls: anything('1000') },
  { name: 'grace is over, unheard, with legacy clients', before: byLegacy, grace: 'over', upcalls: anything('1000') },
  {
    name: 'out of grace, after an end that was killed, with legacy clients',
    before: [...byLegacy, create(ann, 'Y')],
    killed: { event: graceDone('1000'), at: beforeItsBarrier, counts: graceEnds },
    upcalls: anything('1000'),
  },
  {
    name: 'the state directory was wiped',
    before: [],
    planted: new Map([['', directory]]),
    grace: 'over',
    upcalls: anything('1000'),
  },
  {
    name: 'its records were wiped',
    before: [],
    planted: new Map<string, typeof directory | ReturnType<typeof link>>([
      ['', directory],
      ['v4clients', directory],
      ['v4clients/format-2', link('-')],
    ]),
    upcalls: anything('1000'),
  },
  {
    name: 'in format 1, in the first grace',
    before: [start('1000'), create(ann, 'Y'), create(bob, 'N')],
    recast: { as: asFormat1, counts: [] },
    upcalls: anything('1000'),
  },
  {
    name: 'in format 1, in grace after a crash in it',
    before: [...inGrace, create(ann, 'Y'), start('2500')],
    recast: { as: asFormat1, counts: [] },
    upcalls: anything('2500'),
  },
  {
    name: 'in format 1, grace is over, unheard',
    before: [...inGrace, create(ann, 'Y')],
    recast: { as: asFormat1, counts: [] },
    grace: 'over',
    upcalls: anything('2000'),
  },
  {
    name: 'in format 1, out of grace, after an end that was killed',
    before: [...inGrace, create(ann, 'Y')],
    killed: { event: graceDone('2000'), at: beforeItsBarrier, counts: graceEnds },
    recast: { as: asFormat1, counts: [] },
    upcalls: anything('2000'),
  },
  {
    name: 'in format 1, of which one file is damaged',
    startsAlone: true,
    before: inGrace,
    recast: { as: withoutTime, counts: [] },
    rule: unknown,
    upcalls: anything('2000'),
  },
  {
    name: 'in grace, with a damaged record',
    before: inGrace,
    recast: { as: spoilt('ann', 'its place'), counts: [remove(ann)] },
    upcalls: anything('2000'),
  },
  {
    name: 'in grace, with a damaged record in the place of a later one',
    before: inGrace,
    recast: { as: spoilt('bob', 'a later place'), counts: [remove(bob)] },
    upcalls: anything('2000'),
  },
  {
    name: 'in grace, with a directory in the place of a later record',
    before: inGrace,
    recast: { as: spoilt('bob', 'a later place', 'directory'), counts: [remove(bob)] },
    upcalls: anything('2000'),
  },
  {
    name: 'out of grace, with a damaged record',
    before: [start('1000'), ...three, graceDone('1000')],
    grace: 'over',
    recast: { as: spoilt('bob', 'its place'), counts: [remove(bob)] },
    upcalls: anything('1000'),
  },
  {
    name: 'in grace, after a remove that the storage refused',
    startsAlone: true,
    before: inGrace,
    refused: { event: remove(ann), at: removing('ann'), counts: { event: 'not done' }, then: [create(bob, 'N')] },
    upcalls: anything('2000'),
  },
  {
    name: 'in grace, after an instance that could not be recorded',
    before: inGrace,
    refused: {
      event: remove(ann),
      at: removing('ann'),
      counts: { event: 'not done' },
      then: [start('3000'), create(bob, 'N')],
    },
    upcalls: anything('3000'),
  },
  {
    name: 'grace is over, unheard, and that could not be recorded',
    startsAlone: true,
    before: inGrace,
    grace: 'over',
    refused: {
      event: create(ann, 'Y'),
      at: ({ name, paths }) => name === 'renameat' && paths.some((path) => path.endsWith('.full')),
      counts: { event: 'end not recorded' },
      then: [],
    },
    upcalls: anything('2000'),
  },
  {
    name: 'in grace, after a create that was killed',
    startsAlone: true,
    before: inGrace,
    // It counts as nothing: a check of such a client changes nothing.
    killed: { event: create(ann, 'Y'), at: itsOwnBarrier, counts: check(ann, 'Y') },
    upcalls: anything('2000'),
  },
  {
    name: 'in grace, after a remove that was killed',
    startsAlone: true,
    before: inGrace,
    killed: { event: remove(ann), at: removing('ann'), counts: remove(ann) },
    upcalls: anything('2000'),
  },
  {
    name: 'out of grace, after a create that was killed',
    startsAlone: true,
    before: [start('1000'), ...three, graceDone('1000')],
    grace: 'over',
    killed: { event: create(dan, 'Y'), at: itsOwnBarrier, counts: remove(dan) },
    upcalls: anything('1000'),
  },
  {
    name: 'out of grace, after a remove that was killed',
    startsAlone: true,
    before: [start('1000'), ...three, graceDone('1000')],
    grace: 'over',
    killed: { event: remove(ann), at: removing('ann'), counts: remove(ann) },
    upcalls: anything('1000'),
  },
]

/** A situation, once all of it has happened. */
export interface Begun {
  readonly memory: Memory
  readonly bootTime: string | undefined
  readonly grace: Grace | undefined
  readonly judge: typeof judge | undefined
  /** Whether the clients' futures are asked as after a kill or as after a power cut. */
  readonly asks: 'kill' | 'power cut'
  /** The client about which an upcall was killed. What it has noted is lost in a power cut. */
  readonly cutShort: Owner | undefined
  /** Puts it on a machine, and replaces what is there. */
  readonly putOn: (machine: Machine) => void
}

/** Whether every pair is tried (tests/proof/pairs-in-memory.test.ts), and not only a sample. */
export const everything = process.env['EVERY_PAIR'] !== undefined

/** Each upcall with each, and with itself; only a third of them in situations that differ little from another one. */
export const pairsIn = ({ upcalls, startsAlone, recast, refused }: Situation): (readonly [Event, Event])[] =>
  upcalls
    .flatMap((first) => upcalls.map((other) => [first, other] as const))
    .filter(([first, other]) => startsAlone === undefined || (first.event === 'start') === (other.event === 'start'))
    .filter((_, number) => everything || (recast === undefined && refused === undefined) || number % 3 === 0)

/** The pairs that no kernel makes, with a start that records two facts. */
export const besideTwoFacts = ({ upcalls, startsAlone, killed }: Situation): (readonly [Event, Event])[] =>
  startsAlone === undefined || killed !== undefined
    ? []
    : upcalls
        .filter(({ event }) => event !== 'start')
        .flatMap((other) => [[start('3000'), other] as const, [other, start('3000')] as const])

export function begun({ name, before, killed, refused, recast, planted, grace, rule }: Situation): Begun {
  const machine = machineWith(planted)
  const { files } = machine
  let bootTime: string | undefined
  const live = (event: Event): void => {
    if (event.event === 'start') bootTime = event.bootTime
    if (event.event === 'legacy') files.plant(new Map([['', directory]]), legacyRecord(places, event.owner))
    else assert.equal(play(machine, event, bootTime), 0, `${name}: ${machine.log.join('')}`)
  }
  for (const event of before) live(event)
  if (killed !== undefined) {
    files.hooks.before = (made) => {
      if (killed.at(made)) throw new Stopped()
      return undefined
    }
    assert.equal(play(machine, killed.event, bootTime), 'stopped', name)
  }
  if (refused !== undefined) {
    machine.kernel.grace = grace
    files.hooks.before = (made) => (refused.at(made) ? -errno.EIO : undefined)
    assert.equal(play(machine, refused.event, bootTime), storageFailed, name)
    files.hooks.before = () => undefined
    for (const event of refused.then) live(event)
  }
  const whole = files.tree(stateDirectory)
  const [tree, run] = [recast?.as(whole) ?? whole, files.tree(runDirectory)]
  const counts = [
    ...(killed === undefined ? [] : [killed.counts]),
    ...(refused === undefined ? [] : [refused.counts, ...refused.then]),
    ...(recast?.counts ?? []),
  ]
  // So that it is not the same second as what came before.
  const process = { id: files.process.id + 5000, now: files.process.now + 100_000, monotonic: 0 }
  return {
    memory: rule?.memory ?? memoryAfter([...before, ...counts]),
    bootTime,
    grace,
    judge: rule?.judge,
    asks: rule === undefined ? 'kill' : 'power cut',
    cutShort: killed !== undefined && 'owner' in killed.event ? killed.event.owner : undefined,
    putOn: (other) => {
      if (tree.size > 0) other.files.replace(stateDirectory, tree)
      else other.files.remove(stateDirectory)
      other.files.replace(runDirectory, run)
      Object.assign(other.files.process, process)
      Object.assign(other.kernel, { grace, askedToEnd: 0, allowed: '' })
      other.log.length = 0
    },
  }
}
