/** The names in `v4clients`, and what an upcall reads from them. state-directory.ts shows all of them in place. */
import type { Instance, Start } from '../rules/instance.ts'

/** Marks beside an instance's directory. The first two are what the instance is. */
export const markNames = [
  /** It has started, and has not completed its grace. */
  'partial',
  /** It has completed its grace. */
  'full',
  /** The end of its grace is not yet known to be durable, and followed up. */
  'unconfirmed',
  /** The kernel's boot time that its start was told. */
  'grace_start',
  /** No client without sessions was recorded in it. */
  'may_end_early',
  /** Its grace was ended here: the kernel had ended it without telling us. */
  'unasked',
  /** Where the kernel's own tracker had clients when its grace ended. */
  'legacy',
  /** It stands for one that ran without us: no older record counts, of any tracker. */
  'untracked',
  /** The pipe at which its server asks, by a name that no other has. */
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
