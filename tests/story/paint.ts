/** Colour for a terminal, and none in a pipe or where NO_COLOR asks for none. */
const colourful = process.stdout.isTTY && (process.env['NO_COLOR'] ?? '') === ''
const paint =
  (code: string) =>
  (text: string): string =>
    colourful && text !== '' ? `\x1b[${code}m${text}\x1b[0m` : text

export const bold = paint('1')
export const dim = paint('2')
export const right = paint('32')
export const refused = paint('33')
export const wrong = paint('1;31')
export const made = paint('32')
export const gone = paint('31')
export const changed = paint('33')
export const plain = (text: string): string => text

/** Bytes for a reader: quoted, so that a space is just a space; what could play tricks on a terminal is escaped. */
export const quoted = (bytes: string): string =>
  `"${bytes.replace(/[^ !#-[\]-~]/g, (byte) => `\\${byte.charCodeAt(0).toString(8).padStart(3, '0')}`)}"`

/** Fills up to a width by what the eye sees. */
export const padded = (text: string, width: number): string =>
  text + ' '.repeat(Math.max(0, width - text.replace(/\x1b\[[\d;]*m/g, '').length))
