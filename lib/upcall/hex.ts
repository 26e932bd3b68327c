/**
 * Hexadecimal words. Pure. By hand: `Buffer.from(…, 'hex')` stops silently at the first bad digit, and its first use in a
 * process costs more than all else in reading an upcall.
 */

/** @returns the bytes, or undefined if a digit is bad. An odd digit at the end is one. */
export function bytesFromHex(word: string): Uint8Array | undefined {
  if (word.length % 2 !== 0) return undefined
  const bytes = new Uint8Array(word.length / 2)
  for (let i = 0; i < bytes.length; i++) {
    const high = digit(word.charCodeAt(2 * i))
    const low = digit(word.charCodeAt(2 * i + 1))
    if (high < 0 || low < 0) return undefined
    bytes[i] = high * 16 + low
  }
  return bytes
}

/** A digit's value, or -1. */
function digit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30
  const lower = code | 0x20
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1
}
