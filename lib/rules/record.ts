/**
 * One client record as a directory entry: a name made of the owner, and a line of facts. Pure.
 *
 * Records last longer than programs, so a line begins with the version of its format.
 *
 * The name is the owner, with unreadable bytes percent-encoded. If that is too long, the name is a digest, and the line
 * has the owner. The checksum in the line covers the owner and the facts. So a record that was altered, or moved to
 * another owner's name, can't be understood, and lets nobody reclaim.
 */
import { sha256 as digest } from '@noble/hashes/sha2.js'
import { bytesOf, crc32, percentDecoded, percentEncode, textOf } from '../bytes.ts'
import { hexOf } from '../upcall/hex.ts'
import type { ClientOwner } from '../upcall/owner.ts'
import type { Session } from '../upcall/request.ts'

export interface Facts {
  /** A client with a session (NFSv4.1 and later) says when it has reclaimed everything (RFC 8881 §18.51). */
  readonly session: Session
  /** When the client was first recorded, in seconds of the wall clock. It is for people: no decision depends on it. */
  readonly recorded: number
  /** SHA-256 of the client's Kerberos principal, 62 or 64 hex digits: its first 31 bytes, or all. */
  readonly principal?: string
}

/**
 * The facts of a record after its client was recorded again: those that are new, and the old ones for what was not
 * said. The beginning of a known principal's digest is nothing new.
 * @returns `known` itself, if nothing changes and so nothing must be written.
 */
export function factsAfter(known: Facts | undefined, told: Facts): Facts {
  if (known === undefined) return told
  const session = told.session === 'unknown' ? known.session : told.session
  const isKnown = told.principal === undefined || known.principal?.startsWith(told.principal) === true
  if (session === known.session && isKnown) return known
  const principal = isKnown ? known.principal : told.principal
  return { session, recorded: known.recorded, ...(principal === undefined ? {} : { principal }) }
}

/** NAME_MAX of every file system that matters here. */
const longestName = 255

/** A text of bytes: each character is one. */
type Text = string

/** What writing needs. The table of calls implements it, in the fastest way that the runtime has. */
export interface Encoder {
  readonly textOf: (owner: ClientOwner) => Text
  /** CRC-32 of a text, as eight hex digits. */
  readonly checksum: (text: Text) => string
  readonly percentEncoded: (text: Text) => Text
}

/** What reading needs. */
export interface Decoder extends Encoder {
  /** Reverses `percentEncoded`; undefined for a text that it can't have returned. */
  readonly percentDecoded: (encoded: Text) => Text | undefined
}
const ownDecoder = (): Decoder => ({
  textOf,
  checksum: crc32,
  percentEncoded: percentEncode,
  percentDecoded,
})

/**
 * The entry's name. A leading dot is encoded, so no record is hidden, `.` or `..`. The empty owner is a lone `%`. In an
 * encoded owner two hex digits follow each `%`, so neither `%` nor `%sha256-…` is the encoding of another owner.
 */
export const recordName = (owner: ClientOwner, encoder: Encoder = ownDecoder()): string =>
  nameOf(encoder.textOf(owner), encoder)

/** {@link recordName} for an owner as a text of bytes. */
export function nameOf(owner: Text, encoder: Encoder): string {
  const encoded = encoder.percentEncoded(owner)
  if (encoded === '') return '%'
  const name = encoded.startsWith('.') ? `%2E${encoded.slice(1)}` : encoded
  return name.length > longestName ? `${digestPrefix}${sha256(owner)}` : name
}

const sha256 = (owner: Text): string => hexOf(digest(bytesOf(owner)))

const digestPrefix = '%sha256-'

/** The version at the beginning of a line. Version 1 did not have it. */
const format = 2

/** How a line says whether the client has a session. */
const letterOf = (session: Session): string => (session === 'unknown' ? '?' : session === 'has session' ? 'Y' : 'N')

/**
 * The entry's content: one line. It is shorter than 60 bytes, so that ext4 keeps it in the inode, unless it has the
 * owner or a principal.
 */
export const recordLine = (owner: ClientOwner, facts: Facts, encoder: Encoder = ownDecoder()): string =>
  lineOf(encoder.textOf(owner), facts, encoder)

/** {@link recordLine} for an owner as a text of bytes. */
export function lineOf(owner: Text, { session, recorded, principal }: Facts, encoder: Encoder): string {
  let core = present + 'session=' + letterOf(session) + ',recorded=' + String(recorded)
  if (principal !== undefined) core += principalField + principal
  const line = core + checkField + encoder.checksum(owner + core)
  // An encoded byte has at most three characters, so the name of a short owner is never a digest.
  return owner.length * 3 > longestName && nameOf(owner, encoder).startsWith(digestPrefix)
    ? line + ownerField + encoder.percentEncoded(owner)
    : line
}

const ownerField = ',owner='

/** What a record says. @property owner a text of bytes: {@link ownerIn} makes a ClientOwner of it. */
export interface Record {
  readonly owner: Text
  readonly facts: Facts
}

/**
 * A record that was read; 'newer', if a newer version of this program wrote it; undefined, if it can't be understood.
 */
export type Read = Record | 'newer' | undefined

export const ownerIn = ({ owner }: Pick<Record, 'owner'>): ClientOwner => bytesOf(owner) as ClientOwner

/**
 * Reads every version so far. Each record has exactly one spelling: name, facts and checksum must be what this program
 * would write for them. A record of a newer version is not damaged, but it can't be believed here.
 */
export function readRecord(name: string, line: string, decoder = ownDecoder()): Read {
  if (!line.startsWith(present)) {
    const [, version = '1'] = /^v([1-9][0-9]{0,8}),/.exec(line) ?? []
    if (Number(version) > format) return 'newer'
    if (version !== '1') return undefined
  }
  const end = line.indexOf(',check=')
  const core = line.slice(0, Math.max(end, 0))
  const facts = factsIn(core)
  if (facts === undefined) return undefined
  const hasOwner = isDigest(name)
  const sum = end + ',check='.length
  const spelled = hasOwner ? line.slice(sum + 8 + ownerField.length) : spelledIn(name)
  const owner = spelled === undefined ? undefined : decoder.percentDecoded(spelled)
  if (owner === undefined || (hasOwner && nameOf(owner, decoder) !== name)) return undefined
  const rest = hasOwner ? `${ownerField}${spelled ?? ''}` : ''
  return line.slice(sum) === decoder.checksum(owner + core) + rest ? { owner, facts } : undefined
}

/** Whether a record's name does not tell its owner, because that is too long. */
export const isDigest = (name: string): boolean => name.startsWith(digestPrefix)

/** @returns the owner that a record's name tells; undefined for a digest, and for what is no record's name */
export function ownerNamed(name: string, decoder: Decoder): ClientOwner | undefined {
  const spelled = isDigest(name) ? undefined : spelledIn(name)
  const owner = spelled === undefined ? undefined : decoder.percentDecoded(spelled)
  return owner === undefined || nameOf(owner, decoder) !== name ? undefined : (bytesOf(owner) as ClientOwner)
}

/** The encoded owner in a name that is not a digest; undefined, if it is no record's name. */
function spelledIn(name: string): string | undefined {
  if (name === '%') return ''
  if (name.startsWith('%2E')) return `.${name.slice(3)}`
  return name === '' || name.startsWith('.') || name.length > longestName ? undefined : name
}

/**
 * How a line is spelled in the present version, as far as it is facts: for `links` of the table of calls, which
 * reads the owner and the principal of nearly every record fast. A start may read a hundred thousand. A line that is
 * spelled otherwise, and one under the name of a digest or under a name that begins with an encoded dot, is left to
 * {@link readRecord}.
 */
export const usualFacts = (): string => (usual.facts ??= spelledFacts())

/** One text, once it is made: that takes 87 000 instructions, and a start reads two instances. */
const usual: { facts?: string } = {}

function spelledFacts(): string {
  const heads = ['?', 'Y', 'N'].map((letter) => `${present}session=${letter},recorded=${'#'.repeat(longestSeconds)}`)
  return ['', ...principalLengths.map((digits) => `${principalField}${'*'.repeat(digits)}`)]
    .flatMap((rest) => heads.map((head) => head + rest))
    .join('\n')
}

const principalField = ',principal='
/** Whether a line may have a principal. */
export const hasPrincipal = (line: string): boolean => line.includes(principalField)

/** What is between the facts and the checksum. */
export const checkField = ',check='

const present = `v${format},`

/** Twelve digits last for 30 000 years. Imported records must not be later. */
export const latestRecorded = 999_999_999_999
const longestSeconds = String(latestRecorded).length
/** The hex digits of 31 bytes of a digest, or of all. */
const principalLengths = [62, 64]
export const isPrincipal = (digits: string): boolean =>
  principalLengths.includes(digits.length) && /^[0-9a-f]+$/.test(digits)

/** Reads what is before the checksum. Version 1 has no version at the beginning, and never a principal. */
function factsIn(core: string): Facts | undefined {
  const begin = core.startsWith(present) ? present.length : 0
  const letter = core.charAt(begin + 'session='.length)
  const session = letter === '?' ? 'unknown' : letter === 'Y' ? 'has session' : 'no session'
  const at = begin + 'session=?,recorded='.length
  const comma = core.indexOf(',', at)
  const seconds = comma < 0 ? core.slice(at) : core.slice(at, comma)
  const recorded = Number(seconds)
  if (String(recorded) !== seconds || !(recorded >= 0 && recorded <= latestRecorded && recorded % 1 === 0))
    return undefined
  if (!core.startsWith(`session=${letterOf(session)},recorded=`, begin)) return undefined
  if (comma < 0) return { session, recorded }
  const principal = core.slice(comma + ',principal='.length)
  return begin > 0 && core.startsWith(',principal=', comma) && isPrincipal(principal)
    ? { session, recorded, principal }
    : undefined
}
