/** Text for people: words from outside, escaped, and the program's own sentences. */
import { textOf } from './bytes.ts'

/** How many characters of a word from outside a message repeats. */
const quoted = 80

/** A word from outside, safe for a log and a terminal: printable ASCII, every other byte as `\ooo`, shortened. */
export function quote(word: string): string {
  const shown = `'${escaped(word.slice(0, quoted))}'`
  return word.length > quoted ? `${shown}... (${word.length} bytes)` : shown
}

/** A word, each character a byte, as printable ASCII: every other byte, and the backslash, becomes `\ooo`. */
export const escaped = (word: string): string =>
  word.replace(/[^ -[\]-~]/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`)

/** {@link escaped}, for bytes. */
export const printable = (bytes: Uint8Array): string => escaped(textOf(bytes))

/** A number and its noun: `1 record`, `2 records`. */
export const counted = (many: number, one: string, more = `${one}s`): string => `${many} ${many === 1 ? one : more}`

/**
 * A paragraph that the source wraps: each of its line breaks, with the blanks around it, is one blank. For commands: an
 * upcall's long sentences are joined by `+`, which the build does. Ten of these would make the executable 8 KB larger.
 */
export const oneLine = (parts: TemplateStringsArray, ...values: readonly (string | number)[]): string =>
  String.raw({ raw: parts.map((part) => part.replace(/\s*\n\s*/g, ' ')) }, ...values).trim()
