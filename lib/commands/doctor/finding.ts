/** The result of a check. */

/**
 * good: it is as it must be. wrong: recovery will not work, or not safely; only this makes doctor's status 1. doubtful:
 * recovery works, but this needs attention. unknown: it could not be checked.
 */
export type Verdict = 'good' | 'wrong' | 'doubtful' | 'unknown'

export interface Said {
  readonly verdict: Verdict
  /** What was found, in one line. */
  readonly what: string
  /** The consequence. */
  readonly why?: string
  /** The command that repairs it. */
  readonly mend?: string
}

export interface Finding extends Said {
  /** The check's name, for programs. It never changes. */
  readonly check: string
}

export const good = (what: string): Said => ({ verdict: 'good', what })
export const wrong = (what: string, why: string, mend: string): Said => ({ verdict: 'wrong', what, why, mend })
export const doubtful = (what: string, why: string, mend?: string): Said =>
  mend === undefined ? { verdict: 'doubtful', what, why } : { verdict: 'doubtful', what, why, mend }
export const unknown = (what: string, why: string, mend?: string): Said =>
  mend === undefined ? { verdict: 'unknown', what, why } : { verdict: 'unknown', what, why, mend }
