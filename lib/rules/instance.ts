/**
 * Server instances and their logical clock. Pure.
 *
 * An instance's start is a logical clock in the shape of a time: the wall clock when it goes forward, one more than
 * every start seen so far when it does not. Starts never repeat and never run backwards, so they order instances under
 * any wall clock; no verdict is ever reached by comparing times.
 *
 * What is known of instances is a set of facts that only grows: "this one has started", "this one has completed its
 * grace". Facts of several upcalls, in whatever order and however late they are written, add up to the same.
 */
declare const brand: unique symbol
/** Seconds since 1970 in shape; an order in meaning. */
export type Start = number & { readonly [brand]: 'Start' }

/** The latest start that can be written and read back: twelve digits last for 30 000 years, and 2^53 is far away. */
export const latestStart = 999_999_999_999 as Start

/** A directory's name as an instance's start, or undefined if it is not one: there is one spelling of each. */
export function startFromName(name: string): Start | undefined {
  const start = Number(name)
  return String(start) === name && start >= 0 && start <= latestStart && start % 1 === 0 ? (start as Start) : undefined
}

/** The text of `boot_time` and `new_boot_time`: ASCII seconds, one newline. */
export const startToText = (start: Start): string => `${start}\n`

/** {@link startToText} read back, with or without its newline; undefined for anything else. */
export const startFromText = (text: string): Start | undefined =>
  startFromName(text.endsWith('\n') ? text.slice(0, -1) : text)

/**
 * The start of a new instance. A wall clock that shows what no start can say is not gone by.
 * @returns undefined, if there is no later start than those seen.
 */
export function nextStart(nowMs: number, seen: readonly Start[]): Start | undefined {
  const now = Math.floor(nowMs / 1000)
  // Never 0 or 1: clients of another tracker are placed in an instance before the first.
  const earliest = now >= 2 && now < latestStart ? now : 2
  const start = seen.reduce<number>((latest, start) => Math.max(latest, start + 1), earliest)
  return start <= latestStart ? (start as Start) : undefined
}

/** Grace is over. Its own records are the reclaimable ones of the next instance. */
export interface FullInstance {
  readonly kind: 'full'
  readonly start: Start
}

/**
 * In its grace period. Reclaimable: what is recorded in `full` or in a later partial instance, this one included.
 * Without `full` no grace period ever ended here, so all that was recorded since the beginning still holds
 * (docs/protocol.md).
 */
export interface PartialInstance {
  readonly kind: 'partial'
  readonly start: Start
  readonly full: Start | undefined
}

/** The server instance that upcalls belong to, as the state directory tells it. */
export type Instance =
  | FullInstance
  | PartialInstance
  /** No start has been recorded: a new state directory, or one that was wiped under a running server. */
  | { readonly kind: 'none' }
  /** Format 1: `file` can't be understood, so nobody may reclaim until a new instance starts. */
  | { readonly kind: 'damaged'; readonly file: BootTimeFile; readonly why: string }

/** What the names in `v4clients` say of one instance. */
export interface InstanceFacts {
  readonly start: Start
  readonly full: boolean
}

/**
 * The instance that upcalls belong to: the latest that has started. Pure, and the same whatever the order of the facts.
 */
export function instanceFrom(facts: readonly InstanceFacts[]): Instance {
  let current: InstanceFacts | undefined
  let lastFull: Start | undefined
  for (const fact of facts) {
    if (current === undefined || fact.start > current.start || (fact.start === current.start && fact.full))
      current = fact
    if (fact.full && (lastFull === undefined || fact.start > lastFull)) lastFull = fact.start
  }
  if (current === undefined) return { kind: 'none' }
  return lastFull === current.start
    ? { kind: 'full', start: lastFull }
    : { kind: 'partial', start: current.start, full: lastFull }
}

export const bootTimeFiles = ['boot_time', 'new_boot_time', 'old_boot_time'] as const
export type BootTimeFile = (typeof bootTimeFiles)[number]

/** What one of the boot time files says. */
export type BootTime = Start | 'absent' | { readonly damaged: string }

/** Format 1: the instance out of the two files that defined it. A grace end renamed one over the other. */
export function instanceFromFiles(bootTime: BootTime, newBootTime: BootTime): Instance {
  if (typeof newBootTime === 'object') return { kind: 'damaged', file: 'new_boot_time', why: newBootTime.damaged }
  if (newBootTime === 'absent') {
    if (typeof bootTime === 'object') return { kind: 'damaged', file: 'boot_time', why: bootTime.damaged }
    return bootTime === 'absent' ? { kind: 'none' } : { kind: 'full', start: bootTime }
  }
  // A grace end renamed one over the other between the two reads.
  if (bootTime === newBootTime) return { kind: 'full', start: newBootTime }
  if (typeof bootTime === 'number' && bootTime > newBootTime)
    return { kind: 'damaged', file: 'new_boot_time', why: `${newBootTime} is not after boot_time ${bootTime}` }
  // Format 1 set a doubtful boot_time aside. Without one, older records proved nothing, and so they do now.
  return { kind: 'partial', start: newBootTime, full: typeof bootTime === 'number' ? bootTime : newBootTime }
}

/** The instances in which a record lets its client reclaim, newest first. */
export function reclaimableIn(instance: Instance, starts: readonly Start[]): Start[] {
  switch (instance.kind) {
    case 'none':
    case 'damaged':
      return []
    case 'full':
      return [instance.start]
    case 'partial':
      return [instance.start, ...olderThan(instance, starts)]
    default:
      return instance satisfies never
  }
}

/** The instances before a partial one whose records are still waited for, newest first. */
export const olderThan = ({ full, start: current }: PartialInstance, starts: readonly Start[]): Start[] =>
  starts.filter((start) => start < current && (full === undefined || start >= full)).sort((a, b) => b - a)
