/**
 * Messages between the kernel and its tracker, as in include/uapi/linux/nfsd/cld.h: packed, in the byte order of the
 * host, and each version with one size. Written from the header, not from the code under test.
 */
import { endianness } from 'node:os'

export const commands = { create: 0, remove: 1, check: 2, graceDone: 3, graceStart: 4, getVersion: 5 } as const
export type Command = keyof typeof commands

/** Version 1 has no principal. A kernel in version 0 uses version 1, without GetVersion and GraceStart. */
export type Version = 1 | 2
export const sizes: Readonly<Record<Version, number>> = { 1: 1034, 2: 1067 }

export const inProgress = -115
const at = { version: 0, command: 1, status: 2, xid: 4, length: 8, owner: 10, hashLength: 1034, hash: 1035 } as const
const little = endianness() === 'LE'

export interface Body {
  readonly owner?: Uint8Array
  /** SHA-256 of the Kerberos principal; version 2 only. */
  readonly principal?: Uint8Array
  /** The server's boot time, in seconds: in GraceDone of a kernel in version 0. */
  readonly bootTime?: bigint
  /** A length to claim for the owner, instead of its own. */
  readonly length?: number
}

/** A message with xid 0, which the pipe's end replaces. `command` may be a number that no kernel sends. */
export function message(version: Version, command: Command | number, body: Body = {}): Buffer {
  const bytes = Buffer.alloc(sizes[version])
  bytes[at.version] = version
  bytes[at.command] = typeof command === 'number' ? command : commands[command]
  if (body.bootTime !== undefined) view(bytes).setBigInt64(at.length, body.bootTime, little)
  if (body.owner !== undefined) {
    view(bytes).setUint16(at.length, body.length ?? body.owner.length, little)
    bytes.set(body.owner, at.owner)
  }
  if (version === 2 && body.principal !== undefined) {
    bytes[at.hashLength] = body.principal.length
    bytes.set(body.principal, at.hash)
  }
  return bytes
}

/** The first message, always in version 1. */
export const getVersion = (): Buffer => message(1, 'getVersion')

/** An answer as a daemon would write it: the message with a status, and for GetVersion with the version. */
export function answerTo(asked: Uint8Array, status: number, version?: number): Buffer {
  const bytes = Buffer.from(asked)
  view(bytes).setInt16(at.status, status, little)
  if (version !== undefined) bytes[at.length] = version
  return bytes
}

export const xidOf = (bytes: Uint8Array): number => view(bytes).getUint32(at.xid, little)
export const statusOf = (bytes: Uint8Array): number => view(bytes).getInt16(at.status, little)
export const commandOf = (bytes: Uint8Array): number => bytes[at.command] ?? -1
/** The version in an answer to GetVersion. */
export const versionOf = (bytes: Uint8Array): number => bytes[at.length] ?? 0

/** A client that was named to the kernel. */
export interface Entry {
  readonly owner: Buffer
  readonly principal: Buffer | undefined
}

export function entryOf(bytes: Uint8Array): Entry {
  const length = view(bytes).getUint16(at.length, little)
  const hashLength = bytes.length >= sizes[2] ? (bytes[at.hashLength] ?? 0) : 0
  return {
    owner: Buffer.from(bytes.subarray(at.owner, at.owner + length)),
    principal: hashLength === 0 ? undefined : Buffer.from(bytes.subarray(at.hash, at.hash + hashLength)),
  }
}

const view = ({ buffer, byteOffset, length }: Uint8Array): DataView => new DataView(buffer, byteOffset, length)
