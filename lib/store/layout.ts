/** The names in `v4clients`, and what an upcall reads from them. state-directory.ts shows all of them in place. */
import type { Instance, Start } from '../rules/instance.ts'

/** Marks beside an instance's directory. The first two are what the instance is. */
export const markNames = [
  'partial',
  'full',
  'unconfirmed',
  'grace_start',
  'may_end_early',
  'unasked',
  'legacy',
  'untracked',
  'pipe',
] as const
export type Mark = (typeof markNames)[number]

export const isMark = (name: string): boolean => markNames.includes(name as Mark)

export const markOf = (start: Start, mark: Mark): string => `${start}.${mark}`

/** The lock's name (lock.ts): nobody else may plant one there. */
export const lockName = 'lock'

/** What an upcall finds when it looks. */
export interface Recorded {
  readonly instance: Instance
  /** Starts of the instances that have a directory, the oldest first. */
  readonly starts: readonly Start[]
  /** Starts of the instances that have anything here, be it only a mark. */
  readonly traces: readonly Start[]
  readonly marks: (start: Start, mark: Mark) => boolean
  /** 1 is read, and brought to 2 by the next upcall that changes anything. */
  readonly format: 1 | 2
}
