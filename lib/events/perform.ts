/**
 * One upcall: lock, look, decide, apply; then, without the lock, make durable, tell the kernel, tidy up.
 *
 * The order is the safety argument. Nothing is said to the kernel that a power cut could unsay: status and downcalls
 * come after the barriers. Nothing slow is done under the lock: barriers of parallel upcalls share a journal commit, and
 * a downcall may run another upcall before it returns. The lock orders upcalls and guards nothing: whatever a step
 * applies is one call, or a sequence of which every part leaves the reclaimable set right.
 */
import { errorCode, Failed, quote } from '../failure.ts'
import { reclaimableIn } from '../rules/instance.ts'
import { step, type Found, type Step } from '../rules/decide.ts'
import * as disk from '../syscalls/files.ts'
import * as instances from '../store/instances.ts'
import { hasLegacyRecord } from '../store/v4recovery.ts'
import { locked } from '../store/lock.ts'
import { migrate } from '../store/migrate.ts'
import { newestEntry } from '../store/records.ts'
import type { Recorded } from '../store/layout.ts'
import { legacyCounts, lookAt, makeStateDirectory, toldAtStart } from '../store/state-directory.ts'
import { carryOver, forgetClient, recordClient } from './client.ts'
import { confirmGraceEnd, endGrace, toldAfterAll } from './grace-end.ts'
import { startInstance } from './start.ts'
import { unconfirmedGraceEnd } from './unconfirmed.ts'
import { both, settled, type Settlement, type World } from './world.ts'
import type { ClientOwner } from '../upcall/owner.ts'
import type { Request } from '../upcall/request.ts'

/**
 * Carries out one upcall. Returned: the transition survives a power cut, and the kernel has been told.
 * @throws Failed, or the file system's error: nothing was promised. Whatever was applied is a whole step, and the upcall
 * may be repeated.
 */
export function run(world: World, request: Request): void {
  const { state, log, deadline } = world
  const underLock = <T>(work: () => T): T =>
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

  if (request.event === 'start') {
    startInstance(world, request.told, underLock, request.askedBy)
    return
  }
  if (request.event === 'check' && request.session) {
    // Most often a verdict only, which changes nothing and so needs no order among others.
    const recorded = lookAt(state)
    const verdict = decide(world, recorded, request)
    if (verdict.kind === 'allow' || verdict.kind === 'refuse') {
      apply(world, recorded, verdict)
      return
    }
  }
  if (
    request.event === 'create' &&
    state.clients() === undefined &&
    disk.kindAt(state.path, state.anywhere) === 'absent'
  )
    makeStateDirectory(state)
  if (request.event === 'grace-done') syncReclaimed(world)
  // Twice at most: a wiped state directory is begun anew, then the upcall is decided on what is there.
  for (let attempt = 0; attempt < 3; attempt++) {
    const applied = underLock(() => decideAndApply(world, request))
    if (applied !== 'wiped') {
      settle(applied)
      return
    }
    instances.rebuild(state, world.calls.now(), request.event === 'create' ? request.told : undefined)
    log.error('nothing was recorded under a running server: began anew, and earlier clients may not reclaim')
  }
  throw new Failed({ kind: 'storage', atStart: false, what: `${quote(state.path)} is wiped again and again` })
}

function settle({ sync, then }: Settlement): void {
  for (const directory of new Set(sync)) if (directory !== undefined) disk.sync(directory)
  then?.()
}

/**
 * Moves that have been seen, but not synced by the upcalls that made them, are synced before what they were moved from
 * loses its meaning: the end of grace may be our own doing, because nobody was left.
 */
function syncReclaimed({ state }: World): void {
  const { instance } = lookAt(state)
  const directory = instance.kind === 'partial' ? state.of(instance.start) : undefined
  if (directory !== undefined) disk.sync(directory)
}

function decideAndApply(world: World, request: Request): Settlement | 'wiped' {
  const recorded = lookInPresentFormat(world, request)
  const decision = decide(world, recorded, request)
  if (decision.kind !== 'end-missed-grace') return apply(world, recorded, decision)

  // The kernel is out of grace before its own `gracedone` has run, so most often nothing is wrong: if none comes, the next
  // start says so.
  const { state, log } = world
  log.notice(
    'the kernel is out of grace, and we have not been told yet: ending it here, unreclaimed clients may not reclaim any more',
  )
  let ended: Settlement
  try {
    disk.tolerating(
      disk.cannotGrow,
      () => {
        instances.mark(state, decision.instance.start, 'unasked')
      },
      undefined,
    )
    ended = endGrace(world, decision.instance, undefined)
  } catch (thrown) {
    if (request.event !== 'check') throw thrown
    // A check must be answered: as if the end had been written.
    log.critical(`grace could not be ended on the disk (${String(thrown)}): mend it before the next start`)
    const asIf: Recorded = {
      ...recorded,
      instance: { kind: 'full', start: decision.instance.start },
      marks: () => false,
    }
    return apply(world, asIf, decide(world, asIf, request))
  }
  const afterwards = lookAt(state)
  try {
    const applied = apply(world, afterwards, decide(world, afterwards, request))
    return applied === 'wiped' ? applied : both(ended, applied)
  } catch (thrown) {
    // Refused or not, the end of grace is made durable first.
    return both(ended, {
      sync: [],
      then: () => {
        throw thrown
      },
    })
  }
}

/** Brings format 1 to the present one, unless there is no room: then a check is answered by what is there. */
function lookInPresentFormat({ state, log }: World, { event }: Request): Recorded {
  const recorded = lookAt(state)
  if (recorded.format === 2) return recorded
  try {
    migrate(state)
  } catch (thrown) {
    if (event !== 'check' || !disk.cannotGrow.includes(errorCode(thrown) ?? '')) throw thrown
    log.warning(`the state directory is in format 1, and can't be brought to the present one (${String(thrown)})`)
  }
  return lookAt(state)
}

function decide({ state, nfsd }: World, { instance, starts, marks }: Recorded, request: Request): Step {
  const reclaimable = reclaimableIn(instance, starts)
  const newestRecord = (owner: ClientOwner): Found => {
    const { entry, in: start } = newestEntry(state, owner, reclaimable)
    return start === undefined || entry.kind === 'nothing' ? { kind: 'nothing' } : { kind: entry.kind, in: start }
  }
  return step(
    {
      instance,
      told: () => ('start' in instance ? toldAtStart(state, instance.start) : undefined),
      graceIsOverInKernel: () => nfsd.grace() === 'over',
      hasLegacyRecord: (path) => legacyCounts({ instance, marks }) && hasLegacyRecord(path, state.anywhere),
      newestRecord: (owner) => {
        const found = newestRecord(owner)
        // Beside another upcall it may have moved from a place not yet looked at to one already passed.
        return found.kind === 'nothing' ? newestRecord(owner) : found
      },
    },
    request,
  )
}

function apply(world: World, recorded: Recorded, decision: Step): Settlement | 'wiped' {
  switch (decision.kind) {
    case 'refuse':
      throw new Failed(decision.failure)
    case 'rebuild':
      return 'wiped'
    case 'allow':
      return settled
    case 'nothing-to-do':
      world.log.warning(`no server instance is recorded in ${quote(world.state.path)}: nothing to do`)
      return settled
    case 'end-grace':
      return both(
        endGrace(world, decision.instance, decision.legacyTop),
        toldAfterAll(world, recorded, decision.instance.start),
      )
    case 'confirm-grace-end':
      return both(
        unconfirmedGraceEnd(world, recorded),
        confirmGraceEnd(world, decision.instance.start, decision.legacyTop),
      )
    case 'record':
      return both(
        unconfirmedGraceEnd(world, recorded),
        recordClient(world, recorded, decision.instance, decision.owner, decision.session),
      )
    case 'confirm-record':
      return both(unconfirmedGraceEnd(world, recorded), { sync: [world.state.of(decision.instance.start)] })
    case 'forget':
      return both(unconfirmedGraceEnd(world, recorded), forgetClient(world, recorded, decision.owner))
    case 'carry-over':
      return carryOver(world, decision.instance, decision.owner, decision.from)
    case 'start-instance':
    case 'end-missed-grace':
      throw new Error(`${decision.kind} is not applied here`)
    default:
      return decision satisfies never
  }
}

export const perform = run
export function performTogether(world: World, requests: readonly Request[]): readonly unknown[] {
  return requests.map((request) => {
    try {
      run(world, request)
      return undefined
    } catch (thrown) {
      return thrown
    }
  })
}
