/**
 * Two upcalls at once, and a power cut when one of them is answered. What it has promised must not depend on what the
 * other has made and not synced. In memory. One upcall stops before each of its calls that change something.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Event } from '../../life/oracle.ts'
import { disagreement, futuresByRule } from '../../proof/futures.ts'
import { diskAt } from '../../proof/power-loss.ts'
import {
  ann,
  bob,
  bootTimeAt,
  cal,
  check,
  clientsOf,
  create,
  dan,
  graceDone,
  memoryAfter,
  remove,
  start,
} from '../../proof/scenarios.ts'
import type { Tree } from '../../proof/trees.ts'
import { machineWith, Stopped } from '../../support/memory/machine.ts'
import { observer, play } from './states.ts'

const states = observer()
const [parent, name] = ['/var/lib', 'nfs']

interface Met {
  readonly where: string
  readonly before: readonly Event[]
  readonly upcalls: readonly Event[]
}

const three = [create(ann, 'Y'), create(bob, 'N'), create(cal, 'Y')]

/** A start never stops here: the kernel asks nothing else before it is answered. */
const met: readonly Met[] = [
  { where: 'where nothing is', before: [], upcalls: [create(ann, 'Y'), create(dan, 'Y')] },
  {
    where: 'in grace',
    before: [start('1000'), ...three, graceDone('1000'), start('2000')],
    upcalls: [create(bob, 'N'), check(bob, 'N'), remove(bob), graceDone('2000')],
  },
  {
    where: 'out of grace',
    before: [start('1000'), ...three, graceDone('1000')],
    upcalls: [create(dan, 'Y'), create(dan, 'N'), create(ann, 'Y'), remove(ann), remove(dan), graceDone('1000')],
  },
]

const below = (tree: Tree): Tree =>
  new Map(
    [...tree]
      .filter(([path]) => `${path}/`.startsWith(`${name}/`))
      .map(([path, node]) => [path.slice(name.length + 1), node]),
  )

/** @returns what is wrong after a power cut; undefined, if `first` makes no such call any more. */
function cutWhenAnswered({ before }: Met, first: Event, other: Event, at: number): string[] | undefined {
  const bootTime = bootTimeAt([...before, first])
  const machine = machineWith(undefined, () => ({
    sleep: () => {
      machine.files.process.monotonic += 501
    },
  }))
  const { hooks, process } = machine.files
  const disk = diskAt(parent)
  hooks.changed = (made) => {
    if (made.paths.some((path) => `${path}/`.startsWith(`${parent}/`))) disk.apply(made)
  }
  for (const event of before) assert.equal(play(machine, event, bootTimeAt(before)), 0)
  process.now += 100_000
  let calls = 0
  let stoodBefore: string | undefined
  const left = new Set<ReturnType<typeof states.standing>>()
  hooks.before = (made) => {
    if (!made.changes || made.paths.some((path) => path.startsWith('/dev/')) || ++calls !== at) return undefined
    stoodBefore = `${made.name} ${made.paths.join(' ')}`
    const status = play({ ...machine, ...machine.meanwhile }, other, bootTime)
    if (status === 0) for (const whole of disk.afterCut(() => undefined)) left.add(states.standing(below(whole)))
    return undefined
  }
  play(machine, first, bootTime)
  if (stoodBefore === undefined) return undefined
  const clients = clientsOf({ name, before, act: [first, other] })
  // The first upcall is not answered, so it may have happened or not.
  const allowed = [[other], [first, other], [other, first]].map((events) =>
    futuresByRule(memoryAfter([...before, ...events]), clients),
  )
  return [...left]
    .map((standing) => disagreement(states.futures(standing, clients, 'power cut'), allowed, 'power cut'))
    .filter((wrong) => wrong !== undefined)
    .map((wrong) => `${first.event} stands before ${stoodBefore}, ${other.event} is answered: ${wrong}`)
}

describe('in memory, the power is cut when one of two upcalls at once is answered', () => {
  for (const one of met)
    it(`${one.where}: what that one has promised is durable`, () => {
      const violations: string[] = []
      for (const first of one.upcalls)
        for (const other of one.upcalls)
          for (let at = 1; ; at++) {
            const wrong = cutWhenAnswered(one, first, other, at)
            if (wrong === undefined) break
            violations.push(...wrong.slice(0, 1))
          }
      assert.deepEqual(violations, [])
    })
})

/** @returns what is wrong after a power cut; undefined, if a start makes no such call any more. */
function cutAfterKilledStart(at: number, above: string): string[] | undefined {
  const machine = machineWith()
  const { hooks, process } = machine.files
  const words = ['-s', `${parent}/${above}${name}`]
  const disk = diskAt(parent)
  hooks.changed = (made) => {
    if (made.paths.some((path) => `${path}/`.startsWith(`${parent}/`))) disk.apply(made)
  }
  let calls = 0
  let killedBefore: string | undefined
  hooks.before = (made) => {
    if (!made.changes || ++calls !== at) return undefined
    killedBefore = `${made.name} ${made.paths.join(' ')}`
    throw new Stopped()
  }
  machine.upcall([...words, 'init'])
  if (killedBefore === undefined) return undefined
  hooks.before = () => undefined
  process.now += 100_000
  assert.equal(machine.upcall([...words, 'init']), 0)
  assert.equal(
    machine.upcall([...words, 'create', Buffer.from('ada').toString('hex')], { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' }),
    0,
  )
  const lost = [...disk.afterCut(() => undefined)].filter(
    (tree) => ![...tree.keys()].some((path) => path.endsWith('/ada')),
  )
  return lost.map(() => `a start was killed before ${killedBefore}: what came after it was lost`)
}

describe('in memory, the power is cut after a start was killed and another start has followed', () => {
  for (const above of ['', 'a/b/'])
    it(`what has been acknowledged since is durable, in a state directory ${above === '' ? 'of one' : 'of several'} that had to be made`, () => {
      for (let at = 1; ; at++) {
        const wrong = cutAfterKilledStart(at, above)
        if (wrong === undefined) break
        assert.deepEqual(wrong, [])
      }
    })
})
