/**
 * A server instance that could not be recorded: its `init` failed, and the kernel goes on without any tracker
 * (nfs4recover.c, nfsd4_client_tracking_init). Once its grace is over it grants locks, of which our records know
 * nothing: if a later start went by them, a client could take back what somebody else has had meanwhile.
 *
 * The state directory is what failed, so the mark is in /run. It lasts as long as the machine is up; after a reboot
 * nothing tells of that instance any more (docs/durability.md). It is made after the failure and removed once a start
 * that took it into account is durable, so a kill in between errs on the safe side.
 */
import * as disk from './disk.ts'

const room = '/run/nfsd-userland-helper'

/** No grace period is shorter (nfsctl.c, __nfsd4_write_time), so no lock was granted in an instance shorter than that. */
const shortestGraceSeconds = 10

const markOf = (stateDirectory: string): string => `${room}/${encodeURIComponent(stateDirectory).slice(-200)}`

/** Seconds since the machine started, sleep included: no step of the wall clock moves it. */
const uptime = (): number => Number.parseFloat(disk.beginningOf('/proc/uptime') ?? '')

/** Notes that an instance starts now that can't be recorded. The earliest that is not known to be harmless is kept. */
export function noteUntracked(stateDirectory: string): void {
  if (ranUntracked(stateDirectory)) return
  disk.makeDirectory(room)
  disk.remove(markOf(stateDirectory))
  disk.makeLink(String(uptime()), markOf(stateDirectory))
}

/** Whether an instance that was not recorded may have granted locks. */
export function ranUntracked(stateDirectory: string): boolean {
  const since = disk.tolerating(['EINVAL'], () => disk.readLink(markOf(stateDirectory)), '0')
  return since !== undefined && !(uptime() - Number(since) < shortestGraceSeconds)
}

export const forgetUntracked = (stateDirectory: string): void => {
  disk.remove(markOf(stateDirectory))
}
