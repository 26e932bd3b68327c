/**
 * The rule of RFC 7530 §9.6.3.4 (RFC 8881 §8.4.3), and nothing else:
 *
 *   a client may reclaim if and only if it was active at the end of the most recent full instance,
 *   or became active in a later partial one.
 *
 * Before any instance was full, "the beginning" stands in the place of the full one: no grace period has ended, so
 * nothing that conflicts can have been granted. An instance that ran without a tracker may have granted anything: after
 * it nobody may reclaim.
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
  /** A start that failed, or died before it was durable: the kernel goes on without a tracker. */
  | { readonly event: 'failed start'; readonly bootTime: string | undefined }
  | {
      readonly event: 'create'
      readonly owner: Owner
      readonly session: Session
      /** The digest of its Kerberos principal, which only the pipe tells. */
      readonly principal?: string | undefined
    }
  | { readonly event: 'check'; readonly owner: Owner; readonly session: Session }
  | { readonly event: 'remove'; readonly owner: Owner }
  | { readonly event: 'grace done'; readonly bootTime: string | undefined }
  /** A remove, or an end of grace, that the storage has refused: the kernel goes on as if it were done. */
  | { readonly event: 'not done' }
  /** An upcall that finds the kernel out of grace, and can't record that: nobody else may come to do it. */
  | { readonly event: 'end not recorded' }
  /** The kernel's own tracker has recorded a client, and served until now. */
  | { readonly event: 'legacy'; readonly owner: Owner }
  /** Commands for people. `prune` takes out whoever has not reclaimed yet; `import` comes while no server runs. */
  | { readonly event: 'expire' | 'allow' | 'import'; readonly owner: Owner }
  | { readonly event: 'prune' }

export interface Memory {
  /** Whether a server instance was ever recorded. */
  started: boolean
  /** Whether any instance ever completed its grace period. */
  everFull: boolean
  /** Whether the current instance has. */
  full: boolean
  /** What the kernel called the current instance, if it said. */
  bootTime: string | undefined
  /** Who may reclaim and has not yet. */
  readonly reclaimable: Set<Owner>
  /** Who is active in the current instance, and whether it has a session. */
  readonly active: Map<Owner, boolean>
  /** As what principal a client was recorded, if anybody ever said. Nobody says that it has none. */
  readonly principals: Map<Owner, string>
  /** Whom the kernel's own tracker knows: until grace is over they may reclaim as well. */
  readonly legacy: Set<Owner>
  /**
   * Whether somebody may have been there in this instance who never says that it is done: without a session, or known
   * to the kernel's own tracker only.
   */
  sawSilent: boolean
  /** The instance that runs without a tracker, if one does, by what the kernel called it. */
  untracked: { readonly bootTime: string | undefined } | undefined
  /** Whether locks may have been granted in this instance of which the records know nothing. */
  doubtful: boolean
  /** Whether the kernel has been seen out of grace, and that could not be recorded until now. */
  endLacks: boolean
}

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
  endLacks: false,
})

/** Another one that remembers the same. */
export const remember = (memory: Memory): Memory => ({
  ...memory,
  reclaimable: new Set(memory.reclaimable),
  active: new Map(memory.active),
  principals: new Map(memory.principals),
  legacy: new Set(memory.legacy),
})

/** The same text for memories of the same. */
export const keyOf = ({ reclaimable, active, principals, legacy, ...rest }: Memory): string =>
  JSON.stringify([[...reclaimable].sort(), [...active].sort(), [...principals].sort(), [...legacy].sort(), rest])

export interface Verdict {
  /** The statuses that keep the rule; more than one only where the rule leaves it open and nothing changes. */
  readonly statuses: readonly number[]
  readonly because: string
  /** Whether the kernel is to be told that it may end grace. */
  readonly endGrace: 'must' | 'may' | 'must not'
}

export const mayNotReclaim = 255
export const otherInstance = 140
export const storageFailed = 135
/** A command for people: there is no such client. */
export const nobodyOfThatName = 234
/** A command for people, which changes nothing: what it would do means nothing, or might do harm. */
export const refused = 135

const yes = (because: string): Verdict => ({ statuses: [0], because, endGrace: 'must not' })
const no = (status: number, because: string): Verdict => ({ statuses: [status], because, endGrace: 'must not' })

/** What the kernel is owed for one event, and what is remembered after it. `graceOver`: what `v4_end_grace` reads. */
export function judge(
  memory: Memory,
  event: Event,
  { graceOver = false }: { readonly graceOver?: boolean } = {},
): Verdict {
  const { reclaimable, active, legacy, principals } = memory

  // The kernel went on without us and grants new locks: from here on a late reclaim could corrupt data.
  const heals = event.event === 'create' || event.event === 'check' || event.event === 'remove'
  if (heals && graceOver && !memory.full) completeGrace(memory)

  switch (event.event) {
    case 'start': {
      const ranUntracked = memory.untracked !== undefined && !isSameStart(memory.untracked, event)
      const nobody = ranUntracked || memory.doubtful || memory.endLacks
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
        bootTime: event.bootTime,
        sawSilent: legacy.size > 0,
        untracked: undefined,
        doubtful: false,
        endLacks: false,
      })
      return yes('a server may always start')
    }
    case 'failed start': {
      const { untracked } = memory
      // Another start of the server means that the untracked instance before it has run; no later name makes up for
      // that.
      memory.untracked =
        untracked === undefined || isSameStart(untracked, event)
          ? { bootTime: event.bootTime }
          : { bootTime: undefined }
      return no(-1, 'it can promise nothing')
    }
    case 'check': {
      const isLegacy = legacy.has(event.owner) && !memory.full
      const known = active.has(event.owner) || reclaimable.has(event.owner) || isLegacy
      if (!known) return no(mayNotReclaim, whyNot(memory))
      const because = active.has(event.owner) ? 'it is recorded in this instance' : 'it may reclaim, and has not yet'
      if (event.session !== 'Y') {
        memory.sawSilent = true
        reclaimable.delete(event.owner)
        if (!active.has(event.owner)) active.set(event.owner, false)
      }
      return yes(because)
    }
    case 'create': {
      const session = event.session === 'Y'
      reclaimable.delete(event.owner)
      active.set(event.owner, session)
      if (event.principal !== undefined) principals.set(event.owner, event.principal)
      if (!session) memory.sawSilent = true
      const isWaiting =
        reclaimable.size > 0 || [...legacy].some((owner) => !active.has(owner)) || [...active.values()].includes(false)
      const mayEnd = session && !memory.full && !isWaiting
      // A client without a session that has left again: nobody is harmed if grace ends early, or if it does not.
      const endGrace = !mayEnd ? 'must not' : memory.sawSilent ? 'may' : 'must'
      return { ...yes('a client may always become active'), endGrace }
    }
    case 'remove':
      forget(memory, event.owner)
      return yes('a client may always leave')
    case 'grace done': {
      const ours = event.bootTime === undefined || memory.bootTime === undefined || event.bootTime === memory.bootTime
      if (memory.full)
        return { statuses: ours ? [0] : [0, otherInstance], because: 'grace is over already', endGrace: 'must not' }
      if (!ours) return no(otherInstance, 'it is the end of another instance')
      completeGrace(memory)
      return yes('grace is done')
    }
    case 'not done':
      memory.doubtful = true
      return no(-1, 'it can promise nothing')
    case 'end not recorded':
      if (memory.started && !memory.full) memory.endLacks = true
      return no(-1, 'it can promise nothing')
    case 'legacy':
      legacy.add(event.owner)
      return yes('the kernel has its own ways')
    case 'expire': {
      const known = active.has(event.owner) || reclaimable.has(event.owner) || legacy.has(event.owner)
      forget(memory, event.owner)
      // Refused, it changes nothing: there was nothing to forget. Somebody who may not reclaim anyway may still have a
      // record that is to be swept, and then it is no refusal.
      return {
        statuses: known ? [0] : [0, nobodyOfThatName],
        because: 'a person may take any client out',
        endGrace: 'must not',
      }
    }
    case 'prune':
      // Once grace is over nobody is waited for, also where that could not be recorded.
      // Wholly, whoever else knew of it: `forget` goes through what the kernel's own tracker has too.
      if (!memory.endLacks) for (const owner of [...reclaimable]) forget(memory, owner)
      return { ...yes('a person may take out who has not come back'), endGrace: memory.full ? 'must not' : 'may' }
    case 'allow': {
      if (nobodyNext(memory)) return no(refused, 'after the next start nobody may reclaim')
      if (!memory.started) return no(refused, 'no server instance is recorded')
      if (graceOver && !memory.full) return no(refused, 'grace is over, and that is not recorded yet')
      if (!active.has(event.owner) && !reclaimable.has(event.owner)) {
        // In a first instance, which has nothing before it, it counts as active in it.
        if (memory.full || !memory.everFull) {
          active.set(event.owner, false)
          memory.sawSilent = true
        } else reclaimable.add(event.owner)
      }
      return yes('a person may let any client in')
    }
    case 'import':
      if (nobodyNext(memory)) return no(refused, 'after the next start nobody may reclaim')
      if (!active.has(event.owner) && !reclaimable.has(event.owner)) {
        if (memory.full) active.set(event.owner, false)
        else reclaimable.add(event.owner)
      }
      return yes('whom another tracker recorded may reclaim here')
    default:
      return event satisfies never
  }
}

const nobodyNext = ({ untracked, doubtful, endLacks }: Memory): boolean =>
  untracked !== undefined || doubtful || endLacks

/**
 * Kernels 6.8 to 6.13 call `init` twice for one start of the server, and call it the same: no server ran in between.
 */
const isSameStart = (
  { bootTime }: { readonly bootTime: string | undefined },
  next: { readonly bootTime: string | undefined },
): boolean => bootTime !== undefined && bootTime === next.bootTime

function forget({ reclaimable, active, legacy, principals }: Memory, owner: Owner): void {
  principals.delete(owner)
  reclaimable.delete(owner)
  active.delete(owner)
  legacy.delete(owner)
}

function completeGrace(memory: Memory): void {
  memory.full = true
  memory.endLacks = false
  memory.everFull = true
  for (const owner of memory.reclaimable) memory.principals.delete(owner)
  memory.reclaimable.clear()
  memory.legacy.clear()
}

/**
 * Who is named to a kernel that asks for a list: whoever may reclaim, but for names that it takes for something else.
 * It has no name of no bytes, and one that begins with `hash:` means another client to it (nfs4recover.c).
 */
export const namedAtStart = ({ reclaimable }: Memory): Owner[] =>
  [...reclaimable].filter((owner) => owner !== '' && !owner.startsWith(Buffer.from('hash:').toString('hex')))

/**
 * Who may reclaim at the next start, if nothing else happens before. `legacy` are known by the MD5 of their owners
 * only.
 */
export const reclaimableAtNextStart = (memory: Memory): Owner[] =>
  nobodyNext(memory) ? [] : [...new Set([...(memory.full ? [] : memory.reclaimable), ...memory.active.keys()])]

function whyNot({ everFull, full }: Memory): string {
  if (full) return 'grace is over, and it is not recorded in this instance'
  if (!everFull) return 'it is not recorded in this instance, nor in any before it'
  return 'it was not active at the end of the last full instance, nor in a partial one since'
}
