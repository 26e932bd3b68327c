/**
 * The rule of RFC 7530 §9.6.3.4 (RFC 8881 §8.4.3), and nothing else:
 *
 *   a client may reclaim if and only if it was active at the end of the most recent full instance,
 *   or became active in a later partial one.
 *
 * As long as no instance was full, every client that was ever active may reclaim: no grace period has ended, so no
 * conflicting lock can have been granted. An instance that ran without a tracker may have granted any lock, so after it
 * nobody may reclaim.
 *
 * The oracle keeps sets in memory. It knows no files, times or names. It was written from the rule and the contract,
 * not from the helper, so that the two can disagree.
 */

/** An owner as the test compares it: lowercase hex. */
export type Owner = string

/** What the kernel says about a client's sessions. If it says nothing, the client has none, as in NFSv4.0. */
export type Session = 'Y' | 'N' | undefined

export type Event =
  | { readonly event: 'start'; readonly bootTime: string | undefined }
  /** A start that failed, or died before it was durable: the kernel goes on without a tracker. */
  | { readonly event: 'failed start'; readonly bootTime: string | undefined }
  | {
      readonly event: 'create'
      readonly owner: Owner
      readonly session: Session
      /** The digest of its Kerberos principal. Only the pipe reports it. */
      readonly principal?: string | undefined
    }
  | { readonly event: 'check'; readonly owner: Owner; readonly session: Session }
  | { readonly event: 'remove'; readonly owner: Owner }
  | { readonly event: 'grace done'; readonly bootTime: string | undefined }
  /** A remove, or an end of grace, that could not be stored. The kernel goes on as if it were done. */
  | { readonly event: 'not done' }
  /** An upcall that finds the kernel out of grace, and can't record that. No later upcall need come to record it. */
  | { readonly event: 'end not recorded' }
  /** The kernel's own tracker, which served until now, has recorded a client. */
  | { readonly event: 'legacy'; readonly owner: Owner }
  /** Commands for people. `import` runs while no server does. */
  | { readonly event: 'expire' | 'allow' | 'import'; readonly owner: Owner }
  /** A command for people, which forgets every client that has not reclaimed yet. */
  | { readonly event: 'prune' }

export interface Memory {
  /** Whether a server instance was ever recorded. */
  started: boolean
  /** Whether any instance ever completed its grace period. */
  everFull: boolean
  /** Whether the current instance has. */
  full: boolean
  /** The kernel's boot time of the current instance, if it gave one. */
  bootTime: string | undefined
  /** Who may reclaim and has not yet. */
  readonly reclaimable: Set<Owner>
  /** Who is active in the current instance, and whether it has a session. */
  readonly active: Map<Owner, boolean>
  /** The principals that clients were recorded with. No message says that a client has none. */
  readonly principals: Map<Owner, string>
  /** The clients that the kernel's own tracker recorded. They too may reclaim, until grace is over. */
  readonly legacy: Set<Owner>
  /**
   * Whether this instance may have had a client that never says that it is done: one without a session, or one that
   * only the kernel's own tracker has recorded.
   */
  sawSilent: boolean
  /** The kernel's boot time of the instance that runs without a tracker, if one does. */
  untracked: { readonly bootTime: string | undefined } | undefined
  /** Whether locks may have been granted in this instance of which the records know nothing. */
  doubtful: boolean
  /**
   * Whether the kernel has ended grace, and the upcall that should have recorded that, or has seen it, could not. The
   * next start does it first, if no upcall has.
   */
  endIsUnrecorded: boolean
  /**
   * What the next start does first, because an upcall was cut short (cut-short.ts): the kernel takes it for one that
   * failed, and goes on.
   */
  readonly owed: Map<Owner, Owed>
}

/** A client is gone; or it stands again as before an upcall of which the kernel has no answer. */
export type Owed = 'gone' | { readonly active: boolean | undefined; readonly reclaimable: boolean }

export const blank = (): Memory => ({
  started: false,
  everFull: false,
  full: false,
  bootTime: undefined,
  reclaimable: new Set(),
  active: new Map(),
  principals: new Map(),
  legacy: new Set(),
  sawSilent: false,
  untracked: undefined,
  doubtful: false,
  endIsUnrecorded: false,
  owed: new Map(),
})

/** A copy, which later events do not change. */
export const remember = (memory: Memory): Memory => ({
  ...memory,
  reclaimable: new Set(memory.reclaimable),
  active: new Map(memory.active),
  principals: new Map(memory.principals),
  legacy: new Set(memory.legacy),
  owed: new Map(memory.owed),
})

/** A text that is the same for two memories if they hold the same. */
export const keyOf = ({ reclaimable, active, principals, legacy, owed, ...rest }: Memory): string =>
  JSON.stringify([
    ...[reclaimable, active, principals, legacy].map((those) => [...those].sort()),
    [...owed].sort(([one], [other]) => (one < other ? -1 : 1)),
    rest,
  ])

export interface Verdict {
  /** The statuses that keep the rule. There is more than one only where the rule allows both and nothing changes. */
  readonly statuses: readonly number[]
  readonly because: string
  /** Whether the upcall tells the kernel to end grace. */
  readonly endGrace: 'must' | 'may' | 'must not'
}

export const mayNotReclaim = 255
export const otherInstance = 140
export const storageFailed = 135
/** Of a command for people: there is no such client. */
export const nobodyOfThatName = 234
/** Of a command for people, which has changed nothing, because the change would have no effect or could do harm. */
export const refused = 135

const yes = (because: string): Verdict => ({ statuses: [0], because, endGrace: 'must not' })
const no = (status: number, because: string): Verdict => ({ statuses: [status], because, endGrace: 'must not' })

/** The upcall failed, or never ran: the kernel has no promise. */
const unanswered = no(-1, 'it can promise nothing')

/** What one kind of event changes in `memory`, and what the kernel, or a person, must be answered. */
type Rule<E extends Event['event']> = (memory: Memory, event: Event & { readonly event: E }, seen: Seen) => Verdict

interface Seen {
  /** What `v4_end_grace` reads: the kernel has left its grace period. */
  readonly graceOver: boolean
}

const rules: { readonly [E in Event['event']]: Rule<E> } = {
  start: (memory, { bootTime }) => {
    doOwed(memory)
    const { reclaimable, active, legacy, principals } = memory
    const ranUntracked = memory.untracked !== undefined && !isSameStart(memory.untracked.bootTime, bootTime)
    const nobody = ranUntracked || memory.doubtful
    if (memory.full) reclaimable.clear()
    for (const owner of active.keys()) reclaimable.add(owner)
    active.clear()
    if (nobody) {
      reclaimable.clear()
      legacy.clear()
      principals.clear()
      memory.everFull = true
    }
    Object.assign(memory, {
      started: true,
      full: false,
      bootTime,
      sawSilent: legacy.size > 0,
      untracked: undefined,
      doubtful: false,
      endIsUnrecorded: false,
    })
    return yes('a server may always start')
  },

  'failed start': (memory, { bootTime }) => {
    const { untracked } = memory
    // Two different starts have failed, so the server ran without a tracker between them. A later start by the name of
    // either does not undo that.
    const isFirst = untracked === undefined || isSameStart(untracked.bootTime, bootTime)
    memory.untracked = { bootTime: isFirst ? bootTime : undefined }
    return unanswered
  },

  check: (memory, { owner, session }) => {
    const { reclaimable, active, legacy } = memory
    const isLegacy = legacy.has(owner) && !memory.full
    if (!active.has(owner) && !reclaimable.has(owner) && !isLegacy) return no(mayNotReclaim, whyNot(memory))
    const because = active.has(owner) ? 'it is recorded in this instance' : 'it may reclaim, and has not yet'
    // No `create` will follow, so this is when it becomes active.
    if (session !== 'Y') {
      memory.sawSilent = true
      reclaimable.delete(owner)
      memory.owed.delete(owner)
      if (!active.has(owner)) active.set(owner, false)
    }
    // Nothing was answered about it, so it may be refused already.
    if (session === 'Y' && isTakenOutNext(memory, owner)) return { ...yes(because), statuses: [0, mayNotReclaim] }
    return yes(because)
  },

  create: (memory, { owner, session, principal }) => {
    const { reclaimable, active, legacy, principals } = memory
    const hasSession = session === 'Y'
    reclaimable.delete(owner)
    memory.owed.delete(owner)
    active.set(owner, hasSession)
    if (principal !== undefined) principals.set(owner, principal)
    if (!hasSession) memory.sawSilent = true
    const isWaiting =
      reclaimable.size > 0 || [...legacy].some((each) => !active.has(each)) || [...active.values()].includes(false)
    const mayEnd = hasSession && !memory.full && !isWaiting
    // If all clients without a session have left again, an early end harms nobody, and neither does a late one.
    const endGrace = !mayEnd ? 'must not' : memory.sawSilent ? 'may' : 'must'
    return { ...yes('a client may always become active'), endGrace }
  },

  remove: (memory, { owner }) => {
    forget(memory, owner)
    return yes('a client may always leave')
  },

  'grace done': (memory, { bootTime }) => {
    const isOurs = bootTime === undefined || memory.bootTime === undefined || bootTime === memory.bootTime
    if (memory.full)
      return { statuses: isOurs ? [0] : [0, otherInstance], because: 'grace is over already', endGrace: 'must not' }
    if (!isOurs) return no(otherInstance, 'it is the end of another instance')
    completeGrace(memory)
    return yes('grace is done')
  },

  'not done': (memory) => {
    memory.doubtful = true
    return unanswered
  },

  'end not recorded': (memory) => {
    if (memory.started && !memory.full) memory.endIsUnrecorded = true
    return unanswered
  },

  legacy: ({ legacy }, { owner }) => {
    legacy.add(owner)
    return yes("the kernel's own tracker does not ask us")
  },

  expire: (memory, { owner }) => {
    const { active, reclaimable, legacy, endIsUnrecorded } = memory
    // What the next start does first counts for people already.
    const isKnown =
      !isTakenOutNext(memory, owner) &&
      (active.has(owner) || (!endIsUnrecorded && (reclaimable.has(owner) || legacy.has(owner))))
    forget(memory, owner)
    // A client that may not reclaim can still have a record that no sweep has removed yet. Then the command finds it.
    return {
      statuses: isKnown ? [0] : [0, nobodyOfThatName],
      because: 'a person may take any client out',
      endGrace: 'must not',
    }
  },

  prune: (memory) => {
    // When grace is over, nobody is waited for, even if the end could not be recorded. Whoever is pruned is forgotten
    // in the records of the kernel's own tracker too.
    if (!memory.endIsUnrecorded) for (const owner of [...memory.reclaimable]) forget(memory, owner)
    return { ...yes('a person may take out who has not come back'), endGrace: memory.full ? 'must not' : 'may' }
  },

  allow: (memory, { owner }, { graceOver }) => {
    const { reclaimable, active } = memory
    if (nobodyNext(memory)) return no(refused, 'after the next start nobody may reclaim')
    if (!memory.started) return no(refused, 'no server instance is recorded')
    if ((graceOver || memory.endIsUnrecorded) && !memory.full)
      return no(refused, 'grace is over, and that is not recorded yet')
    memory.owed.delete(owner)
    if (!active.has(owner) && !reclaimable.has(owner)) {
      // There is no instance before the first one in which it could have been active.
      if (memory.full || !memory.everFull) {
        active.set(owner, false)
        memory.sawSilent = true
      } else reclaimable.add(owner)
    }
    return yes('a person may let any client in')
  },

  import: (memory, { owner }) => {
    const { reclaimable, active } = memory
    if (nobodyNext(memory)) return no(refused, 'after the next start nobody may reclaim')
    memory.owed.delete(owner)
    if (active.has(owner)) return yes('it is there already')
    // Whoever has not reclaimed by then is forgotten when the next start records the end of grace.
    if (memory.full || memory.endIsUnrecorded) active.set(owner, false)
    else reclaimable.add(owner)
    return yes('a client that another tracker recorded may reclaim here')
  },
}

/** Changes `memory` by one event. @returns what must be answered. */
export function judge(memory: Memory, event: Event, { graceOver = false }: Partial<Seen> = {}): Verdict {
  // The kernel has left grace and grants new locks, though no upcall has said so. A reclaim from now on could conflict
  // with one of them.
  const comesFromClient = event.event === 'create' || event.event === 'check' || event.event === 'remove'
  if (comesFromClient && graceOver && !memory.full) completeGrace(memory)
  return (rules[event.event] as Rule<Event['event']>)(memory, event, { graceOver })
}

const nobodyNext = ({ untracked, doubtful }: Memory): boolean => untracked !== undefined || doubtful

/** Kernels 6.8 to 6.13 call `init` twice for one start of the server, with one boot time: no server ran in between. */
const isSameStart = (bootTime: string | undefined, next: string | undefined): boolean =>
  bootTime !== undefined && bootTime === next

/** An upcall was cut short after it had begun: nothing that it has done was answered, and the kernel goes on. */
export function owe(memory: Memory, before: Memory, event: Event): void {
  switch (event.event) {
    case 'remove':
      memory.owed.set(event.owner, 'gone')
      return
    case 'check':
    case 'create': {
      // The kernel will not say when this client is gone (nfs4recover.c, NFSD4_CLIENT_STABLE).
      if (event.event === 'check' && event.session === 'Y') return
      const { owner } = event
      const stood = { active: before.active.get(owner), reclaimable: before.reclaimable.has(owner) && !memory.full }
      memory.owed.set(owner, before.owed.get(owner) ?? stood)
      return
    }
    case 'grace done': {
      const done = remember(before)
      judge(done, event)
      if (done.full && !memory.full) memory.endIsUnrecorded = true
      return
    }
    default:
  }
}

/** Whether the next start takes out a client, because an upcall about it was cut short. */
function isTakenOutNext({ owed, legacy, full }: Memory, owner: Owner): boolean {
  const stood = owed.get(owner)
  if (stood === undefined || stood === 'gone') return stood === 'gone'
  return stood.active === undefined && !stood.reclaimable && !(legacy.has(owner) && !full)
}

/** What upcalls that were cut short have left to do. */
function doOwed(memory: Memory): void {
  const { active, reclaimable, owed } = memory
  if (memory.endIsUnrecorded && !memory.full) completeGrace(memory)
  for (const [owner, stood] of owed)
    if (stood === 'gone') forget(memory, owner)
    else {
      active.delete(owner)
      if (stood.active !== undefined) active.set(owner, stood.active)
      if (stood.reclaimable) reclaimable.add(owner)
    }
  owed.clear()
}

function forget({ reclaimable, active, legacy, principals, owed }: Memory, owner: Owner): void {
  owed.delete(owner)
  principals.delete(owner)
  reclaimable.delete(owner)
  active.delete(owner)
  legacy.delete(owner)
}

function completeGrace(memory: Memory): void {
  memory.full = true
  memory.endIsUnrecorded = false
  memory.everFull = true
  for (const [owner, stood] of memory.owed)
    if (stood !== 'gone') memory.owed.set(owner, { ...stood, reclaimable: false })
  for (const owner of memory.reclaimable) memory.principals.delete(owner)
  memory.reclaimable.clear()
  memory.legacy.clear()
}

/**
 * The clients in the answer to a kernel that asks for a list: all that may reclaim, except owners that the kernel can't
 * read from a list. It reads no empty name, and takes one that begins with `hash:` for another client (nfs4recover.c).
 */
export const namedAtStart = ({ reclaimable }: Memory): Owner[] =>
  [...reclaimable].filter((owner) => owner !== '' && !owner.startsWith(Buffer.from('hash:').toString('hex')))

/**
 * Who may reclaim at the next start, if nothing else happens before. Clients in `legacy` are not in it: their records
 * have only the MD5 of their owners.
 */
export function reclaimableAtNextStart(before: Memory): Owner[] {
  if (nobodyNext(before)) return []
  const memory = remember(before)
  doOwed(memory)
  return [...new Set([...(memory.full ? [] : memory.reclaimable), ...memory.active.keys()])]
}

function whyNot({ everFull, full }: Memory): string {
  if (full) return 'grace is over, and it is not recorded in this instance'
  if (!everFull) return 'it is not recorded in this instance, nor in any before it'
  return 'it was not active at the end of the last full instance, nor in a partial one since'
}
