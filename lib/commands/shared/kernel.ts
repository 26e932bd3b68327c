/** What the kernel's nfsd says of itself at this moment. Nothing here waits for it for ever. */
import fs from 'node:fs'
import { join } from 'node:path'
import { nfsdAt } from '../../kernel/nfsd.ts'
import type { Context } from './context.ts'
import { readInTime } from './in-time.ts'
import { liveClients, type Live } from './live-clients.ts'
import { fileOf, processes } from './processes.ts'

/** busy: a start or a stop of the service is running, and the kernel answers after it. */
export type Seconds = number | 'absent' | 'busy' | 'unreadable'

export interface Kernel {
  readonly grace: 'over' | 'running' | 'unknown'
  readonly graceSeconds: Seconds
  readonly leaseSeconds: Seconds
  readonly live: Live | 'unknown'
  /**
   * How long the service has been running, by the clock that nobody can set; undefined where its threads can't be seen.
   */
  readonly runningSeconds: number | undefined
}

export async function askKernel({ calls, nfsdDirectory }: Pick<Context, 'calls' | 'nfsdDirectory'>): Promise<Kernel> {
  const [graceSeconds, leaseSeconds, live] = await Promise.all([
    secondsIn(join(nfsdDirectory, 'nfsv4gracetime')),
    secondsIn(join(nfsdDirectory, 'nfsv4leasetime')),
    liveClients(nfsdDirectory),
  ])
  return {
    grace: nfsdAt(calls, nfsdDirectory).grace(),
    graceSeconds,
    leaseSeconds,
    live,
    runningSeconds: serviceAge(),
  }
}

/** A number of seconds that the kernel serves under nfsd_mutex. */
export async function secondsIn(path: string): Promise<Seconds> {
  const read = await readInTime(path)
  if (typeof read === 'string') return read === 'silent' ? 'busy' : read
  return /^[0-9]+\n?$/.test(read.text) ? Number(read.text) : 'unreadable'
}

/** USER_HZ, in which /proc counts everywhere. */
const ticksPerSecond = 100
/** PF_KTHREAD: a process of the kernel's own, so none that only calls itself nfsd. */
const kernelThread = 0x0020_0000

/** Age of the oldest of nfsd's threads, which are made when the service starts, right after `init`. */
function serviceAge(): number | undefined {
  const ages: number[] = []
  for (const id of processes()) {
    const stat = fileOf(id, 'stat')
    if (!stat.includes(' (nfsd) ')) continue
    // proc(5): field 9 is flags, field 22 the start; fields are counted from the name's closing parenthesis, field 2.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if ((Number(fields[6]) & kernelThread) !== 0) ages.push(uptime() - Number(fields[19]) / ticksPerSecond)
  }
  return ages.length === 0 ? undefined : Math.max(0, ...ages)
}

/** Seconds since the machine started, sleep included: no step of the wall clock moves it. */
export const uptime = (): number => Number.parseFloat(fs.readFileSync('/proc/uptime', 'latin1'))
