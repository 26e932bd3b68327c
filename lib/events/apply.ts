/**
 * One request, most often under the lock: what is recorded, what the request means then (lib/rules/decide.ts), and the
 * event that does it. perform.ts does the rest, without the lock.
 */
import { errorCode, Failed } from '../failure.ts'
import { decide, type Before, type Begun, type Decision, type Found } from '../rules/decide.ts'
import { reclaimableIn, type Instance, type PartialInstance } from '../rules/instance.ts'
import { begunAbout } from '../store/begun.ts'
import { markOf, type Recorded } from '../store/layout.ts'
import { migrate } from '../store/migrate.ts'
import { directoryOf } from '../store/open-directories.ts'
import { newestEntry } from '../store/records.ts'
import { bootTimeOf, clientsOf, legacyCounts, lookAt } from '../store/state-directory.ts'
import { forgetGraceEnd, noteGraceEnd } from '../store/untracked.ts'
import { hasLegacyRecord } from '../store/v4recovery.ts'
import * as files from '../syscalls/files.ts'
import { quote } from '../text.ts'
import type { ClientOwner } from '../upcall/owner.ts'
import type { Asked, KernelBootTime } from '../upcall/request.ts'
import { carryOver, takeOver } from './check.ts'
import { recordClient } from './create.ts'
import { confirmGraceEnd, endGrace, endMissedGrace, finishGraceEnd, nowAsked } from './grace-end.ts'
import { forgetClient } from './remove.ts'
import { both, settled, type Settlement, type World } from './world.ts'

/** What remains to be done without the lock; or the decision that the state directory must be begun anew first. */
export type Applied = Settlement | (Decision & { kind: 'rebuild' })

export function decideAndApply(world: World, recorded: Recorded, request: Asked): Applied {
  for (let seen = recorded; ;) {
    const decision = decideOn(world, seen, request)
    if (decision.kind === 'end-missed-grace') return afterMissedGrace(world, seen, request, decision.instance)
    const applied = apply(world, seen, decision)
    if (applied !== 'elsewhere') return applied
    world.deadline.assertTimeLeft('looking for a record that moves')
    seen = lookAt(world.state)
  }
}

/**
 * Ends the grace that the kernel has ended without telling us, then decides again. Even if the request is then refused,
 * that end is made durable before the answer.
 */
function afterMissedGrace(world: World, recorded: Recorded, request: Asked, instance: PartialInstance): Applied {
  let ended: Settlement
  if (world.isUpcall) noteGraceEnd(world.state, instance.start)
  try {
    ended = both(endMissedGrace(world, instance), {
      sync: [],
      then: () => {
        if (world.isUpcall) forgetGraceEnd(world.state, instance.start)
      },
    })
  } catch (thrown) {
    noteUnrecordedEnd(world, instance, thrown)
    if (request.event !== 'check') throw thrown
    // A check must be answered, so it is decided as if the end had been written.
    const asIf: Recorded = {
      ...recorded,
      instance: { kind: 'full', start: instance.start },
      marks: () => false,
      isUnconfirmed: false,
    }
    const applied = apply(world, asIf, decideOn(world, asIf, request))
    if (applied === 'elsewhere') throw thrown
    return applied
  }
  // The records of the kernel's own tracker count no longer, even if they are not removed yet.
  const later = request.event === 'check' ? { ...request, legacyRecord: undefined } : request
  try {
    // A start may have come meanwhile, and the kernel may have left its grace too.
    const applied = decideAndApply(world, lookAt(world.state), later)
    return 'kind' in applied ? applied : both(ended, applied)
  } catch (thrown) {
    return both(ended, {
      sync: [],
      then: () => {
        throw thrown
      },
    })
  }
}

/** The end of grace could not be recorded, and no later upcall may report it again. */
function noteUnrecordedEnd({ state, log }: World, { start }: PartialInstance, thrown: unknown): void {
  // A later instance has completed its grace, so this one no longer matters.
  if (thrown instanceof Failed && thrown.failure.kind === 'other-instance') return
  const unnoted = noteGraceEnd(state, start)
  log.critical(
    `the end of grace could not be recorded (${String(thrown)}): ` +
      'if it is not recorded before the next start, that start does it first' +
      (unnoted === undefined ? '' : `; nor can that be noted (${unnoted}): see to it`),
  )
}

/** Converts format 1 to format 2. If there is no space for that, a check is answered from format 1. */
export function lookInPresentFormat(world: World, { event }: Asked): Recorded {
  const { state, log, nfsd } = world
  const recorded = lookAt(state)
  if (recorded.format === 2) return recorded
  try {
    migrate(state, recorded)
  } catch (thrown) {
    if (event !== 'check' || !files.cannotGrow.includes(errorCode(thrown) ?? '')) {
      // Nothing is decided, so nobody else will see that the kernel is out of grace.
      if (recorded.instance.kind === 'partial' && nfsd.grace() === 'over')
        noteUnrecordedEnd(world, recorded.instance, thrown)
      throw thrown
    }
    log.warning(`the state directory stays in format 1: it could not be converted (${String(thrown)})`)
  }
  return lookAt(state)
}

export const decideOn = (world: World, recorded: Recorded, request: Asked): Decision =>
  decide(new Looked(world, recorded), request)

/**
 * What is recorded, read only when it is asked for. It is a class, because making closures would cost each request
 * time.
 */
class Looked implements Before {
  readonly instance: Instance
  private readonly world: World
  private readonly recorded: Recorded

  constructor(world: World, recorded: Recorded) {
    this.instance = recorded.instance
    this.world = world
    this.recorded = recorded
  }

  kernelBootTime(): KernelBootTime | undefined {
    const { instance } = this
    const { state } = this.world
    if (!('start' in instance)) return undefined
    const told = bootTimeOf(state, instance.start)
    // A later start may have removed the instance and its mark. Then the answer is one that equals no boot time.
    const isGone = (name: string): boolean => files.lookAtName(name, clientsOf(state)) === undefined
    const isSwept =
      told === undefined &&
      this.recorded.marks(instance.start, 'grace_start') &&
      isGone(markOf(instance.start, 'grace_start'))
    return isSwept ? 'no time' : told
  }

  graceIsOverInKernel(): boolean {
    return this.world.nfsd.grace() === 'over'
  }

  hasLegacyRecord(path: string): boolean {
    return legacyCounts(this.recorded) && hasLegacyRecord(path, this.world.state.anywhere)
  }

  begun(owner: ClientOwner): Begun | undefined {
    return begunAbout(this.world.state, owner)
  }

  newestRecord(owner: ClientOwner): Found {
    const found = this.newestRecordOnce(owner)
    // Another upcall may have moved the record meanwhile, from an instance not yet searched to one already searched.
    return found.kind === 'nothing' ? this.newestRecordOnce(owner) : found
  }

  private newestRecordOnce(owner: ClientOwner): Found {
    const { entry, in: start } = newestEntry(
      this.world.state,
      owner,
      reclaimableIn(this.instance, this.recorded.starts),
    )
    return start === undefined || entry.kind === 'nothing' ? { kind: 'nothing' } : { kind: entry.kind, in: start }
  }
}

/** @returns 'elsewhere', if the record has moved since the decision. Then nothing was done. */
export function apply(world: World, recorded: Recorded, decision: Decision): Applied | 'elsewhere' {
  switch (decision.kind) {
    case 'record':
    case 'confirm-record':
    case 'forget':
    case 'confirm-grace-end':
      return both(graceEndOwed(world, recorded), change(world, recorded, decision))
    case 'refuse':
      return both(graceEndOwed(world, recorded), refused(decision))
    case 'rebuild':
      return decision
    case 'allow':
      return graceEndOwed(world, recorded)
    case 'nothing-to-do':
      world.log.warning(`no server instance is recorded in ${quote(world.state.path)}: nothing to do`)
      return settled
    case 'end-grace':
      return both(
        endGrace(world, decision.instance, decision.legacyTop),
        nowAsked(world, recorded, decision.instance.start),
      )
    case 'carry-over':
      return carryOver(world, decision)
    case 'take-over':
      return takeOver(world, decision)
    case 'end-missed-grace':
      throw new Error(`${decision.kind} is not applied here`)
    default:
      return decision satisfies never
  }
}

const refused = ({ failure }: Decision & { kind: 'refuse' }): Settlement => ({
  sync: [],
  then: () => {
    throw new Failed(failure)
  },
})

/** What an upcall must do before it answers, if grace is over and its end may not be durable yet. */
export const graceEndOwed = (world: World, { instance, isUnconfirmed }: Recorded): Settlement =>
  isUnconfirmed && instance.kind === 'full' ? finishGraceEnd(world, instance.start) : settled

type Change = Decision & { kind: 'confirm-grace-end' | 'record' | 'confirm-record' | 'forget' }

function change(world: World, recorded: Recorded, decision: Change): Settlement {
  switch (decision.kind) {
    case 'record':
      return recordClient(world, recorded, decision)
    case 'confirm-grace-end':
      return both(nowAsked(world, recorded, decision.instance.start), confirmGraceEnd(world, decision.legacyTop))
    case 'confirm-record':
      return { sync: [directoryOf(world.state, decision.instance.start)] }
    case 'forget':
      return forgetClient(world, recorded, decision.owner)
  }
}
