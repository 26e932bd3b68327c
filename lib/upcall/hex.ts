/** Hexadecimal words. Pure. Node's `Buffer.from(…, 'hex')` can't be used: it stops silently at the first bad digit. */

/**
 * JavaScript's own function, which saves a twelfth of a check. The executable's engine has it, Node before 25 has not.
 */
const { fromHex } = Uint8Array as { readonly fromHex?: (word: string) => Uint8Array }

/** @returns the bytes; undefined, if a character is no hex digit, or their number is odd. */
export function bytesFromHex(word: string): Uint8Array | undefined {
  if (fromHex !== undefined)
    try {
      return fromHex(word)
    } catch {
      return undefined
    }
  if (word.length % 2 !== 0 || /[^0-9a-fA-F]/.test(word)) return undefined
  const bytes = new Uint8Array(word.length / 2)
  for (let i = 0; i < bytes.length; i++)
    bytes[i] = digit(word.charCodeAt(2 * i)) * 16 + digit(word.charCodeAt(2 * i + 1))
  return bytes
}

/** The value of a hex digit. For a million owners this is four times as fast as Number.parseInt. */
const digit = (code: number): number => (code <= 0x39 ? code - 0x30 : (code | 0x20) - 0x57)

/** Two lowercase digits for each byte. The engine's own function takes a hundredth of the time. */
export function hexOf(bytes: Uint8Array & { readonly toHex?: () => string }): string {
  if (bytes.toHex !== undefined) return bytes.toHex()
  let word = ''
  for (const byte of bytes) word += byte.toString(16).padStart(2, '0')
  return word
}
