/**
 * Text and bytes: UTF-8 both ways. What is short and ASCII goes by hand, and without Buffer: the first use of each of the
 * runtime's ways costs an upcall more than all that it has to say.
 */
let decoder: InstanceType<typeof TextDecoder> | undefined

/** Longer texts are the runtime's. */
const longestByHand = 512

/** What is no UTF-8 becomes U+FFFD, and equals nothing that was ever written here. */
export function textOf(bytes: Uint8Array, from = 0, to = bytes.length): string {
  let text = ''
  for (let i = from; i < to; i++) {
    const byte = bytes[i] ?? 0
    if (byte > 0x7f || i - from === longestByHand)
      return (decoder ??= new TextDecoder('utf-8', { ignoreBOM: true })).decode(bytes.subarray(from, to))
    text += String.fromCharCode(byte)
  }
  return text
}

export function bytesOf(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length)
  return putText(text, bytes) ? bytes : new TextEncoder().encode(text)
}

/** Writes a text to the beginning of a room. @returns false if it is not ASCII, or does not fit in. */
export function putText(text: string, room: Uint8Array): boolean {
  if (text.length > room.length) return false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 0x7f) return false
    room[i] = code
  }
  return true
}
