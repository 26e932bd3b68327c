/**
 * Server instances and their logical clock. Pure.
 *
 * An instance's start is a logical clock that looks like a time. It is the wall clock's time, or, if that is not later
 * than every start so far, one more than the latest. Starts never repeat or run backwards, so they order instances
 * whatever the wall clock does. No decision depends on comparing times.
 *
 * What is known about instances is a set of facts that only grows: "this one has started", "this one has completed its
 * grace". In whatever order several upcalls write them, the result is the same.
 */
declare const brand: unique symbol
/** Looks like seconds since 1970, but only its order has a meaning. */
export type Start = number & { readonly [brand]: 'Start' }

/** The latest start that can be written and read back: twelve digits last for 30 000 years, and 2^53 is far away. */
export const latestStart = 999_999_999_999 as Start

/**
 * Reads the name of an instance's directory. @returns undefined, if it is not one: each start has exactly one spelling.
 */
export function startFromName(name: string): Start | undefined {
  const start = Number(name)
  return String(start) === name && start >= 0 && start <= latestStart && start % 1 === 0 ? (start as Start) : undefined
}

/** The content of `boot_time` and `new_boot_time`: digits and a newline. */
export const startToText = (start: Start): string => `${start}\n`

/** {@link startToText} read back, with or without its newline; undefined for anything else. */
export const startFromText = (text: string): Start | undefined =>
  startFromName(text.endsWith('\n') ? text.slice(0, -1) : text)

/**
 * The start of a new instance. A time of the wall clock that can't be a start is ignored.
 * @returns undefined, if no later start than those seen is possible.
 */
export function nextStart(nowMs: number, seen: readonly Start[]): Start | undefined {
  const now = Math.floor(nowMs / 1000)
  // Never 0 or 1, because imported clients need an instance before the first.
  const earliest = now >= 2 && now < latestStart ? now : 2
  const start = seen.reduce<number>((latest, start) => Math.max(latest, start + 1), earliest)
  return start <= latestStart ? (start as Start) : undefined
}

/** Grace is over. The clients recorded in it may reclaim in the next instance. */
export interface FullInstance {
  readonly kind: 'full'
  readonly start: Start
}

/**
 * In its grace period. The clients recorded in `full` or in a later partial instance, this one included, may reclaim.
 * Without `full` no grace period has ever ended here, so every client recorded since the beginning may
 * (docs/protocol.md).
 */
export interface PartialInstance {
  readonly kind: 'partial'
  readonly start: Start
  readonly full: Start | undefined
}

/** The server instance that upcalls belong to, according to the state directory. */
export type Instance =
  | FullInstance
  | PartialInstance
  /** No start has been recorded: a new state directory, or one that was wiped under a running server. */
  | { readonly kind: 'none' }
  /** Format 1: `file` can't be understood, so nobody may reclaim until a new instance starts. */
  | { readonly kind: 'damaged'; readonly file: BootTimeFile; readonly why: string }

/** What the names in `v4clients` say about one instance. */
export interface InstanceFacts {
  readonly start: Start
  readonly full: boolean
}

/** The instance that upcalls belong to: the latest that has started. The order of the facts does not matter. */
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

/** The content of one of these files. */
export type BootTime = Start | 'absent' | { readonly damaged: string }

/** Format 1: the instance, read from the two files that defined it. An end of grace renamed one over the other. */
export function instanceFromFiles(bootTime: BootTime, newBootTime: BootTime): Instance {
  if (typeof newBootTime === 'object') return { kind: 'damaged', file: 'new_boot_time', why: newBootTime.damaged }
  if (newBootTime === 'absent') {
    if (typeof bootTime === 'object') return { kind: 'damaged', file: 'boot_time', why: bootTime.damaged }
    return bootTime === 'absent' ? { kind: 'none' } : { kind: 'full', start: bootTime }
  }
  // Grace ended between the two reads, which renamed one file over the other.
  if (bootTime === newBootTime) return { kind: 'full', start: newBootTime }
  if (typeof bootTime === 'number' && bootTime > newBootTime)
    return { kind: 'damaged', file: 'new_boot_time', why: `${newBootTime} is not after boot_time ${bootTime}` }
  // Format 1 moved a damaged boot_time aside. Without that file no older record counted, and none does now.
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

/** The instances before a partial one whose clients may still reclaim, newest first. */
export const olderThan = ({ full, start: current }: PartialInstance, starts: readonly Start[]): Start[] =>
  starts.filter((start) => start < current && (full === undefined || start >= full)).sort((a, b) => b - a)
