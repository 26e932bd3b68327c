/**
 * Several processes at once on a machine in memory. One stops before some of its calls, the others run there from
 * beginning to end, and the first goes on. They are right if some order explains them: the statuses, and what the state
 * directory means afterwards, are as if one had run after the other. No alarm may be logged that is not logged in any
 * order.
 */
import type { Calls } from '../../../lib/syscalls/calls.ts'
import type { Event, Owner } from '../../life/oracle.ts'
import { disagreement, futuresByRule } from '../../proof/futures.ts'
import { graceFor, inTurn, outcomesOf } from '../../proof/linear.ts'
import { memoryAfter } from '../../proof/scenarios.ts'
import { callShown, type Made } from '../../support/memory/files.ts'
import {
  machineWith,
  runDirectory,
  stateDirectory,
  type Ending,
  type Machine,
  type Processes,
} from '../../support/memory/machine.ts'
import type { Begun } from './situations.ts'
import { observer, play } from './states.ts'

/** One process: an upcall, or a command for people. */
export interface Act {
  readonly name: string
  /** What the act may have done, each with the statuses that report it. */
  readonly meanings: readonly Meaning[]
  readonly play: (by: Processes, bootTime: string | undefined) => Ending
}

export interface Meaning {
  /** Undefined, if it changes nothing about who may reclaim. */
  readonly event: Event | undefined
  /** Undefined: those that the rule gives. */
  readonly statuses?: readonly number[]
}

/** @param also what else it may have done. */
export const upcall = (event: Event, also: readonly Meaning[] = []): Act => ({
  name: shown(event),
  meanings: [{ event }, ...also],
  play: (by, bootTime) => play(by, event, bootTime),
})

function shown(event: Event): string {
  return [
    event.event,
    ...('owner' in event ? [Buffer.from(event.owner, 'hex').toString()] : []),
    ...('session' in event ? [event.session] : []),
    ...('bootTime' in event ? [event.bootTime] : []),
  ].join(' ')
}

/** An answer without what a process must not depend on: the inode's number, and times. */
const seen = (answer: unknown): string =>
  JSON.stringify(answer, (key, value: unknown) => (key === 'inode' || key === 'mtime' ? undefined : value))

const isLog = ({ paths }: Made): boolean => paths.every((path) => path === '/dev/kmsg') && paths.length > 0

/** Lines of priority error, or worse (syslog(3)), except those in which an upcall reports its own status. */
const alarms = ({ log }: Machine): string[] =>
  log
    .filter((line) => /^<2[4-7]>nfsd-userland-helper: (?![a-z_]+: )/.test(line))
    .map((line) => line.replace(/[0-9]+/g, '#'))

/** Waiting for the lock takes no time here: a process that waits gives up at once (lib/store/lock.ts). */
const impatient = (pass: () => void) => (): Partial<Calls> => ({ sleep: pass })

export interface Found {
  stops: number
  readonly violations: Violation[]
}

export interface Violation {
  /** What the first process had changed when each of the others ran. */
  readonly changed: readonly (readonly string[])[]
  /** The call of the first process before which each of the others ran. */
  readonly stoodBefore: readonly string[]
  readonly what: string
}

export interface Meeting {
  readonly before: Begun
  readonly first: Act
  /** They run one after the other. */
  readonly others: readonly Act[]
  readonly clients: readonly Owner[]
  /**
   * Whether the lock is gone when another process comes, because it was taken for a dead process's (docs/locking.md).
   */
  readonly lockIsLost?: boolean
}

const states = observer()

interface Outcome {
  /** Of the first act, and of the others. */
  readonly statuses: readonly (readonly number[])[]
  readonly futures: ReturnType<typeof futuresByRule>
}

/** One of the others, before one of the first act's calls. */
interface Placed {
  readonly act: Act
  readonly at: number
}

interface Played {
  /** Of the first act, and of the others. */
  readonly statuses: readonly Ending[]
  /** How each call of the first process was answered, and whether it changes something. */
  readonly answers: readonly { readonly said: string; readonly changes: boolean }[]
  readonly stoodBefore: readonly string[]
  readonly changed: readonly (readonly string[])[]
}

/**
 * Runs the others, in their order, before each call of the first: each before the same call as the one before it, or
 * before a later one.
 */
export function atOnce(meeting: Meeting): Found {
  const { others } = meeting
  const machine = machineFor()
  const known = alarmsInAnyOrder(machine, meeting)
  const outcomes = outcomesAtOnce(meeting.before, [meeting.first, ...others], meeting.clients)
  const found: Found = { stops: 0, violations: [] }

  function explore(placed: readonly Placed[], rest: readonly Act[], alone: Played['answers']): void {
    const [act, ...more] = rest
    if (act === undefined) return
    for (let at = placed.at(-1)?.at ?? 0; at < alone.length;) {
      const here = [...placed, { act, at }]
      const played = playWith(machine, meeting, here)
      if (more.length === 0) {
        found.stops++
        const wrong =
          fault(machine, meeting, outcomes, played.statuses) ?? alarms(machine).find((line) => !known.has(line))
        if (wrong !== undefined) found.violations.push(violation(machine, meeting, played, wrong))
      } else explore(here, more, played.answers)
      // If a call changes nothing and its answer is the same, then what runs before it could as well run after it.
      let same = at
      while (same < alone.length && isAsAlone(played.answers[same], alone[same])) same++
      at = same + 1
    }
  }
  explore([], others, playWith(machine, meeting, []).answers)
  return found
}

function machineFor(): Machine {
  const machine = machineWith(
    undefined,
    impatient(() => {
      machine.files.process.monotonic += 501
    }),
  )
  return machine
}

function playOne({ kernel }: Machine, { before }: Meeting, act: Act, by: Processes): Ending {
  for (const { event } of act.meanings.slice(0, 1))
    if (event !== undefined) kernel.grace = graceFor(event, kernel.grace)
  return act.play(by, before.bootTime)
}

/** Runs the first act, and each of the placed ones before its call. */
function playWith(machine: Machine, meeting: Meeting, placed: readonly Placed[]): Played {
  const { files } = machine
  const lock = `${stateDirectory}/v4clients/lock`
  const statuses: Ending[] = []
  const answers: { said: string; changes: boolean }[] = []
  const stoodBefore: string[] = []
  const changed: (readonly string[])[] = []
  const changes: string[] = []
  let call = 0
  meeting.before.putOn(machine)
  files.hooks.before = (made) => {
    for (const { act, at } of placed) {
      if (at !== call) continue
      stoodBefore.push(callShown(made))
      changed.push([...changes])
      if (meeting.lockIsLost === true && files.tree(`${stateDirectory}/v4clients`).has('lock')) files.remove(lock)
      statuses.push(playOne(machine, meeting, act, machine.meanwhile))
    }
    call++
    return undefined
  }
  files.hooks.answered = (made, answer) => {
    answers.push({ said: seen(answer), changes: made.changes && !isLog(made) })
    if (made.changes && Number(answer) >= 0) changes.push(callShown(made))
  }
  const own = playOne(machine, meeting, meeting.first, machine)
  Object.assign(files.hooks, { before: () => undefined, answered: () => undefined })
  return { statuses: [own, ...statuses], answers, stoodBefore, changed }
}

/** The alarms that are logged if the acts run one after the other, with the first act in any place. */
function alarmsInAnyOrder(machine: Machine, meeting: Meeting): ReadonlySet<string> {
  const { before, first, others } = meeting
  const known = new Set<string>()
  for (let place = 0; place <= others.length; place++) {
    before.putOn(machine)
    for (const act of [...others.slice(0, place), first, ...others.slice(place)])
      playOne(machine, meeting, act, machine)
    for (const line of alarms(machine)) known.add(line)
  }
  return known
}

/** Why no order explains the statuses and what the state directory means now; undefined, if one does. */
function fault(
  { files }: Machine,
  { before, clients }: Meeting,
  outcomes: readonly Outcome[],
  statuses: readonly Ending[],
): string | undefined {
  const said = `statuses ${statuses.join(', ')}`
  const fitting = outcomes.filter((one) => one.statuses.every((due, nth) => due.includes(statuses[nth] as number)))
  if (fitting.length === 0) return said
  const standing = states.standing(files.tree(stateDirectory), files.tree(runDirectory))
  const wrong = disagreement(
    states.futures(standing, clients, before.asks),
    fitting.map(({ futures }) => futures),
    before.asks,
  )
  return wrong === undefined ? undefined : `${said}, ${wrong}`
}

function violation(
  { log }: Machine,
  { first, others }: Meeting,
  { changed, stoodBefore }: Played,
  wrong: string,
): Violation {
  const met = others.map(({ name }, nth) => `${stoodBefore[nth] ?? '?'}, meanwhile ${name}`).join('; before ')
  return { changed, stoodBefore, what: `${first.name} stands before ${met}: ${wrong}\n${log.join('')}` }
}

const isAsAlone = (
  played: { readonly said: string; readonly changes: boolean } | undefined,
  alone: { readonly said: string } | undefined,
): boolean => played !== undefined && !played.changes && played.said === alone?.said

/** What may come of it by the rule. The first act may come before, between or after the others. */
function outcomesAtOnce(before: Begun, acts: readonly Act[], clients: readonly Owner[]): Outcome[] {
  const chosen = acts.reduce<readonly (readonly Meaning[])[]>(
    (all, { meanings }) => all.flatMap((some) => meanings.map((one) => [...some, one])),
    [[]],
  )
  // An upcall that finds that grace is over ends it first. Its own event may come later.
  const ended = { ...before, memory: memoryAfter([{ event: 'grace done', bootTime: undefined }], before.memory) }
  const asIs = before.grace === 'over' && !before.memory.full ? [before, ended] : [before]
  return asIs.flatMap((from) => chosen.flatMap((meanings) => outcomesFrom(from, meanings, clients)))
}

function outcomesFrom(before: Begun, meanings: readonly Meaning[], clients: readonly Owner[]): Outcome[] {
  const events = meanings.map(({ event }) => event)
  const [first, ...others] = events
  const [other] = others
  if (others.length === 1 && first !== undefined && other !== undefined && before.judge === undefined)
    return outcomesOf(before.memory, before.grace, { first, other, clients }).map((one) => ({
      statuses: [meanings[0]?.statuses ?? one.first, meanings[1]?.statuses ?? one.other],
      futures: one.futures,
    }))
  return others.concat(undefined).flatMap((_, place) => inOrder(before, meanings, place, clients))
}

/** @param place how many of the others come before the first act. */
function inOrder(before: Begun, meanings: readonly Meaning[], place: number, clients: readonly Owner[]): Outcome[] {
  const numbers = [...meanings.keys()]
  const order = [...numbers.slice(1, place + 1), 0, ...numbers.slice(place + 1)]
  const happening = order.filter((nth) => meanings[nth]?.event !== undefined)
  const events = happening.map((nth) => meanings[nth]?.event as Event)
  const firstEvent = meanings[0]?.event
  const grace = firstEvent === undefined ? before.grace : graceFor(firstEvent, before.grace)
  return inTurn(before.memory, grace, events, [], before.judge).map(({ statuses, memory }) => ({
    statuses: numbers.map((nth) => meanings[nth]?.statuses ?? statuses[happening.indexOf(nth)] ?? []),
    futures: futuresByRule(memory, clients),
  }))
}
