/** Two pictures of a run: ratios to the peer beside their goals, and how work grows with the number of records. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensureDirSync } from 'fs-extra/esm'
import { root } from '../support/artefacts.ts'
import { short } from './figures.ts'
import { ratio } from './report.ts'
import { find, run } from './tools.ts'
import type { Row } from './work.ts'

const ours = '#1f6f8b'
const theirs = '#b5651d'
const faint = '#c8c8c8'

const text = (x: number, y: number, what: string, more = ''): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${what.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</text>`
type Point = readonly [x: number, y: number]
const line = ([x1, y1]: Point, [x2, y2]: Point, more: string): string =>
  `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" ${more}/>`
const dot = (x: number, y: number, colour: string): string =>
  `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="5" fill="${colour}"/>`

const svg = (
  width: number,
  height: number,
  title: string,
  body: readonly string[],
): string => `<svg xmlns="http://www.w3.org/2000/svg" \
width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="DejaVu Sans, sans-serif" font-size="13" fill="#222">
<rect width="${width}" height="${height}" fill="#fff"/>
${text(20, 28, title, 'font-size="16" font-weight="bold"')}
${body.join('\n')}
</svg>
`

/** Equal steps for equal factors. */
const logarithmic =
  (from: number, to: number, left: number, right: number) =>
  (value: number): number =>
    left + ((Math.log10(value) - Math.log10(from)) / (Math.log10(to) - Math.log10(from))) * (right - left)

/** One line for each kind of work: a dot for the result, a bar for the goal. Left of 1 we are faster. */
function ratios(rows: readonly Row[]): string {
  const shown = rows.filter((row) => row.baseIs === 'nfsdcltrack' && row.unit === 'ms')
  const [width, top, step, left, right] = [900, 84, 26, 350, 830]
  const bottom = top + shown.length * step
  const values = shown.flatMap((row) => [ratio(row), row.goal ?? 1])
  const x = logarithmic(Math.min(0.05, ...values) / 1.2, Math.max(5, ...values) * 1.2, left, right)
  const body = [text(left, 50, '← faster than nfsdcltrack  |  slower →', 'fill="#555"')]
  for (const tick of [0.01, 0.03, 0.1, 0.3, 1, 3, 10]) {
    const at = x(tick)
    if (at < left || at > right) continue
    body.push(
      line([at, top - 12], [at, bottom], `stroke="${tick === 1 ? '#222' : faint}"`),
      text(at, top - 16, String(tick), 'text-anchor="middle" fill="#555"'),
    )
  }
  shown.forEach((row, index) => {
    const y = top + (index + 0.5) * step
    body.push(
      text(left - 12, y + 4, row.work, 'text-anchor="end"'),
      line([x(1), y], [x(ratio(row)), y], `stroke="${ours}" stroke-width="2"`),
    )
    if (row.goal !== undefined)
      body.push(line([x(row.goal), y - 9], [x(row.goal), y + 9], `stroke="${theirs}" stroke-width="3"`))
    body.push(dot(x(ratio(row)), y, ours), text(right + 12, y + 4, short(ratio(row))))
  })
  const key = bottom + 26
  body.push(
    dot(left + 5, key - 4, ours),
    text(left + 18, key, 'measured'),
    line([left + 115, key - 13], [left + 115, key + 5], `stroke="${theirs}" stroke-width="3"`),
    text(left + 126, key, 'goal (no more than)'),
  )
  return svg(width, key + 20, 'Time of the executable, as a ratio to nfsdcltrack in the same run', body)
}

/** The cost of a create in grace with more and more records, each as a multiple of its cost with ten. */
function growth(rows: readonly Row[]): string | undefined {
  const points = rows.flatMap((row) => {
    const records = /^among (\d+)$/.exec(row.tag ?? '')?.[1]
    return records === undefined ? [] : [{ records: Number(records), ours: row.ours.median, theirs: row.base.median }]
  })
  const [few, most] = [points[0], points.at(-1)]
  if (few === undefined || most === undefined || points.length < 2) return undefined
  const [width, height, left, right, top, bottom] = [640, 400, 80, 560, 70, 330]
  const x = logarithmic(few.records, most.records, left, right)
  const highest = Math.max(...points.flatMap((point) => [point.ours / few.ours, point.theirs / few.theirs]))
  const lowest = Math.min(1, ...points.map((point) => point.ours / few.ours))
  const y = logarithmic(lowest * 0.7, highest * 1.3, bottom, top)
  const body: string[] = []
  for (const { records } of points)
    body.push(
      line([x(records), top], [x(records), bottom], `stroke="${faint}"`),
      text(x(records), bottom + 20, records.toLocaleString('en').replaceAll(',', ' '), 'text-anchor="middle"'),
    )
  for (const tick of [1, 3, 10, 30, 100].filter((value) => value < highest * 1.3))
    body.push(
      line([left, y(tick)], [right, y(tick)], `stroke="${faint}"`),
      text(left - 10, y(tick) + 4, `× ${tick}`, 'text-anchor="end"'),
    )
  for (const [name, colour, of] of [
    ['executable', ours, 'ours'],
    ['nfsdcltrack', theirs, 'theirs'],
  ] as const) {
    const path = points.map((point) => `${x(point.records).toFixed(1)},${y(point[of] / few[of]).toFixed(1)}`).join(' ')
    body.push(`<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`)
    for (const point of points) body.push(dot(x(point.records), y(point[of] / few[of]), colour))
    body.push(text(right - 14, y(most[of] / few[of]) - 10, name, `text-anchor="end" fill="${colour}"`))
  }
  body.push(text((left + right) / 2, bottom + 46, 'client records', 'text-anchor="middle" fill="#555"'))
  return svg(width, height, 'A create in grace (4.1), to the same among 10 records', body)
}

/** Draws the plots for which there are measurements. @returns a message about that. */
export function draw(rows: readonly Row[]): string[] {
  const directory = join(root, 'docs/bench')
  ensureDirSync(directory)
  const converter = ['rsvg-convert', 'convert'].find((command) => find(command) !== undefined)
  const said: string[] = []
  for (const [name, picture] of [
    ['ratios', ratios(rows)],
    ['growth', growth(rows)],
  ] as const) {
    if (picture === undefined) continue
    const file = join(directory, name)
    writeFileSync(`${file}.svg`, picture)
    said.push(
      `drawn: docs/bench/${name}.svg${converter !== undefined && converted(converter, file) ? ' and .png' : ''}`,
    )
  }
  return said.every((what) => what.endsWith('.png'))
    ? said
    : [...said, 'PNG is made where there is rsvg-convert: apt-get install librsvg2-bin']
}

function converted(converter: string, file: string): boolean {
  const words =
    converter === 'rsvg-convert' ? ['-z', '2', '-o', `${file}.png`, `${file}.svg`] : [`${file}.svg`, `${file}.png`]
  try {
    run(converter, words)
    return true
  } catch {
    return false
  }
}
