/**
 * Upcalls: lock, look, decide, apply; then, without the lock, make durable, tell the kernel, clean up.
 *
 * The order is the safety argument. The kernel is told nothing that a power cut could undo: the status and downcalls
 * come after the barriers. Nothing slow is done under the lock: barriers of parallel upcalls share a journal commit,
 * and a downcall may run another upcall before it returns. The lock orders upcalls and guards nothing: each step is one
 * call, or a sequence of which every part leaves the reclaimable set right.
 *
 * Several requests are applied in order under one lock, and share their barriers. Each is decided on the state that
 * those before it have left, as if they had come one by one; what they can't have changed is not read again. A
 * request that throws leaves what a kill at that call leaves: a whole step, or a part of one that is right by
 * itself. The next is decided on that. What follows a barrier (`then`) waits only for the barriers of its own
 * request. A directory that could not be synced fails each request that needs it, and no other.
 */
import { errorCode, Failed, storageFailure } from '../failure.ts'
import { decide, type Before, type Decision, type Found } from '../rules/decide.ts'
import { reclaimableIn, type Instance, type PartialInstance } from '../rules/instance.ts'
import { markOf, type Recorded } from '../store/layout.ts'
import { locked } from '../store/lock.ts'
import { migrate } from '../store/migrate.ts'
import { directoryOf, openClients } from '../store/open-directories.ts'
import { newestEntry } from '../store/records.ts'
import { bootTimeOf, clientsOf, legacyCounts, lookAt, makeStateDirectory } from '../store/state-directory.ts'
import { noteGraceEnd } from '../store/untracked.ts'
import { hasLegacyRecord } from '../store/v4recovery.ts'
import * as disk from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { quote } from '../text.ts'
import type { ClientOwner } from '../upcall/owner.ts'
import type { Asked, ClientRequest, KernelBootTime, Request } from '../upcall/request.ts'
import { carryOver, takeOver } from './check.ts'
import { recordClient } from './create.ts'
import { confirmGraceEnd, endGrace, endMissedGrace, finishGraceEnd, nowAsked, syncReclaimed } from './grace-end.ts'
import { forgetClient } from './remove.ts'
import { beginAnew, standForUnseen, startInstance } from './start.ts'
import { takeBack } from './take-back.ts'
import { both, settled, type Settlement, type World } from './world.ts'

/**
 * Carries out one upcall. Returned: the transition survives a power cut, and the kernel has been told.
 * @throws Failed, or the file system's error: nothing was promised. Whatever was applied is a whole step, and the
 * upcall may be repeated.
 */
export function perform(world: World, request: Request): void {
  if (request.event === 'start') {
    startInstance(world, request, (work) => underLock(world, work))
    return
  }
  if (request.event === 'check' && request.session === 'has session') {
    // Most often it is only a verdict. That changes nothing, so it needs no lock.
    const recorded = lookAt(world.state)
    const verdict = decideOn(world, recorded, request)
    if (verdict.kind === 'allow' || verdict.kind === 'refuse') {
      apply(world, recorded, verdict)
      return
    }
  }
  if (request.event === 'grace-done') syncReclaimed(world)
  const [failure] = performAll(world, [request], 'upcall')
  if (failure !== undefined) throw failure
}

/** Records a server that runs and whose start was not seen: {@link standForUnseen}. */
export const performUnseen = (world: World, pipe: string): void => {
  standForUnseen(world, pipe, (work) => underLock(world, work))
}

/**
 * Carries out what is asked about clients, in this order: one lock, and one barrier a directory for all.
 *
 * Creates need no lock where the last look has found what they can't change ({@link staysSo}), and another look finds
 * the same: each is then one name in one directory. If an instance begins meanwhile, they came before it
 * (docs/locking.md). This saves a name that is made and removed: a tenth of the processor time of a Create at the pipe.
 * @returns for each of them undefined, if its transition survives a power cut, or what {@link perform} would have
 * thrown.
 */
export const performTogether = (world: World, requests: readonly ClientRequest[]): readonly (Error | undefined)[] =>
  performAll(world, requests, 'pipe')

/** @returns what there is; undefined, where the requests need the lock. */
function lookWithoutLock({ state }: World, requests: readonly Asked[]): Recorded | undefined {
  const seen = state.seen[0]
  if (seen === undefined || !staysSo(seen.recorded) || !requests.every(isCreate)) return undefined
  const recorded = lookAt(state)
  return recorded === seen.recorded || staysSo(recorded) ? recorded : undefined
}

const noFailure = (): Error | undefined => undefined

const isCreate = ({ event }: Asked): boolean => event === 'create'

/** A state directory that is wiped is begun anew so often, while a request waits. */
const mostRebuilds = 2

/**
 * Each function that is made here takes some two thousand instructions of every request.
 * @param by an upcall has the lock for all that it does, and what it fails of is taken back (take-back.ts).
 */
function performAll(world: World, requests: readonly Asked[], by: 'upcall' | 'pipe'): readonly (Error | undefined)[] {
  const { state } = world
  const failures = requests.map(noFailure)
  const applied: Settlement[] = []
  let rebuilds = 0
  while (applied.length < requests.length) {
    const first = applied.length
    try {
      if (openClients(state) === undefined && disk.kindAt(state.path, state.anywhere) === 'absent')
        if (requests.some(isCreate)) makeStateDirectory(state)
      const recorded = by === 'pipe' ? lookWithoutLock(world, requests) : undefined
      const wiped =
        recorded === undefined
          ? underLock(world, () => applyFrom(world, requests, applied, failures))
          : applyFrom(world, requests, applied, failures, recorded)
      if (wiped === undefined) break
      if (rebuilds++ === mostRebuilds) throw storageFailure(`${quote(state.path)} is removed again and again`)
      beginAnew(world, wiped.kernelBootTime)
    } catch (thrown) {
      for (let at = first; at < requests.length; at++) failures[at] ??= errorFrom(thrown)
      break
    }
  }
  settle(applied, failures)
  if (by === 'upcall')
    for (let at = 0; at < applied.length; at++) {
      const put = applied[at]?.put
      if (put !== undefined && failures[at] !== undefined) takeBack(world, put)
    }
  return failures
}

/**
 * Goes on where `applied` ends.
 * @param recorded what there is, where that has been looked at, and {@link staysSo}.
 * @returns the decision that stops it: the state directory has been wiped.
 */
function applyFrom(
  world: World,
  requests: readonly Asked[],
  applied: Settlement[],
  failures: (Error | undefined)[],
  recorded?: Recorded,
): (Decision & { kind: 'rebuild' }) | undefined {
  // The same for as long as what there is, is.
  let stays = recorded !== undefined
  while (applied.length < requests.length)
    try {
      const request = requests[applied.length]
      if (request === undefined) break
      if (recorded === undefined) {
        recorded = lookInPresentFormat(world, request)
        stays = staysSo(recorded)
      }
      const settlement = decideAndApply(world, recorded, request)
      if ('kind' in settlement) return settlement
      applied.push(settlement)
      if (!stays) recorded = undefined
    } catch (thrown) {
      recorded = undefined
      failures[applied.length] = errorFrom(thrown)
      applied.push(settled)
    }
  return undefined
}

/**
 * Whether the next request is decided on the same look. Once the end of grace is durable, a client's request changes
 * records, and none of the names that decide. What another process changes meanwhile has no lock: it might as well have
 * come after the request, as it does where two upcalls run at once.
 */
const staysSo = ({ instance, marks }: Recorded): boolean =>
  instance.kind === 'full' && !marks(instance.start, 'unconfirmed')

const errorFrom = (thrown: unknown): Error => (thrown instanceof Error ? thrown : new Error(String(thrown)))

function failureOf<T>(work: (on: T) => void, on: T): Error | undefined {
  try {
    work(on)
    return undefined
  } catch (thrown) {
    return errorFrom(thrown)
  }
}

/**
 * Each directory is synced once, whoever needs it: a second fsync would not tell of what the first has failed to write.
 */
function settle(applied: readonly Settlement[], failures: (Error | undefined)[]): void {
  const synced: Directory[] = []
  const outcomes: (Error | undefined)[] = []
  for (let at = 0; at < applied.length; at++) {
    const sync = applied[at]?.sync ?? []
    for (let which = 0; which < sync.length; which++) {
      const directory = sync[which]
      if (directory === undefined || failures[at] !== undefined) continue
      let known = synced.indexOf(directory)
      if (known < 0) {
        known = synced.push(directory) - 1
        outcomes.push(failureOf(disk.sync, directory))
      }
      failures[at] = outcomes[known]
    }
  }
  for (let at = 0; at < applied.length; at++) {
    const then = applied[at]?.then
    if (then !== undefined) failures[at] ??= failureOf(then, undefined)
  }
}

const underLock = <T>({ state, log, deadline }: World, work: () => T): T =>
  locked(
    state,
    {
      assertTimeLeft: () => {
        deadline.assertTimeLeft('waiting for the lock')
      },
      passedBy: (because) => {
        log.warning(`goes on without the lock: ${because}`)
      },
    },
    work,
  )

/** What is left to be done without the lock; or the decision that the state directory must be begun anew first. */
type Applied = Settlement | (Decision & { kind: 'rebuild' })

function decideAndApply(world: World, recorded: Recorded, request: Asked): Applied {
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
 * Ends the grace that the kernel has left without us, then decides anew. Refused or not, that end is made durable
 * first.
 */
function afterMissedGrace(world: World, recorded: Recorded, request: Asked, instance: PartialInstance): Applied {
  let ended: Settlement
  try {
    ended = endMissedGrace(world, instance)
  } catch (thrown) {
    noteUnrecordedEnd(world, instance, thrown)
    if (request.event !== 'check') throw thrown
    // A check must be answered, so it is decided as if the end had been written.
    const asIf: Recorded = { ...recorded, instance: { kind: 'full', start: instance.start }, marks: () => false }
    const applied = apply(world, asIf, decideOn(world, asIf, request))
    if (applied === 'elsewhere') throw thrown
    return applied
  }
  // What the kernel's own tracker has recorded counts no more, also where it is not cleared yet.
  const later = request.event === 'check' ? { ...request, legacyRecord: undefined } : request
  try {
    // A start may have come meanwhile, whose grace the kernel has left too.
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

/** Its end is not on the disk, and nothing may tell us of it again. */
function noteUnrecordedEnd({ state, log }: World, { start }: PartialInstance, thrown: unknown): void {
  // A later instance has completed its grace: nothing of this one counts any more.
  if (thrown instanceof Failed && thrown.failure.kind === 'other-instance') return
  const unnoted = noteGraceEnd(state, start)
  log.critical(
    `the end of grace could not be recorded (${String(thrown)}): ` +
      'if it is not recorded before the next start, nobody may reclaim then' +
      (unnoted === undefined ? '' : `; nor can that be noted (${unnoted}): see to it`),
  )
}

/** Brings format 1 to the present one, unless there is no space: then a check is answered by what is there. */
function lookInPresentFormat({ state, log }: World, { event }: Asked): Recorded {
  const recorded = lookAt(state)
  if (recorded.format === 2) return recorded
  try {
    migrate(state, recorded)
  } catch (thrown) {
    if (event !== 'check' || !disk.cannotGrow.includes(errorCode(thrown) ?? '')) throw thrown
    log.warning(`the state directory stays in format 1: it could not be converted (${String(thrown)})`)
  }
  return lookAt(state)
}

const decideOn = (world: World, recorded: Recorded, request: Asked): Decision =>
  decide(new Looked(world, recorded), request)

/** What is recorded. A class, because most requests ask for little of it, and each function made takes its time. */
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
    // A later start may have swept it, and its mark: then nobody can ask about it any more.
    const isGone = (name: string): boolean => disk.lookAtName(name, clientsOf(state)) === undefined
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

  newestRecord(owner: ClientOwner): Found {
    const found = this.newestRecordOnce(owner)
    // Another upcall may have moved it meanwhile, from a place not yet looked at to one already looked at.
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

/** @returns 'elsewhere', if what it was decided on is so no more, and nothing has been done. */
function apply(world: World, recorded: Recorded, decision: Decision): Applied | 'elsewhere' {
  switch (decision.kind) {
    case 'refuse':
      throw new Failed(decision.failure)
    case 'rebuild':
      return decision
    case 'allow':
      return settled
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
    case 'confirm-grace-end':
    case 'record':
    case 'confirm-record':
    case 'forget':
      return both(graceEndOwed(world, recorded), change(world, recorded, decision))
    case 'end-missed-grace':
      throw new Error(`${decision.kind} is not applied here`)
    default:
      return decision satisfies never
  }
}

/** What any upcall owes that finds grace over, when nobody has made sure that its end is on the disk. */
export const graceEndOwed = (world: World, { instance, marks }: Recorded): Settlement =>
  instance.kind === 'full' && marks(instance.start, 'unconfirmed') ? finishGraceEnd(world, instance.start) : settled

type Change = Decision & { kind: 'confirm-grace-end' | 'record' | 'confirm-record' | 'forget' }

function change(world: World, recorded: Recorded, decision: Change): Settlement {
  switch (decision.kind) {
    case 'confirm-grace-end':
      return both(nowAsked(world, recorded, decision.instance.start), confirmGraceEnd(world, decision.legacyTop))
    case 'record':
      return recordClient(world, recorded, decision)
    case 'confirm-record':
      return { sync: [directoryOf(world.state, decision.instance.start)] }
    case 'forget':
      return forgetClient(world, recorded, decision.owner)
  }
}
