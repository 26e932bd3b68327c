/**
 * Takes back the record of an upcall that has put it in its place and then failed, for example at its barrier.
 *
 * The kernel runs `remove` only for a client whose `create` or `check` has succeeded (nfs4recover.c,
 * NFSD4_CLIENT_STABLE), but it grants locks to other clients too. So a record that stayed would outlive its client's
 * locks (edge condition 1). It is moved back to the older instance from which it came, where it counts for this grace
 * period only, or is removed. That is durable when this returns. If it can't be done, nobody may reclaim after the next
 * start.
 *
 * Another create of the same client could rely on the record that is taken back. But the kernel runs the upcalls of one
 * client one after the other (nfs4recover.c, NFSD4_CLIENT_UPCALL_LOCK), and a disk that fails the barrier of one fails,
 * as a rule, that of the other.
 *
 * What an upcall that is killed has put into place, the next start takes back (cut-short.ts). `serve` need not take
 * anything back: whatever it answers, the kernel assumes that the client is recorded, and sends a Remove later.
 */
import { reclaimableIn, type Start } from '../rules/instance.ts'
import { directoryOf } from '../store/open-directories.ts'
import * as records from '../store/records.ts'
import { lookAt, type StateDirectory } from '../store/state-directory.ts'
import { distrust } from '../store/untracked.ts'
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { showOwner, type ClientOwner } from '../upcall/owner.ts'
import { restoreDirectory } from './create.ts'
import type { Put, World } from './world.ts'

export function takeBack({ state, log }: World, put: Put): void {
  try {
    undo(state, put, files.sync)
  } catch (thrown) {
    const unnoted = distrust(state, 'start')
    log.critical(
      `the record of ${showOwner(put.owner)} can't be taken back (${String(thrown)}), and the kernel will not say ` +
        'when its client is gone: nobody may reclaim after the next start' +
        (unnoted === undefined ? '' : `; nor can that be noted (${unnoted}): see to it`),
    )
  }
}

/**
 * It may run twice.
 * @param sync called for each directory that must then be synced
 * @throws the file system's error
 */
export function undo(
  state: StateDirectory,
  { owner, in: start, from }: Put,
  sync: (directory: Directory) => void,
): void {
  const changed = (instance: Start, synced = sync): void => {
    const directory = directoryOf(state, instance)
    if (directory !== undefined) synced(directory)
  }
  // What it replaced hid those that are older: they must not count now.
  if (from === 'unreadable')
    for (const older of lookAt(state).starts.filter((other) => other < start))
      if (records.drop(state, owner, older) !== 'nothing') changed(older, files.sync)
  if (typeof from === 'number' && isBack(state, owner, start, from)) changed(from)
  else records.drop(state, owner, start)
  changed(start)
}

/** Moves a record back to where it was. @returns false, if it is gone, or counts there no more */
function isBack(state: StateDirectory, owner: ClientOwner, start: Start, from: Start): boolean {
  // Whoever asked the kernel to end grace early has removed the directory, which was empty. Grace did not end.
  if (directoryOf(state, from) === undefined && reclaimableIn(lookAt(state).instance, [from]).includes(from))
    restoreDirectory(state, from)
  return records.move(state, owner, start, from)
}
