/**
 * The pages that people read: every link leads somewhere, every file that they name exists, and their tables are those
 * of the program.
 */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { describe, it } from 'node:test'

const root = resolve(import.meta.dirname, '../..')
const filesIn = (directory: string): string[] =>
  (readdirSync(join(root, directory), { recursive: true }) as string[]).map((path) => `${directory}/${path}`).sort()
const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  ...filesIn('docs').filter((path) => path.endsWith('.md')),
]
const textOf = (page: string): string => readFileSync(join(root, page), 'utf8')
/** A path, or a pattern with `*` for a part of a name. */
function exists(path: string): boolean {
  if (!path.includes('*')) return existsSync(join(root, path))
  const pattern = new RegExp(`^${path.replaceAll('.', '\\.').replaceAll('*', '[^/]*')}$`)
  return filesIn(path.split('/')[0] ?? '').some((file) => pattern.test(file))
}

/** A page without its blocks of code. */
const proseOf = (page: string): string => textOf(page).replace(/^```[^]*?^```$|^ {4}.*$/gm, '')

/** The anchor of a heading, as the usual Markdown viewers make it. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\w\- ]/g, '')
    .replaceAll(' ', '-')
const anchorsIn = (page: string): string[] =>
  [...textOf(page).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => anchorOf(heading))

/** The first cell of each row of the table that begins with this line. */
const firstCells = (page: string, header: string): string[] =>
  (textOf(page).split(`${header}\n`)[1] ?? '')
    .split('\n\n')[0]
    ?.split('\n')
    .slice(1)
    .map((row) => row.split('|')[1] ?? '') ?? []

for (const page of pages)
  describe(page, () => {
    it('has no link that leads nowhere', () => {
      for (const [, target = ''] of proseOf(page).matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^https?:/.test(target)) continue
        const [path = '', anchor] = target.split('#')
        const file = path === '' ? page : join(dirname(page), path)
        assert.ok(existsSync(join(root, file)), target)
        if (anchor !== undefined) assert.ok(anchorsIn(file).includes(anchor), target)
      }
    })

    it('has no line of prose wider than 120 columns: tables and pictures may be', () => {
      const wide = proseOf(page)
        .split('\n')
        .filter((line) => line.length > 120 && !/^(?:\||!\[)/.test(line))
      assert.deepEqual(wide, [])
    })

    it('names no file of the sources that does not exist', () => {
      for (const [, path = ''] of proseOf(page).matchAll(/`((?:bin|lib|tests|udev|docs)\/[^`\s]*)`/g))
        assert.ok(exists(path), path)
    })

    it('names no script of npm that does not exist', () => {
      const { scripts } = JSON.parse(textOf('package.json')) as { scripts: Record<string, string> }
      for (const [, script = ''] of textOf(page).matchAll(/\bnpm run ([\w:]+)/g)) assert.ok(script in scripts, script)
    })
  })

describe('README.md', () => {
  it('has about a hundred lines', () => {
    assert.ok(textOf('README.md').split('\n').length <= 120)
  })

  it('names every command that changes or shows records, and none that does not exist', () => {
    const named = firstCells('README.md', '| command | what it does |').flatMap((cell) =>
      [...cell.matchAll(/`(\w+)/g)].map(([, word = '']) => word),
    )
    assert.ok(named.length > 8, named.join())
    const files = filesIn('lib/commands').map((file) => file.split('/').at(-1))
    for (const word of named) assert.ok(files.includes(`${word}.ts`), word)
  })
})

describe('docs/dependencies.md', () => {
  it('gives the reason for each package that is used, except those with only types', () => {
    const { devDependencies } = JSON.parse(textOf('package.json')) as { devDependencies: Record<string, string> }
    const rows = [...textOf('docs/dependencies.md').matchAll(/^\| ([^|]+) \|/gm)].flatMap(([, cell = '']) =>
      cell.split(', '),
    )
    for (const name of Object.keys(devDependencies))
      if (!name.startsWith('@types/')) assert.ok(rows.includes(name), name)
  })
})
