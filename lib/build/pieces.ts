/**
 * The executable's script in pieces, since reading bytecode is half of what a check costs: what every upcall needs is one,
 * and what few need is read when it is first called.
 *
 * The sources know nothing of it. A module that is read later is replaced, where it is imported, by functions of the same
 * names, which read it and call its own. A piece takes what the common one has from there, or has its own copy of it: a
 * copy costs nothing but its bytes, since no module but failure.ts, whose class is asked for, has anything of its own.
 */
import { build, type BuildOptions, type Plugin } from 'esbuild'
import { readFileSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { forEngine, from, root } from './bundles.ts'

/** A script of the executable, by the name by which others import it. */
export type Piece = readonly [name: string, script: string]

/** The first is where the program begins. These use functions of the common piece. */
const ofManyUpcalls = ['bin/upcall.ts', 'lib/store/lock.ts', 'lib/serve/serve.ts'].map(from)
/** These have copies. */
const ofFewUpcalls = [
  'lib/hand-on.ts',
  'lib/events/start.ts',
  'lib/events/grace-end.ts',
  'lib/store/migrate.ts',
  'lib/store/format1.ts',
  'lib/store/untracked.ts',
  'node_modules/@noble/hashes/sha2.js',
  'node_modules/@noble/hashes/legacy.js',
].map(from)
const readLater = [...ofManyUpcalls.slice(1), ...ofFewUpcalls]
const unique = from('lib/failure.ts')

const commonPiece = './common.js'
const nameOf = (path: string): string => `${basename(path).replace(/\.[jt]s$/, '')}.js`

/** @param legible for a person who looks for a mistake. @returns what the executable's engine runs: every upcall begins with the first. */
export async function piecesForEngine(legible: boolean): Promise<Piece[]> {
  const script = async (options: BuildOptions, plugins: readonly Plugin[]): Promise<string> => {
    const { outputFiles, metafile } = await build({
      ...forEngine,
      outdir: 'dist',
      format: 'esm',
      minify: !legible,
      ...options,
      plugins: [...plugins],
      write: false,
      metafile: true,
    })
    if (options.entryPoints !== undefined)
      Object.keys(metafile.inputs)
        .filter((path) => path.startsWith('lib/'))
        .forEach(assertCopyable)
    return outputFiles[0]?.text ?? ''
  }
  const shared = (await modulesOf(ofManyUpcalls[0] ?? '')).filter((path) => path !== ofManyUpcalls[0])
  const exported = await exportsOf([...shared, ...readLater])
  const pieces: Piece[] = []
  for (const path of [...ofManyUpcalls, ...ofFewUpcalls])
    pieces.push([
      nameOf(path),
      await script({ entryPoints: [path] }, [
        fromCommon(ofManyUpcalls.includes(path) ? shared : [unique], exported),
        callLater(exported),
      ]),
    ])
  const wanted = new Set(pieces.flatMap(([, text]) => importsOf(text)))
  const contents = shared
    .flatMap((path, index) =>
      (exported.get(path) ?? [])
        .filter((name) => wanted.has(`m${index}_${name}`))
        .map((name) => `export { ${name} as m${index}_${name} } from '${path}'`),
    )
    .join('\n')
  return [
    ...pieces,
    [basename(commonPiece), await script({ stdin: { contents, resolveDir: root } }, [callLater(exported)])],
  ]

  function fromCommon(of: readonly string[], names: ReadonlyMap<string, readonly string[]>): Plugin {
    return replacing(
      'common',
      (path) => of.includes(path),
      (path) => {
        const index = shared.indexOf(path)
        return `export { ${(names.get(path) ?? []).map((name) => `m${index}_${name} as ${name}`).join(', ')} } from '${commonPiece}'`
      },
    )
  }
}

const callLater = (names: ReadonlyMap<string, readonly string[]>): Plugin =>
  replacing(
    'later',
    (path) => readLater.includes(path),
    (path) =>
      [
        `import { host } from '${from('lib/syscalls/host.ts')}'`,
        'let piece',
        `const read = () => (piece ??= host.read('${nameOf(path)}'))`,
        ...(names.get(path) ?? []).map((name) => `export const ${name} = (...given) => read().${name}(...given)`),
      ].join('\n'),
  )

/** Other text in the place of some modules, wherever they are imported. */
function replacing(name: string, which: (path: string) => boolean, text: (path: string) => string): Plugin {
  return {
    name,
    setup: (building) => {
      building.onResolve({ filter: /^\.\/common\.js$/ }, () => ({ path: commonPiece, external: true }))
      building.onResolve({ filter: /\.[jt]s$/ }, ({ path, resolveDir, kind, namespace }) => {
        const found = path.startsWith('@noble/') ? from(`node_modules/${path}`) : resolve(resolveDir, path)
        return kind !== 'entry-point' && namespace !== name && which(found)
          ? { path: found, namespace: name, sideEffects: false }
          : undefined
      })
      building.onLoad({ filter: /.*/, namespace: name }, ({ path }) => ({ contents: text(path), resolveDir: root }))
    },
  }
}

/** The modules that a script is made of, without those that it reads later. */
async function modulesOf(entry: string): Promise<string[]> {
  const { metafile } = await build({
    ...forEngine,
    entryPoints: [entry],
    outdir: 'dist',
    format: 'esm',
    metafile: true,
    write: false,
    plugins: [
      replacing(
        'later',
        (path) => readLater.includes(path),
        () => 'module.exports = {}',
      ),
    ],
  })
  return Object.keys(metafile.inputs)
    .filter((path) => !path.includes(':') && !path.startsWith('lib/build/stand-ins/'))
    .map(from)
}

/** What modules export, but types. */
async function exportsOf(paths: readonly string[]): Promise<Map<string, string[]>> {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: [...paths],
    outdir: 'dist',
    format: 'esm',
    metafile: true,
    write: false,
    logLevel: 'error',
  })
  return new Map(Object.values(metafile.outputs).map(({ entryPoint = '', exports }) => [from(entryPoint), exports]))
}

/** @throws for a module of which two copies would not be one: a variable, a class, a map of its own. */
function assertCopyable(path: string): void {
  const own = /^(?:export )?(?:let|class) .*|^(?:export )?const \w+(?:: .*)? = new .*/m.exec(
    readFileSync(from(path), 'utf8'),
  )
  if (own !== null) throw new Error(`${path} can't be copied into pieces of the program: ${own[0]}`)
}

const importsOf = (text: string): string[] =>
  [...text.matchAll(/import\s*\{([^}]*)\}\s*from\s*"\.\/common\.js"/g)].flatMap(([, names = '']) =>
    names.split(',').map((name) => name.trim().replace(/ as .*/, '')),
  )
