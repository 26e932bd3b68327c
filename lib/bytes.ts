/** Strings that hold bytes: each character is one byte (0 to 255). So bytes that are not UTF-8 survive. */

/**
 * @param put `bytesInto` of the table of calls, which is faster, if the caller has it.
 * @throws RangeError for a character past 255.
 */
export function bytesOf(text: string, put = bytesInto): Uint8Array {
  const bytes = new Uint8Array(text.length)
  put(text, bytes, 0)
  return bytes
}

/** `bytesInto` of the table of calls, for runtimes that have nothing faster. */
export function bytesInto(text: string, into: Uint8Array, at: number): number {
  if (at < 0 || at + text.length > into.length) throw new RangeError('a text that does not fit')
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 255) throw new RangeError('a character past 255')
    into[at + i] = code
  }
  return text.length
}

/**
 * CRC-32 of a text's bytes, as eight hex digits: `checksum` of the table of calls, for runtimes that have nothing
 * faster.
 */
export function crc32(text: string): string {
  let crc = -1
  for (let i = 0; i < text.length; i++) {
    crc ^= text.charCodeAt(i)
    // Four bits at a time.
    crc = (crc >>> 4) ^ (remainders[crc & 15] ?? 0)
    crc = (crc >>> 4) ^ (remainders[crc & 15] ?? 0)
  }
  return (~crc >>> 0).toString(16).padStart(8, '0')
}

/**
 * The remainders of the polynomial for four bits. They are signed, because engines keep numbers from 2^31 on as
 * floating point numbers.
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

export function textOf(bytes: Uint8Array): string {
  if (bytes.length <= most) return String.fromCharCode.apply(null, bytes as unknown as number[])
  let text = ''
  for (let at = 0; at < bytes.length; at += most) text += textOf(bytes.subarray(at, at + most))
  return text
}

/** The number of arguments of a call is limited. */
const most = 4096

/**
 * Replaces every byte except `A-Za-z0-9_.,:=@+-` by `%XX`, so the result has no `/`, space or control character.
 * `percentEncoded` of the table of calls, for runtimes that have nothing faster. JavaScript's `escape` does nearly the
 * same in one call. But it leaves `*` and `/` as they are, and it replaces `,`, `:` and `=`.
 */
export function percentEncode(text: string): string {
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- a tenth of what a replacement by a function takes
  const escaped = escape(text)
  return otherwise.test(text)
    ? escaped
        .replaceAll('*', '%2A')
        .replaceAll('/', '%2F')
        .replaceAll('%2C', ',')
        .replaceAll('%3A', ':')
        .replaceAll('%3D', '=')
    : escaped
}
const otherwise = /[*/,:=]/

/** `writeEach` of the table of calls, for runtimes that have nothing faster. @param write writes the message. */
export function writeEach(
  write: () => number,
  message: Uint8Array,
  at: number,
  room: number,
  texts: readonly string[],
  from: number,
  until: number,
): number {
  if (from < 0 || until > texts.length) throw new RangeError('no such text')
  const lengths = new Uint16Array(1)
  const length = new Uint8Array(lengths.buffer)
  const field = message.subarray(at + length.length, at + length.length + room)
  if (at < 0 || field.length !== room) throw new RangeError('no place for a text')
  for (const [written, text] of texts.slice(from, until).entries()) {
    bytesInto(text, field, 0)
    length.set(message.subarray(at, at + length.length))
    field.fill(0, text.length, Math.max(text.length, lengths[0] ?? 0))
    lengths[0] = text.length
    message.set(length, at)
    if (write() < 0) return written
  }
  return Math.max(0, until - from)
}

/**
 * What `links` of the table of calls says of entries, for runtimes that have nothing faster.
 * @param texts of the links of these names; a number for what is no link
 */
export function spelledAs(
  names: readonly string[],
  texts: readonly (string | number)[],
  patterns: string,
  mark: string,
): Spelled {
  const spelled = patterns.split('\n').map((pattern) => new RegExp(`^${patternAsRegExp(pattern)}$`))
  const plain: string[] = []
  const others = []
  for (const [at, name] of names.entries()) {
    const text = String(texts[at])
    const core = text.slice(0, Math.max(0, text.length - mark.length - 8))
    const isName = name !== '' && name.length <= 255 && !name.startsWith('.')
    const decoded = isName && text.length < 256 ? percentDecoded(name) : undefined
    const found = spelled.map((pattern) => pattern.exec(core)).find((match) => match !== null)
    const isRight = found !== undefined && text === `${core}${mark}${crc32(`${decoded ?? ''}${core}`)}`
    if (decoded === undefined || !isRight) others.push({ name })
    else if (found[1] === undefined) plain.push(decoded)
    else others.push({ name, decoded, digits: found[1] })
  }
  return { plain, others, written: 0 }
}

/** @property others with the decoded name and the hex digits, if the text is spelled as one of the patterns says */
export interface Spelled {
  readonly plain: readonly string[]
  readonly others: readonly { readonly name: string; readonly decoded?: string; readonly digits?: string }[]
  /** How many there were beside these: 0, but for `writeLinks`. */
  readonly written: number
}

/** What `writeLinks` of the table of calls has left. */
export interface Written extends Spelled {
  /** How long the writing took, in milliseconds. Reading the directory is not part of it. */
  readonly took: number
}

const patternAsRegExp = (pattern: string): string =>
  pattern.replace(/#+|\*+|[^\w]/g, (part) =>
    part.startsWith('#')
      ? `(?:0|[1-9][0-9]{0,${part.length - 1}})`
      : part.startsWith('*')
        ? `([0-9a-f]{${part.length}})`
        : `\\${part}`,
  )

/**
 * Reverses {@link percentEncode}: `percentDecoded` of the table of calls, for runtimes that have nothing faster.
 * @returns undefined for a text that `percentEncode` can't have returned.
 */
export function percentDecoded(encoded: string): string | undefined {
  // `unescape` would make characters past 255 of these.
  if (encoded.includes('%u')) return undefined
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- see above
  const text = unescape(encoded)
  return percentEncode(text) === encoded ? text : undefined
}
