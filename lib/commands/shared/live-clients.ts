/**
 * The clients that the kernel has at this moment: `clients/<number>/info` of its nfsd file system, since Linux 5.3
 * (fs/nfsd/nfs4state.c, client_info_show). Whether the kernel answers is not for us to say, so a child asks.
 *
 * What a client says of itself is anything: bytes become an owner, or printable text, here.
 */
import fs from 'node:fs'
import { join } from 'node:path'
import { printable } from '../../text.ts'
import type { ClientOwner } from '../../upcall/owner.ts'
import { readEachInTime } from './in-time.ts'
import { namesIn } from './listing.ts'
import { nodePath } from './print.ts'

export interface LiveClient {
  readonly owner: ClientOwner
  /** The kernel's number of it: the directory's name. */
  readonly number: number
  readonly address: string | undefined
  /** confirmed, unconfirmed, courtesy (its lease is over, and nobody wanted its locks) or expirable. */
  readonly status: string | undefined
  readonly secondsSinceRenewal: number | undefined
  readonly minorVersion: number | undefined
  /** What the client says that it is. */
  readonly implementation: string | undefined
}

export interface Live {
  readonly clients: readonly LiveClient[]
  /** How many more there are, of which the kernel does not tell us in time. */
  readonly silent: number
}

/**
 * Every client that the kernel names; 'unknown' where it names none, because it is too old or its nfsd file system is
 * not there.
 */
export async function liveClients(nfsdDirectory: string): Promise<Live | 'unknown'> {
  const directory = join(nfsdDirectory, 'clients')
  if (!fs.existsSync(nodePath(directory))) return 'unknown'
  const names = namesIn(nodePath(directory)).sort((a, b) => Number(a) - Number(b))
  const texts = await readEachInTime(names.map((name) => join(directory, name, 'info')))
  const clients: LiveClient[] = []
  for (const [at, read] of texts.entries()) {
    // A client that goes meanwhile is no error.
    const client = typeof read === 'object' ? parseInfo(Number(names[at]), read.text) : undefined
    if (client !== undefined) clients.push(client)
  }
  return { clients, silent: texts.filter((read) => read === 'silent').length }
}

/** One `info`. Its lines may be more or fewer with every kernel; without a name it is nobody's. */
function parseInfo(number: number, text: string): LiveClient | undefined {
  const fields = new Map<string, string>()
  for (const line of text.split('\n')) {
    const [, name = '', value = ''] = /^([A-Za-z][^:]*): (.*)$/.exec(line) ?? []
    if (name !== '' && !fields.has(name)) fields.set(name, value)
  }
  const owner = fields.get('name')
  const bytes = owner === undefined ? undefined : unquote(owner)
  if (bytes === undefined) return undefined
  const whole = (name: string): number | undefined => {
    const value = fields.get(name)
    return value === undefined || !/^-?[0-9]+$/.test(value) ? undefined : Number(value)
  }
  return {
    owner: bytes as ClientOwner,
    number,
    address: plain(fields.get('address')),
    status: plain(fields.get('status')),
    secondsSinceRenewal: whole('seconds from last renew'),
    minorVersion: whole('minor version'),
    implementation: plain(fields.get('Implementation name')),
  }
}

/**
 * seq_quote_mem: what is not printable ASCII, the quote and the backslash as `\xHH`. Bytes, or undefined if it is not
 * so.
 */
function unquote(word: string): Uint8Array | undefined {
  const inside = /^"((?:[ !#-[\]-~]|\\x[0-9a-fA-F]{2}|\\[0-7]{3})*)"$/.exec(word)?.[1]
  if (inside === undefined) return undefined
  const text = inside.replace(/\\(?:x(..)|([0-7]{3}))/g, (_, hex: string | undefined, octal: string) =>
    String.fromCharCode(hex === undefined ? Number.parseInt(octal, 8) : Number.parseInt(hex, 16)),
  )
  return Buffer.from(text, 'latin1')
}

/** What it says, quoted or not, for a terminal: printable ASCII, the rest as `\ooo`. */
const plain = (word: string | undefined): string | undefined =>
  word === undefined ? undefined : printable(unquote(word) ?? Buffer.from(word.replace(/^"(.*)"$/, '$1'), 'latin1'))
