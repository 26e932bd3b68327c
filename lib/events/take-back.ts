/**
 * An upcall has put a client's record in its place, and then failed: its barrier, say, or what was to follow it.
 *
 * The kernel runs `remove` only for a client of which a `create` or a `check` has succeeded (nfs4recover.c,
 * NFSD4_CLIENT_STABLE), and grants locks to the others all the same. So a record that stayed would outlive its client's
 * locks (edge condition 1). It goes back to the older instance where it was, in which it counts for this grace period
 * only, or is taken out; that is durable when this returns. Where it can't be, nobody may reclaim after the next start.
 *
 * An upcall that is killed takes nothing back. `serve` need not: the kernel takes any answer at the pipe for a record,
 * and sends the Remove.
 */
import type { Start } from '../rules/instance.ts'
import { directoryOf } from '../store/open-directories.ts'
import * as records from '../store/records.ts'
import { distrust } from '../store/untracked.ts'
import * as disk from '../syscalls/files.ts'
import { showOwner } from '../upcall/owner.ts'
import type { Put, World } from './world.ts'

export function takeBack({ state, log }: World, { owner, in: start, from }: Put): void {
  const sync = (instance: Start): void => {
    const directory = directoryOf(state, instance)
    if (directory !== undefined) disk.sync(directory)
  }
  try {
    if (from !== 'nowhere' && records.move(state, owner, start, from)) sync(from)
    else records.drop(state, owner, start)
    sync(start)
  } catch (thrown) {
    const unnoted = distrust(state, 'start')
    log.critical(
      `the record of ${showOwner(owner)} can't be taken back (${String(thrown)}), and the kernel will not say when ` +
        'its client is gone: nobody may reclaim after the next start' +
        (unnoted === undefined ? '' : `; nor can that be noted (${unnoted}): see to it`),
    )
  }
}
