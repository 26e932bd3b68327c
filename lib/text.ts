/** Text for people: words from outside made harmless, and sentences of our own. */
import { textOf } from './bytes.ts'

/** How many characters of somebody else's word a message repeats. */
const quoted = 80

/** A word from outside, made harmless for a log and a terminal: printable ASCII, the rest as `\ooo`, shortened. */
export function quote(word: string): string {
  const shown = `'${escaped(word.slice(0, quoted))}'`
  return word.length > quoted ? `${shown}... (${word.length} bytes)` : shown
}

/** A word, each character a byte, as printable ASCII; all else, and the backslash, as three octal digits. */
export const escaped = (word: string): string =>
  word.replace(/[^ -[\]-~]/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`)

/** {@link escaped}, of bytes. */
export const printable = (bytes: Uint8Array): string => escaped(textOf(bytes))

/** How many of something, in words for people: `1 record`, `2 records`. */
export const counted = (many: number, one: string, more = `${one}s`): string => `${many} ${many === 1 ? one : more}`

/**
 * A paragraph that the source wraps: each of its line breaks, with the blanks around it, is one blank. For commands: an
 * upcall's long sentences are joined by `+`, which the build does. Ten of these would make the executable 8 KB larger.
 */
export const oneLine = (parts: TemplateStringsArray, ...values: readonly (string | number)[]): string =>
  String.raw({ raw: parts.map((part) => part.replace(/\s*\n\s*/g, ' ')) }, ...values).trim()
