/**
 * The records of the kernel's own tracker (nfs4recover.c, "recoverydir"): one empty directory for each client, named by
 * the MD5 of its owner. A server that used that tracker moves its clients one by one: `check` names the directory that
 * the client would have there. It counts until the grace period is over, like every older record. It is removed then,
 * or with the client.
 *
 * Only empty directories of that form are ever removed, and only in a directory that belongs to us and that no other
 * user may write to.
 */
import { md5 } from '@noble/hashes/legacy.js'
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { hexOf } from '../upcall/hex.ts'
import { legacyName } from '../upcall/legacy-name.ts'
import type { ClientOwner } from '../upcall/owner.ts'

/** Where the kernel's own tracker keeps its directories by default (user_recovery_dirname). */
export const usualTop = '/var/lib/nfs/v4recovery'

/** The same directory's place beside a state directory. */
export const legacyTopIn = (stateDirectory: string): string => `${stateDirectory}/v4recovery`

/** The name of a client's directory there. */
export const legacyNameOf = (owner: ClientOwner): string => hexOf(md5(owner))

/** Runs `work` in the tracker's directory. @returns undefined, if it does not exist, or others can write to it. */
function inTop<T>(path: string, anywhere: Directory, work: (top: Directory) => T): T | undefined {
  const top = files.openDirectory(path, anywhere)
  if (typeof top !== 'object') return undefined
  try {
    return files.isOursAlone(files.statusOf(top), top) ? work(top) : undefined
  } finally {
    files.close(top)
  }
}

/** Whether the kernel's own tracker has recorded a client here. @param path `<top>/<32 hex digits>`. */
export const hasLegacyRecord = (path: string, anywhere: Directory): boolean =>
  inTop(
    files.parentOf(path),
    anywhere,
    (top) => typeof files.directoryAt(path.slice(path.lastIndexOf('/') + 1), top) === 'object',
  ) ?? false

/** The path of a client's directory, if one of `tops` has it. */
export const legacyRecordOf = (owner: ClientOwner, tops: readonly string[], anywhere: Directory): string | undefined =>
  tops
    .filter((top) => hasLegacyRecords(top, anywhere))
    .map((top) => `${top}/${legacyNameOf(owner)}`)
    .find((path) => hasLegacyRecord(path, anywhere))

/**
 * Removes a client's directory. Durable once {@link syncLegacyRecords} has returned.
 * @returns 'stays', if something of that name can't be removed; 'no place', if `topPath` is no such directory
 */
export const removeLegacyRecord = (
  topPath: string,
  anywhere: Directory,
  owner: ClientOwner,
): 'gone' | 'stays' | 'no place' =>
  inTop(topPath, anywhere, (top) => {
    const name = legacyNameOf(owner)
    return files.directoryAt(name, top) === 'absent' || files.removeIfEmpty(name, top) ? 'gone' : 'stays'
  }) ?? 'no place'

/** To be called even if nothing was removed: the process that removed it may have died before its sync. */
export const syncLegacyRecords = (topPath: string, anywhere: Directory): void => {
  inTop(topPath, anywhere, files.sync)
}

/** Whether the kernel's own tracker has recorded any client here. */
export const hasLegacyRecords = (path: string, anywhere: Directory): boolean =>
  inTop(path, anywhere, (top) => {
    for (const { name } of files.entriesOf(top)) if (legacyName.test(name)) return true
    return false
  }) ?? false

/** The name of every client that it has recorded here. None, if others can write to the directory. */
export const legacyRecordsIn = (path: string, anywhere: Directory): readonly string[] =>
  inTop(path, anywhere, (top) =>
    [...files.entriesOf(top)]
      .map(({ name }) => name)
      .filter((name) => legacyName.test(name) && typeof files.directoryAt(name, top) === 'object'),
  ) ?? []

/**
 * Removes every client's directory. Durable when it returns.
 * @returns how many could not be removed, because they are not empty, or no directories.
 */
export const removeLegacyRecords = (path: string, anywhere: Directory): number =>
  inTop(path, anywhere, (top) => {
    let left = 0
    for (const { name } of files.entriesOf(top)) {
      if (!legacyName.test(name)) continue
      const found = files.directoryAt(name, top)
      // Another upcall that ends the same grace may have removed it meanwhile.
      if (found !== 'absent' && (typeof found !== 'object' || !files.removeIfEmpty(name, top))) left++
    }
    files.sync(top)
    return left
  }) ?? 0
