/**
 * A client becomes active, reclaims, or is gone.
 *
 * Each applied change is one call on one directory entry, so a kill leaves it done or not done. A record is written only
 * into the current instance's directory, and the end of grace removes only older ones, so no upcall can take away what
 * another has acknowledged. The newest entry decides, so an old one that a power cut brings back (btrfs does, after a
 * move) changes no verdict; taking a client away therefore syncs every directory that could bring it back.
 */
import { errorCode, Failed, quote } from '../failure.ts'
import { olderThan, type FullInstance, type PartialInstance, type Start } from '../rules/instance.ts'
import { mayNotReclaim, type Step } from '../rules/decide.ts'
import * as disk from '../syscalls/files.ts'
import * as instances from '../store/instances.ts'
import { legacyTopIn, removeLegacyRecord, usualTop } from '../store/v4recovery.ts'
import * as records from '../store/records.ts'
import type { Recorded } from '../store/layout.ts'
import { lookAt, storageFailure } from '../store/state-directory.ts'
import { showOwner, type ClientOwner } from '../upcall/owner.ts'
import { endGraceEarly } from './grace-end.ts'
import { settled, type Settlement, type World } from './world.ts'

/** Records a client in the current instance; a reclaiming client's record moves there. One barrier. */
export function recordClient(
  world: World,
  recorded: Recorded,
  { owner, session, principal, instance }: Omit<Step & { kind: 'record' }, 'kind'>,
): Settlement {
  const { state, log } = world
  const { starts, marks } = recorded
  const older = instance.kind === 'partial' ? olderThan(instance, starts) : []
  if (session !== true) forbidEarlyEnd(world, instance)
  const facts = {
    session,
    recorded: Math.floor(world.calls.now() / 1000),
    ...(principal === undefined ? {} : { principal }),
  }
  const put = (): records.Placed | undefined => records.place(state, { owner, facts }, instance.start, older)
  const placed = disk.tolerating(['ENOENT'], put, undefined) ?? restoreThen(world, instance.start, put)
  if (placed === undefined) throw storageFailure(`the directory of instance ${instance.start} goes again and again`)
  const keeps = placed.facts.principal !== undefined && placed.facts.principal !== principal
  log.debug(
    () =>
      `${showOwner(owner)} recorded in instance ${instance.start}${keeps ? ', with the principal that is known' : ''}`,
  )
  return {
    sync: [state.directoryOf(instance.start)],
    then: () => {
      for (const start of placed.dropLater) records.drop(state, owner, start)
      // The mark is made with the instance and only ever goes: not there at the first look, it never will be.
      if (session === true && instance.kind === 'partial' && marks(instance.start, 'may_end_early'))
        endGraceEarly(world, recorded, instance)
    },
  }
}

function restoreThen<T>({ state, log }: World, start: Start, work: () => T): T {
  log.error(`the directory of instance ${start} was missing under a running server: made it again`)
  instances.restoreDirectory(state, start)
  return work()
}

/** A client without a session never says that it is done. Before its record: so nobody can see one without the other. */
function forbidEarlyEnd({ state }: World, { kind, start }: FullInstance | PartialInstance): void {
  if (kind === 'partial')
    disk.tolerating(
      disk.cannotGrow,
      () => {
        instances.unmark(state, start, 'may_end_early')
      },
      undefined,
    )
}

/**
 * A client without a session may reclaim: that it has is its record in the current instance. One barrier.
 * The client is known, so it is not refused for want of space, nor on a read-only disk: then the log says that its
 * record stays behind, and that the client will be forgotten when grace ends.
 */
export function carryOver(world: World, instance: PartialInstance, owner: ClientOwner, from: Start): Settlement {
  const { state, log } = world
  try {
    forbidEarlyEnd(world, instance)
    if (!records.carryOver(state, owner, from, instance.start)) {
      // Another upcall has moved its record, or it is gone, or the directory to move it to.
      const { entry, in: where } = records.newestEntry(state, owner, [instance.start, from])
      if (entry.kind !== 'record') throw gone(owner)
      if (
        where === from &&
        !restoreThen(world, instance.start, () => records.carryOver(state, owner, from, instance.start))
      )
        throw gone(owner)
    }
  } catch (thrown) {
    const code = errorCode(thrown) ?? ''
    if (!disk.cannotGrow.includes(code)) throw thrown
    log.critical(
      `${showOwner(owner)} may reclaim, but its record can't be carried over (${code}): it is lost when grace ends`,
    )
    return settled
  }
  // Whoever woke up without the lock may have moved a record that the end of grace had already made worthless. A start in
  // between is no harm: the record counts where it was, and where it is.
  const { instance: now } = lookAt(state)
  if (now.kind !== 'partial' || (now.full !== undefined && now.full >= instance.start)) {
    records.drop(state, owner, instance.start)
    throw gone(owner)
  }
  return { sync: [state.directoryOf(instance.start)] }
}

const gone = (owner: ClientOwner): Failed => new Failed(mayNotReclaim(owner, 'grace ended meanwhile').failure)

/**
 * Takes a client out of every instance, and out of the kernel's own tracker's directories while they count. One barrier for
 * each directory that may bring it back: one, but in grace.
 */
export function forgetClient(world: World, recorded: Recorded, owner: ClientOwner): Settlement {
  const { state, log } = world
  // Oldest first: a record that moves meanwhile moves towards the newest.
  for (const start of recorded.starts) {
    const outcome = records.drop(state, owner, start)
    if (outcome === 'damaged' || outcome === 'newer')
      log.error(`the record of ${showOwner(owner)} in instance ${start} can't be understood: it allows nothing`)
  }
  log.debug(() => `${showOwner(owner)} forgotten`)
  return {
    sync: instances.mayComeBackIn(state, recorded),
    then: () => {
      forgetLegacy(world, recorded, owner)
    },
  }
}

function forgetLegacy({ state }: World, { instance, marks }: Recorded, owner: ClientOwner): void {
  if (instance.kind === 'full' && !marks(instance.start, 'unconfirmed')) return
  for (const top of new Set([legacyTopIn(state.path), usualTop]))
    if (!removeLegacyRecord(top, state.anywhere, owner))
      throw storageFailure(
        `the directory of ${showOwner(owner)} in ${quote(top)} does not go: it would let the client reclaim`,
      )
}
