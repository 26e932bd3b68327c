/**
 * What one upcall means. What is recorded and what is asked decide what changes and what is answered. There are no
 * files and no clock here: the same input gives the same decision. RFC 7530 §9.6.3.4, RFC 8881 §8.4.2.1 and §8.4.3.
 */
import type { Failure } from '../failure.ts'
import { showOwner, type ClientOwner } from '../upcall/owner.ts'
import type { Asked, KernelBootTime, Session } from '../upcall/request.ts'
import type { FullInstance, Instance, PartialInstance, Start } from './instance.ts'

/** What is recorded, asked for only when it matters. */
export interface Before {
  readonly instance: Instance
  /** The kernel's boot time at the start of the current instance, if the kernel gave one. */
  kernelBootTime(): KernelBootTime | undefined
  /**
   * Whether the kernel is out of grace. Then it may have granted locks that conflict with those that were not
   * reclaimed.
   */
  graceIsOverInKernel(): boolean
  /** Whether the kernel's own tracker has a client's directory at a path. */
  hasLegacyRecord(path: string): boolean
  /** The newest entry under an owner's name, of the instances in which a record would let it reclaim. */
  newestRecord(owner: ClientOwner): Found
  /** What an upcall about this client has begun, and has not promised: it still runs, or was cut short. */
  begun(owner: ClientOwner): Begun | undefined
}

export type Begun =
  /** Its removal. */
  | { readonly kind: 'remove' }
  /** Its record was put into an instance, and is moved back or removed if nothing more comes. */
  | { readonly kind: 'put'; readonly in: Start; readonly from: From }

/** Where a record was: in an older instance; nowhere; in the same one, but 'unreadable', so that no other counted. */
export type From = Start | 'nowhere' | 'unreadable'

export type Found =
  | { readonly kind: 'nothing' }
  /** The entry can't be understood: it lets nobody reclaim. */
  | { readonly kind: 'damaged'; readonly in: Start }
  /** A newer version of this program wrote it: it lets nobody reclaim either. */
  | { readonly kind: 'newer'; readonly in: Start }
  | { readonly kind: 'record'; readonly in: Start }

export type Decision =
  /** Make a partial instance full. */
  | { readonly kind: 'end-grace'; readonly instance: PartialInstance; readonly legacyTop: string | undefined }
  /** Grace is over already. */
  | { readonly kind: 'confirm-grace-end'; readonly instance: FullInstance; readonly legacyTop: string | undefined }
  /** End the grace that the kernel has ended without telling us, then decide again. */
  | { readonly kind: 'end-missed-grace'; readonly instance: PartialInstance }
  /** Begin a full instance, because the state directory was wiped under a running server. Then decide again. */
  | { readonly kind: 'rebuild'; readonly kernelBootTime: KernelBootTime | undefined }
  | {
      readonly kind: 'record'
      readonly client: ToRecord
      readonly instance: FullInstance | PartialInstance
    }
  /** Move the record of a client without RECLAIM_COMPLETE into the current instance: it has now reclaimed. */
  | {
      readonly kind: 'carry-over'
      readonly owner: ClientOwner
      readonly from: Start
      readonly instance: PartialInstance
    }
  /** The same for a client that only the kernel's own tracker has recorded: it gets a new record there. */
  | {
      readonly kind: 'take-over'
      readonly owner: ClientOwner
      readonly legacyRecord: string
      readonly instance: PartialInstance
    }
  /** The record is in its place already, but the upcall that put it there may have died before its barrier. */
  | { readonly kind: 'confirm-record'; readonly instance: FullInstance | PartialInstance }
  /** Remove the client from every instance. */
  | { readonly kind: 'forget'; readonly owner: ClientOwner }
  | { readonly kind: 'allow' }
  | { readonly kind: 'nothing-to-do' }
  | { readonly kind: 'refuse'; readonly failure: Failure }

/** What the kernel says of a client that is to be recorded. */
export interface ToRecord {
  readonly owner: ClientOwner
  readonly session: Session
  readonly principal: string | undefined
}

export function decide(before: Before, request: Asked): Decision {
  const { instance } = before
  switch (request.event) {
    case 'grace-done': {
      const { kernelBootTime: given, legacyTop } = request
      if (instance.kind === 'none') return { kind: 'nothing-to-do' }
      if (instance.kind === 'damaged') return instanceUnknown(instance)
      const current = before.kernelBootTime()
      if (given !== undefined && current !== undefined && given !== current)
        return { kind: 'refuse', failure: { kind: 'other-instance', given, current } }
      return instance.kind === 'full'
        ? { kind: 'confirm-grace-end', instance, legacyTop }
        : { kind: 'end-grace', instance, legacyTop }
    }

    case 'create':
      if (instance.kind === 'none') return { kind: 'rebuild', kernelBootTime: request.kernelBootTime }
      if (instance.kind === 'damaged') return instanceUnknown(instance)
      return missedGrace(before) ?? { kind: 'record', client: request, instance }

    case 'remove':
      // Even if no instance is known: a client that is gone must not reclaim.
      return (
        missedGrace(before) ??
        (instance.kind === 'none' ? { kind: 'nothing-to-do' } : { kind: 'forget', owner: request.owner })
      )

    case 'check': {
      const { owner, session, legacyRecord } = request
      if (instance.kind === 'none') return mayNotReclaim(owner, 'no server instance is recorded')
      if (instance.kind === 'damaged')
        return mayNotReclaim(owner, `${instance.file} can't be understood, ${instance.why}`)
      const missed = missedGrace(before)
      if (missed) return missed
      const begun = before.begun(owner)
      // The kernel goes on as if it were done, however the upcall ended.
      if (begun?.kind === 'remove') return mayNotReclaim(owner, 'a remove of it has begun')
      let found = before.newestRecord(owner)
      if (found.kind === 'nothing' && instance.kind === 'partial' && legacyRecord !== undefined) {
        // A client of the kernel's own tracker is one of an older instance: its directory counts until grace is over.
        if (before.hasLegacyRecord(legacyRecord))
          return session === 'has session' ? allowUnchanged : { kind: 'take-over', owner, legacyRecord, instance }
        // The upcall that recorded it meanwhile may also have removed its directory.
        found = before.newestRecord(owner)
      }
      if (found.kind === 'nothing') return mayNotReclaim(owner, 'it is not recorded')
      if (found.kind === 'damaged')
        return mayNotReclaim(owner, `its record in instance ${found.in} can't be understood`)
      if (found.kind === 'newer')
        return mayNotReclaim(owner, `a newer program wrote its record in instance ${found.in}`)
      if (session === 'has session')
        return isPromised(found.in, begun) ||
          reclaimableStill(instance, begun) ||
          (instance.kind === 'partial' && legacyRecord !== undefined && before.hasLegacyRecord(legacyRecord))
          ? allowUnchanged
          : mayNotReclaim(owner, 'the upcall that recorded it has not succeeded')
      return instance.kind === 'full' || found.in === instance.start
        ? { kind: 'confirm-record', instance }
        : { kind: 'carry-over', owner, from: found.in, instance }
    }

    default:
      return request satisfies never
  }
}

/**
 * A client with a session says by RECLAIM_COMPLETE when it is done, and `create` follows. Until then, what it has
 * reclaimed is not certain (edge condition 2). For a client without one, no other upcall follows its check.
 */
const allowUnchanged: Decision = { kind: 'allow' }

/** Whether a record stays if nothing more comes about its client. */
const isPromised = (start: Start, begun: Begun | undefined): boolean => begun?.kind !== 'put' || begun.in !== start

/** Whether it would still count where it was before. */
const reclaimableStill = (instance: FullInstance | PartialInstance, begun: Begun | undefined): boolean =>
  begun?.kind === 'put' &&
  typeof begun.from === 'number' &&
  instance.kind === 'partial' &&
  begun.from >= (instance.full ?? 0)

function missedGrace(before: Before): Decision | undefined {
  const { instance } = before
  return instance.kind === 'partial' && before.graceIsOverInKernel()
    ? { kind: 'end-missed-grace', instance }
    : undefined
}

export const mayNotReclaim = (owner: ClientOwner, because: string): Decision & { kind: 'refuse' } => ({
  kind: 'refuse',
  failure: { kind: 'may-not-reclaim', owner: showOwner(owner), because },
})

const instanceUnknown = ({ file, why }: Instance & { kind: 'damaged' }): Decision => ({
  kind: 'refuse',
  failure: { kind: 'storage', what: `${file} can't be understood, ${why}: wait for the next start` },
})
