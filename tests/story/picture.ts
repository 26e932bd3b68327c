/**
 * The picture in README.md: the beginning and the end of what `npm start` writes to a terminal, drawn from a real run.
 *
 *   npm run picture          writes docs/pictures/start.svg
 */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensureDirSync } from 'fs-extra/esm'
import { root } from '../support/artefacts.ts'

/** How many lines of the story are drawn, and from which on. */
const story = { from: /^I\. /, lines: 27 }

function drawStory(): void {
  const lines = onTerminal(`${process.execPath} --import tsx ${join(root, 'tests/story/main.ts')}`)
  const first = lines.findIndex((line) => story.from.test(plain(line)))
  save('start', ['$ npm start', ...lines.slice(first, first + story.lines), '\x1b[2m  ...\x1b[0m', ...lines.slice(-1)])
}

/** What a command writes to a terminal, with its colours. */
const onTerminal = (command: string): readonly string[] =>
  execFileSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8', env: { ...process.env, TERM: 'xterm' } })
    .replaceAll('\r', '')
    .trimEnd()
    .split('\n')

const plain = (line: string): string => line.replace(/\x1b\[[\d;]*m/g, '')

const colours: Readonly<Record<string, string>> = {
  1: 'font-weight="bold"',
  2: 'fill="#8b949e"',
  31: 'fill="#ff7b72"',
  32: 'fill="#7ee787"',
  33: 'fill="#e3b341"',
}

/** One line as SVG text: each run of a colour is a span. */
function spans(line: string): string {
  let style: string[] = []
  return line
    .split(/(\x1b\[[\d;]*m)/)
    .map((part) => {
      const codes = /^\x1b\[([\d;]*)m$/.exec(part)?.[1]
      if (codes === undefined) {
        const text = part.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;')
        return text === '' ? '' : style.length === 0 ? text : `<tspan ${style.join(' ')}>${text}</tspan>`
      }
      for (const code of codes.split(';')) {
        const colour = colours[code]
        if (colour === undefined) style = []
        else style = [...style.filter((other) => other.split('=')[0] !== colour.split('=')[0]), colour]
      }
      return ''
    })
    .join('')
}

const cell = { width: 7.85, height: 17 }

function save(name: string, lines: readonly string[]): void {
  const width = Math.ceil(Math.max(...lines.map((line) => plain(line).length)) * cell.width + 32)
  const height = lines.length * cell.height + 28
  const texts = lines.map(
    (line, n) => `<text x="16" y="${28 + n * cell.height}" xml:space="preserve">${spans(line)}</text>`,
  )
  ensureDirSync(join(root, 'docs/pictures'))
  writeFileSync(
    join(root, `docs/pictures/${name}.svg`),
    [
      `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
      `<rect width="100%" height="100%" rx="8" fill="#0d1117"/>`,
      `<g fill="#e6edf3" font-family="ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', monospace" font-size="13">`,
      ...texts,
      '</g>',
      '</svg>',
      '',
    ].join('\n'),
  )
}

drawStory()
