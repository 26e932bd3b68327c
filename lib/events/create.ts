/**
 * A client becomes active: it is new, or has reclaimed and said so.
 *
 * One call makes its record in the current instance's directory, or moves it there. So a kill leaves it done or not
 * done. The end of grace removes only older records, so no upcall can remove what another has acknowledged. The newest
 * entry decides, so an old one that a power cut brings back (btrfs does, after a move) changes no verdict. One barrier.
 *
 * Before a client without a session is recorded, its instance loses the mark `may_end_early`. So no upcall can see the
 * record together with the mark, and end grace while such a client still reclaims: unless a full disk keeps the mark
 * (`forbidEarlyEnd`), and that costs this client what it has not reclaimed yet, and nobody else anything.
 */
import { errorCode, storageFailure } from '../failure.ts'
import type { Decision } from '../rules/decide.ts'
import { olderThan, type PartialInstance, type Start } from '../rules/instance.ts'
import { forgetBegun } from '../store/begun.ts'
import type { Recorded } from '../store/layout.ts'
import { unmark } from '../store/marks.ts'
import { openAnew } from '../store/open-directories.ts'
import * as records from '../store/records.ts'
import { clientsOf, lookAt, makeStateDirectory, type StateDirectory } from '../store/state-directory.ts'
import * as files from '../syscalls/files.ts'
import { showOwner } from '../upcall/owner.ts'
import { endGraceEarly } from './grace-end.ts'
import { begins, type Settlement, type World } from './world.ts'

type ToPut = Pick<Decision & { kind: 'record' }, 'client' | 'instance'>

/** Records a client in the current instance. */
export function recordClient(world: World, recorded: Recorded, decision: ToPut): Settlement {
  const {
    client: { owner, session, principal },
    instance,
  } = decision
  const { start } = instance
  const older = instance.kind === 'partial' ? olderThan(instance, recorded.starts) : nowhereOlder
  // A client whose session is unknown may never say that it is done.
  if (instance.kind === 'partial' && session !== 'has session') forbidEarlyEnd(world, instance)
  const recordedAt = Math.floor(world.calls.now() / 1000)
  const facts =
    principal === undefined ? { session, recorded: recordedAt } : { session, recorded: recordedAt, principal }
  const client = { owner, facts }
  let done: records.Put | undefined
  try {
    done = put(world, client, start, older)
  } catch (thrown) {
    if (errorCode(thrown) !== 'ENOENT') throw thrown
  }
  done ??= withDirectory(world, start, () => put(world, client, start, older))
  if (done === undefined) throw storageFailure(`the directory of instance ${start} is removed again and again`)
  const keeps = done.facts.principal !== principal
  world.log.debug?.(
    `${showOwner(owner)} recorded in instance ${start}${keeps ? ', with the principal that is known' : ''}`,
  )
  const { directory, dropLater, from, change } = done
  const sync = [directory]
  const where = from === undefined ? undefined : { owner, in: start, from }
  if (dropLater.length === 0 && session !== 'has session') return { sync, put: where, change }
  return { sync, put: where, then: afterwards(world, recorded, decision, dropLater) }
}

const nowhereOlder: readonly Start[] = []

/** Only an upcall gets a function that notes what it begins: making one takes as long as the rest of this. */
const put = (
  world: World,
  client: records.ClientFacts,
  start: Start,
  older: readonly Start[],
): records.Put | undefined =>
  world.isUpcall
    ? records.put(world.state, client, start, older, (from) => {
        begins(world, { kind: 'put', owner: client.owner, in: start, from })
      })
    : records.put(world.state, client, start, older)

/**
 * What follows when the record is durable. It fails no create: that would take the record back (take-back.ts), when the
 * older one, which would then count again, may be gone. An older record that stays means nothing beside the newer one.
 */
const afterwards =
  (world: World, recorded: Recorded, { client: { owner, session }, instance }: ToPut, dropLater: readonly Start[]) =>
  (): void => {
    // What follows relies on the record. While there is a note, the record may still be taken back.
    const isFinal = (): boolean => !world.isUpcall || forgetBegun(world.state, owner) === undefined
    try {
      if (dropLater.length > 0 && !isFinal()) return
      for (const start of dropLater) records.drop(world.state, owner, start)
      // The mark is made with the instance, and only ever removed. If it was not there at first, it never will be.
      if (session === 'has session' && instance.kind === 'partial' && recorded.marks(instance.start, 'may_end_early'))
        endGraceEarly(world, recorded, instance, isFinal)
    } catch (thrown) {
      world.log.warning(
        `${showOwner(owner)} is recorded, but its older records are not removed, or grace is not ended early: ` +
          String(thrown),
      )
    }
  }

/** Repeats `work`, after it has made the directory of an instance that was removed under a running server. */
export function withDirectory<T>({ state, log }: World, start: Start, work: () => T): T {
  const { instance: now } = lookAt(state)
  // A later start removed it, because it was empty. A record in it still counts.
  if ('start' in now && now.start > start) log.notice(`instance ${start} gets a record after a later start`)
  else log.error(`the directory of instance ${start} was missing under a running server: it is made again`)
  restoreDirectory(state, start)
  return work()
}

/** Makes an instance's directory, if it is missing. Durable when it returns. */
export function restoreDirectory(state: StateDirectory, start: Start): void {
  makeStateDirectory(state)
  files.makeDirectory(String(start), clientsOf(state))
  files.sync(clientsOf(state))
  openAnew(state)
}

/**
 * A client without a session never says that it is done. A full disk may keep the mark: then grace may end before this
 * client has reclaimed everything. Without a record it could reclaim nothing after the next start.
 */
export function forbidEarlyEnd({ state }: World, { start }: PartialInstance): void {
  files.tolerating(
    files.cannotGrow,
    () => {
      unmark(state, start, 'may_end_early')
    },
    undefined,
  )
}
