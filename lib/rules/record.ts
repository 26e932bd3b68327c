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
import { bytesOf, textOf } from '../bytes.ts'
import { hexOf } from '../upcall/hex.ts'
import type { ClientOwner } from '../upcall/owner.ts'
import type { Session } from '../upcall/request.ts'

export interface Facts {
  /** A client with a session (NFSv4.1 and later) says when it has reclaimed everything (RFC 8881 §18.51). */
  readonly session: Session
  /** When the client was first recorded, in seconds of the wall clock: for people, nothing is decided by it. */
  readonly recorded: number
  /** SHA-256 of the Kerberos principal that the client was recorded with, 62 or 64 hex digits: its first 31 bytes, or all. */
  readonly principal?: string
}

/**
 * What a record says when its client has come again: what is told, and of what is not told what was known. Whoever tells
 * only the beginning of a known principal tells nothing new.
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

const notPlain = /[^A-Za-z0-9_.,:=@+-]/g

/** Bytes as printable text without `/`, spaces and control characters; `%XX` for what is not plain. */
const percentEncode = (bytes: Uint8Array): string =>
  textOf(bytes).replace(
    notPlain,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
  )

/** {@link percentEncode} undone. What that would never have written gives some bytes: the caller writes them and compares. */
const percentDecode = (text: string): Uint8Array =>
  bytesOf(text.replace(/%([0-9A-F]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16))))

/**
 * The entry's name. A leading dot is encoded, so that no record is hidden, `.` or `..`; the empty owner is a lone `%`.
 * `%` is followed by two hex digits in every encoded owner, so neither `%` nor `%sha256-…` can be an owner's encoding.
 */
export function recordName(owner: ClientOwner): string {
  const encoded = percentEncode(owner)
  if (encoded === '') return '%'
  const name = encoded.startsWith('.') ? `%2E${encoded.slice(1)}` : encoded
  return name.length > longestName ? `%sha256-${sha256(owner)}` : name
}

const sha256 = (owner: ClientOwner): string => hexOf(digest(owner))

/** What a line begins with. Version 1 had no such beginning. */
const format = 2

/** What is written of a client's sessions. */
const letterOf = (session: Facts['session']): string => (session === 'unknown' ? '?' : session ? 'Y' : 'N')

/** The entry's content: one line, shorter than 60 bytes unless it holds the owner or a principal (ext4 keeps that in the inode). */
export function recordLine(owner: ClientOwner, { session, recorded, principal }: Facts): string {
  const facts = `session=${letterOf(session)},recorded=${recorded}${principal === undefined ? '' : `,principal=${principal}`}`
  return withChecksum(owner, `v${format},${facts}`)
}

/** How version 1 wrote it. */
const lineOfVersion1 = (owner: ClientOwner, { session, recorded }: Facts): string =>
  withChecksum(owner, `session=${letterOf(session)},recorded=${recorded}`)

function withChecksum(owner: ClientOwner, core: string): string {
  const line = `${core},check=${checksum(owner, core)}`
  // A byte of an owner takes three characters at most: a short owner is never a digest, and needs not be encoded to know it.
  return owner.length * 3 > longestName && recordName(owner).startsWith('%sha256-')
    ? `${line},owner=${percentEncode(owner)}`
    : line
}

/** A record read back: what it says; 'newer', if a newer program wrote it; undefined, if it can't be understood. */
export type Read = { readonly owner: ClientOwner; readonly facts: Facts } | 'newer' | undefined

/**
 * Reads every version so far. There is one spelling of each record, so it is understood exactly when what it says would be
 * written as it stands, name, facts and checksum. What a newer program wrote is not damage, and not for us to believe.
 */
export function readRecord(name: string, line: string): Read {
  const [, version = '1'] = /^v([1-9][0-9]{0,8}),/.exec(line) ?? []
  if (Number(version) > format) return 'newer'
  const [whole, letter, recorded, principal] = factsShape.exec(line) ?? []
  if (whole === undefined) return undefined
  const facts: Facts = {
    session: letter === '?' ? 'unknown' : letter === 'Y',
    recorded: Number(recorded),
    ...(principal === undefined ? {} : { principal }),
  }
  const written = line.indexOf(',owner=')
  const owner = percentDecode(
    written >= 0 ? line.slice(written + ',owner='.length) : name === '%' ? '' : name,
  ) as ClientOwner
  const spelled = version === '1' ? lineOfVersion1(owner, facts) : recordLine(owner, facts)
  return recordName(owner) === name && spelled === line ? { owner, facts } : undefined
}

/** Twelve digits of seconds last for 30 000 years. */
const factsShape =
  /^(?:v2,)?session=([YN?]),recorded=([0-9]{1,12})(?:,principal=([0-9a-f]{62}(?:[0-9a-f]{2})?))?,check=/

/** What of it other programs' records must fit. */
export const latestRecorded = 999_999_999_999
export const isPrincipal = (digits: string): boolean => /^[0-9a-f]{62}(?:[0-9a-f]{2})?$/.test(digits)

/** CRC-32 of the owner followed by the facts. */
function checksum(owner: Uint8Array, core: string): string {
  let crc = -1
  for (const bytes of [owner, bytesOf(core)])
    for (let i = 0; i < bytes.length; i++) {
      crc ^= bytes[i] ?? 0
      // By halves of a byte.
      crc = (crc >>> 4) ^ (remainders[crc & 15] ?? 0)
      crc = (crc >>> 4) ^ (remainders[crc & 15] ?? 0)
    }
  return (~crc >>> 0).toString(16).padStart(8, '0')
}

/**
 * The polynomial's remainders of four bits: the end of grace reads every record that is left, so this is not done bit by bit.
 * As signed integers: what is past 2^31 is a floating point number to an engine, and takes nearly twice as long.
 */
const remainders = [
  0x0000_0000,
  0x1db7_1064,
  0x3b6e_20c8,
  0x26d9_30ac,
  0x76dc_4190,
  0x6b6b_51f4,
  0x4db2_6158,
  0x5005_713c,
  0xedb8_8320 | 0,
  0xf00f_9344 | 0,
  0xd6d6_a3e8 | 0,
  0xcb61_b38c | 0,
  0x9b64_c2b0 | 0,
  0x86d3_d2d4 | 0,
  0xa00a_e278 | 0,
  0xbdbd_f21c | 0,
]
