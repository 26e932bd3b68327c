import tseslint from 'typescript-eslint'

/** What a room of lib/ may not import. Arrows point one way: see docs/architecture.md. */
const walls = (files, ...groups) => ({
  files,
  rules: {
    'no-restricted-imports': [
      'error',
      { patterns: groups.map(([group, message, allowTypeImports = false]) => ({ group, message, allowTypeImports })) },
    ],
  },
})

const disk = [['**/system/*', 'fs-extra', 'fs-extra/*', 'proper-lockfile'], 'Only stable/, downcall/, settings/, admin/ and the log touch files.']
const slow = [['node:*', 'fs', 'path', 'graceful-fs'], 'An upcall loads no module of the runtime that it does not need: files by lib/system/, the rest by getBuiltinModule where it is wanted.', true]
const people = [['yargs', 'yargs/*'], 'yargs is for people (cli.ts): an upcall does not load it.']
const database = [['sql.js', '**/sqlite.ts'], 'SQLite is a module of its own (bin/sqlite.ts), loaded when it is wanted.', true]
const above = (...rooms) => [rooms.map((room) => `**/${room}`), 'This room lies below the one that it imports.']

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/', '.cache/'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': [
        'error',
        { allowForKnownSafeCalls: [{ from: 'package', name: ['describe', 'it', 'test', 'suite', 'before', 'after', 'beforeEach', 'afterEach'], package: 'node:test' }] },
      ],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
    },
  },
  walls(['lib/*.ts'], disk, slow, people),
  walls(['lib/log.ts', 'lib/deadline.ts'], slow, people, above('main.ts', 'run.ts')),
  walls(['lib/main.ts', 'lib/hand-on.ts'], [disk[0].filter((group) => group !== '**/system/*'), disk[1]], slow, people),
  walls(['lib/cli.ts'], above('main.ts', 'run.ts')),
  walls(['lib/system/*.ts'], slow, people, above('upcall/*', 'recovery/*', 'stable/*', 'downcall/*', 'transitions/*', 'settings/*', 'failure.ts', 'log.ts', 'main.ts', 'run.ts')),
  walls(['lib/admin/**/*.ts'], [...people, true], database, above('cli.ts', 'main.ts', 'run.ts')),
  walls(['lib/upcall/*.ts'], disk, slow, people, above('recovery/*', 'stable/*', 'downcall/*', 'transitions/*', 'settings/*', 'log.ts', 'main.ts', 'run.ts')),
  walls(['lib/recovery/*.ts'], disk, slow, people, above('stable/*', 'downcall/*', 'transitions/*', 'settings/*', 'log.ts', 'main.ts', 'run.ts')),
  walls(['lib/stable/*.ts'], slow, people, above('downcall/*', 'transitions/*', 'settings/*', 'log.ts', 'main.ts', 'run.ts')),
  walls(['lib/downcall/*.ts'], slow, people, above('stable/*', 'transitions/*', 'settings/*', 'log.ts', 'main.ts', 'run.ts')),
  walls(['lib/settings/*.ts'], slow, people, above('upcall/*', 'recovery/*', 'stable/*', 'downcall/*', 'transitions/*', 'log.ts', 'main.ts', 'run.ts')),
  walls(['lib/transitions/*.ts'], disk, slow, people, above('settings/*', 'main.ts', 'run.ts')),
  { files: ['lib/system/node.ts', 'lib/admin/move/sqlite.ts'], rules: { 'no-restricted-imports': 'off' } },
  { files: ['**/*.js', '**/*.cjs'], ...tseslint.configs.disableTypeChecked },
  { files: ['**/*.cjs'], languageOptions: { parserOptions: { projectService: false } } },
)
