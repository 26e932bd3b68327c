/**
 * The clients that the kernel has at this moment: `clients/<number>/info` of its nfsd file system, since Linux 5.3
 * (fs/nfsd/nfs4state.c, client_info_show). The kernel may not answer, so a child reads them.
 *
 * A client may say anything of itself. Here that becomes an owner, which is bytes, or printable text.
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
  /** The kernel's number for the client: the directory's name. */
  readonly number: number
  readonly address: string | undefined
  /** confirmed, unconfirmed, courtesy (its lease is over, and no other client wanted its locks) or expirable. */
  readonly status: string | undefined
  readonly secondsSinceRenewal: number | undefined
  readonly minorVersion: number | undefined
  /** The implementation that the client claims to be. */
  readonly implementation: string | undefined
}

export interface Live {
  readonly clients: readonly LiveClient[]
  /** How many more clients there are that the kernel did not describe in time. */
  readonly silent: number
}

/**
 * Every client that the kernel names; 'unknown', if it names none, because it is too old or its nfsd file system is not
 * mounted.
 */
export async function liveClients(nfsdDirectory: string): Promise<Live | 'unknown'> {
  const directory = join(nfsdDirectory, 'clients')
  if (!fs.existsSync(nodePath(directory))) return 'unknown'
  const names = namesIn(nodePath(directory)).sort((a, b) => Number(a) - Number(b))
  const texts = await readEachInTime(names.map((name) => join(directory, name, 'info')))
  const clients: LiveClient[] = []
  for (const [at, read] of texts.entries()) {
    // A client that leaves meanwhile is no error.
    const client = typeof read === 'object' ? parseInfo(Number(names[at]), read.text) : undefined
    if (client !== undefined) clients.push(client)
  }
  return { clients, silent: texts.filter((read) => read === 'silent').length }
}

/** Parses one `info`. Other kernels may have more or fewer lines. Without a name there is no client. */
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
 * Undoes seq_quote_mem, which writes the quote, the backslash and whatever is not printable ASCII as `\xHH`. @returns
 * bytes, or undefined, if the text is not of that form
 */
function unquote(word: string): Uint8Array | undefined {
  const inside = /^"((?:[ !#-[\]-~]|\\x[0-9a-fA-F]{2}|\\[0-7]{3})*)"$/.exec(word)?.[1]
  if (inside === undefined) return undefined
  const text = inside.replace(/\\(?:x(..)|([0-7]{3}))/g, (_, hex: string | undefined, octal: string) =>
    String.fromCharCode(hex === undefined ? Number.parseInt(octal, 8) : Number.parseInt(hex, 16)),
  )
  return Buffer.from(text, 'latin1')
}

/** A text of the client's, quoted or not, made safe for a terminal: printable ASCII, the rest as `\ooo`. */
const plain = (word: string | undefined): string | undefined =>
  word === undefined ? undefined : printable(unquote(word) ?? Buffer.from(word.replace(/^"(.*)"$/, '$1'), 'latin1'))
