/**
 * Races. One upcall is stopped after each of its calls, and another one runs there. Processes that hold the lock are
 * stopped, killed, or continue after their lock has been taken over.
 *
 * The outcome is right if there is an order in which the rule gives the same statuses and the same records.
 */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { copySync } from 'fs-extra/esm'
import { judge, type Event, type Memory, type Owner } from '../life/oracle.ts'
import {
  inForeground,
  settings,
  type Artefact,
  type Environment,
  type Machine,
  type Said,
} from '../support/artefacts.ts'
import { stopped, type Point, type Stopped } from '../support/stopped.ts'
import { briefly, callsIn, changing, trace, type Call } from '../support/strace.ts'
import { until } from '../support/until.ts'
import { each, inPart, random, report, seconds, seed, type Row } from './figures.ts'
import { graceFor, hasOrder, outcomesOf, type Run } from './linear.ts'
import { need } from './loop-disks.ts'
import { executableSubject } from './mutants.ts'
import {
  allow,
  ann,
  bob,
  check,
  create,
  dan,
  expire,
  graceDone,
  legacy,
  memoryAfter,
  prune,
  remove,
  scenarios,
  start,
  upcallFor,
  type Happening,
} from './scenarios.ts'
import { plant, readTree } from './trees.ts'
import {
  call,
  disagreement,
  futuresByRule,
  futuresOf,
  live,
  machineAt,
  scratch,
  scrapTree,
  setGrace,
} from './verdicts.ts'

const executable = executableSubject()
const inGrace = scenarios.find(({ name }) => name === 'check of a v4.0 client, promoting')?.before ?? []
const outOfGrace = scenarios.find(({ name }) => name === 'remove out of grace')?.before ?? []

const firstGrace =
  scenarios.find(({ name }) => name === 'create, reclaiming from a first instance that never was full')?.before ?? []

const byLegacy = [legacy(ann), legacy(bob), start('1000')]

interface Pairs {
  readonly state: readonly Event[]
  /** What the kernel's `v4_end_grace` reads. 'over': grace is over, and no upcall has reported that. */
  readonly grace?: 'over'
  readonly upcalls: readonly Event[]
  /** What is run for a pull request, if that is not {@link usuallyWaitedFor}. */
  readonly waitedFor?: readonly string[]
}

const pairs: readonly Pairs[] = [
  { state: inGrace, upcalls: [check(bob, 'N'), create(bob, 'Y'), remove(bob), graceDone('2000')] },
  { state: inGrace, upcalls: [create(ann, 'Y'), remove(ann), graceDone('2000'), start('3000')] },
  { state: [...inGrace, create(ann, 'Y')], upcalls: [graceDone('2000'), start('3000')] },
  { state: inGrace, upcalls: [create(dan, 'N'), remove(dan), graceDone('2000')] },
  { state: outOfGrace, upcalls: [create(dan, 'Y'), remove(dan), create(dan, 'N')] },
  { state: [], upcalls: [start('1000')] },
  { state: inGrace, upcalls: [check(bob, 'N'), start('3000')] },
  { state: firstGrace, upcalls: [check(bob, 'N'), create(ann, 'Y'), graceDone('2000'), start('3000')] },
  { state: inGrace, grace: 'over', upcalls: [create(ann, 'Y'), check(bob, 'N'), graceDone('2000')], waitedFor: [] },
  {
    state: byLegacy,
    grace: 'over',
    upcalls: [create(ann, 'Y'), check(bob, 'N'), remove(ann), graceDone('1000'), start('3000')],
    waitedFor: ['create ann, create ann'],
  },
  { state: byLegacy, upcalls: [check(bob, 'N'), remove(bob), graceDone('1000')], waitedFor: ['remove bob, check bob'] },
]

/** Commands for people beside upcalls: the upcall is stopped, and the command runs meanwhile. */
const byHand: readonly {
  readonly state: readonly Event[]
  readonly victims: readonly Event[]
  readonly commands: readonly Event[]
}[] = [
  {
    state: inGrace,
    victims: [check(bob, 'N'), create(ann, 'Y'), remove(ann), graceDone('2000'), start('3000')],
    commands: [prune, expire(ann), allow(dan)],
  },
  { state: outOfGrace, victims: [create(dan, 'Y'), remove(ann), start('3000')], commands: [expire(ann), allow(dan)] },
]

/**
 * What is run for a pull request: pairs in which a stopped upcall does most harm if it relies on what it saw before.
 */
const usuallyWaitedFor = ['check bob, grace done', 'grace done, check bob', 'grace done, start', 'check bob, start']

describe(
  'one upcall is stopped after each of its calls, another runs meanwhile, and the first is woken',
  { skip: executable === undefined },
  () => {
    const total = { pairs: 0, points: 0, violations: 0, 'lock passed by': 0 }
    const began = performance.now()
    for (const { state, grace, upcalls, waitedFor = usuallyWaitedFor } of pairs)
      for (const victim of upcalls)
        for (const other of upcalls.filter((each) => !inPart || waitedFor.includes(`${show(victim)}, ${show(each)}`)))
          it(`${show(victim)}, meanwhile ${show(other)}${named(state, grace)}: as in one order or the other`, async () => {
            assert.ok(executable)
            const { points, violations, passed } = await stopEverywhere(executable, {
              before: state,
              grace,
              victim,
              other,
            })
            total.pairs++
            total.points += points
            total.violations += violations.length
            total['lock passed by'] += passed
            assert.deepEqual(violations, [])
          })
    for (const { state, victims, commands } of byHand)
      for (const victim of victims)
        for (const command of commands.filter(
          (each) => !inPart || `${show(victim)}, ${show(each)}` === 'check bob, prune',
        ))
          it(`${show(victim)}, meanwhile ${show(command)} by hand: as in one order or the other`, async () => {
            assert.ok(executable)
            const { points, violations, passed } = await stopEverywhere(executable, {
              before: state,
              victim,
              other: command,
            })
            total.pairs++
            total.points += points
            total.violations += violations.length
            total['lock passed by'] += passed
            assert.deepEqual(violations, [])
          })
    after(() => {
      report({ technique: 'races-pairs', rows: [{ ...total, seconds: seconds(began) }] })
    })
  },
)

function show(event: Event): string {
  return 'owner' in event ? `${event.event} ${Buffer.from(event.owner, 'hex').toString()}` : event.event
}

function named(state: readonly Event[], grace: 'over' | undefined): string {
  return `${grace === undefined ? '' : ', grace over and not heard to be'}${state === byLegacy ? ', with legacy clients' : ''}`
}

async function stopEverywhere(
  artefact: Artefact,
  {
    before,
    grace,
    victim,
    other,
  }: {
    readonly before: readonly Event[]
    readonly grace?: 'over' | undefined
    readonly victim: Event
    readonly other: Event
  },
): Promise<{ points: number; violations: string[]; passed: number }> {
  const base = machineAt(scratch())
  const bootTime = await live(artefact, base, before)
  const tree = readTree(base.stateDir)
  // They exist when the calls are counted and when they are stopped: the first process that needs them makes them, and
  // that takes calls.
  const makeRunDirectory = (machine: Machine): void => {
    const notes = join(machine.runDir, `begun-${encodeURIComponent(machine.stateDir)}`)
    if (before.length > 0) mkdirSync(notes, { recursive: true, mode: 0o700 })
  }
  makeRunDirectory(base)
  setGrace(base, graceFor(victim, grace))
  const { words, env } = upcallFor(victim, bootTime, base)
  const endsGrace = victim.event === 'grace done' || grace === 'over'
  const whole = await trace(artefact, [...settings(base), ...words], env, { also: endsGrace ? ['getdents64'] : [] })
  scrapTree(base)
  // An end of grace is also stopped after calls that only read. What it does later must concern the instance that it
  // saw.
  const points = endsGrace
    ? whole.calls.filter(
        ({ name, paths, result }) =>
          name !== 'exit_group' && (result ?? -1) >= 0 && paths.some((path) => path.startsWith(`${base.dir}/state`)),
      )
    : changing(whole.calls, join(base.dir, 'state'))
  const violations: string[] = []
  let passed = 0
  const owners = [...new Set([...before, victim, other].flatMap((event) => ('owner' in event ? [event.owner] : [])))]
  const memory = memoryAfter(before)
  const orders = outcomesOf(memory, grace, { first: victim, other, clients: owners })
  const alone = {
    status: judge(memory, victim, { graceOver: grace === 'over' }).statuses,
    futures: futuresByRule(memory, owners),
  }
  await each(points, 6, async (point) => {
    const machine = machineAt(scratch())
    try {
      if (tree.size > 0) plant(tree, machine.stateDir)
      makeRunDirectory(machine)
      setGrace(machine, graceFor(victim, grace))
      const sleeping = await stoppedAt(artefact, machine, { event: victim, bootTime }, point)
      setGrace(machine, graceFor(other, graceFor(victim, grace)))
      const meanwhile = await call(artefact, machine, other, bootTime)
      if (/goes on without the lock/.test(meanwhile.stderr)) passed++
      const { status } = await sleeping.wake()
      const label = `stopped after ${briefly(point, base.dir)}`
      // If another start overtakes it, the first one prepares once more. It still answers 0.
      const observed = await futuresOf(artefact, readTree(machine.stateDir), {
        clients: owners,
        after: 'kill',
        depth: 'every check',
      })
      // A command for people that can't take the lock changes nothing, and says so.
      const wasRefused = meanwhile.status === 135 && /nothing changed/.test(meanwhile.stderr)
      const fitting = wasRefused
        ? [alone].filter(({ status: due }) => typeof status === 'number' && due.includes(status))
        : orders.filter(
            (due) =>
              typeof status === 'number' &&
              due.first.includes(status) &&
              typeof meanwhile.status === 'number' &&
              due.other.includes(meanwhile.status),
          )
      if (!sleeping.fired) violations.push(`${label}: it was not stopped there`)
      const at = callsIn(readFileSync(logOf(machine), 'latin1')).find(({ nth }) => nth === point.nth)
      if (at === undefined || briefly(at, machine.dir) !== briefly(point, base.dir))
        violations.push(`${label}: it was stopped after ${at === undefined ? 'nothing' : briefly(at, machine.dir)}`)
      if (fitting.length === 0)
        violations.push(`${label}: statuses ${status} and ${meanwhile.status} ${meanwhile.stderr}`)
      const wrong = disagreement(
        observed,
        fitting.map(({ futures }) => futures),
        'kill',
      )
      if (wrong !== undefined) violations.push(`${label}: statuses ${status} and ${meanwhile.status}, ${wrong}`)
    } finally {
      scrapTree(machine)
    }
  })
  return { points: points.length, violations, passed }
}

/** Starts an upcall that will be stopped after one of its calls, and waits until it is stopped. */
const stoppedAt = (
  artefact: Artefact,
  machine: Machine,
  { event, bootTime }: Happening,
  after: Point,
): Promise<Stopped> => {
  const { words, env } = upcallFor(event, bootTime, machine)
  return stopped([...artefact.command, '-f', ...settings(machine), ...words], env, logOf(machine), after)
}

const logOf = ({ dir }: Machine): string => join(dir, 'stopped')

describe('races can show a loss', { skip: executable === undefined }, () => {
  it('nfsdcltrack acknowledges a check whose record the end of grace has just deleted', async () => {
    need('nfsdcltrack', 'nfs-kernel-server')
    const { points, lost, waited } = await peerPair()
    report({
      technique: 'races-control',
      rows: [
        {
          control: 'nfsdcltrack: a check of a v4.0 client, meanwhile the end of grace',
          points,
          'acknowledged, and the record is gone': lost,
          'the end of grace waited for the check': waited,
        },
      ],
    })
    assert.ok(lost > 0)
  })
})

/** nfsdcltrack's check is stopped after each call on its store, the end of grace runs, and the check continues. */
async function peerPair(): Promise<{ points: number; lost: number; waited: number }> {
  const machine = machineAt(scratch())
  const peer = '/usr/sbin/nfsdcltrack'
  const store = join(machine.dir, 'store')
  // If the check is stopped inside a transaction, the end of grace waits for it. For a pull request it is stopped only
  // between transactions.
  const patience = inPart ? 20_000 : 2000
  const session = (given: string): Environment => ({ NFSDCLTRACK_CLIENT_HAS_SESSION: given })
  const words = (at: string, ...rest: readonly string[]): string[] => ['-f', '-s', at, ...rest]
  const run = (at: string, env: Environment, ...rest: readonly string[]): Promise<number | null> =>
    new Promise((resolve, reject) => {
      const child = spawn(peer, words(at, ...rest), {
        env: { ...env },
        stdio: 'ignore',
        timeout: patience,
        killSignal: 'SIGKILL',
      })
      child.once('error', reject)
      child.once('exit', resolve)
    })
  try {
    mkdirSync(store)
    assert.equal(await run(store, {}, 'init'), 0)
    assert.equal(await run(store, session('N'), 'create', bob), 0)
    // nfsdcltrack compares times in seconds. So each event has a second of its own.
    const began = Math.floor(Date.now() / 1000) + 1
    await until('two seconds later', () => Date.now() / 1000 > began + 1)
    const log = join(machine.dir, 'whole')
    const trial = join(machine.dir, 'trial')
    copySync(store, trial)
    spawnSync(
      'strace',
      [
        '-f',
        '-y',
        '-o',
        log,
        '-e',
        'trace=openat,fcntl,pread64,pwrite64,unlink,fdatasync',
        peer,
        ...words(trial, 'check', bob),
      ],
      { env: { ...session('N') } },
    )
    const onStore = callsIn(readFileSync(log, 'latin1')).filter(({ paths }) =>
      paths.some((path) => path.startsWith(trial)),
    )
    // Between its transactions it holds no lock. A pull request stops it only there.
    const points = inPart ? onStore.filter(({ text }) => /F_UNLCK.*l_start=0, l_len=0/.test(text)) : onStore
    const found = { points: points.length, lost: 0, waited: 0 }
    await each([...points.entries()], 4, async ([number, point]) => {
      const at = join(machine.dir, `store-${number}`)
      copySync(store, at)
      const sleeping = await stopped(
        [peer, ...words(at, 'check', bob)],
        session('N'),
        join(machine.dir, `log-${number}`),
        point,
      )
      if ((await run(at, {}, 'gracedone', String(began))) !== 0) found.waited++
      if ((await sleeping.wake()).status === 0 && (await run(at, session('Y'), 'check', bob)) !== 0) found.lost++
    })
    return found
  } finally {
    scrapTree(machine)
  }
}

describe('hundreds of upcalls at once', { skip: executable === undefined }, () => {
  const rows: Row[] = []
  for (const width of inPart ? [16] : [8, 32, 64])
    it(`${width} at a time, with a start, an end of grace, commands for people, and holders of the lock that are stopped or killed: all have an order`, async () => {
      assert.ok(executable)
      rows.push(await storm(executable, { width, upcalls: inPart ? 200 : 300, isDisturbed: true }))
    })
  it('64 at a time that nobody disturbs: how long they take is a figure', async () => {
    assert.ok(executable)
    rows.push(await storm(executable, { width: 64, upcalls: inPart ? 200 : 640, isDisturbed: false }))
  })
  after(() => {
    report({ technique: 'races-storm', rows })
  })
})

const outOfTime = 146

interface Storm {
  /** How many upcalls run at once. */
  readonly width: number
  readonly upcalls: number
  readonly isDisturbed: boolean
}

interface Planned {
  readonly event: Event | 'verify' | 'export'
  readonly bootTime: string
  /** What is done to its process while it runs. */
  readonly fault: 'SIGKILL' | 'SIGSTOP' | undefined
}

async function storm(artefact: Artefact, { width, upcalls, isDisturbed }: Storm): Promise<Row> {
  const from = seed(`a storm of ${width}`)
  const dice = random(from)
  const owners: Owner[] = Array.from({ length: Math.ceil(upcalls / 9) }, (_, at) =>
    Buffer.from(`client-${at}`).toString('hex'),
  )
  const machine = machineAt(scratch())
  const beganAll = performance.now()
  try {
    const first: Event[] = [
      start('1000'),
      ...owners.filter((_, at) => at % 2 === 0).map((owner) => create(owner, drawn(dice, ['Y', 'N']))),
    ]
    await live(artefact, machine, first)
    const happened = new Happened(artefact, machine)
    await each(planned(dice, owners, { upcalls, isDisturbed }), width, (what) => happened.perform(what))
    await happened.speakLast(owners)
    return {
      parallel: width,
      ...happened.judged(owners, memoryAfter(first)),
      seed: from,
      seconds: seconds(beganAll),
    }
  } finally {
    scrapTree(machine)
  }
}

const drawn = <T>(dice: () => number, list: readonly T[]): T => list[Math.floor(dice() * list.length)] as T

/** One queue. Grace ends soon, then the server starts again, and later that grace ends too. */
function planned(
  dice: () => number,
  owners: readonly Owner[],
  { upcalls, isDisturbed }: Pick<Storm, 'upcalls' | 'isDisturbed'>,
): Planned[] {
  const ofServer = new Map<number, Event>([
    [Math.floor(upcalls * 0.2), graceDone('1000')],
    [Math.floor(upcalls * 0.45), start('2000')],
    [Math.floor(upcalls * 0.8), graceDone('2000')],
  ])
  const ofClient = (owner: Owner): readonly Event[] => [
    create(owner, 'Y'),
    create(owner, 'N'),
    check(owner, 'N'),
    check(owner, 'Y'),
    remove(owner),
  ]
  return Array.from({ length: upcalls }, (_, at) => {
    const owner = drawn(dice, owners)
    const ofPeople = isDisturbed && at % 20 === 13
    const event = ofServer.get(at) ?? drawn<Planned['event']>(dice, ofPeople ? byPeople(owner) : ofClient(owner))
    const isHarmed = isDisturbed && typeof event === 'object' && 'owner' in event && at % 40 === 7
    return {
      event,
      bootTime: at < upcalls * 0.45 ? '1000' : '2000',
      fault: isHarmed ? drawn(dice, ['SIGKILL', 'SIGSTOP'] as const) : undefined,
    }
  })
}

/** What has happened in a storm. */
class Happened {
  private readonly artefact: Artefact
  private readonly machine: Machine
  private readonly began = performance.now()
  private readonly runs: Run[] = []
  private readonly times: number[] = []
  private readonly refused: string[] = []
  private readonly counts = {
    'commands for people': 0,
    'holders stopped': 0,
    'holders killed': 0,
    'lock passed by': 0,
    'out of time': 0,
  }

  constructor(artefact: Artefact, machine: Machine) {
    this.artefact = artefact
    this.machine = machine
  }

  private get now(): number {
    return performance.now() - this.began
  }

  perform({ event, bootTime, fault }: Planned): Promise<void> {
    if (event === 'verify' || event === 'export' || isByPeople(event)) return this.commanded(event)
    if (fault === 'SIGKILL') return this.killed(event, bootTime)
    return fault === 'SIGSTOP' ? this.asleep(event, bootTime) : this.undisturbed(event, bootTime)
  }

  /** At the end, the records are asked. */
  async speakLast(owners: readonly Owner[]): Promise<void> {
    const began = this.now
    for (const owner of owners) {
      const { status } = await call(this.artefact, this.machine, check(owner, 'Y'))
      this.runs.push({ event: check(owner, 'Y'), began, ended: Infinity, status })
    }
  }

  /** @throws if there is no order of it. */
  judged(owners: readonly Owner[], memory: Memory): Row {
    const { runs } = this
    const violations = owners.filter((owner) => !hasOrder(runs, owner, memory))
    assert.deepEqual(
      violations.map(
        (owner) =>
          `no order of the upcalls of ${Buffer.from(owner, 'hex').toString()} has these statuses: ${storyOf(owner, runs)}`,
      ),
      [],
    )
    assert.deepEqual(this.refused, [])
    assert.deepEqual(
      runs.filter(({ event, status }) => status !== undefined && status !== 0 && status !== 255 && !isByPeople(event)),
      [],
    )
    const times = [...this.times].sort((a, b) => a - b)
    const percentile = (part: number): number => Math.round(times[Math.floor((times.length - 1) * part)] ?? 0)
    return {
      upcalls: runs.length,
      ...this.counts,
      violations: violations.length,
      'p50 ms': percentile(0.5),
      'p95 ms': percentile(0.95),
      'p99 ms': percentile(0.99),
      'max ms': percentile(1),
    }
  }

  private async commanded(event: Planned['event']): Promise<void> {
    const began = this.now
    const { status, stderr } = await said(this.artefact, this.machine, event)
    this.counts['commands for people']++
    if (typeof status === 'string' || ![0, 1, 234, 135].includes(status))
      this.refused.push(`${typeof event === 'string' ? event : event.event} ended with ${status}: ${stderr}`)
    // A command that failed may have done a part: an import beside a start and its end of grace.
    if (typeof event !== 'string')
      this.runs.push({ event, began, ended: this.now, status: status === 0 || status === 234 ? status : undefined })
  }

  private async undisturbed(event: Event, bootTime: string): Promise<void> {
    const began = this.now
    const { status, ms, stderr } = await call(this.artefact, this.machine, event, bootTime)
    if (/goes on without the lock/.test(stderr)) this.counts['lock passed by']++
    this.times.push(ms)
    this.hasEnded(event, began, status)
  }

  /**
   * On a very busy machine an upcall may not end within its 30 seconds. Then it may have happened or not, and has
   * promised nothing.
   */
  private hasEnded(event: Event, began: number, status: Run['status']): void {
    if (status === outOfTime) this.counts['out of time']++
    this.runs.push({ event, began, ended: this.now, status: status === outOfTime ? undefined : status })
  }

  /** Killed in the first call that removes something. So it leaves the lock behind. */
  private async killed(event: Event, bootTime: string): Promise<void> {
    const began = this.now
    const { words, env } = upcallFor(event, bootTime)
    const lockCall: Call = { name: 'unlinkat', nth: 1, thread: 0, text: '', paths: [], result: 0, injected: false }
    const { status } = await trace(this.artefact, [...settings(this.machine), ...words], env, {
      fault: { call: lockCall, what: 'signal=SIGKILL' },
    })
    this.counts['holders killed']++
    if (status === 'SIGKILL') this.runs.push({ event, began, ended: Infinity, status: undefined })
    else this.hasEnded(event, began, status)
  }

  private async asleep(event: Event, bootTime: string): Promise<void> {
    const began = this.now
    const { machine } = this
    const sleeping = await stoppedAt(
      this.artefact,
      { ...machine, dir: scratchIn(machine) },
      { event, bootTime },
      { name: 'symlinkat', nth: 1 },
    )
    // Nobody waits for the lock for more than two seconds. Then others go on without it, beside this process.
    await pause(2500)
    const { status } = await sleeping.wake()
    this.counts['holders stopped']++
    this.hasEnded(event, began, status)
  }
}

/** What people and programs do at the same time as the kernel's upcalls. */
const byPeople = (owner: Owner): readonly (Event | 'verify' | 'export')[] => [
  prune,
  expire(owner),
  expire(owner),
  allow(owner),
  allow(owner),
  { event: 'import', owner },
  { event: 'import', owner },
  'verify',
  'verify',
  'export',
]

const isByPeople = ({ event }: Event): boolean => ['prune', 'expire', 'allow', 'import'].includes(event)

/** A command as it is typed by a person, or run by a program. */
function said(artefact: Artefact, machine: Machine, event: Event | 'verify' | 'export'): Promise<Said> {
  const env = { PATH: process.env['PATH'] ?? '' }
  const words = (): readonly string[] => {
    if (event === 'verify') return ['verify', '--repair', '--yes']
    if (event === 'export') return ['export']
    if (event.event !== 'import') return upcallFor(event).words
    const source = join(scratchIn(machine), 'clients.json')
    writeFileSync(
      source,
      JSON.stringify({
        format: 'nfsd-userland-helper clients',
        version: 1,
        clients: [{ owner_hex: event.owner, session: false, recorded: 0 }],
      }),
    )
    return ['import', '--yes', source]
  }
  return inForeground(artefact, [...settings(machine), ...words()], env)
}

const storyOf = (owner: Owner, runs: readonly Run[]): string =>
  runs
    .filter(({ event }) => !('owner' in event) || event.owner === owner)
    .map(
      ({ event, status, began, ended }) =>
        `${event.event} ${status ?? 'killed'} (${Math.round(began)} to ${Math.round(ended)} ms)`,
    )
    .join(', ')

const scratchIn = ({ dir }: Machine): string => {
  const own = join(dir, `stop-${Math.random().toString(36).slice(2)}`)
  machineAt(own)
  return own
}
