/**
 * Every event of every scenario in process, on a file system in memory. Before each of its calls the power is cut, at
 * each call the process is stopped, and each call fails. The helper is then asked what the state means, and the rule
 * alone judges its answers. The proofs on the built program (tests/proof) check that this file system, and its model of
 * a disk, are faithful.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { exitStatuses } from '../../../lib/failure.ts'
import { atFlags, type Calls } from '../../../lib/syscalls/calls.ts'
import { errno } from '../../../lib/syscalls/errno.ts'
import { owing, Progress } from '../../life/halfway.ts'
import { judge, type Event, type Memory } from '../../life/oracle.ts'
import { disagreement, futuresByRule, type Futures } from '../../proof/futures.ts'
import { diskAt } from '../../proof/power-loss.ts'
import {
  bootTimeAt,
  clientsOf,
  eitherWay,
  isTraced,
  legacyRecord,
  memoryAfter,
  remember,
  scenarios,
  sequences,
  type Scenario,
} from '../../proof/scenarios.ts'
import { fingerprint, type Tree } from '../../proof/trees.ts'
import { callShown } from '../../support/memory/files.ts'
import {
  machineWith,
  runDirectory,
  stateDirectory,
  Stopped,
  type Ending,
  type Machine,
} from '../../support/memory/machine.ts'
import { isMarked, observer, places, play, type Standing } from './states.ts'

const states = observer()

type Fault = (calls: Calls) => Partial<Calls>

/** Cuts the power before each call of a scenario's act that changes something, and after each event. */
function powerCuts(scenario: Scenario, fault?: Fault, enough = Infinity): string[] {
  const [parent, name] = ['/var/lib', 'nfs']
  const machine = machineWith(undefined, fault)
  const disk = diskAt(parent)
  const clients = clientsOf(scenario)
  const violations: string[] = []
  /**
   * Each different state that a cut may have left. They are judged when the upcall is over, because a process has one
   * lock.
   */
  const left: { readonly label: string; readonly standing: Standing; readonly allowed: readonly Futures[] }[] = []
  const cut = (label: string, memories: readonly Memory[]): void => {
    const allowed = memories.map((memory) => futuresByRule(memory, clients))
    const seen = new Set<Standing>()
    for (const whole of disk.afterCut(() => undefined)) seen.add(states.standing(within(whole, name)))
    for (const standing of seen) left.push({ label, standing, allowed })
  }
  const ask = (): void => {
    for (const { label, standing, allowed } of left.splice(0)) {
      if (violations.length >= enough) return
      const wrong = disagreement(states.futures(standing, clients, 'power cut'), allowed, 'power cut')
      if (wrong !== undefined) violations.push(`${label}: ${wrong}\n${fingerprint(standing.tree)}`)
    }
  }
  machine.files.hooks.changed = (made) => {
    if (made.paths.some((path) => `${path}/`.startsWith(`${parent}/`))) disk.apply(made)
  }
  let memory = memoryAfter([])
  let bootTime: string | undefined
  for (const [number, event] of [...scenario.before, ...scenario.act].entries()) {
    if (event.event === 'start') bootTime = event.bootTime
    const isInAct = number >= scenario.before.length
    const isUnfinished = scenario.unfinished === true && number === scenario.before.length
    machine.kernel.grace = isInAct ? scenario.grace : undefined
    const unacknowledged = eitherWay(scenario, memory, event)
    machine.files.hooks.before = (made) => {
      if (isUnfinished && made.name === 'fsync') throw new Stopped()
      if (isInAct && !isUnfinished && made.changes) cut(`before ${callShown(made)} of ${event.event}`, unacknowledged)
      return undefined
    }
    const status = play(machine, event, bootTime)
    const later = memoryAfter([event], memory, machine.kernel.grace)
    if (isInAct && !isUnfinished) cut(`after ${event.event} was acknowledged`, status === 0 ? [later] : unacknowledged)
    ask()
    memory = later
  }
  return violations
}

/** The part of a tree below one of its directories. */
const within = (tree: Tree, directory: string): Tree =>
  new Map(
    [...tree]
      .filter(([path]) => `${path}/`.startsWith(`${directory}/`))
      .map(([path, node]) => [path.slice(directory.length + 1), node]),
  )

interface Prepared {
  readonly tree: Tree
  readonly run: Tree
  readonly memory: Memory
  readonly bootTime: string | undefined
}

/** A machine after a scenario's `before`. */
function prepared({ name, before }: Scenario): Prepared {
  const machine = machineWith()
  let bootTime: string | undefined
  for (const event of before) {
    if (event.event === 'start') bootTime = event.bootTime
    if (event.event === 'legacy')
      machine.files.plant(new Map([['', { kind: 'directory' }]]), legacyRecord(places, event.owner))
    else assert.equal(play(machine, event, bootTime), 0, `${name}: ${machine.log.join('')}`)
  }
  return {
    tree: machine.files.tree(stateDirectory),
    run: machine.files.tree(runDirectory),
    memory: memoryAfter(before),
    bootTime: bootTimeAt(before),
  }
}

interface Ready {
  readonly machine: Machine
  readonly event: Event
  readonly carryOut: () => Ending
}

/** A machine just before a scenario's one act. */
function ready({ act, grace }: Scenario, { tree, run, bootTime }: Prepared, fault?: Fault): Ready {
  const [event] = act
  assert.ok(event !== undefined)
  const machine = machineWith(tree.size > 0 ? tree : undefined, fault)
  machine.files.plant(run, runDirectory)
  // So that it is not the same second as what came before.
  machine.files.process.now += 100_000
  machine.files.process.id += 5000
  machine.kernel.grace = grace
  return { machine, event, carryOut: () => play(machine, event, bootTime) }
}

/**
 * Stops the process at each call of a scenario's act. No later call has an effect, so the state is the one before that
 * call.
 */
function kills(scenario: Scenario, fault?: Fault): string[] {
  const before = prepared(scenario)
  const clients = clientsOf(scenario)
  const violations: string[] = []
  const { machine, event, carryOut } = ready(scenario, before, fault)
  const left: {
    readonly call: string
    readonly changes: boolean
    readonly tree: Tree
    readonly run: Tree
    readonly progress: Pick<Progress, 'at'>
  }[] = []
  const progress = new Progress(stateDirectory, runDirectory)
  machine.files.hooks.before = (made) => {
    const { files } = machine
    if (made.changes) progress.comesTo(made)
    left.push({
      progress: { at: progress.at },
      call: callShown(made),
      changes: made.changes,
      tree: files.tree(stateDirectory),
      run: files.tree(runDirectory),
    })
    return undefined
  }
  machine.files.hooks.answered = (made, answer) => {
    if (made.changes && Number(answer) >= 0) progress.hasMade(made)
  }
  carryOut()
  const futures = (memories: readonly Memory[]) => memories.map((memory) => futuresByRule(memory, clients))
  // What finds that grace is over notes that before it records it.
  const noted =
    scenario.grace === 'over'
      ? [before.memory, memoryAfter([event], before.memory)].map((each) => ({
          ...remember(each),
          endIsUnrecorded: true,
        }))
      : []
  const either = [...eitherWay(scenario, before.memory, event), ...noted]
  const allowed = futures(either)
  const failed = remember(before.memory)
  if (event.event === 'start') judge(failed, { event: 'failed start', bootTime: event.bootTime })
  const untracked = futures([failed])
  // From its mark to its last call, a start that dies has failed: the kernel goes on without a tracker.
  const begun = left.findIndex(({ run }) => isMarked(run))
  const over = left.findLastIndex(({ changes }) => changes)
  for (const [at, { call, tree, run, progress }] of left.entries()) {
    // A start that dies leaves a mark. Here the machine dies too, and the mark is gone with it.
    const standing = states.standing(tree, event.event === 'start' ? undefined : run)
    const due = event.event === 'start' ? allowed : futures(owing(either, before.memory, event, progress))
    const wrong = disagreement(states.futures(standing, clients, 'kill'), due, 'kill')
    if (wrong !== undefined) violations.push(`stopped at ${call}: ${wrong}\n${fingerprint(tree)}`)
    if (event.event !== 'start') continue
    // Here the machine goes on, and its server has no tracker.
    const observed = states.futures(states.standing(tree, run), clients, 'power cut')
    const lost = disagreement(observed, begun <= at && at <= over ? untracked : allowed, 'power cut')
    if (lost !== undefined) violations.push(`stopped at ${call}, the machine goes on: ${lost}`)
  }
  return violations
}

/** Records a client as the kernel's own tracker does, through calls that the model of the disk sees, durably. */
function withLegacy({ files: { calls } }: Machine, owner: string): void {
  const path = legacyRecord(places, owner)
  const top = path.slice(0, path.lastIndexOf('/'))
  for (const made of [stateDirectory, top, path]) calls.mkdirat(atFlags.AT_FDCWD, made, 0o700)
  for (const synced of ['/var/lib', stateDirectory, top]) {
    const descriptor = calls.openat(atFlags.AT_FDCWD, synced, calls.flags.O_RDONLY | calls.flags.O_DIRECTORY, 0)
    calls.fsync(descriptor)
    calls.close(descriptor)
  }
}

/**
 * Stops the process at each call of a scenario's act that changes something, and after the last. Then the act is
 * repeated, and the power is cut when it is acknowledged. Calls that only read need no stop of their own: they leave
 * the state of the next one.
 */
function repeats(scenario: Scenario): string[] {
  const [parent, name] = ['/var/lib', 'nfs']
  const [act] = scenario.act
  const violations: string[] = []
  if (act === undefined) return violations
  const clients = clientsOf(scenario)
  const allowed = [futuresByRule(memoryAfter([...scenario.before, act]), clients)]
  const seen = new Set<Standing>()
  for (let at = 1; ; at++) {
    const machine = machineWith()
    const disk = diskAt(parent)
    machine.files.hooks.changed = (made) => {
      if (made.paths.some((path) => `${path}/`.startsWith(`${parent}/`))) disk.apply(made)
    }
    for (const event of scenario.before)
      if (event.event === 'legacy') withLegacy(machine, event.owner)
      else assert.equal(play(machine, event, bootTimeAt(scenario.before)), 0)
    let calls = 0
    let stoppedAt: string | undefined
    machine.files.hooks.before = (made) => {
      if (!made.changes || ++calls !== at) return undefined
      stoppedAt = callShown(made)
      throw new Stopped()
    }
    play(machine, act, bootTimeAt(scenario.before))
    machine.files.hooks.before = () => undefined
    machine.files.process.id += 5000
    const isDone = play(machine, act, bootTimeAt(scenario.before)) === 0
    for (const whole of isDone ? disk.afterCut(() => undefined) : []) {
      const standing = states.standing(within(whole, name))
      if (seen.has(standing)) continue
      seen.add(standing)
      const wrong = disagreement(states.futures(standing, clients, 'power cut'), allowed, 'power cut')
      if (wrong !== undefined)
        violations.push(`stopped at ${stoppedAt ?? 'its end'}, and repeated: ${wrong}\n${fingerprint(standing.tree)}`)
    }
    if (stoppedAt === undefined) return violations
  }
}

const storageFailed = exitStatuses.storageFailed.status
/** Facility daemon, priority critical (syslog(3)). */
const critical = '<26>'

/** Fails each call of a scenario's act that changes something. */
function failures(scenario: Scenario, code: 'EIO' | 'ENOSPC', fault?: Fault): string[] {
  const before = prepared(scenario)
  const clients = clientsOf(scenario)
  const violations: string[] = []
  for (let at = 1; ; at++) {
    const { machine, event, carryOut } = ready(scenario, before, fault)
    let calls = 0
    let failed: string | undefined
    machine.files.hooks.before = (made) => {
      if (!made.changes || made.paths.some((path) => path.startsWith('/dev/')) || ++calls !== at) return undefined
      failed = callShown(made)
      return -errno[code]
    }
    const status = carryOut()
    if (failed === undefined) return violations
    const after = memoryAfter([event], before.memory, scenario.grace)
    // A known client may reclaim even if nothing can be written. What could not be recorded is logged at priority
    // critical.
    const isKept = status === 0 && !machine.log.some((line) => line.startsWith(critical))
    const tree = machine.files.tree(stateDirectory)
    const isOver = scenario.grace === 'over'
    const lacksEnd = isOver && [...tree.keys()].some((path) => path.endsWith('.partial'))
    const allowed = (isKept ? [after] : eitherWay(scenario, before.memory, event))
      .filter(({ full }) => !lacksEnd || !full)
      .map(remember)
    // The kernel ignores how these end. So the next start must let nobody reclaim by the records.
    const isNotDone = (event.event === 'remove' || event.event === 'grace done') && status === storageFailed
    if (isNotDone) for (const memory of allowed) judge(memory, { event: 'not done' })
    // Nor if the kernel has left grace, and that is not recorded.
    if (lacksEnd) for (const memory of allowed) judge(memory, { event: 'end not recorded' }, { graceOver: true })
    const standing = states.standing(tree, isNotDone || isOver ? machine.files.tree(runDirectory) : undefined)
    const wrong = disagreement(
      states.futures(standing, clients, 'kill'),
      allowed.map((memory) => futuresByRule(memory, clients)),
      'kill',
    )
    if (wrong !== undefined)
      violations.push(`${code} at ${failed}, status ${status}: ${wrong}\n${machine.log.join('')}`)
  }
}

describe('in memory, a power cut at any moment of an upcall', () => {
  for (const scenario of [...scenarios.filter(isTraced), ...sequences])
    it(`in '${scenario.name}': what was acknowledged is durable, and nobody else may reclaim`, () => {
      assert.deepEqual(powerCuts(scenario), [])
    })
})

describe('in memory, an upcall that is stopped at any of its calls', () => {
  for (const scenario of scenarios)
    it(`in '${scenario.name}' leaves the state before it, or the state after it`, () => {
      assert.deepEqual(kills(scenario), [])
    })
})

describe('in memory, an upcall that is stopped at any of its calls and then repeated', () => {
  const repeatable = scenarios.filter(
    ({ act, grace, unfinished }) =>
      (act[0]?.event === 'remove' || act[0]?.event === 'grace done' || act[0]?.event === 'create') &&
      act.length === 1 &&
      grace === undefined &&
      unfinished !== true,
  )
  for (const scenario of repeatable)
    it(`in '${scenario.name}' is done, whatever a power cut then leaves`, () => {
      assert.deepEqual(repeats(scenario), [])
    })
})

describe('in memory, an upcall one of whose calls fails', () => {
  for (const scenario of scenarios)
    it(`in '${scenario.name}' reports it, or has done what its status promises`, () => {
      assert.deepEqual([...failures(scenario, 'EIO'), ...failures(scenario, 'ENOSPC')], [])
    })
})

/** Systems that lack a property on which the safety argument rests. */
const faults: readonly (readonly [string, Fault, (fault: Fault) => string[]])[] = [
  [
    'no directory is ever synced',
    () => ({ fsync: () => 0 }),
    (fault) => powerCuts(named('remove out of grace'), fault, 1),
  ],
  [
    'a rename is a copy and a removal, the removal first',
    (calls) => ({
      renameat: (fromDirectory, from, toDirectory, to) => {
        const text = calls.readlinkat(fromDirectory, from)
        if (typeof text === 'number') return text
        calls.unlinkat(fromDirectory, from, 0)
        return calls.symlinkat(text, toDirectory, to)
      },
    }),
    (fault) => kills(named('check of a v4.0 client, promoting'), fault),
  ],
  [
    'an end of grace takes one fact away, and then makes the other',
    (calls) => ({
      renameat: (fromDirectory, from, toDirectory, to) => {
        if (!to.endsWith('.full')) return calls.renameat(fromDirectory, from, toDirectory, to)
        calls.unlinkat(fromDirectory, from, 0)
        return calls.symlinkat('-', toDirectory, to)
      },
    }),
    (fault) => kills(named('grace done, some reclaimed'), fault),
  ],
  [
    'what is removed stays',
    (calls) => ({
      unlinkat: (directory, name, how) =>
        (how & atFlags.AT_REMOVEDIR) === 0 && /^[a-z]+$/.test(name) && name !== 'lock'
          ? 0
          : calls.unlinkat(directory, name, how),
    }),
    (fault) => failures(named('remove out of grace'), 'EIO', fault),
  ],
]

const named = (name: string): Scenario => {
  const found = [...scenarios, ...sequences].find((scenario) => scenario.name === name)
  assert.ok(found !== undefined, name)
  return found
}

describe('the enumeration in memory finds a fault', () => {
  for (const [what, fault, violations] of faults)
    it(`if ${what}`, () => {
      assert.notEqual(violations(fault).length, 0)
    })
})
