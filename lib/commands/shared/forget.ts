/**
 * Clients that may not reclaim any more. What the upcall `remove` does (lib/events/remove.ts), for several
 * at once: taken out of every instance, the oldest first, then every directory that may bring one back is synced.
 * Dropping is right in every state, so it needs not know whether grace is over; killed in between, some are gone and
 * some are not.
 *
 * A person has been asked about clients as they were. One that has come back since is somebody else to them, so each is
 * looked at once more, under the lock, and stays where it has come. One may come back even then: `serve` takes no lock
 * where grace is over, and an upcall may pass it by. So it is taken out only where it was, and looked at again.
 *
 * Where it was is where it has a record, whether or not that counts at the moment. Where an instance ran untracked none
 * counts, but the running server goes by them all the same, and `serve` may take its mark back.
 *
 * What the kernel's own tracker has of them goes too, in every state in which it could count: `remove` leaves it in a
 * full instance, where a `gracedone` has taken it away.
 */
import { forgetClient } from '../../events/remove.ts'
import type { World } from '../../events/world.ts'
import { storageFailure } from '../../failure.ts'
import type { Start } from '../../rules/instance.ts'
import type { Recorded } from '../../store/layout.ts'
import { migrate } from '../../store/migrate.ts'
import { lookAt } from '../../store/state-directory.ts'
import { removeLegacyRecord, syncLegacyRecords } from '../../store/v4recovery.ts'
import * as disk from '../../syscalls/files.ts'
import type { Directory } from '../../syscalls/files.ts'
import { quote } from '../../text.ts'
import { showOwner, type ClientOwner } from '../../upcall/owner.ts'
import { legacyTopsOf } from './legacy.ts'
import { underLock } from './lock.ts'
import { recordsOfOwner } from './recorded-clients.ts'
import { survey, type Survey, type Where } from './survey.ts'

/** A client as a person was asked about it. */
export interface Asked {
  readonly owner: ClientOwner
  /** The newest instance that it had a record in; undefined, where it had none. */
  readonly in: Start | undefined
}

export const asRecorded = (surveyed: Survey, owner: ClientOwner): Asked => ({ owner, in: newestOf(surveyed, owner) })

const newestOf = (surveyed: Survey, owner: ClientOwner): Start | undefined => recordsOfOwner(surveyed, owner)[0]?.in

/** So many at a time: an upcall waits for the lock, and not for ever. */
const batch = 200

/**
 * When it returns, none of them may reclaim, and a power cut does not change that.
 * @returns those that came back meanwhile: they are left as they are.
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
    for (const directory of synced) disk.sync(directory)
    for (const work of then) work()
  }
  return cameBack
}

/** Who had no record has come back, if there is one in the current instance. */
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

/** @throws Failed, if something is in such a directory: it would still let the client reclaim. */
function forgetLegacy(surveyed: Survey, owner: ClientOwner): void {
  const { anywhere } = surveyed.state
  for (const top of legacyTopsOf(surveyed)) {
    const now = removeLegacyRecord(top, anywhere, owner)
    if (now === 'stays')
      throw storageFailure(`what the kernel's own tracker has of ${showOwner(owner)} in ${quote(top)} does not go`)
    if (now === 'gone') syncLegacyRecords(top, anywhere)
  }
}
