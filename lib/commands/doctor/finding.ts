/** What a check says. */

/**
 * good: as it must be. wrong: recovery will not work, or not safely; the only verdict that makes doctor's status 1.
 * doubtful: recovery works, but look at it. unknown: it could not be checked.
 */
export type Verdict = 'good' | 'wrong' | 'doubtful' | 'unknown'

export interface Said {
  readonly verdict: Verdict
  /** What was found, in a line. */
  readonly what: string
  /** What follows from it. */
  readonly why?: string
  /** What to type. */
  readonly mend?: string
}

export interface Finding extends Said {
  /** The check's name, the same for ever: for programs. */
  readonly check: string
}

export const good = (what: string): Said => ({ verdict: 'good', what })
export const wrong = (what: string, why: string, mend: string): Said => ({ verdict: 'wrong', what, why, mend })
export const doubtful = (what: string, why: string, mend?: string): Said =>
  mend === undefined ? { verdict: 'doubtful', what, why } : { verdict: 'doubtful', what, why, mend }
export const unknown = (what: string, why: string, mend?: string): Said =>
  mend === undefined ? { verdict: 'unknown', what, why } : { verdict: 'unknown', what, why, mend }
