/** The measurements, as a table for a terminal that is also valid Markdown. */
import type { CallsRow, Count } from './counts.ts'
import { short, type Figures } from './figures.ts'
import type { Row } from './work.ts'

export const ratio = ({ ours, base }: Row): number => ours.median / base.median
export const met = (row: Row): boolean | undefined => (row.goal === undefined ? undefined : ratio(row) <= row.goal)

/** The median, and the two values between which the middle half lies. */
const spread = (figures: Figures | undefined): string => {
  if (figures === undefined) return ''
  const { median, lowerQuartile, upperQuartile, count } = figures
  return count === 1 ? short(median) : `${short(median)} (${short(lowerQuartile)}-${short(upperQuartile)})`
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((name, column) =>
    Math.max(...[name, ...rows.map((row) => row[column] ?? '')].map((cell) => cell.length)),
  )
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n')
}

/**
 * Medians with their quartiles; the ratio of the medians beside its goal; and the ratio of the minima, which other load
 * disturbs less.
 */
export const measurements = (rows: readonly Row[]): string =>
  table(
    ['work', 'unit', 'ours', 'peer', 'ratio', 'of the least', 'goal', 'met', 'bundle', 'ratio'],
    rows.map((row) => {
      const result = met(row)
      return [
        row.work,
        row.unit,
        spread(row.ours),
        row.baseIs === 'our own' ? `(${spread(row.base)})` : spread(row.base),
        short(ratio(row)),
        short(row.ours.least / row.base.least),
        row.goal === undefined ? '' : `<= ${row.goal}`,
        result === undefined ? '' : result ? 'yes' : 'NO',
        spread(row.bundle),
        row.bundle === undefined ? '' : short(row.bundle.median / row.base.median),
      ]
    }),
  )

export const reached = ({ ours, goal }: Count): boolean | undefined => (goal === undefined ? undefined : ours <= goal)

export const otherCounts = (counts: readonly Count[]): string =>
  table(
    ['what', 'unit', 'ours', 'nfsdcltrack', 'goal', 'met'],
    counts.map((count) => [
      count.what,
      count.unit,
      short(count.ours),
      count.nfsdcltrack === undefined ? '' : short(count.nfsdcltrack),
      count.goal === undefined ? '' : `<= ${count.goal}`,
      { true: 'yes', false: 'NO', undefined: '' }[String(reached(count))] ?? '',
    ]),
  )

export const callCounts = (rows: readonly CallsRow[]): string =>
  table(
    ['upcall', 'barriers: ours', 'nfsdcltrack', 'system calls: ours', 'bundle', 'nfsdcltrack'],
    rows.map(({ work, calls }) => [
      work,
      String(calls.executable.barriers),
      String(calls.nfsdcltrack.barriers),
      String(calls.executable.all),
      String(calls.bundle.all),
      String(calls.nfsdcltrack.all),
    ]),
  )
