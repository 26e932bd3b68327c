/** Describes clients and instances in words for people, and in members for programs (docs/json.md). Pure. */
import type { Instance } from '../../rules/instance.ts'
import type { BegunAbout } from '../../store/begun.ts'
import { counted, oneLine } from '../../text.ts'
import { escapeOwner, showOwner, type ClientOwner } from '../../upcall/owner.ts'
import type { Session } from '../../upcall/request.ts'
import type { LiveClient } from './live-clients.ts'
import { mayReclaim, wasKnownBefore, type Client } from './recorded-clients.ts'
import type { Survey } from './survey.ts'
import { isoTime } from './table.ts'

export type Word = 'recorded' | 'reclaimed' | 'new' | 'waiting' | 'void'

/** What is shown of a client: everything but the place of its record. */
export type Told = Omit<Client, 'kind' | 'path' | 'isCutShort'>

/** The state of a client, in one word. */
export function wordFor(client: Told, instance: Instance): Word {
  if (client.standing !== 'current') return client.standing
  return instance.kind === 'partial' ? (wasKnownBefore(client) ? 'reclaimed' : 'new') : 'recorded'
}

const meanings: Readonly<Record<Word, { readonly now: string; readonly next?: string }>> = {
  recorded: { now: 'active', next: '; it may reclaim after the next start' },
  reclaimed: { now: 'it has reclaimed in this grace period', next: ', and may reclaim again after the next start' },
  new: { now: 'it came in this grace period', next: ', and may reclaim after the next start' },
  waiting: { now: 'it may reclaim, and has not yet' },
  void: { now: 'this record has no effect any more: it lets no client reclaim' },
}

export const meaningOf = (word: Word, { untracked }: Pick<Survey, 'untracked'>): string =>
  `${meanings[word].now}${untracked ? '' : (meanings[word].next ?? '')}`

/** The protocol version, as far as a record shows it: with a session there is RECLAIM_COMPLETE. */
export const versionOf = (session: Session): string =>
  session === 'unknown' ? '?' : session === 'has session' ? '4.1+' : '4.0'

/** A session as JSON; null, if it is not known. */
export const sessionJson = (session: Session): boolean | null =>
  session === 'unknown' ? null : session === 'has session'

/** What a client needs to reclaim, besides its name. */
export const needs = (principal: string): string =>
  `needs the Kerberos principal with SHA-256 ${principal}${principal.length < 64 ? '...' : ''}`

/** Converts each item when its turn comes. */
export function* each<T, U>(items: Iterable<T>, shown: (item: T) => U): Generator<U> {
  for (const item of items) yield shown(item)
}

export const ownerJson = (owner: ClientOwner) => ({
  owner: escapeOwner(owner),
  owner_hex: hexOfMany(owner),
})

/** The same as hexOf, in a tenth of the time, and without a copy. */
const hexOfMany = ({ buffer, byteOffset, length }: ClientOwner): string =>
  Buffer.from(buffer, byteOffset, length).toString('hex')

/** The members are written out, because spreading is slower, and there may be a million clients. */
export const clientJson = (client: Told, instance: Instance) => ({
  owner: escapeOwner(client.owner),
  owner_hex: hexOfMany(client.owner),
  standing: wordFor(client, instance),
  may_reclaim: mayReclaim(client),
  instance: client.in,
  instances_unseen: client.unseen,
  session: sessionJson(client.session),
  recorded: client.recorded,
  principal: client.principal ?? null,
})

/** The current instance as JSON. `start` looks like a time, but only its order matters. */
export const instanceJson = ({ instance, kernelBootTime }: Pick<Survey, 'instance' | 'kernelBootTime'>) => ({
  kind: instance.kind,
  start: 'start' in instance ? instance.start : null,
  // A number that JSON can't represent exactly is no time.
  kernel_boot_time: Number.isSafeInteger(Number(kernelBootTime)) ? Number(kernelBootTime) : null,
  last_full: instance.kind === 'full' ? instance.start : instance.kind === 'partial' ? (instance.full ?? null) : null,
  damaged: instance.kind === 'damaged' ? { file: instance.file, why: instance.why } : null,
})

export const liveJson = (client: LiveClient) => ({
  ...ownerJson(client.owner),
  number: client.number,
  status: client.status ?? null,
  address: client.address ?? null,
  seconds_since_renewal: client.secondsSinceRenewal ?? null,
  minor_version: client.minorVersion ?? null,
  implementation: client.implementation ?? null,
})

/** Describes the current instance in one line. */
export function sayInstance(instance: Instance): string {
  switch (instance.kind) {
    case 'full':
      return `${instance.start}, full: its grace period is over`
    case 'partial':
      return instance.full === undefined
        ? `${instance.start}, in grace; no earlier instance has completed its grace`
        : `${instance.start}, in grace; clients reclaim what they had in ${instance.full}, the last full one, or since`
    case 'none':
      return 'none recorded yet; clients recorded before the first start may reclaim after it'
    case 'damaged':
      return oneLine`
        unknown, and no client may reclaim until the next start: ${instance.file} can't be understood, ${instance.why}
      `
    default:
      return instance satisfies never
  }
}

export const untracked =
  'a server instance ran that could not be recorded, or only in part: after the next start no client may reclaim'

/** Describes a time and how long ago it was. */
export const sayTime = (seconds: number, nowMs: number): string =>
  `${isoTime(seconds)} (${sayAgo(nowMs / 1000 - seconds)})`

const sayAgo = (seconds: number): string =>
  seconds < 0 ? `${sayDuration(-seconds)} ahead of the clock` : `${sayDuration(seconds)} ago`

export function sayDuration(seconds: number): string {
  const whole = Math.floor(seconds)
  if (whole < 120) return `${whole} s`
  if (whole < 2 * 3600) return `${Math.floor(whole / 60)} min`
  if (whole < 2 * 86_400) return `${Math.floor(whole / 3600)} h`
  return `${Math.floor(whole / 86_400)} days`
}

/** Describes upcalls that were killed. */
export function sayCutShort(begun: readonly BegunAbout[]): string {
  const shown = begun
    .slice(0, 3)
    .map(({ kind, owner }) => `${kind === 'remove' ? 'remove' : 'create'} ${showOwner(owner)}`)
  const more = begun.length > shown.length ? [`${begun.length - shown.length} more`] : []
  return oneLine`
    ${counted(begun.length, 'upcall was', 'upcalls were')} cut short: ${[...shown, ...more].join(', ')}. The next start
    removes ${begun.length === 1 ? 'that client' : 'these clients'}, or moves a record back to where it was.
  `
}

export const cutShortJson = ({ kind, owner }: BegunAbout): object => ({
  upcall: kind === 'remove' ? 'remove' : 'create',
  ...ownerJson(owner),
})
