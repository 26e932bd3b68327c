/**
 * The kernel's own tracker (nfs4recover.c, "recoverydir"): one empty directory per client, named by the MD5 of its
 * owner. A server that ran with it hands its clients over one by one: `check` names the directory that a client would
 * have there, and the end of grace makes the rest worthless.
 *
 * A directory that stayed would let its client reclaim in any later instance, so taking over is done only when it is
 * gone for good. Only empty directories of that shape are ever removed.
 */
import * as disk from './disk.ts'

/** Where the kernel's own tracker keeps its directories, if nobody has told it otherwise (user_recovery_dirname). */
export const usualTop = '/var/lib/nfs/v4recovery'

/** The same beside a state directory of ours. */
export const legacyTopIn = (stateDirectory: string): string => `${stateDirectory}/v4recovery`

const legacyName = /^[0-9a-f]{32}$/

/** Whether the kernel's own tracker has recorded a client here. */
export const hasLegacyRecord = (path: string): boolean => typeof disk.directoryAt(path) === 'object'

/** Removes a client's directory. Durable when it returns true. */
export function removeLegacyRecord(path: string): boolean {
  if (!disk.removeIfEmpty(path)) return false
  disk.syncDirectory(disk.parentOf(path))
  return true
}

/** Whether the kernel's own tracker has left any client here. */
export const hasLegacyRecords = (top: string): boolean => disk.namesIn(top).some((name) => legacyName.test(name))

/**
 * Removes every client's directory. Durable when it returns.
 * @returns the names that could not be removed: directories that are not empty, and what is none.
 */
export function removeLegacyRecords(top: string): readonly string[] {
  const names = disk.namesIn(top).filter((name) => legacyName.test(name))
  if (names.length === 0) return []
  const left = names.filter((name) => !hasLegacyRecord(`${top}/${name}`) || !disk.removeIfEmpty(`${top}/${name}`))
  disk.syncDirectory(top)
  return left
}
