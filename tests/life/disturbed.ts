/**
 * Upcalls and commands in memory that are disturbed: they are stopped at one of their calls, fail on the disk, meet
 * another, or are cut off by a power cut. Several things may then have happened. All are remembered, until later
 * answers show which one did.
 */
import { errno } from '../../lib/syscalls/errno.ts'
import type { Made } from '../support/memory/files.ts'
import { runDirectory, stateDirectory, Stopped, type Ending } from '../support/memory/machine.ts'
import { completed, halfway, isBelow, outcomeOf, owing, Progress, type Outcome } from './halfway.ts'
import type { PlaceInMemory } from './in-memory.ts'
import type { Act, Disturbance } from './life.ts'
import { remember, storageFailed, type Event, type Memory, type Verdict } from './oracle.ts'
import {
  askedBy,
  broken,
  commandOf,
  distinct,
  endGraceReads,
  kernelEndsGrace,
  lineOf,
  perform,
  wordsOf,
  type Asked,
  type Command,
  type OtherFront,
  type World,
} from './play.ts'

/** An upcall, or a command. */
export type Work = { readonly event: Event } & ({ readonly asked: Asked } | { readonly command: Command })

export function disturbed(place: PlaceInMemory): OtherFront {
  return {
    perform: async (world, act) => {
      if (act.act !== 'disturbed') return undefined
      const { what, how } = act
      if (world.memory.untracked !== undefined && !['start', 'expire', 'allow', 'import'].includes(what.act)) return 0
      if (what.act === 'prune' && !world.memory.started) return 0
      const work = workOf(world, what)
      if (work === undefined) throw new Error(`${what.act} can't be disturbed`)
      if (how.kind === 'beside') return beside(place, world, work, how.other, act.at)
      const ended = carryOutUntil(place, world, work, how, act.at)
      const isCut = how.kind === 'power cut'
      if (isCut) {
        place.cutPower(how.left)
        world.told.push('       the power is cut')
        const left = distinct(world.durable.map(withoutMarks))
        world.memories = left.map(remember)
        world.durable = left
      }
      // A server whose start has failed asks nothing. One whose power was cut starts again.
      const starts = isCut || (what.act === 'start' && ended !== 0)
      return 1 + (starts ? await perform(world, { act: 'start', word: 'init', bootTime: true }) : 0)
    },
    last: [],
    end: () => Promise.resolve(),
  }
}

function workOf(world: World, act: Act): Work | undefined {
  const asked = askedBy(world, act)
  if (asked !== undefined) return { event: asked.event, asked }
  const command = commandOf(world, act)
  return command === undefined ? undefined : { event: command, command }
}

function done(place: PlaceInMemory, world: World, work: Work, by = place.machine.upcall): Ending {
  place.machine.files.process.now = world.wallClock * 1000
  return 'asked' in work ? by(work.asked.words, work.asked.env) : place.command.now(work.command)
}

const isOnStorage = ({ paths }: Made): boolean => paths.some((path) => isBelow(path, stateDirectory))
const isOnRun = ({ paths }: Made): boolean => paths.some((path) => isBelow(path, runDirectory))

const line = (world: World, work: Work, ended: Ending): string =>
  lineOf(world, work.event, {
    ...('asked' in work ? work.asked : { words: wordsOf(work.command), env: {} }),
    status: ended === 'stopped' ? 'SIGKILL' : ended,
  })

/** @returns how it ended. */
function carryOutUntil(
  place: PlaceInMemory,
  world: World,
  work: Work,
  how: Exclude<Disturbance, { kind: 'beside' }>,
  at: number,
): Ending {
  const { hooks } = place.machine.files
  const isStopped = how.kind !== 'storage fails'
  if (isStopped && 'asked' in work) kernelEndsGrace(world, work.asked)
  const before = endGraceReads(world)
  const graceOver = before === 'Y'
  let calls = 0
  let where: Made | undefined
  const progress = new Progress(stateDirectory, runDirectory)
  hooks.before = (made) => {
    // A start that is killed before its mark is set, or after that is removed, can't be noticed by anybody.
    const mayHit = isOnStorage(made) || (isStopped && work.event.event !== 'start' && isOnRun(made))
    if (!made.changes || !mayHit) return undefined
    progress.comesTo(made)
    const hits = where === undefined ? calls++ === at : how.kind === 'storage fails' && how.lasts
    if (!hits) return undefined
    where ??= made
    if (how.kind === 'storage fails') return -errno[how.error]
    throw new Stopped()
  }
  hooks.answered = (made, answer) => {
    if (made.changes && typeof answer === 'number' && answer >= 0) progress.hasMade(made)
  }
  const status = done(place, world, work)
  Object.assign(hooks, { before: () => undefined, answered: () => undefined })
  const told = endGraceReads(world) !== before
  world.told.push(line(world, work, status))
  if (where !== undefined) {
    const what = how.kind === 'storage fails' ? `${how.error} of${how.lasts ? ' all from' : ''}` : 'stopped before'
    world.told.push(`       ^ ${what} ${where.name} ${where.paths.join(' ')}`)
  }
  if (told) world.told.push('       it told the kernel that grace may end')
  const may = (memory: Memory): readonly Outcome[] =>
    where === undefined
      ? [outcomeOf(memory, work.event, graceOver)]
      : how.kind === 'storage fails'
        ? refused(memory, work, graceOver, status)
        : leftBy(memory, work, graceOver, progress, told).map((left) => ({ memory: left, endGrace: 'may' }))
  goOn(world, may, status, told, where !== undefined)
  return status
}

/** The kernel is told that grace may end only by an upcall that has done its work. */
function leftBy(before: Memory, work: Work, graceOver: boolean, progress: Progress, told: boolean): readonly Memory[] {
  const lefts = told ? [outcomeOf(before, work.event, graceOver).memory] : halfway(before, work.event, graceOver)
  return 'asked' in work ? owing(lefts, before, work.event, progress) : lefts
}

/** Continues with every outcome that agrees with how it ended. */
export function goOn(
  world: World,
  may: (memory: Memory) => readonly Outcome[],
  status: Ending,
  told: boolean,
  wasHit: boolean,
): void {
  world.mayLinger ||= wasHit
  const outcomes = world.memories.flatMap((memory) => may(memory))
  const agrees = ({ statuses, endGrace }: Outcome): boolean =>
    (statuses === undefined || (status !== 'stopped' && statuses.includes(status))) &&
    (told ? endGrace !== 'must not' : world.mayLinger || endGrace !== 'must' || endGraceReads(world) !== 'N')
  const [first] = outcomes
  const durable = world.durable.flatMap((memory) => may(memory))
  // What was answered, or told the kernel, is durable. Anything else may be.
  const isPromised = told || (status === 0 && !wasHit)
  world.durable = distinct([...durable.map(({ memory }) => memory), ...(isPromised ? [] : world.durable.map(remember))])
  const agreeing = outcomes.filter(agrees)
  if (agreeing.length === 0)
    broken(
      world,
      `status ${status}${told ? ', and the kernel was told' : ''}; due was ${first?.statuses?.join(' or ') ?? 'any'}` +
        (first?.endGrace === 'must' ? ', and to tell the kernel' : ''),
    )
  world.memories = distinct(agreeing.map(({ memory }) => memory))
}

/** What an upcall or a command may have done that failed on the disk. */
export const refused = (before: Memory, work: Work, graceOver: boolean, status: Ending): readonly Outcome[] =>
  refusedOnce(before, work, graceOver, status).flatMap((outcome) => [outcome, ...unheeded(before, work, outcome)])

/**
 * A client without a session is recorded, even if a full disk keeps the sign for an early end of grace from being
 * updated. Then grace does not wait for the client.
 */
function unheeded(before: Memory, { event }: Work, outcome: Outcome): readonly Outcome[] {
  if (event.event !== 'create' && event.event !== 'check' && event.event !== 'allow') return []
  const { owner } = event
  if (before.active.get(owner) === false || outcome.memory.active.get(owner) !== false) return []
  const memory = remember(outcome.memory)
  memory.active.set(owner, true)
  return [{ ...outcome, memory }]
}

/**
 * If no upcall of a client has succeeded, the kernel does not tell when the client goes. So an upcall that fails
 * records nobody, or nobody may reclaim after the next start.
 */
const takesBack = (work: Work): boolean =>
  'asked' in work && (work.event.event === 'create' || work.event.event === 'check')

function unrecorded(before: Memory, event: Event, graceOver: boolean): readonly Memory[] {
  const heals = graceOver && !before.full
  return [before, ...(heals ? [completed(before)] : [])].flatMap((memory) => [
    remember(memory),
    { ...remember(memory), sawSilent: true },
    // Its record may stay, and what was noted of it too.
    ...owing([memory, outcomeOf(memory, event, false).memory], memory, event, { at: 'nothing' }).map((each) => ({
      ...remember(each),
      doubtful: true,
    })),
  ])
}

function refusedOnce(before: Memory, work: Work, graceOver: boolean, status: Ending): readonly Outcome[] {
  const { event } = work
  const all = outcomeOf(before, event, graceOver)
  const endGrace: Verdict['endGrace'] = all.endGrace === 'must not' ? 'must not' : 'may'
  const endIsUnrecorded = graceOver && !before.full && before.started
  const lacking = (memory: Memory): Memory => ({ ...remember(memory), endIsUnrecorded: true })
  if (status === 0) {
    if (event.event !== 'check') return [{ ...all, endGrace }]
    // It is answered all the same: its record stays in its older instance, or the end of grace is not recorded.
    const asIf = outcomeOf(completed(before), event, false)
    if (endIsUnrecorded)
      return [
        { ...all, endGrace },
        { ...asIf, memory: lacking(before) },
      ]
    return [
      { ...all, endGrace },
      { ...all, memory: remember(before) },
      { ...all, memory: { ...remember(before), sawSilent: true } },
    ]
  }
  const half = takesBack(work) ? unrecorded(before, event, graceOver) : halfway(before, event, graceOver)
  const statuses = (more: readonly number[]): readonly number[] => [...all.statuses.filter((it) => it !== 0), ...more]
  const failed = 'command' in work ? [1, storageFailed] : [storageFailed, 140, 243, 255]
  const marked = 'asked' in work && (event.event === 'remove' || event.event === 'grace done')
  const left = half.map((memory) =>
    marked
      ? { ...memory, doubtful: true }
      : // Of a create or a check, no later upcall need come to tell.
        endIsUnrecorded && takesBack(work) && !memory.full
        ? lacking(memory)
        : memory,
  )
  return [
    { ...all, statuses: statuses([]), endGrace },
    ...left.map((memory) => ({ memory, statuses: failed, endGrace })),
  ]
}

/** Marks are in the run directory. A power cut empties that. */
export const withoutMarks = (memory: Memory): Memory => ({
  ...remember(memory),
  untracked: undefined,
  doubtful: false,
  endIsUnrecorded: false,
  owed: new Map(),
})

/** Another upcall is carried out before one of the calls, or after the last. */
async function beside(place: PlaceInMemory, world: World, work: Work, act: Act, at: number): Promise<number> {
  const other = workOf(world, act)
  if (other === undefined || !('asked' in other) || act.act === 'start')
    throw new Error(`${act.act} comes beside nothing`)
  // A kernel asks nothing while it waits for the answer to its start, or if it has no tracker.
  if (work.event.event === 'start' || world.memory.untracked !== undefined) {
    await perform(world, act)
    return 1
  }
  const { hooks } = place.machine.files
  const before = endGraceReads(world)
  let calls = 0
  let where: Made | undefined
  let otherStatus: Ending | undefined
  hooks.before = (made) => {
    if (calls++ !== at) return undefined
    where = made
    otherStatus = done(place, world, other, place.machine.meanwhile.upcall)
    return undefined
  }
  const status = done(place, world, work)
  hooks.before = () => undefined
  const second = otherStatus ?? done(place, world, other)
  const told = endGraceReads(world) !== before
  for (const [one, its] of [
    [work, status],
    [other, second],
  ] as const)
    world.told.push(line(world, one, its))
  world.told.push(
    where === undefined
      ? '       ^ one after the other'
      : `       ^ while the first stood before ${where.name} ${where.paths.join(' ')}`,
  )
  if (told) world.told.push('       the kernel was told that grace may end')

  const inOrder = (memory: Memory): readonly BothWays[] => [
    ...inTurn(memory, work, other, before).map(({ first, then, ...rest }) => ({ ...rest, one: first, two: then })),
    ...(where === undefined
      ? []
      : inTurn(memory, other, work, before).map(({ first, then, ...rest }) => ({ ...rest, one: then, two: first }))),
  ]
  const outcomes = world.memories.flatMap(inOrder)
  world.durable = distinct(world.durable.flatMap(inOrder).map(({ memory }) => memory))
  const agreeing = outcomes.filter(
    ({ one, two, mayTell }) =>
      status !== 'stopped' &&
      second !== 'stopped' &&
      one.includes(status) &&
      two.includes(second) &&
      (!told || mayTell),
  )
  if (agreeing.length === 0)
    broken(
      world,
      `no order of the two gives statuses ${status} and ${second}${told ? ', and tells the kernel' : ''}: due were ` +
        outcomes.map(({ one, two }) => `${one.join(' or ')} and ${two.join(' or ')}`).join('; '),
    )
  world.memories = distinct(agreeing.map(({ memory }) => memory))
  return 2
}

interface InTurn {
  readonly memory: Memory
  readonly first: readonly number[]
  readonly then: readonly number[]
  readonly mayTell: boolean
}
interface BothWays extends Omit<InTurn, 'first' | 'then'> {
  readonly one: readonly number[]
  readonly two: readonly number[]
}

function inTurn(before: Memory, one: Work, two: Work, reads: string | undefined): readonly InTurn[] {
  const graceOver = reads === 'Y'
  const first = outcomeOf(before, one.event, graceOver)
  const mayTell = reads === 'N' && first.endGrace !== 'must not'
  return (mayTell ? [false, true] : [graceOver]).flatMap((over) => {
    const then = outcomeOf(first.memory, two.event, over)
    const both = {
      memory: then.memory,
      first: first.statuses,
      then: then.statuses,
      mayTell: mayTell || then.endGrace !== 'must not',
    }
    // A command may find that a client has come back, and leave it; or that what it was told to do is no longer
    // possible.
    const only = 'command' in two ? first : outcomeOf(before, two.event, graceOver)
    return [
      both,
      ...('command' in one ? [{ ...both, memory: only.memory, first: [1, storageFailed] }] : []),
      ...('command' in two ? [{ ...both, memory: only.memory, then: [1, storageFailed] }] : []),
    ]
  })
}
