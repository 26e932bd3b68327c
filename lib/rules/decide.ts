/**
 * What one upcall means: from what is recorded and what is asked, to what changes and what is answered.
 * No files, no clock: the same input, the same decision. RFC 7530 §9.6.3.4, RFC 8881 §8.4.2.1 and §8.4.3.
 */
import type { Failure } from '../failure.ts'
import { showOwner, type ClientOwner } from '../upcall/owner.ts'
import type { Asked, KernelBootTime, Session } from '../upcall/request.ts'
import type { FullInstance, Instance, PartialInstance, Start } from './instance.ts'

/** What is recorded, asked for only when it matters. */
export interface Before {
  readonly instance: Instance
  /** The kernel's boot time at the start of the current instance, if that was told. */
  kernelBootTime(): KernelBootTime | undefined
  /** The kernel is out of grace: it has granted, or may grant, locks that conflict with what was not reclaimed. */
  graceIsOverInKernel(): boolean
  /** Whether the kernel's own tracker has a client's directory at a path. */
  hasLegacyRecord(path: string): boolean
  /** The newest entry under an owner's name among the instances in which a record lets it reclaim. */
  newestRecord(owner: ClientOwner): Found
}

export type Found =
  | { readonly kind: 'nothing' }
  /** Something stands there that can't be understood: it allows nothing. */
  | { readonly kind: 'damaged'; readonly in: Start }
  /** A newer program wrote it: it allows nothing either. */
  | { readonly kind: 'newer'; readonly in: Start }
  | { readonly kind: 'record'; readonly in: Start }

export type Decision =
  /** Commit a partial instance as full. */
  | { readonly kind: 'end-grace'; readonly instance: PartialInstance; readonly legacyTop: string | undefined }
  /** Grace is over already. */
  | { readonly kind: 'confirm-grace-end'; readonly instance: FullInstance; readonly legacyTop: string | undefined }
  /** End the grace that the kernel has left without us, then decide anew. */
  | { readonly kind: 'end-missed-grace'; readonly instance: PartialInstance }
  /** Begin a full instance in place of a state directory that was wiped under the server, then decide anew. */
  | { readonly kind: 'rebuild'; readonly kernelBootTime: KernelBootTime | undefined }
  | {
      readonly kind: 'record'
      readonly owner: ClientOwner
      readonly session: Session
      readonly principal: string | undefined
      readonly instance: FullInstance | PartialInstance
    }
  /** Move the record of a client without RECLAIM_COMPLETE into the current instance: it has now reclaimed. */
  | {
      readonly kind: 'carry-over'
      readonly owner: ClientOwner
      readonly from: Start
      readonly instance: PartialInstance
    }
  /** The same of a client that only the kernel's own tracker has recorded: it gets a record there. */
  | {
      readonly kind: 'take-over'
      readonly owner: ClientOwner
      readonly legacyRecord: string
      readonly instance: PartialInstance
    }
  /** The record is where it belongs, but an earlier upcall may have died before its barrier. */
  | { readonly kind: 'confirm-record'; readonly instance: FullInstance | PartialInstance }
  /** Take the client out of every instance. */
  | { readonly kind: 'forget'; readonly owner: ClientOwner }
  | { readonly kind: 'allow' }
  | { readonly kind: 'nothing-to-do' }
  | { readonly kind: 'refuse'; readonly failure: Failure }

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

    case 'create': {
      const { owner, session, principal, kernelBootTime } = request
      if (instance.kind === 'none') return { kind: 'rebuild', kernelBootTime }
      if (instance.kind === 'damaged') return instanceUnknown(instance)
      return missedGrace(before) ?? { kind: 'record', owner, session, principal, instance }
    }

    case 'remove':
      // Also where the instance is not known: a client that is gone must not reclaim.
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
      let found = before.newestRecord(owner)
      if (found.kind === 'nothing' && instance.kind === 'partial' && legacyRecord !== undefined) {
        // A client of the kernel's own tracker is one of an older instance: its directory counts until grace is over.
        if (before.hasLegacyRecord(legacyRecord))
          return session === 'has session' ? allowUnchanged : { kind: 'take-over', owner, legacyRecord, instance }
        // Whoever has recorded it meanwhile may have removed its directory.
        found = before.newestRecord(owner)
      }
      if (found.kind === 'nothing') return mayNotReclaim(owner, 'it is not recorded')
      if (found.kind === 'damaged')
        return mayNotReclaim(owner, `its record in instance ${found.in} can't be understood`)
      if (found.kind === 'newer')
        return mayNotReclaim(owner, `a newer program wrote its record in instance ${found.in}`)
      if (session === 'has session') return allowUnchanged
      return instance.kind === 'full' || found.in === instance.start
        ? { kind: 'confirm-record', instance }
        : { kind: 'carry-over', owner, from: found.in, instance }
    }

    default:
      return request satisfies never
  }
}

/**
 * With a session the client itself says when it is done, by RECLAIM_COMPLETE, and `create` follows: until then it has
 * reclaimed nothing for sure (edge condition 2). Without one, its check is all that will ever come.
 */
const allowUnchanged: Decision = { kind: 'allow' }

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
