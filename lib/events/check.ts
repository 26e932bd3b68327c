/**
 * May this client reclaim? If it has a session, the answer is all: the client says when it is done, and `create`
 * follows. If it has none, the answer also records that it has reclaimed, because nothing more will come.
 *
 * That record is the old one, moved into the current instance's directory by one rename. A rename needs no space. A
 * known client is not refused because the disk is full, nor because it is read-only: then the log says that its record
 * stays behind, and that the client will be forgotten when grace ends. One barrier.
 *
 * The lock guards nothing, so grace may end after the decision. The end is one rename, and the check looks for it after
 * the move. If it sees the end, it removes the record again and refuses the client. If it does not, the move came
 * first, and the record counted at that moment. A start in between does no harm: the record counts in its old place and
 * in its new one.
 *
 * A client that only the kernel's own tracker has recorded has no record that could move. It gets a new one, and the
 * check looks once more for the directory that lets it reclaim, which a `remove` or an end of grace takes away.
 *
 * Only a record that the check has put there itself is taken back: another upcall has promised what it has recorded.
 */
import { errorCode, Failed } from '../failure.ts'
import { mayNotReclaim, type Decision } from '../rules/decide.ts'
import { directoryOf } from '../store/open-directories.ts'
import { newestEntry } from '../store/records.ts'
import * as records from '../store/records.ts'
import { lookAt } from '../store/state-directory.ts'
import { hasLegacyRecord } from '../store/v4recovery.ts'
import * as files from '../syscalls/files.ts'
import { showOwner, type ClientOwner } from '../upcall/owner.ts'
import { forbidEarlyEnd, withDirectory } from './create.ts'
import { begins, settled, type Put, type Settlement, type World } from './world.ts'

/**
 * A client without a session may reclaim, so its record moves.
 * @returns 'elsewhere', if it was moved or removed meanwhile, so that the caller must decide again
 */
export function carryOver(
  world: World,
  { instance, owner, from }: Decision & { kind: 'carry-over' },
): Settlement | 'elsewhere' {
  const { state, log } = world
  const move = (): boolean => records.move(state, owner, from, instance.start)
  try {
    forbidEarlyEnd(world, instance)
    begins(world, { kind: 'put', owner, in: instance.start, from })
    if (!move()) {
      // Another upcall has moved or removed its record, or the target directory is missing.
      const { entry, in: where } = newestEntry(state, owner, [instance.start, from])
      if (entry.kind !== 'record' || where !== from) return 'elsewhere'
      if (!withDirectory(world, instance.start, move)) return 'elsewhere'
    }
  } catch (thrown) {
    const code = errorCode(thrown) ?? ''
    if (!files.cannotGrow.includes(code)) throw thrown
    log.critical(
      `${showOwner(owner)} may reclaim, but its record can't be carried over (${code}): it is lost when grace ends`,
    )
    return settled
  }
  return confirmed(world, { owner, in: instance.start, from }, () => {
    const { instance: now } = lookAt(state)
    return now.kind === 'partial' && (now.full === undefined || now.full < instance.start)
  })
}

/**
 * A client of the kernel's own tracker may reclaim and has no session, so it gets a record.
 * @returns 'elsewhere', if another upcall has recorded it meanwhile: this one must not take back that record
 */
export function takeOver(
  world: World,
  { instance, owner, legacyRecord }: Decision & { kind: 'take-over' },
): Settlement | 'elsewhere' {
  const { calls, state, log } = world
  forbidEarlyEnd(world, instance)
  const facts = { session: 'no session' as const, recorded: Math.floor(calls.now() / 1000) }
  begins(world, { kind: 'put', owner, in: instance.start, from: 'nowhere' })
  const make = (): 'made' | 'taken' | undefined => records.make(state, { owner, facts }, instance.start)
  const done = files.tolerating(['ENOENT'], make, undefined) ?? withDirectory(world, instance.start, make)
  if (done !== 'made') return 'elsewhere'
  log.debug?.(`${showOwner(owner)} taken over into instance ${instance.start}`)
  return confirmed(world, { owner, in: instance.start, from: 'nowhere' }, () =>
    hasLegacyRecord(legacyRecord, state.anywhere),
  )
}

/**
 * Makes sure that the client's record was made in time. @param stillMay whether what let the client reclaim is still
 * there
 */
function confirmed(world: World, put: Put, stillMay: () => boolean): Settlement {
  try {
    return stillMay() ? { sync: [directoryOf(world.state, put.in)], put } : takenBack(world, put)
  } catch (thrown) {
    return {
      sync: [],
      then: () => {
        throw thrown
      },
      put,
    }
  }
}

/** What let the client reclaim was gone when the record was made. So the record is removed, durably. */
function takenBack({ state }: World, { owner, in: start }: Put): Settlement {
  records.drop(state, owner, start)
  return {
    sync: [directoryOf(state, start)],
    then: () => {
      throw gone(owner)
    },
  }
}

const gone = (owner: ClientOwner): Failed =>
  new Failed(mayNotReclaim(owner, 'meanwhile grace ended, or it was removed').failure)
