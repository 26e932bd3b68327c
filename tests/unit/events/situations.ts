/** Where two upcalls may meet: what has happened on a machine in memory, and what the kernel may ask then. */
import assert from 'node:assert/strict'
import type { judge, Event, Memory } from '../../life/oracle.ts'
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
  /** An upcall that is killed then, and where. */
  readonly killed?: { readonly event: Event; readonly at: (made: Made) => boolean; readonly counts: Event }
  /** What stands in the state directory, in the place of what the program would have made. */
  readonly planted?: Tree
  /** No such file, if undefined. */
  readonly grace?: Grace
  readonly upcalls: readonly Event[]
  /** The rule, where it is not the oracle's alone. */
  readonly judge?: typeof judge
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
]

/** A situation, as it has come about. */
export interface Begun {
  readonly memory: Memory
  readonly bootTime: string | undefined
  readonly grace: Grace | undefined
  readonly judge: typeof judge | undefined
  /** What is asked of it afterwards. */
  readonly asks: 'kill' | 'power cut'
  /** Puts it on a machine, in the place of what is there. */
  readonly putOn: (machine: Machine) => void
}

export function begun({ name, before, killed, planted, grace, judge }: Situation): Begun {
  const machine = machineWith(planted)
  const { files } = machine
  let bootTime: string | undefined
  for (const event of before) {
    if (event.event === 'start') bootTime = event.bootTime
    if (event.event === 'legacy') files.plant(new Map([['', directory]]), legacyRecord(places, event.owner))
    else assert.equal(play(machine, event, bootTime), 0, `${name}: ${machine.log.join('')}`)
  }
  if (killed !== undefined) {
    files.hooks.before = (made) => {
      if (killed.at(made)) throw new Stopped()
      return undefined
    }
    assert.equal(play(machine, killed.event, bootTime), 'stopped', name)
  }
  const [tree, run] = [files.tree(stateDirectory), files.tree(runDirectory)]
  // Of another second than what was before.
  const process = { id: files.process.id + 5000, now: files.process.now + 100_000, monotonic: 0 }
  return {
    memory: memoryAfter([...before, ...(killed === undefined ? [] : [killed.counts])]),
    bootTime,
    grace,
    judge,
    asks: judge === undefined ? 'kill' : 'power cut',
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
