/** What the kernel's nfsd reports at this moment. No function here waits for it for ever. */
import fs from 'node:fs'
import { join } from 'node:path'
import { nfsdAt } from '../../kernel/nfsd.ts'
import type { Context } from './context.ts'
import { readInTime } from './in-time.ts'
import { liveClients, type Live } from './live-clients.ts'
import { fileOf, processes } from './processes.ts'

/** busy: the service is starting or stopping, and the kernel answers only after that. */
export type Seconds = number | 'absent' | 'busy' | 'unreadable'

export interface Kernel {
  readonly grace: 'over' | 'running' | 'unknown'
  readonly graceSeconds: Seconds
  readonly leaseSeconds: Seconds
  readonly live: Live | 'unknown'
  /**
   * How long the service has been running, by the clock that nobody can set; undefined, if its threads can't be seen.
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

/** Reads a number of seconds that the kernel gives under nfsd_mutex. */
export async function secondsIn(path: string): Promise<Seconds> {
  const read = await readInTime(path)
  if (typeof read === 'string') return read === 'silent' ? 'busy' : read
  return /^[0-9]+\n?$/.test(read.text) ? Number(read.text) : 'unreadable'
}

/** USER_HZ, the unit of /proc on every machine. */
const ticksPerSecond = 100
/** PF_KTHREAD marks the kernel's own processes: another process could also call itself nfsd. */
const kernelThread = 0x0020_0000

/** The age of the oldest of nfsd's threads, which are made when the service starts, right after `init`. */
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

/** Seconds since the machine started, sleep included. Setting the wall clock does not change it. */
export const uptime = (): number => Number.parseFloat(fs.readFileSync('/proc/uptime', 'latin1'))
