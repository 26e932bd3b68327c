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
import { Failed, storageFailure } from '../failure.ts'
import type { Decision } from '../rules/decide.ts'
import { forgetBegun, lookForNotes, openForNotes } from '../store/begun.ts'
import type { OwnIntentLog } from '../store/intent-log.ts'
import { staysSo, type Recorded } from '../store/layout.ts'
import { locked, type LockOptions } from '../store/lock.ts'
import { directoryOf, openClients } from '../store/open-directories.ts'
import { closeIntentLog, emptyIntentLog, isLogged } from '../store/own-intent-log.ts'
import { glanceAt, lookAt, makeStateDirectory, type StateDirectory } from '../store/state-directory.ts'
import { forgetGraceEnd, noteGraceEnd } from '../store/untracked.ts'
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { quote } from '../text.ts'
import type { Asked, ClientRequest, Request } from '../upcall/request.ts'
import { decideAndApply, decideOn, graceEndOwed, lookInPresentFormat } from './apply.ts'
import { syncReclaimed } from './grace-end.ts'
import { beginAnew, standForUnseen, startInstance } from './start.ts'
import { takeBack } from './take-back.ts'
import { begins, settled, unnotedIn, type Settlement, type World } from './world.ts'

/**
 * Carries out one upcall. Returned: the transition survives a power cut, and the kernel has been told.
 * @throws Failed, or the file system's error: nothing was promised. Whatever was applied is a whole step, and the
 * upcall may be repeated.
 */
export function perform(world: World, request: Request): void {
  closeIntentLog(world.state)
  if (request.event === 'start') {
    startInstance(world, request, (work) => underLock(world, work))
    return
  }
  if (request.event === 'check' && request.session === 'has session') {
    // Most often it is only a verdict. That changes nothing, so it needs no lock.
    const recorded = glanceAt(world.state)
    const verdict = decideOn(world, recorded, request)
    if (graceEndOwed(world, recorded) === settled) {
      if (verdict.kind === 'refuse') throw new Failed(verdict.failure)
      if (verdict.kind === 'allow') return
    }
  }
  if (request.event === 'grace-done') {
    performGraceEnd(world, request)
    return
  }
  if (request.event === 'remove') begins(world, { kind: 'remove', owner: request.owner })
  else if (world.isUpcall) openForNotes(world.state)
  const [failure] = performAll(world, [request], 'upcall')
  if (failure !== undefined) throw failure
}

/** The kernel ignores how this ends. So it is noted before anything else. */
function performGraceEnd(world: World, request: Request & { event: 'grace-done' }): void {
  const { state, isUpcall } = world
  const recorded = lookAt(state)
  const noted =
    isUpcall && decideOn(world, recorded, request).kind === 'end-grace' && recorded.instance.kind === 'partial'
      ? recorded.instance.start
      : undefined
  const unnoted = noted === undefined ? undefined : noteGraceEnd(state, noted, request.legacyTop)
  if (unnoted !== undefined) world.log.warning(unnotedIn(state, unnoted))
  syncReclaimed(world)
  const [failure] = performAll(world, [request], 'upcall')
  const isOther = failure instanceof Failed && failure.failure.kind === 'other-instance'
  if (noted !== undefined && (isOther || failure === undefined)) forgetGraceEnd(state, noted)
  // A start that came meanwhile may have found the note, and ended that grace.
  if (isOther && noted !== undefined && lookAt(state).marks(noted, 'full')) return
  if (failure !== undefined) throw failure
}

/** The last step of a success: what was noted is over. @returns why it is no success, if it is none */
function unpromised({ state, log }: World, request: Asked): Error | undefined {
  if (request.event === 'grace-done' || !promisesRecord(request)) return undefined
  const stays = forgetBegun(state, request.owner)
  if (stays === undefined) return undefined
  const what = `the note of this upcall in ${quote(state.runDirectory)} can't be removed (${stays})`
  // To remove the client once more does no harm.
  if (request.event !== 'remove') return storageFailure(`${what}: the next start would take the record back`)
  log.warning(what)
  return undefined
}

/** Whether its success says that the client is recorded, or is not. */
const promisesRecord = (request: ClientRequest): boolean =>
  request.event !== 'check' || request.session !== 'has session'

/** Records a server that was already running when `serve` began: {@link standForUnseen}. */
export const performUnseen = (world: World, pipe: string): void => {
  closeIntentLog(world.state)
  standForUnseen(world, pipe, (work) => underLock(world, work))
}

/**
 * Carries out what is asked about clients, in this order: one lock at most, and one barrier a directory for all.
 * @returns for each of them undefined, if its transition survives a power cut, or what {@link perform} would have
 * thrown.
 */
export const performTogether = (world: World, requests: readonly ClientRequest[]): readonly (Error | undefined)[] =>
  performAll(world, requests, 'pipe')

/**
 * Creates need no lock once the end of grace is durable ({@link staysSo}): each is then one name in one directory. If
 * an instance begins meanwhile, they came before it (docs/locking.md). This saves a name that is made and removed: a
 * third of the processor time of many creates at once, a tenth of a Create's at the pipe.
 * @returns what is recorded; undefined, if the requests need the lock
 */
function lookWithoutLock({ state }: World, requests: readonly Asked[]): Recorded | undefined {
  const { seen } = state
  if (seen !== undefined && !staysSo(seen.recorded)) return undefined
  // `every` takes as much as the rest of this.
  for (let at = 0; at < requests.length; at++) if (requests[at]?.event !== 'create') return undefined
  const recorded = lookAt(state)
  return recorded === seen?.recorded || staysSo(recorded) ? recorded : undefined
}

const isCreate = ({ event }: Asked): boolean => event === 'create'

/** How many times a request begins a wiped state directory anew before it fails. */
const mostRebuilds = 2

/**
 * Loops, and no functions as values: making one takes some two thousand instructions for every request.
 * @param by an upcall takes its record back if it fails (take-back.ts)
 */
function performAll(world: World, requests: readonly Asked[], by: 'upcall' | 'pipe'): readonly (Error | undefined)[] {
  const { state } = world
  const failures: (Error | undefined)[] = []
  for (let at = 0; at < requests.length; at++) failures[at] = undefined
  const applied: Settlement[] = []
  let rebuilds = 0
  while (applied.length < requests.length) {
    const first = applied.length
    try {
      if (openClients(state) === undefined && files.kindAt(state.path, state.anywhere) === 'absent')
        if (requests.some(isCreate)) makeStateDirectory(state)
      const recorded = lookWithoutLock(world, requests)
      const wiped =
        recorded === undefined
          ? underLock(world, () => applyFrom(world, requests, applied, failures))
          : applyFrom(world, requests, applied, failures, recorded)
      if (wiped === undefined) break
      closeIntentLog(state)
      if (rebuilds++ === mostRebuilds) throw storageFailure(`${quote(state.path)} is removed again and again`)
      beginAnew(world, wiped.kernelBootTime)
    } catch (thrown) {
      for (let at = first; at < requests.length; at++) failures[at] ??= errorFrom(thrown)
      break
    }
  }
  settle(state, applied, failures)
  // `serve` notes nothing, but an upcall about the same client may have been killed before.
  const mayBeNoted = by === 'upcall' ? world.isUpcall : lookForNotes(state)
  for (let at = 0; at < applied.length; at++) {
    const request = requests[at]
    if (mayBeNoted && request !== undefined && failures[at] === undefined) failures[at] = unpromised(world, request)
    const put = by === 'upcall' ? applied[at]?.put : undefined
    if (put !== undefined && failures[at] !== undefined) takeBack(world, put)
  }
  return failures
}

/**
 * Applies the requests after those that are in `applied` already.
 * @param recorded what is recorded, if the caller has found that it {@link staysSo}
 * @returns the decision to begin the state directory anew, if it was wiped
 */
function applyFrom(
  world: World,
  requests: readonly Asked[],
  applied: Settlement[],
  failures: (Error | undefined)[],
  recorded?: Recorded,
): (Decision & { kind: 'rebuild' }) | undefined {
  // Whether `recorded` holds for the next request too.
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
      if (settlement.kind !== undefined) return settlement
      applied.push(settlement)
      if (!stays) recorded = undefined
    } catch (thrown) {
      recorded = undefined
      failures[applied.length] = errorFrom(thrown)
      applied.push(settled)
    }
  return undefined
}

const errorFrom = (thrown: unknown): Error => (thrown instanceof Error ? thrown : new Error(String(thrown)))

function failureOf<T>(work: (on: T) => void, on: T): Error | undefined {
  try {
    work(on)
    return undefined
  } catch (thrown) {
    return errorFrom(thrown)
  }
}

/** Makes durable what was applied, then does what must follow. */
function settle(state: StateDirectory, applied: readonly Settlement[], failures: (Error | undefined)[]): void {
  const { intents } = state
  if (intents === undefined) sync(applied, failures)
  else if (!areLogged(state, intents, applied, failures)) syncBesideLog(state, intents, applied, failures)
  for (let at = 0; at < applied.length; at++) {
    const then = applied[at]?.then
    if (then !== undefined) failures[at] ??= failureOf(then, undefined)
  }
}

/** Makes everything durable by one write to the intent log, if each transition is one change in its directory. */
function areLogged(
  state: StateDirectory,
  log: OwnIntentLog,
  applied: readonly Settlement[],
  failures: readonly (Error | undefined)[],
): boolean {
  const directory = state.instances.get(log.start)?.directory
  let changes = ''
  for (let at = 0; at < applied.length; at++) {
    const settlement = applied[at]
    if (settlement === undefined || failures[at] !== undefined) continue
    const { sync, change } = settlement
    if (sync.length === 0) continue
    if (change === undefined || sync.length > 1 || sync[0] !== directory) return false
    changes += change
  }
  return changes === '' || isLogged(state, log, changes)
}

/** Makes everything durable where it is, and empties the intent log: no entry may undo it. */
function syncBesideLog(
  state: StateDirectory,
  log: OwnIntentLog,
  applied: readonly Settlement[],
  failures: (Error | undefined)[],
): void {
  const synced = sync(applied, failures)
  const directory = directoryOf(state, log.start)
  const failure =
    (directory && syncedOnce(directory, synced).failure) ??
    failureOf((on) => {
      emptyIntentLog(on, log)
    }, state)
  for (let at = 0; at < applied.length; at++) failures[at] ??= failure
}

/**
 * Syncs each directory once, even if several requests need it: a second fsync would not report what the first failed to
 * write.
 * @returns all that were synced
 */
function sync(applied: readonly Settlement[], failures: (Error | undefined)[]): Synced | undefined {
  /** Not an array: most often all need the same one directory. */
  let last: Synced | undefined
  for (let at = 0; at < applied.length; at++) {
    const sync = applied[at]?.sync ?? []
    for (let which = 0; which < sync.length; which++) {
      const directory = sync[which]
      if (directory === undefined || failures[at] !== undefined) continue
      const synced = syncedOnce(directory, last)
      if (synced.before === last) last = synced
      failures[at] = synced.failure
    }
  }
  return last
}

/** @param last those that were synced before */
function syncedOnce(directory: Directory, last: Synced | undefined): Synced {
  for (let synced = last; synced !== undefined; synced = synced.before)
    if (synced.directory === directory) return synced
  return { directory, failure: failureOf(files.sync, directory), before: last }
}

interface Synced {
  readonly directory: Directory
  readonly failure: Error | undefined
  readonly before: Synced | undefined
}

const underLock = <T>(world: World, work: () => T): T => locked(world.state, new Waiting(world), work)

/** A class: three functions, made anew for each request, would be a sixtieth of a create. */
class Waiting implements LockOptions {
  private readonly world: World

  constructor(world: World) {
    this.world = world
  }

  assertTimeLeft(): void {
    this.world.deadline.assertTimeLeft('waiting for the lock')
  }

  passedBy(because: string): void {
    this.world.log.warning(`goes on without the lock: ${because}`)
  }

  stays(because: string): void {
    this.world.log.warning(`the lock can't be removed: ${because}`)
  }
}
