/**
 * Writes the tables of docs/reliability.md from tests/proof/figures: `npm run report:proof`. The text around them is
 * written by hand. A table without figures says so.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../support/artefacts.ts'
import { figuresDirectory, type Figures } from './figures.ts'

const page = join(root, 'docs/reliability.md')

const cell = (value: string | number | undefined): string =>
  String(value ?? '')
    .replaceAll('|', '\\|')
    .replaceAll('\n', ' ')

function table(technique: string): string {
  const file = join(figuresDirectory, `${technique}.json`)
  if (!existsSync(file)) return `(not run: no figures of \`${technique}\`)`
  const { rows } = JSON.parse(readFileSync(file, 'utf8')) as Figures
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))]
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [
    line(names),
    line(names.map(() => '---')),
    ...rows.map((row) => line(names.map((name) => cell(row[name])))),
  ].join('\n')
}

const text = readFileSync(page, 'utf8')
writeFileSync(
  page,
  text.replace(
    /<!-- figures: ([a-z-]+) -->[^]*?<!-- end -->/g,
    (_, technique: string) => `<!-- figures: ${technique} -->\n${table(technique)}\n<!-- end -->`,
  ),
)
