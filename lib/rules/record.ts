/**
 * One client record as a directory entry: a name made of the owner, and a line of facts. Pure.
 *
 * Records last longer than programs, so a line begins with the version of its format.
 *
 * The name is the owner where it is readable, percent-encoded where it is not, and a digest where it would be too long;
 * then the line holds the owner. The line ends the argument about damage: its checksum covers the owner as well as the
 * facts, so a record that was altered, or moved to another owner's name, is not understood, and never lets anyone
 * reclaim.
 */
import { sha256 as digest } from '@noble/hashes/sha2.js'
import { bytesOf, crc32, digitsAt, percentDecoded, percentEncode, textOf } from '../bytes.ts'
import { hexOf } from '../upcall/hex.ts'
import type { ClientOwner } from '../upcall/owner.ts'
import type { Session } from '../upcall/request.ts'

export interface Facts {
  /** A client with a session (NFSv4.1 and later) says when it has reclaimed everything (RFC 8881 §18.51). */
  readonly session: Session
  /** When the client was first recorded, in seconds of the wall clock: for people, nothing is decided by it. */
  readonly recorded: number
  /**
   * SHA-256 of the Kerberos principal that the client was recorded with, 62 or 64 hex digits: its first 31 bytes, or
   * all.
   */
  readonly principal?: string
}

/**
 * What a record says when its client has come again: what is told, and of what is not told what was known. Whoever
 * tells only the beginning of a known principal tells nothing new.
 * @returns `known` itself, where nothing changes: then there is nothing to write.
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

/** Words as the functions here have them: each character is a byte. */
type Text = string

/** What writing takes: the system's table has the quickest that there is. */
export interface Encoder {
  /** CRC-32 of a text, as eight hex digits. */
  readonly checksum: (text: Text) => string
  readonly percentEncoded: (text: Text) => Text
}

/** What reading takes. */
export interface Decoder extends Encoder {
  /** `percentEncoded` undone; undefined for what it would not have written. */
  readonly percentDecoded: (encoded: Text) => Text | undefined
  /** How many decimal digits stand there, one after the other. */
  readonly digitsAt: (text: Text, at: number) => number
}
const ownDecoder = (): Decoder => ({ checksum: crc32, percentEncoded: percentEncode, percentDecoded, digitsAt })

/**
 * The entry's name. A leading dot is encoded, so that no record is hidden, `.` or `..`; the empty owner is a lone `%`.
 * `%` is followed by two hex digits in every encoded owner, so neither `%` nor `%sha256-…` can be an owner's encoding.
 */
export const recordName = (owner: ClientOwner, encoder: Encoder = ownDecoder()): string =>
  nameOf(textOf(owner), encoder)

/** {@link recordName} of an owner of which each character is a byte. */
export function nameOf(owner: Text, encoder: Encoder): string {
  const encoded = encoder.percentEncoded(owner)
  if (encoded === '') return '%'
  const name = encoded.startsWith('.') ? `%2E${encoded.slice(1)}` : encoded
  return name.length > longestName ? `${digestPrefix}${sha256(owner)}` : name
}

const sha256 = (owner: Text): string => hexOf(digest(bytesOf(owner)))

const digestPrefix = '%sha256-'

/** What a line begins with. Version 1 had no such beginning. */
const format = 2

/** What is written of a client's sessions. */
const letterOf = (session: Session): string => (session === 'unknown' ? '?' : session === 'has session' ? 'Y' : 'N')

/**
 * The entry's content: one line, shorter than 60 bytes unless it holds the owner or a principal (ext4 keeps that in the
 * inode).
 */
export const recordLine = (owner: ClientOwner, facts: Facts, encoder: Encoder = ownDecoder()): string =>
  lineOf(textOf(owner), facts, encoder)

/** {@link recordLine} of an owner of which each character is a byte. */
export function lineOf(owner: Text, { session, recorded, principal }: Facts, encoder: Encoder): string {
  let core = present + 'session=' + letterOf(session) + ',recorded=' + String(recorded)
  if (principal !== undefined) core += principalField + principal
  const line = core + checkField + encoder.checksum(owner + core)
  // A byte of an owner takes three characters at most: a short owner is never a digest, and needs not be encoded to
  // know it.
  return owner.length * 3 > longestName && nameOf(owner, encoder).startsWith(digestPrefix)
    ? line + ownerField + encoder.percentEncoded(owner)
    : line
}

const ownerField = ',owner='

/** What a record says. @property owner each character a byte: {@link ownerIn} has the bytes. */
export interface Record {
  readonly owner: Text
  readonly facts: Facts
}

/** A record read back; 'newer', if a newer program wrote it; undefined, if it can't be understood. */
export type Read = Record | 'newer' | undefined

export const ownerIn = ({ owner }: Pick<Record, 'owner'>): ClientOwner => bytesOf(owner) as ClientOwner

/**
 * Reads every version so far. There is one spelling of each record: it is understood exactly when what it says would be
 * written as it stands, name, facts and checksum. What a newer program wrote is not damage, and not for us to believe.
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
  const isDigest = name.startsWith(digestPrefix)
  const sum = end + ',check='.length
  const spelled = isDigest ? line.slice(sum + 8 + ownerField.length) : spelledIn(name)
  const owner = spelled === undefined ? undefined : decoder.percentDecoded(spelled)
  if (owner === undefined || (isDigest && nameOf(owner, decoder) !== name)) return undefined
  const rest = isDigest ? `${ownerField}${spelled ?? ''}` : ''
  return line.slice(sum) === decoder.checksum(owner + core) + rest ? { owner, facts } : undefined
}

/** An owner as it is encoded, by a name that is not its digest; undefined for what is no name of a record. */
function spelledIn(name: string): string | undefined {
  if (name === '%') return ''
  if (name.startsWith('%2E')) return `.${name.slice(3)}`
  return name === '' || name.startsWith('.') || name.length > longestName ? undefined : name
}

/**
 * The owner of a record that reads as nearly all do: in the present format, and under a name that is no digest and does
 * not begin with a dot. A start reads a hundred thousand.
 * @returns undefined for every other one: {@link readRecord} says what it is.
 */
export function ownerOfUsual(name: string, line: string, decoder: Decoder): Text | undefined {
  const head = line.slice(0, headLength)
  if (head !== unknownHead && head !== sessionHead && head !== noSessionHead) return undefined
  const digits = decoder.digitsAt(line, headLength)
  if (digits === 0 || digits > longestSeconds || (digits > 1 && line[headLength] === '0')) return undefined
  const core = line.slice(0, -checkLength)
  const facts = headLength + digits
  if (core.length !== facts && !principalOnly.test(core.slice(facts))) return undefined
  if (name.length === 0 || name.length > longestName || name[0] === '.') return undefined
  const owner = decoder.percentDecoded(name)
  if (owner === undefined) return undefined
  return line.slice(-checkLength) === checkField + decoder.checksum(owner + core) ? owner : undefined
}

/** The principal in a line that {@link ownerOfUsual} has understood. */
export const principalOfUsual = (line: string): string | undefined =>
  line.length > longestWithout
    ? line.slice(line.indexOf(principalField) + principalField.length, -checkLength)
    : undefined

const unknownHead = 'v2,session=?,recorded='
const sessionHead = 'v2,session=Y,recorded='
const noSessionHead = 'v2,session=N,recorded='
const headLength = unknownHead.length
const principalOnly = /^,principal=(?:[0-9a-f]{62}|[0-9a-f]{64})$/
const principalField = ',principal='
const checkField = ',check='
const checkLength = checkField.length + '01234567'.length
/** How long a line is that has no principal, at most: a longer one, if it is understood, has one. */
export const longestWithout = 'v2,session=?,recorded=999999999999,check=01234567'.length

const present = `v${format},`

/** Twelve digits last for 30 000 years. Other programs' records must fit this, too. */
export const latestRecorded = 999_999_999_999
const longestSeconds = String(latestRecorded).length
export const isPrincipal = (digits: string): boolean => /^[0-9a-f]{62}(?:[0-9a-f]{2})?$/.test(digits)

/** What stands before the checksum, in version 1 without the version and never with a principal. */
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
