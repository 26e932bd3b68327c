/**
 * Every two upcalls at once, in process, in every state that matters: one stands still before each of its calls, the
 * other is carried out whole meanwhile, and the first goes on. Right is what has an order: the statuses, and what the
 * state directory means afterwards, are as if one had come after the other. And nothing is said to be wrong that is
 * not said in either order.
 *
 * tests/proof/races.test.ts does the same to the built program, with fewer pairs: a run takes a hundred times as long
 * there.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import type { Event, Owner } from '../../life/oracle.ts'
import { disagreement } from '../../proof/futures.ts'
import { graceFor, outcomesOf, type Outcome } from '../../proof/linear.ts'
import { ann, bob, dan } from '../../proof/scenarios.ts'
import type { Made } from '../../support/memory/files.ts'
import { machineWith, runDirectory, stateDirectory, type Machine } from '../../support/memory/machine.ts'
import { begun, situations, type Begun, type Situation } from './situations.ts'
import { observer, play } from './states.ts'

const clients: readonly Owner[] = [ann, bob, dan]
const states = observer()

/** What a process can't see: which inode it is, and when. */
const seen = (answer: unknown): string =>
  JSON.stringify(answer, (key, value: unknown) => (key === 'inode' || key === 'mtime' ? undefined : value))

const isLog = ({ paths }: Made): boolean => paths.every((path) => path === '/dev/kmsg') && paths.length > 0
const shown = ({ name, paths }: Made): string => `${name} ${paths.join(' ')}`

/** Of priority error, or worse (syslog(3)); less what an upcall says of its own status. */
const alarms = ({ log }: Machine): string[] =>
  log
    .filter((line) => /^<2[4-7]>nfsd-userland-helper: (?![a-z_]+: )/.test(line))
    .map((line) => line.replace(/[0-9]+/g, '#'))

/** Waits for the lock cost no time here: whoever waits gives up at once (lib/store/lock.ts). */
const impatient = (pass: () => void) => (): Partial<Calls> => ({ sleep: pass })

interface Found {
  readonly stops: number
  readonly violations: readonly string[]
}

/** Has `other` carried out before each call of `first`. */
function atOnce(before: Begun, first: Event, other: Event): Found {
  const machine = machineWith(
    undefined,
    impatient(() => {
      machine.files.process.monotonic += 501
    }),
  )
  const { files, log } = machine
  const starts = (event: Event): void => {
    machine.kernel.grace = graceFor(event, machine.kernel.grace)
  }
  const playFirst = (): number | 'stopped' => {
    before.putOn(machine)
    starts(first)
    return play(machine, first, before.bootTime)
  }
  const playOther = (by = machine.upcall): number | 'stopped' => {
    starts(other)
    return play({ ...machine, upcall: by }, other, before.bootTime)
  }

  // Alone: what it is answered, and what is said of the two in turn.
  const alone: string[] = []
  files.hooks.answered = (_, answer) => void alone.push(seen(answer))
  playFirst()
  files.hooks.answered = () => undefined
  playOther()
  const known = new Set(alarms(machine))
  before.putOn(machine)
  playOther()
  starts(first)
  play(machine, first, before.bootTime)
  for (const line of alarms(machine)) known.add(line)

  const outcomes = outcomesOf(before.memory, before.grace, { first, other, clients })
  const violations: string[] = []
  let stops = 0
  for (let at = 0; at < alone.length;) {
    let call = 0
    /** Until which call the first one can't know whether the other has come already. */
    let asIfLater = true
    let next = at
    let stoppedAt = ''
    let status: number | 'stopped' = 'stopped'
    files.hooks.before = (made) => {
      if (call++ !== at) return undefined
      stoppedAt = shown(made)
      status = playOther(machine.meanwhile)
      return undefined
    }
    files.hooks.answered = (made, answer) => {
      if (call <= at || !asIfLater) return
      next = call
      // To come before a call is the same as to come after it, if the call changes nothing and is answered alike.
      asIfLater = (isLog(made) || !made.changes) && seen(answer) === alone[call - 1]
    }
    const statuses = { first: playFirst(), other: status as number | 'stopped' }
    Object.assign(files.hooks, { before: () => undefined, answered: () => undefined })
    stops++
    at = next
    const wrong = fault(statuses, outcomes) ?? alarms(machine).find((line) => !known.has(line))
    if (wrong !== undefined)
      violations.push(`${show(first)} stands before ${stoppedAt}, meanwhile ${show(other)}: ${wrong}\n${log.join('')}`)
  }
  return { stops, violations }

  function fault(
    statuses: { readonly first: number | 'stopped'; readonly other: number | 'stopped' },
    due: readonly Outcome[],
  ): string | undefined {
    const said = `statuses ${statuses.first} and ${statuses.other}`
    const isDue = (status: number | 'stopped', those: readonly number[]): boolean =>
      status !== 'stopped' && those.includes(status)
    const fitting = due.filter((one) => isDue(statuses.first, one.first) && isDue(statuses.other, one.other))
    if (fitting.length === 0) return said
    const standing = states.standing(files.tree(stateDirectory), files.tree(runDirectory))
    const wrong = disagreement(
      states.futures(standing, clients, 'kill'),
      fitting.map(({ futures }) => futures),
      'kill',
    )
    return wrong === undefined ? undefined : `${said}, ${wrong}`
  }
}

const show = (event: Event): string =>
  [
    event.event,
    ...('owner' in event ? [Buffer.from(event.owner, 'hex').toString()] : []),
    ...('session' in event ? [event.session] : []),
    ...('bootTime' in event ? [event.bootTime] : []),
  ].join(' ')

/** Each with each, itself as well. */
function everyPair(situation: Situation): { stops: number; pairs: number; violations: string[] } {
  const before = begun(situation)
  const all = { stops: 0, pairs: 0, violations: [] as string[] }
  for (const first of situation.upcalls)
    for (const other of situation.upcalls) {
      const { stops, violations } = atOnce(before, first, other)
      all.pairs++
      all.stops += stops
      // The same fault shows at several calls.
      all.violations.push(...violations.slice(0, 1))
    }
  return all
}

describe('in memory, two upcalls at once', () => {
  for (const situation of situations)
    it(`${situation.name}: as in one order or the other`, () => {
      const began = performance.now()
      const { stops, pairs, violations } = everyPair(situation)
      console.log(`# ${situation.name}: ${pairs} pairs, ${stops} stops, ${Math.round(performance.now() - began)} ms`)
      assert.deepEqual(violations, [])
    })
})
