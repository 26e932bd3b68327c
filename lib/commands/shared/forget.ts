/**
 * Makes several clients lose the right to reclaim. It does what the upcall `remove` does (lib/events/remove.ts): they
 * are taken out of every instance, the oldest first, and then every directory that could bring one back is synced. To
 * drop a client is right in every state, so it does not matter whether grace is over. If it is killed, some clients are
 * dropped and some are not.
 *
 * The person was asked about the clients as they were, and did not mean one that has come back since. So each is
 * checked again under the lock, and stays where it has come back. A client may come back even then, because a `create`
 * takes no lock when grace is over, and any upcall may go on without it. So a client is taken out only where it was,
 * and checked once more.
 *
 * A client was where it has a record, whether or not the record counts now. After an untracked instance no record
 * counts, but the running server goes by them nevertheless, and `serve` may take its mark back.
 *
 * What the kernel's own tracker has of these clients is removed as well, in every state in which it could count.
 * (`remove` leaves it in a full instance, because `gracedone` has removed it there.)
 */
import { forgetClient } from '../../events/remove.ts'
import type { World } from '../../events/world.ts'
import { storageFailure } from '../../failure.ts'
import type { Start } from '../../rules/instance.ts'
import type { Recorded } from '../../store/layout.ts'
import { migrate } from '../../store/migrate.ts'
import { lookAt } from '../../store/state-directory.ts'
import { removeLegacyRecord, syncLegacyRecords } from '../../store/v4recovery.ts'
import * as files from '../../syscalls/files.ts'
import type { Directory } from '../../syscalls/files.ts'
import { quote } from '../../text.ts'
import { showOwner, type ClientOwner } from '../../upcall/owner.ts'
import { legacyTopsOf } from './legacy.ts'
import { underLock } from './lock.ts'
import { recordsOfOwner } from './recorded-clients.ts'
import { survey, type Survey, type Where } from './survey.ts'

/** A client as it was when a person was asked about it. */
export interface Asked {
  readonly owner: ClientOwner
  /** The newest instance in which it had a record; undefined, if it had none. */
  readonly in: Start | undefined
}

export const asRecorded = (surveyed: Survey, owner: ClientOwner): Asked => ({ owner, in: newestOf(surveyed, owner) })

const newestOf = (surveyed: Survey, owner: ClientOwner): Start | undefined => recordsOfOwner(surveyed, owner)[0]?.in

/** This many are handled at a time: an upcall does not wait for the lock for ever. */
const batch = 200

/**
 * When it returns, none of the clients may reclaim, and a power cut does not change that.
 * @returns those that came back meanwhile, and are left as they are
 */
export function forgetAll(
  world: World,
  where: Where,
  clients: Iterable<Asked>,
  shown: (done: number) => void,
): readonly ClientOwner[] {
  const cameBack: ClientOwner[] = []
  migrate(world.state)
  let done = 0
  for (const some of inBatches(clients)) {
    const synced = new Set<Directory>()
    const then: (() => void)[] = []
    underLock(world.state, () => {
      const recorded = lookAt(world.state)
      const surveyed = survey(where, world.state)
      for (const { owner, in: before } of some) {
        const now = newestOf(surveyed, owner)
        if (now !== undefined && (before === undefined || now > before)) cameBack.push(owner)
        else {
          const settlement = forgetClient(world, recorded, owner, whereItWas(recorded, before))
          for (const directory of settlement.sync) if (directory !== undefined) synced.add(directory)
          if (newestOf(surveyed, owner) !== undefined) cameBack.push(owner)
          else
            then.push(() => {
              settlement.then?.()
              if (surveyed.legacyCounts) forgetLegacy(surveyed, owner)
            })
        }
        shown(++done)
      }
    })
    for (const directory of synced) files.sync(directory)
    // A `serve` may have made an intent log meanwhile, that could bring back what is dropped.
    lookAt(world.state)
    for (const work of then) work()
  }
  return cameBack
}

/** A client without a record has come back if the current instance has one. */
const whereItWas = ({ starts, instance }: Recorded, before: Start | undefined): readonly Start[] =>
  starts.filter((start) => (before === undefined ? !('start' in instance) || start < instance.start : start <= before))

function* inBatches(clients: Iterable<Asked>): Generator<readonly Asked[]> {
  let some: Asked[] = []
  for (const client of clients) {
    some.push(client)
    if (some.length < batch) continue
    yield some
    some = []
  }
  if (some.length > 0) yield some
}

/** @throws Failed, if such a directory is not empty: it would still let the client reclaim */
function forgetLegacy(surveyed: Survey, owner: ClientOwner): void {
  const { anywhere } = surveyed.state
  for (const top of legacyTopsOf(surveyed)) {
    const now = removeLegacyRecord(top, anywhere, owner)
    if (now === 'stays')
      throw storageFailure(`what the kernel's own tracker has of ${showOwner(owner)} in ${quote(top)} does not go`)
    if (now === 'gone') syncLegacyRecords(top, anywhere)
  }
}
