/**
 * Words as this program has them: bytes, each character one of them (0 to 255). What is no UTF-8 comes back as it went.
 */

/** @throws RangeError for a character past 255: it is no word of ours. */
export function bytesOf(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 255) throw new RangeError('a character past 255')
    bytes[i] = code
  }
  return bytes
}

export function textOf(bytes: Uint8Array): string {
  let text = ''
  // In parts: a call takes only so many arguments.
  for (let at = 0; at < bytes.length; at += 4096)
    text += String.fromCharCode.apply(null, bytes.subarray(at, at + 4096) as unknown as number[])
  return text
}
