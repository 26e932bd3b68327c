/**
 * Aligned columns, and colour on a terminal only (NO_COLOR is respected: https://no-color.org).
 *
 * Everything printed is ASCII, because owners are escaped, so a character is a column. The last column is not padded:
 * long text of any length (owners) goes there. This is our own code, because table libraries measure each cell as
 * Unicode, which takes seconds for a hundred thousand clients.
 */
import { styleText } from 'node:util'

export type Tone = 'good' | 'bad' | 'doubtful' | 'faint' | 'strong'

const styles = { good: 'green', bad: 'red', doubtful: 'yellow', faint: 'dim', strong: 'bold' } as const

/** Adds colours for a stream, or does nothing. */
export function toned(stream: NodeJS.WriteStream = process.stdout): (tone: Tone, text: string) => string {
  const colours = stream.isTTY && (process.env['NO_COLOR'] ?? '') === '' && process.env['TERM'] !== 'dumb'
  return (tone, text) => (colours ? styleText(styles[tone], text, { validateStream: false }) : text)
}

type Row = readonly (string | number)[]

/**
 * Lines of aligned columns, two spaces apart; numbers are aligned to the right. It ends with a newline, unless there
 * are no lines.
 */
export const table = (header: readonly string[], rows: Iterable<Row>): string => [...tableLines(header, rows)].join('')

/** This many rows decide the widths of the columns. */
const measured = 20_000

/** {@link table}, in parts of some lines: there may be more rows than fit into memory. */
export function* tableLines(header: readonly string[], rows: Iterable<Row>): Generator<string> {
  const widths = header.map((title) => title.length)
  let part: Row[] = []
  let first: Row | undefined
  const told = (): string => {
    const lines =
      first === undefined && part[0] !== undefined ? [toned()('strong', aligned(header, part[0], widths))] : []
    first ??= part[0]
    for (const row of part) lines.push(aligned(row, row, widths))
    part = []
    return lines.map((line) => `${line}\n`).join('')
  }
  for (const row of rows) {
    if (first === undefined)
      for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, String(cell).length)
    part.push(row)
    if (part.length === (first === undefined ? measured : 500)) yield told()
  }
  if (part.length > 0) yield told()
}

/** @param like a row that shows which columns hold numbers */
const aligned = (cells: Row, like: Row, widths: readonly number[]): string =>
  cells
    .map((cell, i) => {
      const width = widths[i] ?? 0
      if (typeof like[i] === 'number') return String(cell).padStart(width)
      return i === cells.length - 1 ? String(cell) : String(cell).padEnd(width)
    })
    .join('  ')
    .trimEnd()

/** Lines of a name and a value, with the values aligned. */
export function pairs(rows: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(0, ...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join('')
}

/** Seconds of the wall clock, as people and programs read them. A number that is no date stays a number. */
export function isoTime(seconds: number): string {
  const time = new Date(seconds * 1000)
  return Number.isNaN(time.getTime()) ? `${seconds} s since 1970` : time.toISOString().replace('.000Z', 'Z')
}

/** How wide a text for people is. */
export const width = 100

/** Breaks a text into lines between words. */
export function wrapped(text: string, columns = width): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > columns) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}
