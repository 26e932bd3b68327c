/**
 * The rule of RFC 7530 §9.6.3.4 (RFC 8881 §8.4.3), and nothing else:
 *
 *   a client may reclaim if and only if it was active at the end of the most recent full instance,
 *   or became active in a later partial one.
 *
 * Sets in memory: no files, no times, no names. It was written from the rule and the contract, not from the helper,
 * so that the two can disagree.
 */

/** An owner as the test compares it: lowercase hex. */
export type Owner = string

/** What the kernel says about a client's sessions. It may say nothing: then there are none, as in NFSv4.0. */
export type Session = 'Y' | 'N' | undefined

export type Event =
  | { readonly event: 'start'; readonly bootTime: string | undefined }
  | { readonly event: 'create' | 'check'; readonly owner: Owner; readonly session: Session }
  | { readonly event: 'remove'; readonly owner: Owner }
  | { readonly event: 'grace done'; readonly bootTime: string | undefined }

export interface Memory {
  /** Whether any instance ever completed its grace period. Before that, nobody is known to have been safe. */
  everFull: boolean
  /** Whether the current instance has. */
  full: boolean
  /** What the kernel called the current instance, if it said. */
  bootTime: string | undefined
  /** Who may reclaim and has not yet. */
  readonly reclaimable: Set<Owner>
  /** Who is active in the current instance, and whether it has a session. */
  readonly active: Map<Owner, boolean>
  /** Whether a client without a session was ever seen in this instance: it never says that it is done. */
  sawSessionless: boolean
}

export const blank = (): Memory => ({
  everFull: false, full: false, bootTime: undefined, reclaimable: new Set(), active: new Map(), sawSessionless: false,
})

export interface Verdict {
  /** The statuses that keep the rule; more than one only where the rule leaves it open and nothing changes. */
  readonly statuses: readonly number[]
  readonly because: string
  /** Whether the kernel is to be told that it may end grace. */
  readonly endGrace: 'must' | 'may' | 'must not'
}

export const mayNotReclaim = 255
export const otherInstance = 140

const yes = (because: string): Verdict => ({ statuses: [0], because, endGrace: 'must not' })

/** What the kernel is owed for one event, and what is remembered after it. `graceOver`: what `v4_end_grace` reads. */
export function judge(memory: Memory, event: Event, graceOver: boolean): Verdict {
  const { reclaimable, active } = memory

  // The kernel went on without us and grants new locks: from here on a late reclaim could corrupt data.
  const heals = event.event === 'create' || event.event === 'check' || event.event === 'remove'
  if (heals && graceOver && !memory.full) completeGrace(memory)

  switch (event.event) {
    case 'start': {
      const safe = memory.full ? active.keys() : memory.everFull ? [...reclaimable, ...active.keys()] : []
      const next = new Set(safe)
      reclaimable.clear()
      for (const owner of next) reclaimable.add(owner)
      active.clear()
      Object.assign(memory, { full: false, bootTime: event.bootTime, sawSessionless: false })
      return yes('a server may always start')
    }
    case 'check': {
      const known = active.has(event.owner) || reclaimable.has(event.owner)
      if (!known) return { statuses: [mayNotReclaim], because: whyNot(memory), endGrace: 'must not' }
      const because = active.has(event.owner) ? 'it is recorded in this instance' : 'it may reclaim, and has not yet'
      if (event.session !== 'Y') {
        memory.sawSessionless = true
        if (reclaimable.delete(event.owner)) active.set(event.owner, false)
      }
      return yes(because)
    }
    case 'create': {
      const session = event.session === 'Y'
      reclaimable.delete(event.owner)
      active.set(event.owner, session)
      if (!session) memory.sawSessionless = true
      const mayEnd = session && !memory.full && reclaimable.size === 0 && ![...active.values()].includes(false)
      // A client without a session that has left again: nobody is harmed if grace ends early, or if it does not.
      const endGrace = !mayEnd ? 'must not' : memory.sawSessionless ? 'may' : 'must'
      return { ...yes('a client may always become active'), endGrace }
    }
    case 'remove':
      reclaimable.delete(event.owner)
      active.delete(event.owner)
      return yes('a client may always leave')
    case 'grace done': {
      const ours = event.bootTime === undefined || memory.bootTime === undefined || event.bootTime === memory.bootTime
      if (memory.full)
        return { statuses: ours ? [0] : [0, otherInstance], because: 'grace is over already', endGrace: 'must not' }
      if (!ours)
        return { statuses: [otherInstance], because: 'it is the end of another instance', endGrace: 'must not' }
      completeGrace(memory)
      return yes('grace is done')
    }
    default:
      return event satisfies never
  }
}

function completeGrace(memory: Memory): void {
  memory.full = true
  memory.everFull = true
  memory.reclaimable.clear()
}

function whyNot({ everFull, full }: Memory): string {
  if (full) return 'grace is over, and it is not recorded in this instance'
  if (!everFull) return 'no grace period ever completed, and it is not recorded in this instance'
  return 'it was not active at the end of the last full instance, nor in a partial one since'
}
