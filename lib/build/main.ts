/**
 * Builds the programs into dist/: tsx lib/build/main.ts [bundle] [--arch=ARCHITECTURE] [--debug]
 *
 * `bundle`: only the scripts for Node. `--arch`: the executable for another architecture, by Debian's name of it, with
 * the scripts beside it, into dist/ARCHITECTURE/. `--debug`: the executable keeps names and lines, for stack traces. If
 * the engine's sources or a compiler can't be found, no executable is built, and one line says what is missing.
 *
 * `--link`: more for the linker, for example a file in C. `--sanitized`: for AddressSanitizer and
 * UndefinedBehaviorSanitizer, and therefore not static.
 */
import { copyFileSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { parseArgs } from 'node:util'
import { mkdirpSync } from 'fs-extra/esm'
import { oneLine } from '../text.ts'
import { bundleForEngine, bundleForNode } from './bundles.ts'
import { buildExecutable, type Executable } from './executable.ts'
import { writeCopyright } from './licences.ts'
import { askingBeforehand, piecesForEngine } from './pieces.ts'
import { from, root } from './repository.ts'
import { engineSources, Missing, type Sources } from './sources.ts'

const { values, positionals } = parseArgs({
  options: {
    arch: { type: 'string' },
    debug: { type: 'boolean', default: false },
    script: { type: 'string' },
    into: { type: 'string' },
    sanitized: { type: 'boolean', default: false },
    link: { type: 'string', multiple: true },
  },
  allowPositionals: true,
})

const architecture = values.arch ?? ''
const executable = join(root, 'dist', architecture, 'nfsd-userland-helper')
const cache = from('.cache/engine')
/** The executable's script in readable form: the proofs make mutants of it. */
const legibleScript = join(cache, 'upcall.js')
/** The same executable, with a wall clock that a test can set. */
const withOtherClock = join(cache, 'other-clock', architecture, 'nfsd-userland-helper')

const say = (line: string): void => void process.stderr.write(`${line}\n`)

mkdirpSync(cache)
if (values.script !== undefined && values.into !== undefined) {
  const script = values.script.endsWith('.ts')
    ? await bundleForEngine(values.script)
    : readFileSync(values.script, 'utf8')
  // The value of a piece must be the program.
  await executableOf({ pieces: [`() => {\n${script}\n}`] }, values.into, engineSources(cache, say), values.link)
} else {
  writeCopyright(await bundleForNode())
  if (!positionals.includes('bundle')) await buildAll()
  // That directory must contain everything that the other machine needs.
  if (values.arch !== undefined)
    for (const script of ['nfsd-userland-helper.cjs', 'people.cjs', 'sqlite.cjs'])
      copyFileSync(from(`dist/${script}`), join(dirname(executable), script))
}

async function buildAll(): Promise<void> {
  writeFileSync(legibleScript, await bundleForEngine())
  const pieces = await piecesForEngine({ legible: values.debug })
  const scripts = { pieces, beforehand: askingBeforehand(pieces[0] ?? '') }
  try {
    const sources = engineSources(cache, say)
    await executableOf(scripts, executable, sources)
    await executableOf(scripts, withOtherClock, sources, [
      from('tests/support/wall-clock.c'),
      '-Wl,--wrap=clock_gettime',
    ])
    say(
      oneLine`
        ${relative(root, executable)}: ${Math.round(statSync(executable).size / 1024)} KB, with QuickJS-ng
        ${sources.version}
      `,
    )
  } catch (thrown) {
    // An old executable would be taken for the one that could not be built.
    for (const old of [executable, withOtherClock]) rmSync(old, { force: true })
    if (!(thrown instanceof Missing)) throw thrown
    say(
      oneLine`
        no executable${values.arch === undefined ? '' : ` for ${architecture}`}, only the Node bundle: ${thrown.message}
      `,
    )
    // With --arch only the executable is wanted, so without it the build has failed.
    if (values.arch !== undefined) process.exitCode = 1
  }
}

function executableOf(
  scripts: Pick<Executable, 'pieces' | 'beforehand'>,
  into: string,
  sources: Sources,
  more: Executable['more'] = [],
): Promise<void> {
  return buildExecutable({
    ...scripts,
    sources,
    cache,
    into,
    architecture: values.arch,
    legible: values.debug,
    sanitized: values.sanitized,
    more,
    progress: say,
  })
}
