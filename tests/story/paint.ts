/** Colour for a terminal, and none in a pipe or if NO_COLOR is set. */
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

/** Bytes for a reader: quoted, so that spaces can be seen, and escaped, so that a terminal can't be attacked. */
export const quoted = (bytes: string): string =>
  `"${bytes.replace(/[^ !#-[\]-~]/g, (byte) => `\\${byte.charCodeAt(0).toString(8).padStart(3, '0')}`)}"`

/** Pads to a visible width. */
export const padded = (text: string, width: number): string =>
  text + ' '.repeat(Math.max(0, width - text.replace(/\x1b\[[\d;]*m/g, '').length))
