/**
 * Makes the programs' scripts, each a single file with everything that it uses: three for Node, one for the
 * executable's engine.
 */
import { chmodSync } from 'node:fs'
import { build, type BuildOptions, type Plugin } from 'esbuild'
import packageJson from '../../package.json' with { type: 'json' }
import { from, root, textAt } from './repository.ts'

const standIn = (name: string): string => from(`lib/build/stand-ins/${name}.cjs`)

/** The parts of proper-lockfile that an upcall does not need. Each stand-in says why. */
const upcallStandIns = {
  'proper-lockfile/lib/lockfile.js': from('lib/build/stand-ins/proper-lockfile.js'),
  'signal-exit': standIn('signal-exit'),
  'graceful-fs': standIn('graceful-fs'),
  path: standIn('path'),
  retry: standIn('retry'),
}

const common = {
  absWorkingDir: root,
  bundle: true,
  legalComments: 'none',
  logLevel: 'warning',
} satisfies BuildOptions

const forNode = {
  ...common,
  metafile: true,
  platform: 'node',
  target: 'node18',
  format: 'cjs',
  outdir: 'dist',
  outExtension: { '.js': '.cjs' },
  // Node 18 does not have it. A bundle is CommonJS, so it has `require`, which does the same.
  define: { 'process.getBuiltinModule': 'require' },
} satisfies BuildOptions

/** SQLite can reach only the files that it is given. */
const filesOfSqlite: Plugin = {
  name: 'files-of-sqlite',
  setup: (bundle) => {
    bundle.onResolve({ filter: /^node:fs$/ }, ({ importer }) =>
      importer.startsWith(from('node_modules/node-sqlite3-wasm/'))
        ? { path: from('lib/commands/move/sqlite-files.ts') }
        : undefined,
    )
  },
}

/** Makes the bundles for Node: upcalls, people's commands, SQLite. @returns the files of which they were made */
export async function bundleForNode(): Promise<string[]> {
  const upcalls = await build({
    ...forNode,
    entryPoints: ['bin/nfsd-userland-helper.ts'],
    alias: upcallStandIns,
    banner: { js: '#!/usr/bin/env node' },
  })
  chmodSync(from('dist/nfsd-userland-helper.cjs'), 0o755)
  const people = await build({
    ...forNode,
    entryPoints: ['bin/people.ts', 'bin/sqlite.ts'],
    alias: {
      'signal-exit': standIn('signal-exit'),
      'graceful-fs': 'node:fs',
      retry: standIn('retry'),
      cliui: from('lib/build/stand-ins/cliui.js'),
    },
    plugins: [filesOfSqlite],
    loader: {
      '.wasm': 'binary',
      '.rules': 'text',
      '.conf': 'text',
      '.service': 'text',
      '.sh': 'text',
      '.5': 'text',
      '.8': 'text',
    },
    define: { ...forNode.define, 'import.meta.url': 'bundle_url' },
    banner: { js: 'const bundle_url="file://"+__filename;' },
  })
  return [upcalls, people]
    .flatMap(({ metafile }) => Object.values(metafile.outputs))
    .flatMap(({ inputs }) => Object.keys(inputs))
}

export const forEngine = {
  ...common,
  platform: 'neutral',
  mainFields: ['main'],
  target: 'es2022',
  alias: upcallStandIns,
  banner: { js: textAt('lib/build/stand-ins/globals.js') },
  define: { programVersion: JSON.stringify(packageJson.version) },
  write: false,
} as const satisfies BuildOptions

/** @returns a script for the executable's engine, in one piece and readable */
export async function bundleForEngine(entry = 'bin/upcall.ts'): Promise<string> {
  const { outputFiles } = await build({
    ...forEngine,
    entryPoints: [entry],
    format: 'iife',
  })
  return outputFiles[0]?.text ?? ''
}
