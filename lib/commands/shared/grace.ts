/**
 * Grace as it stands: since when, how much is left, what holds it open. Pure.
 *
 * The only record of a start is in the wall clock's time, which may have been set since. The age of nfsd's threads is
 * counted by a clock that nobody can set, so it goes first where they can be seen.
 */
import type { Kernel } from './kernel.ts'
import type { Survey } from './survey.ts'
import type { Told } from './view.ts'

export interface Grace {
  /** When the instance started: the kernel's word for it, else ours. Seconds of the wall clock at that time. */
  readonly since: number | undefined
  readonly age: { readonly seconds: number; readonly by: 'nfsd' | 'wall-clock' } | undefined
  /** The two clocks disagree, or the start lies ahead. */
  readonly clockWasSet: boolean
  /**
   * Seconds until the kernel may end grace; below zero it goes on because clients reclaim. Undefined: not in grace, or
   * not known.
   */
  readonly left: number | undefined
  /** It is not over, as far as anybody says. */
  readonly runs: boolean
  /** When grace ended, as far as the file system tells. */
  readonly ended: number | undefined
}

export interface GraceHolder {
  /**
   * whole-time: since the start there was a client without a session that is gone again, or the kernel's own tracker
   * had clients, who are not in our records.
   */
  readonly because: 'waiting' | 'waiting-without-session' | 'without-session' | 'whole-time'
  readonly client?: Told
}

/** How far two clocks may differ in whole seconds, and in a start that takes a while. */
const tolerance = 10

export function graceNow(surveyed: Survey, kernel: Kernel, nowMs: number, ended?: number): Grace {
  const { instance, kernelBootTime } = surveyed
  if (!('start' in instance))
    return { since: undefined, age: undefined, clockWasSet: false, left: undefined, runs: false, ended: undefined }
  // The kernel's time may be any number, also one that no calendar has.
  const since = Number.isSafeInteger(Number(kernelBootTime)) ? Number(kernelBootTime) : instance.start
  const byWall = nowMs / 1000 - since
  const age =
    kernel.runningSeconds !== undefined
      ? ({ seconds: kernel.runningSeconds, by: 'nfsd' } as const)
      : byWall >= 0
        ? ({ seconds: byWall, by: 'wall-clock' } as const)
        : undefined
  const inGrace = instance.kind === 'partial' && kernel.grace !== 'over'
  return {
    since,
    age,
    clockWasSet:
      byWall < 0 || (kernel.runningSeconds !== undefined && Math.abs(byWall - kernel.runningSeconds) > tolerance),
    left:
      inGrace && age !== undefined && typeof kernel.graceSeconds === 'number'
        ? kernel.graceSeconds - age.seconds
        : undefined,
    runs: inGrace,
    ended: instance.kind === 'full' ? ended : undefined,
  }
}

/**
 * Grace ends early only when every client has said that it is done: nobody waits in an older instance, and the mark
 * says that nobody without a session was recorded, nor anybody outside our records. Each holder as the clients are gone
 * through.
 */
export function* holdersAmong(clients: Iterable<Told>, { marks }: Survey): Generator<GraceHolder> {
  let silent = 0
  for (const client of clients) {
    const isSilent = client.session !== 'has session'
    if (client.standing === 'waiting') yield { because: isSilent ? 'waiting-without-session' : 'waiting', client }
    else if (!marks.may_end_early && client.standing === 'current' && isSilent) {
      silent++
      yield { because: 'without-session', client }
    }
  }
  if (!marks.may_end_early && silent === 0) yield { because: 'whole-time' }
}
