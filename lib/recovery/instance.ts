/**
 * Server instances and their logical clock. Pure.
 *
 * An instance's start is a logical clock in the shape of a time: the wall clock when it goes forward, one more than
 * every start seen so far when it does not. Starts never repeat and never run backwards, so they order instances under
 * any wall clock; nothing else is ever decided by comparing times.
 */
declare const brand: unique symbol
/** Seconds since 1970 in shape; an order in meaning. */
export type Start = number & { readonly [brand]: 'Start' }

/** Twelve digits last for 30 000 years, and 2^53 is far away. */
const mostDigits = 12

/** A directory's name as an instance's start, or undefined if it is not one: there is one spelling of each. */
export function startFromName(name: string): Start | undefined {
  if (name === '' || name.length > mostDigits || (name.startsWith('0') && name !== '0')) return undefined
  for (let i = 0; i < name.length; i++) if (name.charCodeAt(i) < 0x30 || name.charCodeAt(i) > 0x39) return undefined
  return Number(name) as Start
}

/** The text of `boot_time` and `new_boot_time`: ASCII seconds, one newline. */
export const startToText = (start: Start): string => `${start}\n`

/** {@link startToText} read back, with or without its newline; undefined for anything else. */
export const startFromText = (text: string): Start | undefined => startFromName(text.endsWith('\n') ? text.slice(0, -1) : text)

/** The start of a new instance. */
export function nextStart(nowMs: number, seen: readonly Start[]): Start {
  const now = Math.max(0, Math.floor(nowMs / 1000))
  return seen.reduce<number>((latest, start) => Math.max(latest, start + 1), now) as Start
}

/** Grace is over. Its own records are the reclaimable ones of the next instance. */
export interface FullInstance {
  readonly kind: 'full'
  readonly start: Start
}

/**
 * In its grace period. Reclaimable: what is recorded in `full` or in a later partial instance, this one included.
 * Without `full` no grace period ever ended, and what was recorded before this instance proves nothing.
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
  /** `file` can't be understood, so nobody may reclaim until a new instance starts. */
  | { readonly kind: 'damaged'; readonly file: BootTimeFile; readonly why: string }

export const bootTimeFiles = ['boot_time', 'new_boot_time', 'old_boot_time'] as const
export type BootTimeFile = (typeof bootTimeFiles)[number]

/** What one of the boot time files says. */
export type BootTime = Start | 'absent' | { readonly damaged: string }

/** The instance out of the two files that define it (the commit of a grace end renames one over the other). */
export function instanceFrom(bootTime: BootTime, newBootTime: BootTime): Instance {
  if (typeof newBootTime === 'object') return { kind: 'damaged', file: 'new_boot_time', why: newBootTime.damaged }
  if (newBootTime === 'absent') {
    if (typeof bootTime === 'object') return { kind: 'damaged', file: 'boot_time', why: bootTime.damaged }
    return bootTime === 'absent' ? { kind: 'none' } : { kind: 'full', start: bootTime }
  }
  // Read as two files while a grace end renamed one over the other.
  if (bootTime === newBootTime) return { kind: 'full', start: newBootTime }
  if (typeof bootTime === 'number' && bootTime > newBootTime)
    return { kind: 'damaged', file: 'new_boot_time', why: `${newBootTime} is not after boot_time ${bootTime}` }
  // A damaged boot_time proves nothing about older instances; the current one is still known.
  return { kind: 'partial', start: newBootTime, full: typeof bootTime === 'number' ? bootTime : undefined }
}

/** The instances in which a record lets its client reclaim, newest first. */
export function reclaimableIn(instance: Instance, starts: readonly Start[]): Start[] {
  switch (instance.kind) {
    case 'none':
    case 'damaged':
      return []
    case 'full':
      return [instance.start]
    case 'partial': {
      const all = [instance.start]
      for (const start of olderThan(instance, starts)) all.push(start)
      return all
    }
    default:
      return instance satisfies never
  }
}

/** The instances before a partial one whose records are still waited for, newest first. */
export function olderThan(instance: PartialInstance, starts: readonly Start[]): Start[] {
  const { full, start: current } = instance
  if (full === undefined) return []
  const older: Start[] = []
  for (const start of starts) if (start >= full && start < current) older.push(start)
  return older.length > 1 ? older.sort((a, b) => b - a) : older
}
