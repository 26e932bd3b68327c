/**
 * Client owners, and the two ways to write them on a command line. Pure.
 *
 * A client owner (`nfs_client_id4.id`, RFC 7530 §9.1.1; `co_ownerid`, RFC 8881 §2.4) is 0 to 1024 opaque bytes chosen
 * by whoever can reach the port. It is kept and compared as bytes, and only printed escaped.
 */
import { bytesOf } from '../bytes.ts'
import { Failed } from '../failure.ts'
import { printable } from '../text.ts'
import { bytesFromHex, hexOf } from './hex.ts'

declare const brand: unique symbol
/** The name that an NFS client gives itself: bytes, not text, and never a path. */
export type ClientOwner = Uint8Array & { readonly [brand]: 'ClientOwner' }

/** NFS4_OPAQUE_LIMIT, RFC 7530 §2.2 and RFC 8881 §3.3. */
export const longestOwner = 1024

function asOwner(bytes: Uint8Array, word: string): ClientOwner {
  if (bytes.length > longestOwner) throw new Failed({ kind: 'owner-too-long', word, longest: longestOwner })
  return bytes as ClientOwner
}

/**
 * Reads an owner as the Linux kernel writes it (nfs4recover.c, bin_to_hex_dup): two hex digits for each byte. The empty
 * word is the empty owner.
 */
export function ownerFromHex(word: string): ClientOwner {
  const bytes = bytesFromHex(word)
  if (bytes !== undefined) return asOwner(bytes, word)
  const why = bytesFromHex(`${word}0`) === undefined ? 'is not hexadecimal' : 'has an odd number of hex digits'
  throw new Failed({ kind: 'bad-argument', why: `client id ${why}`, word })
}

/**
 * Reads an owner as the kernel's RPC caches write it (net/sunrpc/cache.c, qword_addhex and qword_add): `\x` and then
 * hex digits, or printable text without spaces in which `\ooo` is a byte. The empty owner is `\x`, because an empty
 * field would look like a missing one. Anything past ASCII is refused: the kernel always escapes it.
 */
export function ownerFromEscaped(word: string): ClientOwner {
  if (word === '') throw new Failed({ kind: 'bad-argument', why: 'empty client owner (the owner of no bytes is \\x)' })
  if (word.startsWith('\\x')) {
    const bytes = bytesFromHex(word.slice(2))
    if (bytes === undefined) throw badEscape(word)
    return asOwner(bytes, word)
  }
  if (!/^(?:[!-[\]-~]|\\[0-3][0-7]{2})+$/.test(word)) throw badEscape(word)
  const text = word.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
  return asOwner(bytesOf(text), word)
}

const badEscape = (word: string): Failed =>
  new Failed({ kind: 'bad-argument', why: 'badly escaped client owner', word })

/**
 * Writes an owner as the RPC caches do, in the shorter of the two forms: one field of printable ASCII, at most 2050
 * characters. {@link ownerFromEscaped} reads the same bytes back.
 */
export function escapeOwner(owner: ClientOwner): string {
  const text = printable(owner).replaceAll(' ', '\\040')
  const lengthInHex = 2 + 2 * owner.length
  return text === '' || text.length > lengthInHex ? `\\x${hexOf(owner)}` : text
}

/**
 * An owner as people see it: `"Linux NFSv4.2 ada"`. Written as `\ooo` are bytes that are not printable, characters that
 * a shell would change within double quotes, and a `-` at the beginning, which would look like an option. So the text
 * can be pasted into a command line, and means the same bytes there.
 */
export function quoteOwner(owner: ClientOwner): string {
  const text = printable(owner).replace(
    /^-|["$`!]/g,
    (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`,
  )
  const lengthInHex = 2 + 2 * owner.length
  return `"${text === '' || text.length > lengthInHex ? `\\x${hexOf(owner)}` : text}"`
}

/** How many characters of an owner a log line shows. */
const shown = 160

/** {@link quoteOwner} for a log line: shortened, with its length. */
export function showOwner(owner: ClientOwner): string {
  const quoted = quoteOwner(owner)
  return quoted.length > shown + 2 ? `${quoted.slice(0, shown + 1)}"... (${owner.length} bytes)` : quoted
}
