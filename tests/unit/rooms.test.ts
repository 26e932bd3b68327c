/** The limits between the rooms of lib/: lint reports each import that is forbidden, and no file depends on itself. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { describe, it } from 'node:test'
import { ESLint, Linter } from 'eslint'
import tseslint from 'typescript-eslint'
import { globals, roomOf, rooms } from '../../lib/build/rooms.js'
import { walls } from '../../lib/build/walls.js'

const root = resolve(import.meta.dirname, '../..')
const fileIn = (room: string): string => (room.endsWith('/') ? `${room}some-file.ts` : room)

/** What lint reports for a file with this one statement. */
function lint(file: string, statement: string): string[] {
  const found = new Linter().verify(
    statement,
    [
      {
        files: ['**/*.ts'],
        languageOptions: { parser: tseslint.parser },
        plugins: { house: { rules: { walls: walls(root) } } },
        rules: { 'house/walls': 'error' },
      },
    ],
    join(root, file),
  )
  return found.map(({ message }) => message)
}

const importOf = (from: string, to: string): string =>
  `import { x } from '${relative(dirname(from), to).replace(/^(?!\.)/, './')}'`

describe('each room', () => {
  for (const [at, { room, packages, apart }] of rooms.entries()) {
    const file = fileIn(room)
    it(`${room} imports from no room above it`, () => {
      for (const above of rooms.slice(0, at))
        assert.equal(lint(file, importOf(file, fileIn(above.room))).length, 1, above.room)
    })

    it(`${room} may import from the rooms below it, except those that rooms.js excludes`, () => {
      for (const below of rooms.slice(at + 1))
        assert.equal(
          lint(file, importOf(file, fileIn(below.room))).length,
          apart.includes(below.room) ? 1 : 0,
          below.room,
        )
    })

    it(`${room} uses no package except its own`, () => {
      for (const name of [
        'node:fs',
        'fs',
        'yargs',
        'yargs/helpers',
        'proper-lockfile',
        'fs-extra',
        'fs-extra/esm',
        'node-sqlite3-wasm',
        'eslint',
      ])
        if (!packages.some((own) => name.startsWith(own.replace(/\/?\*$/, ''))))
          assert.equal(lint(file, `import x from '${name}'`).length, 1, name)
    })
  }

  it('lib/commands/shared/ imports none of the commands that share it', () => {
    const file = 'lib/commands/shared/some-file.ts'
    for (const command of ['lib/commands/cli.ts', 'lib/commands/show.ts', 'lib/commands/doctor/doctor.ts'])
      assert.equal(lint(file, importOf(file, command)).length, 1, command)
    assert.deepEqual(lint(file, importOf(file, 'lib/commands/shared/view.ts')), [])
    assert.deepEqual(lint('lib/commands/show.ts', importOf('lib/commands/show.ts', file)), [])
  })

  it('may not import what is forbidden to it by any kind of import', () => {
    for (const statement of [
      "import type { X } from '../events/world.ts'",
      "export { x } from '../events/world.ts'",
      "export * from '../events/world.ts'",
      "const x = await import('../events/world.ts')",
      "const x = require('../events/world.ts')",
      "type X = import('../events/world.ts').World",
      "const fs = process.getBuiltinModule('node:fs')",
    ])
      assert.notEqual(lint('lib/store/some-file.ts', statement).length, 0, statement)
  })

  for (const { room, packages } of rooms)
    it(`${room} ${packages.includes('node:*') ? 'may use' : 'has no'} globals that give access to the system`, () => {
      const found = packages.includes('node:*') ? 0 : 1
      for (const name of globals) assert.equal(lint(fileIn(room), `export const x = ${name}`).length, found, name)
    })

  it('is checked by the lint that a change must pass', async () => {
    const eslint = new ESLint({ cwd: root })
    for (const { room } of rooms) {
      const { rules } = (await eslint.calculateConfigForFile(join(root, fileIn(room)))) as {
        readonly rules: Readonly<Record<string, readonly unknown[]>>
      }
      assert.equal(rules['house/walls']?.[0], 2, room)
    }
  })

  it('stands in docs/architecture.md, in this order', () => {
    const page = readFileSync(join(root, 'docs/architecture.md'), 'utf8')
    const shown = [...page.matchAll(/^\| `((?:bin|lib)\/[^`]*)` \| (.*?) \|$/gm)].map(([, room, question]) => [
      room,
      question,
    ])
    assert.deepEqual(
      shown,
      rooms.map(({ room, question }) => [room, question]),
    )
  })
})

const sources = readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))
  .map((name) => `lib/${name}`)

/** The files of this project that a file imports, types included. */
const importsOf = (file: string): string[] =>
  [...readFileSync(join(root, file), 'utf8').matchAll(/(?:from |import\()'(\.{1,2}\/[^']+)'/g)]
    .map(([, path = '']) => relative(root, resolve(root, dirname(file), path)))
    .filter((path) => sources.includes(path))

describe('the files of lib/', () => {
  it('each belong to a room, or make the programs', () => {
    assert.deepEqual(
      sources.filter((file) => roomOf(file) === undefined && !file.startsWith('lib/build/')),
      [],
    )
  })

  it('do not depend on themselves in any way, types included', () => {
    const done = new Set<string>()
    const visit = (file: string, way: readonly string[]): void => {
      assert.ok(!way.includes(file), `a circle: ${[...way.slice(way.indexOf(file)), file].join(' -> ')}`)
      if (done.has(file)) return
      for (const next of importsOf(file)) visit(next, [...way, file])
      done.add(file)
    }
    for (const file of sources) visit(file, [])
  })
})
