/**
 * Events at the pipe, in every state that matters. The proofs with kills and with failing calls share this table. A
 * daemon runs under strace(1) at an acted pipe (tests/support/pipe). It is killed or disturbed, and another takes over.
 * The rule (tests/life/oracle.ts) judges what both did, only by what came through the pipe. So it can judge every
 * daemon, nfsdcld too.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { removeSync } from 'fs-extra/esm'
import { judge, reclaimableAtNextStart, remember, blank, type Memory, type Owner } from '../life/oracle.ts'
import type { Machine } from '../support/artefacts.ts'
import { nfsdcldWords, running, serveWords, type Daemon, type Serve } from '../support/pipe/daemons.ts'
import { statusOf, type Body } from '../support/pipe/messages.ts'
import { runningNfsd, startNfsd, type Nfsd } from '../support/pipe/nfsd.ts'
import { compilePipeEnd, startPipeEnd, type Ended, type Options, type PipeEnd } from '../support/pipe/pipe-end.ts'
import { callsIn, type Call, type Fault } from '../support/strace.ts'
import { fingerprint, plant, readTree, type Tree } from './trees.ts'
import { machineAt, scratch, scrapTree } from './verdicts.ts'

/** A daemon under test. */
export interface Subject {
  readonly name: 'serve' | 'nfsdcld'
  readonly words: (machine: Machine, pipes: string) => readonly string[]
  /** Whether equal trees mean the same. Then each tree is asked only once. */
  readonly isComparable: boolean
}

export const serve: Subject = {
  name: 'serve',
  words: (machine, pipes) => serveWords(machine, pipes, ['--ready-fd', '3']),
  isComparable: true,
}

export const nfsdcld: Subject = {
  name: 'nfsdcld',
  words: ({ stateDir }, pipes) => nfsdcldWords(pipes, stateDir),
  isComparable: false,
}

export type PipeEvent =
  | { readonly event: 'start' }
  | { readonly event: 'grace done' }
  | { readonly event: 'create'; readonly owner: Owner; readonly principal?: string }
  | { readonly event: 'remove'; readonly owner: Owner }

export interface Act {
  readonly name: string
  readonly before: readonly PipeEvent[]
  /** A start, or messages that are queued at the same moment. */
  readonly act: readonly PipeEvent[]
}

const hex = (name: string): Owner => Buffer.from(name).toString('hex')
const start: PipeEvent = { event: 'start' }
const graceDone: PipeEvent = { event: 'grace done' }
const create = (name: string, principal?: string): PipeEvent => ({
  event: 'create',
  owner: hex(name),
  ...(principal === undefined ? {} : { principal }),
})
const remove = (name: string): PipeEvent => ({ event: 'remove', owner: hex(name) })
const principal = 'ab'.repeat(32)
const three = [create('ann'), create('bob'), create('cal')]
const full = [start, ...three]
/** In grace: three clients may reclaim. */
const restarted = [...full, start]
/** After grace. No other clients may reclaim at the next start. */
const after = [...restarted, ...three, graceDone]
const crowd = Array.from({ length: 16 }, (_, number) => create(`client ${number}`))

export const acts: readonly Act[] = [
  { name: 'the first start', before: [], act: [start] },
  { name: 'a start with clients', before: full, act: [start] },
  { name: 'a start after a crash in grace', before: [...restarted, create('ann')], act: [start] },
  { name: 'a new client', before: after, act: [create('dan')] },
  { name: 'a new client with a principal', before: after, act: [create('dan', principal)] },
  { name: 'a client whose owner is as long as it may be', before: after, act: [create('L'.repeat(1024))] },
  { name: 'a known client again', before: after, act: [create('ann')] },
  { name: 'a client reclaims', before: restarted, act: [create('ann')] },
  { name: 'a client leaves', before: after, act: [remove('ann')] },
  { name: 'a client leaves in grace', before: [...restarted, create('ann')], act: [remove('ann')] },
  { name: 'a client leaves in grace that has not reclaimed', before: restarted, act: [remove('bob')] },
  { name: 'a client leaves that is not known', before: after, act: [remove('zoe')] },
  { name: 'the end of grace, all have reclaimed', before: [...restarted, ...three], act: [graceDone] },
  { name: 'the end of grace, one has reclaimed', before: [...restarted, create('ann')], act: [graceDone] },
  { name: 'sixteen new clients at once', before: after, act: crowd },
  {
    name: 'sixteen at once that leave and come',
    before: after,
    act: [
      ...[create('dan'), remove('ann'), create('eve'), remove('dan'), remove('bob'), create('bob'), remove('cal')],
      ...crowd.slice(0, 9),
    ],
  },
  {
    name: 'the end of grace behind fifteen that reclaim or come',
    before: restarted,
    act: [...three, ...crowd.slice(0, 12), graceDone],
  },
]

/** What the rule says after these events. As in the kernel, a start with an empty list ends grace at once. */
export function memoryAfterAll(events: readonly PipeEvent[], from: Memory = blank()): Memory {
  const memory = remember(from)
  for (const event of events) {
    const bootTime = undefined
    if (event.event === 'start') {
      judge(memory, { event: 'start', bootTime })
      if (memory.reclaimable.size === 0) judge(memory, { event: 'grace done', bootTime })
    } else if (event.event === 'grace done') judge(memory, { event: 'grace done', bootTime })
    else if (event.event === 'create') judge(memory, { event: 'create', owner: event.owner, session: 'Y' })
    else judge(memory, event)
  }
  return memory
}

/** Who is named to the kernel if its server restarts now, and if it restarts after the end of grace. */
export interface Lists {
  readonly restart: readonly Owner[]
  readonly graceDone: readonly Owner[]
}

export const listsByRule = (memory: Memory): Lists => ({
  restart: reclaimableAtNextStart(memory).sort(),
  graceDone: reclaimableAtNextStart(memoryAfterAll([graceDone], memory)).sort(),
})

/** A pipe for each of the runs that go on at the same time. */
export interface Bench {
  /** Does some work with a pipe's end that nobody else uses, on a machine of its own, and removes both. */
  readonly on: <T>(tree: Tree, work: (place: Place) => Promise<T>) => Promise<T>
  readonly scrap: () => Promise<void>
}

export interface Place {
  readonly machine: Machine
  readonly end: PipeEnd
}

export async function openBench(width: number, options: Options = {}): Promise<Bench> {
  const room = mkdtempSync('/dev/shm/nfsd-userland-helper-pipes-')
  const program = compilePipeEnd(room)
  const ends: PipeEnd[] = []
  for (let lane = 0; lane < width; lane++) ends.push(await startPipeEnd(program, join(room, String(lane)), options))
  const free = [...ends]
  const waiting: ((end: PipeEnd) => void)[] = []
  return {
    on: async (tree, work) => {
      const end = free.pop() ?? (await new Promise<PipeEnd>((resolve) => waiting.push(resolve)))
      const machine = machineAt(scratch())
      try {
        if (tree.size > 0) plant(tree, machine.stateDir)
        else mkdirSync(machine.stateDir, { mode: 0o700 })
        return await work({ machine, end })
      } finally {
        // Nobody needs a pipe that the run has left.
        if (existsSync(join(end.path, 'nfsd/cld'))) end.remove()
        scrapTree(machine)
        const next = waiting.shift()
        if (next === undefined) free.push(end)
        else next(end)
      }
    },
    scrap: async () => {
      for (const end of ends) await end.scrap()
      removeSync(room)
    },
  }
}

const bodyOf = (event: PipeEvent): Body =>
  event.event === 'create'
    ? {
        owner: Buffer.from(event.owner, 'hex'),
        ...(event.principal === undefined ? {} : { principal: Buffer.from(event.principal, 'hex') }),
      }
    : event.event === 'remove'
      ? { owner: Buffer.from(event.owner, 'hex') }
      : {}

const commandOf = ({ event }: PipeEvent): 'create' | 'remove' | 'graceDone' => {
  if (event === 'start') throw new Error('a start is no message')
  return event === 'grace done' ? 'graceDone' : event
}

/** Queues these at one moment. @returns how each ended. */
function sendAll(nfsd: Nfsd, events: readonly PipeEvent[]): Promise<Ended>[] {
  // All in one call of `ask`, so that they are queued together.
  return nfsd.sendAll(events.map((event) => [commandOf(event), bodyOf(event)])).map(({ ended }) => ended)
}

/** A state directory in which these events have happened. All were answered with status 0. */
export async function lived(bench: Bench, subject: Subject, events: readonly PipeEvent[]): Promise<Tree> {
  return bench.on(new Map(), async ({ machine, end }) => {
    if (events.length === 0) return new Map()
    const daemon = running(subject.words(machine, end.path))
    let nfsd: Nfsd | undefined
    for (const event of events) {
      if (event.event === 'start') {
        await nfsd?.stop()
        nfsd = await startNfsd(end)
        continue
      }
      const status = await nfsd?.tell(commandOf(event), bodyOf(event))
      if (status !== 0) throw new Error(`${event.event} was answered with ${status ?? 'nothing'}: ${daemon.said()}`)
    }
    await daemon.stop()
    return readTree(machine.stateDir)
  })
}

/** Changes the last start in a state directory, as if the server that runs had asked for it at this pipe. */
function goingOn(subject: Subject, { stateDir }: Machine, end: PipeEnd): Nfsd {
  const nfsd = runningNfsd(end, 2)
  if (subject.name !== 'serve') return nfsd
  const { dev, ino } = statSync(join(end.path, 'nfsd/cld'))
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').replaceAll('-', '').slice(0, 12)
  const clients = join(stateDir, 'v4clients')
  const last = readdirSync(clients)
    .flatMap((name) => /^([0-9]+)\.pipe$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((one, other) => other - one)[0]
  if (last === undefined) throw new Error(`no start at a pipe is recorded in ${clients}`)
  const mark = join(clients, `${last}.pipe`)
  rmSync(mark)
  symlinkSync(`pipe-${dev}-${ino}-${boot}`, mark)
  return nfsd
}

/** Who is named to the kernel now, and after the end of grace. Each is asked on a copy. */
async function listsOf(bench: Bench, subject: Subject, tree: Tree, { full }: Memory): Promise<Lists> {
  const listed = (when: 'now' | 'after grace'): Promise<Owner[]> =>
    bench.on(tree, async ({ machine, end }) => {
      const daemon = running(subject.words(machine, end.path))
      try {
        if (when === 'after grace') {
          const before = goingOn(subject, machine, end)
          await soon(before.tell('graceDone'), () => `GraceDone was not answered: ${daemon.said()}`)
          await before.stop()
        }
        const nfsd = await soon(startNfsd(end), () => `no start: ${daemon.said()}`)
        return (nfsd?.list ?? []).map(({ owner }) => owner.toString('hex')).sort()
      } finally {
        await daemon.kill()
      }
    })
  const restart = await listed('now')
  return { restart, graceDone: full ? restart : await listed('after grace') }
}

/** Asks for {@link Lists}, once for all trees that mean the same. `memory`: what the rule says about them. */
export function listing(bench: Bench, subject: Subject, memory: Memory): (tree: Tree) => Promise<Lists> {
  const known = new Map<string, Promise<Lists>>()
  return (tree) => {
    if (!subject.isComparable) return listsOf(bench, subject, tree, memory)
    const key = fingerprint(tree)
    const lists = known.get(key) ?? listsOf(bench, subject, tree, memory)
    known.set(key, lists)
    return lists
  }
}

/** How long a thread may still wait after a new daemon has read all messages, however busy the machine is. */
const patienceMs = 60_000

async function soon<T>(what: Promise<T>, otherwise: () => string, ms = patienceMs): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(otherwise()))
    }, ms)
  })
  try {
    return await Promise.race([what, late])
  } finally {
    clearTimeout(timer)
  }
}

/** One run of an act. */
export interface Outcome {
  /** How the wait for each answer ended; 'never': its thread still waits. The messages of a start count as one. */
  readonly ended: readonly (Ended | 'never')[]
  /** Who was named, if the act is a start; undefined, if the kernel goes on in version 0. */
  readonly named: readonly Owner[] | undefined
  /** Who is named at the next start, if that is asked. */
  readonly restart: readonly Owner[] | undefined
  /** The calls of the disturbed daemon, and which of them is the first after a message came. */
  readonly calls: readonly Call[]
  readonly firstOfMessage: number
  /** Whether the fault ended it. */
  readonly died: boolean
  /** Whether the disturbed daemon went on running and did not answer. */
  readonly silent: boolean
  readonly said: string
  readonly tree: Tree
  readonly violations: readonly string[]
}

export interface Disturbed {
  readonly subject: Subject
  readonly act: Act
  readonly tree: Tree
  /** What is done to the first daemon, and to the second. If both are missing, the first is only watched. */
  readonly faults: readonly Fault[]
  /** How long the threads wait for the last daemon. */
  readonly patienceMs?: number
  /** Whether the server restarts at once, with what is in the run directory, to see who is named. */
  readonly thenRestarts?: boolean
}

/**
 * Runs an act with a daemon that is killed or disturbed at a call. If it dies, another takes over. If it goes on
 * running, it is killed as soon as all is answered. So what is left is what it had written by then.
 */
export async function runAct(
  bench: Bench,
  { subject, act, tree, faults, patienceMs: ms = patienceMs, thenRestarts = false }: Disturbed,
): Promise<Outcome> {
  return bench.on(tree, async ({ machine, end }) => {
    const violationsBefore = end.violations.length
    const words = subject.words(machine, end.path)
    const log = join(machine.dir, 'strace')
    const [fault, second] = faults
    const isStart = act.act[0]?.event === 'start'
    const nfsd = isStart ? undefined : goingOn(subject, machine, end)
    const first = running(words)
    if (subject.name === 'serve') await first.ready
    else if (isStart) await pause(200)
    else await end.opened(patienceMs)
    // Calls are counted from here on. Those before depend on which other processes run.
    const watcher = await watch(first, log, fault)
    let named: Owner[] | undefined
    const starts = isStart
      ? startNfsd(end).then((started): Ended => {
          if (started?.version !== 0) named = started?.list.map(({ owner }) => owner.toString('hex'))
          return started === undefined ? { failed: 'ETIMEDOUT' } : { answer: Buffer.alloc(8), ms: 0 }
        })
      : undefined
    const waits = starts !== undefined ? [starts] : sendAll(nfsd as Nfsd, act.act)
    const all = Promise.all(waits)
    all.catch(() => undefined)
    const met = await Promise.race([
      first.ended.then(() => 'died' as const),
      soon(all, () => '').then(
        () => 'answered' as const,
        () => 'silent' as const,
      ),
      answerFails(log, watcher.gone).then(() => 'silent' as const),
    ])
    const firstDied = met === 'died'
    // If it is only watched, it goes on until it waits for the next message.
    if (fault === undefined) await pause(100)
    if (!firstDied) await first.kill()
    await watcher.gone
    let next: Serve
    if (second !== undefined) {
      next = underStrace(words, `${log}-2`, second)
      // strace(1) must be attached before the daemon may be killed.
      await next.ready
      await Promise.race([next.ended, soon(all, () => '').catch(() => undefined)])
      await next.kill()
    }
    next = running(words)
    const ended = await Promise.all(waits.map((wait) => soon(wait, () => '', ms).catch(() => 'never' as const)))
    let restart: Owner[] | undefined
    if (thenRestarts) {
      if (existsSync(join(end.path, 'nfsd/cld'))) end.remove()
      const again = await soon(startNfsd(end), () => `no start: ${next.said()}`)
      restart = again?.list.map(({ owner }) => owner.toString('hex')).sort()
    }
    // A serve that stops in good order leaves nothing of its process behind.
    if (subject.name === 'serve' && (await next.ready)) await next.stop()
    else await next.kill()
    const calls = callsIn(readFileSync(log, 'latin1'))
    const message = calls.findIndex(
      ({ name, paths, result }) =>
        name === 'read' && (result ?? 0) > 0 && paths.some((path) => path.endsWith('/nfsd/cld')),
    )
    return {
      ended,
      named: named?.sort(),
      restart,
      calls,
      firstOfMessage: message,
      died: firstDied,
      silent: met === 'silent',
      said: first.said() + next.said(),
      tree: readTree(machine.stateDir),
      violations: end.violations.slice(violationsBefore),
    }
  })
}

/** Resolves when strace(1) has let an answer fail. No other comes for that message, so it is not waited for. */
function answerFails(log: string, gone: Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    const struck = /^\d+ +write\(\d+<[^>]*\/nfsd\/cld>.* \(INJECTED\)$/m
    const looking = setInterval(() => {
      if (existsSync(log) && struck.test(readFileSync(log, 'latin1'))) resolve()
    }, 20)
    void gone.then(() => {
      clearInterval(looking)
    })
  })
}

const injected = (fault: Fault | undefined): string[] =>
  fault === undefined
    ? []
    : ['-e', `inject=${fault.call.name}:${fault.what}:when=${fault.call.nth}${fault.forGood === true ? '+' : ''}`]

const straceOptions = ['-f', '-y', '-s', '64'] as const

interface Watcher {
  /** Resolves when strace(1) has written everything that it saw. */
  readonly gone: Promise<void>
}

/** Attaches strace(1) to a daemon. It is attached when this resolves. */
async function watch(daemon: Daemon, log: string, fault: Fault | undefined): Promise<Watcher> {
  const words = [...straceOptions, '-o', log, ...injected(fault), '-p', String(daemon.pid)]
  const strace = spawn('/usr/bin/strace', words, { stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = new Promise<void>((resolve) => {
    strace.once('close', () => {
      resolve()
    })
  })
  await Promise.race([ended, new Promise((resolve) => strace.stderr.once('data', resolve))])
  return { gone: ended }
}

/** Runs a daemon under strace(1), which is not its parent: so a kill reaches the daemon itself. */
const underStrace = (words: readonly string[], log: string, fault: Fault): Serve =>
  running(['/usr/bin/strace', '-D', ...straceOptions, '-o', log, ...injected(fault), ...words])

/** What is wrong with an outcome, in one clause; undefined, if nothing is. */
export function wrongIn({ ended, violations, silent }: Outcome): string | undefined {
  if (silent) return 'it lives, and does not answer'
  const left = ended.filter((how) => how === 'never').length
  if (left > 0) return `${left} of ${ended.length} threads are left behind`
  return violations[0]
}

/** @returns the status of an answer; undefined, if there was none. */
export const statusIn = (how: Ended | 'never' | undefined): number | undefined =>
  how === undefined || how === 'never' || 'failed' in how ? undefined : statusOf(how.answer)
