/**
 * Words as this program has them: bytes, each character one of them (0 to 255). What is no UTF-8 comes back as it went.
 */

/**
 * @param put the runtime's own way, where it is at hand.
 * @throws RangeError for a character past 255: it is no word of ours.
 */
export function bytesOf(text: string, put = bytesInto): Uint8Array {
  const bytes = new Uint8Array(text.length)
  put(text, bytes, 0)
  return bytes
}

/** `bytesInto` of the system's table, where the runtime has nothing quicker. */
export function bytesInto(text: string, into: Uint8Array, at: number): number {
  if (at < 0 || at + text.length > into.length) throw new RangeError('a text that does not fit')
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 255) throw new RangeError('a character past 255')
    into[at + i] = code
  }
  return text.length
}

/** CRC-32 of a text's bytes, in eight hex digits: `checksum` of the system's table, where there is nothing quicker. */
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
 * The polynomial's remainders of four bits, as signed integers: what is past 2^31 is a floating point number to an
 * engine.
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

/** A call takes only so many arguments. */
const most = 4096

/**
 * Text without `/`, spaces and control characters: what is not of `A-Za-z0-9_.,:=@+-` is `%XX`. `percentEncoded` of the
 * system's table, where the runtime has nothing quicker. The language's own `escape` does it in one call, but takes
 * other characters for plain: `*` and `/` for such that are, `,`, `:` and `=` for such that are not.
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

/** `digitsAt` of the system's table, where the runtime has nothing quicker. */
export function digitsAt(text: string, at: number): number {
  let end = at
  for (let code = text.charCodeAt(end); code >= 0x30 && code <= 0x39; code = text.charCodeAt(end)) end++
  return end - at
}

/**
 * {@link percentEncode} undone: `percentDecoded` of the system's table, where the runtime has nothing quicker.
 * @returns undefined for what would not have been written so.
 */
export function percentDecoded(encoded: string): string | undefined {
  // `unescape` knows characters past 255.
  if (encoded.includes('%u')) return undefined
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- see above
  const text = unescape(encoded)
  return percentEncode(text) === encoded ? text : undefined
}
