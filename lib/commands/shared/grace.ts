/**
 * The state of the grace period: when it began, how much is left, what holds it open. Pure.
 *
 * The time of a start is recorded only by the wall clock, which may have been set since. The age of nfsd's threads is
 * measured by a clock that nobody can set, so it is preferred if the threads can be seen.
 */
import type { Kernel } from './kernel.ts'
import type { Survey } from './survey.ts'
import type { Told } from './view.ts'

export interface Grace {
  /**
   * When the instance started: the time that the kernel gave, otherwise that of our record. In seconds of the wall
   * clock at that time.
   */
  readonly since: number | undefined
  readonly age: { readonly seconds: number; readonly by: 'nfsd' | 'wall-clock' } | undefined
  /** Whether the two clocks disagree, or the start lies in the future. */
  readonly clockWasSet: boolean
  /**
   * Seconds until the kernel may end grace; negative, if grace goes on because clients still reclaim. Undefined: not in
   * grace, or not known.
   */
  readonly left: number | undefined
  /** Grace is not over, as far as is known. */
  readonly runs: boolean
  /** When grace ended, by the file system's times. */
  readonly ended: number | undefined
}

export interface GraceHolder {
  /**
   * whole-time: since the start a client without a session was recorded and has gone again, or the kernel's own tracker
   * had clients, which are not in our records.
   */
  readonly because: 'waiting' | 'waiting-without-session' | 'without-session' | 'whole-time'
  readonly client?: Told
}

/** How many seconds two clocks may differ: they count whole seconds, and a start takes a while. */
const tolerance = 10

export function graceNow(surveyed: Survey, kernel: Kernel, nowMs: number, ended?: number): Grace {
  const { instance, kernelBootTime } = surveyed
  if (!('start' in instance))
    return { since: undefined, age: undefined, clockWasSet: false, left: undefined, runs: false, ended: undefined }
  // The kernel's time may be any number, even one that is no date.
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
 * Yields what holds grace open, as the clients are gone through. Grace ends early only when every client has said that
 * it is done: no client waits in an older instance, and the mark says that neither a client without a session nor one
 * outside our records was there.
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
