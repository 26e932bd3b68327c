/**
 * The messages of the `cld` pipe, byte by byte (include/uapi/linux/nfsd/cld.h; fs/nfsd/nfs4recover.c). Pure.
 *
 * A message is packed, in the byte order of the machine: version, command, status and xid in a header of eight bytes,
 * then the command's own. Both versions have one size for all commands. An answer has the size of its message; the
 * kernel looks at its size, xid and status, and in the answer to GetVersion at one byte more.
 */
import { bytesFromHex, hexOf } from './hex.ts'
import { longestOwner, type ClientOwner } from './owner.ts'
import type { Request } from './request.ts'

/** `enum cld_command`. */
export const commands = {
  create: 0,
  remove: 1,
  check: 2,
  'grace-done': 3,
  'grace-start': 4,
  version: 5,
} as const

export type Command = keyof typeof commands

/** Version, command, status, xid. */
export const headerSize = 8

/** `struct cld_msg`, `struct cld_msg_v2`. */
export const sizes: readonly (number | undefined)[] = [undefined, 1034, 1067]

/** The length of a message in a version of the protocol; undefined for an unknown version. */
export const sizeOf = (version: number): number | undefined => sizes[version]

/** The latest version of the protocol that this program knows. */
export const latestVersion = 2

/** The field of an owner: its length, and so much space, whatever its length. */
export const ownerField = headerSize
export const ownerRoom = longestOwner
const ownerAt = ownerField + 2
/** The answer to GetVersion. */
export const versionAt = headerSize
const hashLengthAt = ownerAt + ownerRoom
const hashAt = hashLengthAt + 1
/** SHA-256 of the principal. */
const hashSize = 32

const isLittleEndian = (): boolean => new Uint8Array(Uint16Array.of(1).buffer)[0] === 1
const littleEndian = isLittleEndian()

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

export interface Header {
  readonly version: number
  /** The number, which may be unknown. */
  readonly command: number
  /** Counts the messages of a pipe, in the order in which the kernel sent them. */
  readonly xid: number
}

/** Where status, xid and an owner's length stand, counted in numbers of their size. */
export const statusPlace = 1
export const xidPlace = 1
export const lengthPlace = ownerField / 2

/** Without a DataView: making one takes as long as reading ten numbers. */
function shortAt(bytes: Uint8Array, at: number): number {
  const first = bytes[at] ?? 0
  const second = bytes[at + 1] ?? 0
  return littleEndian ? first | (second << 8) : (first << 8) | second
}

function longAt(bytes: Uint8Array, at: number): number {
  const first = shortAt(bytes, at)
  const second = shortAt(bytes, at + 2)
  return (littleEndian ? first | (second << 16) : (first << 16) | second) >>> 0
}

/** @param bytes at least eight */
export const readHeader = (bytes: Uint8Array): Header => ({
  version: bytes[0] ?? 0,
  command: bytes[1] ?? 0,
  xid: longAt(bytes, 4),
})

/** What a message asks. */
export type Asked =
  // The pipe tells nothing of sessions and boot times.
  | Extract<Request, { event: 'create' | 'remove' }>
  | { readonly event: 'check'; readonly owner: ClientOwner }
  | { readonly event: 'grace-done' | 'grace-start' | 'version' }

/**
 * Reads a message. Its last byte may be missing: {@link needsLastByte} says when it matters. It is part of a
 * principal's digest, so only 31 bytes of a digest are used. The kernel compares as many bytes as it gets back
 * (nfsd4_cld_check_v2), and 248 bits identify a principal as well as 256.
 * @param header the message's header, if the caller has read it.
 * @returns undefined for a message that no kernel sends: with an unknown command, or an owner that is too long.
 */
export function readMessage(bytes: Uint8Array, header = readHeader(bytes)): Asked | undefined {
  // `length` is a getter: each time it is read costs a call.
  const read = bytes.length
  if (read < headerSize) return undefined
  const size = sizeOf(header.version)
  return size === undefined || read < size - 1 ? undefined : askedIn(bytes, header)
}

/**
 * {@link readMessage}, of one of a known version that is there but for its last byte.
 * @param length of its owner, if it has one and the caller has read that.
 */
export function askedIn(
  bytes: Uint8Array,
  { version, command }: Header,
  length = shortAt(bytes, ownerField),
): Asked | undefined {
  switch (command) {
    case commands.create:
    case commands.remove:
    case commands.check: {
      if (length >= ownerRoom && (length > ownerRoom || ownerAt + length > bytes.length)) return undefined
      const owner = bytes.slice(ownerAt, ownerAt + length) as ClientOwner
      if (command === commands.remove) return { event: 'remove', owner }
      if (command === commands.check) return { event: 'check', owner }
      const hashLength = version === 2 ? (bytes[hashLengthAt] ?? 0) : 0
      if (hashLength !== 0 && hashLength !== hashSize) return undefined
      return {
        event: 'create',
        owner,
        session: 'unknown',
        principal: hashLength === 0 ? undefined : hexOf(bytes.subarray(hashAt, hashAt + hashSize - 1)),
      }
    }
    case commands['grace-done']:
      return { event: 'grace-done' }
    case commands['grace-start']:
      return { event: 'grace-start' }
    case commands.version:
      return { event: 'version' }
    default:
      return undefined
  }
}

/** Whether the last byte matters: in version 1 it does if an owner has the maximal length. */
export function needsLastByte(bytes: Uint8Array): boolean {
  if (bytes[0] !== 1 || bytes.length < ownerAt) return false
  const command = bytes[1]
  const hasOwner = command === commands.create || command === commands.remove || command === commands.check
  return hasOwner && shortAt(bytes, headerSize) === ownerRoom
}

/** An answer: at least a header. @param status 0, or a negated errno. @param told the answer to GetVersion. */
export function answerTo(
  { version, command, xid }: Header,
  size: number,
  status: number,
  told = 0,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(Math.max(size, headerSize))
  const answer = view(bytes)
  bytes[0] = version
  bytes[1] = command
  answer.setInt16(2 * statusPlace, status, littleEndian)
  answer.setUint32(4 * xidPlace, xid, littleEndian)
  if (size > headerSize) bytes[versionAt] = told
  return bytes
}

/** The status of each entry of a list, which means that more follows. */
const inProgress = -115

/** Newer kernels take seconds to minutes for a list that is longer. */
export const longList = 10_000

/**
 * A name that begins so stands for an MD5, to nfsdcld and to kernels that still have their own tracker (nfs4recover.c,
 * __cld_pipe_inprogress_downcall).
 */
export const hashPrefix = 'hash:'

/**
 * Whether a client's name would let another client reclaim, because the kernel would take what follows the prefix for
 * that client's MD5. Exactly the names with the prefix lie between the two bounds. A comparison costs a third of a call
 * of startsWith.
 */
export const meansAnother = (owner: string): boolean => owner >= hashPrefix && owner < afterHashes
const afterHashes = 'hash;'

/**
 * A message that answers GraceStart, for a client that may reclaim: its owner, with its length before it, is to be
 * written into {@link ownerField}, of {@link ownerRoom} bytes.
 */
export const listEntry = (header: Header, size: number): Uint8Array<ArrayBuffer> =>
  answerTo({ ...header, command: commands['grace-start'] }, size, inProgress)

/** @param principal hex digits of a digest. Version 1 leaves it out. */
export function putPrincipal(entry: Uint8Array, principal = ''): void {
  if (entry.length <= hashLengthAt) return
  const digest = bytesFromHex(principal.slice(0, 2 * hashSize)) ?? new Uint8Array()
  entry[hashLengthAt] = digest.length
  entry.set(digest, hashAt)
}

/**
 * A message that asks the kernel whether another message is still unanswered. It changes nothing. The kernel returns
 * EFAULT if that one is unanswered, else EINVAL (cld_pipe_downcall: an answer in progress is for GraceStart alone).
 */
export const probe = (xid: number, size: number): Uint8Array<ArrayBuffer> =>
  answerTo({ version: size === sizes[1] ? 1 : 2, command: commands.create, xid }, size, inProgress)

/** Compares two messages by the order in which the kernel sent them. The counter may have wrapped around in between. */
export const inOrder = (one: Header, other: Header): number => (one.xid - other.xid) | 0
