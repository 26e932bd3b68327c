/** The names in `v4clients`, and what an upcall reads from them. state-directory.ts shows all of them in place. */
import type { Instance, Start } from '../rules/instance.ts'

/** Marks beside an instance's directory. The first two say whether the instance is partial or full. */
export const markNames = [
  /** It has started, and has not completed its grace. */
  'partial',
  /** It has completed its grace. */
  'full',
  /** The end of its grace may not be durable yet, or not everything that follows it has been done. */
  'unconfirmed',
  /** The boot time that the kernel gave at its start. */
  'grace_start',
  /** No client without a session was recorded in it. */
  'may_end_early',
  /** An upcall ended its grace, because it found that the kernel had done so without telling us. */
  'unasked',
  /** Where the kernel's own tracker kept its clients when grace ended. */
  'legacy',
  /** It stands for an instance that ran without us: no older record counts, of any tracker. */
  'untracked',
  /** The unique name of the pipe through which its server asks. */
  'pipe',
] as const
export type Mark = (typeof markNames)[number]

export const isMark = (name: string): boolean => markNames.includes(name as Mark)

/** Not by a template, which takes 2000 instructions more: an upcall asks for some. */
export const markOf = (start: Start, mark: Mark): string => String(start) + '.' + mark

/** The lock's name (lock.ts). It is in this directory because nobody else can write to it. */
export const lockName = 'lock'

/** What the names of intent logs begin with (intent-log.ts), and of the directory through which one is made anew. */
export const intentLogPrefix = 'intent-log.'

/** The name of one that is being made: nobody else looks at it. */
export const unfinishedIntentLog = 'unfinished-intents'

/** What an upcall finds in the state directory. */
export interface Recorded {
  readonly instance: Instance
  /** Starts of the instances that have a directory, the oldest first. */
  readonly starts: readonly Start[]
  /** Starts of the instances that have a directory or at least one mark. */
  readonly traces: readonly Start[]
  readonly marks: (start: Start, mark: Mark) => boolean
  /** Whether the instance is full, and the end of its grace may not be durable yet. */
  readonly isUnconfirmed: boolean
  /** Format 1 is read. The next upcall that changes anything converts it to 2. */
  readonly format: 1 | 2
}

/**
 * Whether the next request can be decided without reading the names again. Once the end of grace is durable, a client's
 * request changes only records. If another process changes a name meanwhile, its change counts as later than the
 * request, as with two upcalls at once.
 */
export const staysSo = ({ format, instance, isUnconfirmed }: Recorded): boolean =>
  format === 2 && instance.kind === 'full' && !isUnconfirmed
