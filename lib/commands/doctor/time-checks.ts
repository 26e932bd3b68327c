/** Checks the grace time, the lease time and the clock. */
import { oneLine } from '../../text.ts'
import { uptime } from '../shared/kernel.ts'
import { isoTime } from '../shared/table.ts'
import { sayDuration } from '../shared/view.ts'
import { doubtful, good, unknown, wrong, type Said } from './finding.ts'
import type { Site } from './site.ts'

/**
 * RFC 7530 §9.6.3.4 and RFC 8881 §8.4.2.1: grace is no shorter than the lease, so that every client notices in time.
 */
export function graceTime({ kernel: { graceSeconds, leaseSeconds }, settings: { nfsdDirectory } }: Site): Said {
  if (graceSeconds === 'busy' || leaseSeconds === 'busy')
    return unknown(
      "grace and lease time can't be read now: the NFS server is just starting or stopping",
      'The kernel answers when that is done. If this lasts, an upcall hangs.',
    )
  if (typeof graceSeconds !== 'number' || typeof leaseSeconds !== 'number')
    return unknown(`grace and lease time can't be read in ${nfsdDirectory}`, 'The nfsd file system has files for them.')
  if (graceSeconds < leaseSeconds)
    return wrong(
      `grace lasts ${graceSeconds} s, but a lease ${leaseSeconds} s`,
      'A client may notice a restart only when it renews its lease. By then grace can be over, and its locks are lost.',
      `nfsconf --set nfsd grace-time ${leaseSeconds} && systemctl restart nfs-server.service`,
    )
  return good(`grace lasts ${graceSeconds} s, a lease ${leaseSeconds} s`)
}

/** How far a clock may be off before doctor reports it. */
const farSeconds = 3600
const yearSeconds = 366 * 86_400
/** Before this program was written. A machine without a battery for its clock starts with such a time. */
const tooEarly = Date.UTC(2024, 0, 1) / 1000

export function clock({ survey, kernel }: Site): Said {
  const now = Math.floor(Date.now() / 1000)
  const harmless = oneLine`
    Records do not depend on the clock, so no client loses locks. But displayed times are wrong, and Kerberos refuses
    clients.
  `
  const mend = 'timedatectl set-ntp true'
  if (now < tooEarly) return doubtful(`the clock says ${isoTime(now)}`, harmless, mend)
  if ('failed' in survey || !('start' in survey.instance)) return good(`the clock says ${isoTime(now)}`)
  const started = survey.kernelBootTime === undefined ? survey.instance.start : Number(survey.kernelBootTime)
  const last = `the last server instance started at ${isoTime(started)}`
  if (started > now + farSeconds)
    return doubtful(
      `${last}, ${sayDuration(started - now)} ahead of the clock`,
      `Either the clock was ahead then, or it is behind now. ${harmless}`,
      mend,
    )
  if (kernel.runningSeconds !== undefined && Math.abs(now - started - kernel.runningSeconds) > farSeconds)
    return doubtful(
      `${last}, and nfsd has been running for ${sayDuration(kernel.runningSeconds)}`,
      `Either the clock was set since, or the NFS server was started again and did not call this program. ${harmless}`,
      'dmesg | grep NFSD',
    )
  if (now - started > uptime() + yearSeconds)
    return doubtful(
      `${last}, ${sayDuration(now - started)} ago`,
      `Unless the server was off for that long, the clock is ahead now or was behind then. ${harmless}`,
      mend,
    )
  return good(`the clock says ${isoTime(now)}; ${last}`)
}
