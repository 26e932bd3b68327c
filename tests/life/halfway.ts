/**
 * What an upcall leaves that is stopped half-way. Several things may have happened, and the kernel takes it for one
 * that has failed. If the machine stays up, the next start knows how far it came: an upcall notes what it is about to
 * do before it changes anything.
 */
import { judge, owe, remember, type Event, type Memory, type Verdict } from './oracle.ts'

/** An outcome: what may have happened, and what must then have been answered. */
export interface Outcome {
  readonly memory: Memory
  /** Undefined: it need not have answered. */
  readonly statuses?: readonly number[]
  readonly endGrace: Verdict['endGrace']
}

export function outcomeOf(before: Memory, event: Event, graceOver: boolean): Required<Outcome> {
  const memory = remember(before)
  const { statuses, endGrace } = judge(memory, event, { graceOver })
  return { memory, statuses, endGrace }
}

export const completed = (before: Memory): Memory => {
  const memory = remember(before)
  judge(memory, { event: 'grace done', bootTime: undefined }, { graceOver: false })
  return memory
}

/** What a stopped upcall or command may have done: nothing, all, or a part. */
export function halfway(before: Memory, event: Event, graceOver: boolean): readonly Memory[] {
  if (event.event === 'start') {
    // It may have begun its instance. That takes an earlier mark into account, and survives a power cut.
    const failed: Event = { event: 'failed start', bootTime: event.bootTime }
    return [before, outcomeOf(before, event, false).memory].map((memory) => outcomeOf(memory, failed, false).memory)
  }
  const heals = ['create', 'check', 'remove'].includes(event.event) && graceOver && !before.full
  // It notes that grace is over before it records that.
  const from = [remember(before), ...(heals ? [{ ...remember(before), endIsUnrecorded: before.started }] : [])].concat(
    heals ? [completed(before)] : [],
  )
  const whole = outcomeOf(before, event, graceOver).memory
  // Each part of what was not answered may be on the disk without the others.
  const after = heals ? [whole, outcomeOf(before, event, false).memory] : [whole]
  switch (event.event) {
    case 'create':
    case 'check':
    case 'allow':
      return [...from, ...from.map((memory) => ({ ...remember(memory), sawSilent: true })), ...after]
    case 'remove':
    case 'expire':
      return [...from, ...from.flatMap((memory) => partsOf(memory, event.owner)), ...after]
    case 'prune':
      return [...before.reclaimable].reduce<readonly Memory[]>(
        (all, owner) => all.flatMap((memory) => [memory, ...partsOf(memory, owner), without(memory, owner, 'all')]),
        from,
      )
    default:
      return [...from, ...after]
  }
}

/** A client may be removed from our records only, or only from those of the kernel's own tracker. */
const partsOf = (memory: Memory, owner: string): readonly Memory[] => [
  without(memory, owner, 'legacy'),
  without(memory, owner, 'record'),
]

function without(before: Memory, owner: string, what: 'legacy' | 'record' | 'all'): Memory {
  const memory = remember(before)
  const isLegacy = memory.legacy.has(owner)
  const owed = memory.owed.get(owner)
  if (what === 'legacy') memory.legacy.delete(owner)
  else judge(memory, { event: 'expire', owner }, { graceOver: false })
  if (what === 'record' && isLegacy) memory.legacy.add(owner)
  if (what !== 'all' && owed !== undefined) memory.owed.set(owner, owed)
  return memory
}

/** A system call, and the paths in it. */
interface Named {
  readonly name: string
  readonly paths: readonly string[]
}

/**
 * Follows how far an upcall comes. `begun`: it has come to its first change of the state directory, beside taking the
 * lock. So its note must be there. `settled`: it has removed that note, because what it promises is durable. If it is
 * killed after that, its work stays.
 */
export class Progress {
  at: 'nothing' | 'begun' | 'settled' = 'nothing'
  private readonly stateDirectory: string
  private readonly runDirectory: string

  constructor(stateDirectory: string, runDirectory: string) {
    this.stateDirectory = stateDirectory
    this.runDirectory = runDirectory
  }

  /** It comes to a call that changes something. */
  comesTo({ paths }: Named): void {
    const isWork = paths.some((path) => isBelow(path, this.stateDirectory) && !path.endsWith('/v4clients/lock'))
    if (isWork && this.at === 'nothing') this.at = 'begun'
  }

  /** It has made such a call, with success. */
  hasMade({ name, paths }: Named): void {
    const isNote = paths.some((path) => isBelow(path, this.runDirectory) && /\/begun-[^/]*\/(?!%new-)[^/]+$/.test(path))
    if (isNote && /^unlink/.test(name)) this.at = 'settled'
  }
}

export const isBelow = (path: string, directory: string): boolean => `${path}/`.startsWith(`${directory}/`)

/**
 * What an upcall may have left that was killed, if the machine stays up: the next start does what the upcall has noted.
 * Before `begun` it may have noted something or not.
 */
export const owing = (
  lefts: readonly Memory[],
  before: Memory,
  event: Event,
  { at }: Pick<Progress, 'at'>,
): readonly Memory[] => [
  ...(at === 'begun' ? [] : lefts),
  ...(at === 'settled'
    ? []
    : lefts.map((left) => {
        const memory = remember(left)
        owe(memory, before, event)
        return memory
      })),
]
