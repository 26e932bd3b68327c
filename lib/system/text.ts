/**
 * Text and bytes: UTF-8 both ways. Not by Buffer, and what is short and ASCII by hand: the first use of each of the
 * runtime's ways costs an upcall more than all that it has to say.
 */
let decoder: InstanceType<typeof TextDecoder> | undefined

/** What is no UTF-8 becomes U+FFFD, and equals nothing that was ever written here. */
export function textOf(bytes: Uint8Array): string {
  let text = ''
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] ?? 0
    if (byte > 0x7f || i === longestByHand) return (decoder ??= new TextDecoder('utf-8', { ignoreBOM: true })).decode(bytes)
    text += String.fromCharCode(byte)
  }
  return text
}
const longestByHand = 512

/** @param end what follows the text: a NUL, where C wants one. */
export function bytesOf(text: string, end = ''): Uint8Array {
  const bytes = new Uint8Array(text.length + end.length)
  for (let i = 0; i < bytes.length; i++) {
    const code = i < text.length ? text.charCodeAt(i) : end.charCodeAt(i - text.length)
    if (code > 0x7f) return new TextEncoder().encode(text + end)
    bytes[i] = code
  }
  return bytes
}
