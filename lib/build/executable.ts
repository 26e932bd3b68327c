/**
 * The executable: the engine, its host in C (lib/system/host/) and the upcalls' bytecode, linked statically.
 *
 * The same sources and the same compiler make the same bytes, wherever and whenever: no path and no time is in them.
 */
import { execFile, execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Missing, type Sources } from './sources.ts'

const host = join(import.meta.dirname, '../system/host')
const engineFiles = ['quickjs', 'libregexp', 'libunicode', 'dtoa']
const hostFiles = ['host', 'calls', 'words']

/** For the engine and its host. No section of a function that nobody calls is linked in. */
const compilerFlags = ['-O2', '-std=gnu17', '-fPIE', '-fstack-protector-strong', '-fcf-protection=none', '-ffunction-sections', '-fdata-sections', '-D_GNU_SOURCE', '-D_FILE_OFFSET_BITS=64', '-D_TIME_BITS=64', '-DNDEBUG']
/** Ours must please the compiler; the engine's warnings are its authors'. */
const hostFlags = ['-Wall', '-Wextra', '-Werror']
const engineFlags = ['-w']
const linkerFlags = ['-static-pie', '-Wl,-z,relro,-z,now,-z,noexecstack,--gc-sections,--build-id=none']

export interface Executable {
  /** The scripts, by the name of the piece; the first is what every upcall runs. */
  readonly pieces: readonly (readonly [name: string, script: string])[]
  readonly sources: Sources
  readonly cache: string
  readonly into: string
  /** Names and lines stay in it, for a person who looks for a mistake. */
  readonly legible: boolean
  /** More for the linker: a test's own clock, say. */
  readonly more?: readonly string[]
  readonly progress: (line: string) => void
}

const compiler = process.env['CC'] ?? 'cc'
const run = promisify(execFile)

/** @throws Missing where there is no compiler, or no static C library. */
export async function buildExecutable(wanted: Executable): Promise<void> {
  const objects = await engineObjects(wanted)
  const room = join(wanted.cache, `link-${process.pid}`)
  mkdirSync(room, { recursive: true })
  try {
    const compile = await bytecodeCompiler(wanted, objects)
    const program = join(room, 'program.c')
    writeFileSync(program, piecesInC(wanted.pieces.map(([name, script]) => [name, bytecode(compile, name, script, wanted.legible)])))
    const built = join(room, 'built')
    await cc([...compilerFlags, ...hostFlags, ...prefixes(wanted.sources, room), '-I', wanted.sources.directory, '-I', host, ...hostFiles.map((name) => join(host, `${name}.c`)),
      program, ...(wanted.more ?? []), ...objects, ...linkerFlags, ...(wanted.legible ? [] : ['-s']), '-lm', '-o', built])
    renameSync(built, wanted.into)
  } finally {
    rmSync(room, { recursive: true, force: true })
  }
}

/** Compiled once for each version of the engine, compiler and flags. */
async function engineObjects({ sources, cache, progress }: Executable): Promise<string[]> {
  const key = createHash('sha256').update(JSON.stringify([sources.version, compilerVersion(), compilerFlags, engineFiles.map((name) => readFileSync(join(sources.directory, `${name}.c`), 'utf8'))])).digest('hex').slice(0, 16)
  const directory = join(cache, `objects-${key}`)
  const objects = engineFiles.map((name) => join(directory, `${name}.o`))
  if (objects.every((object) => existsSync(object))) return objects
  progress(`compiling the engine, QuickJS-ng ${sources.version}: half a minute, this once`)
  const room = `${directory}.${process.pid}`
  mkdirSync(room, { recursive: true })
  await Promise.all(engineFiles.map((name) =>
    cc([...compilerFlags, ...engineFlags, ...prefixes(sources, room), '-c', join(sources.directory, `${name}.c`), '-o', join(room, `${name}.o`)])))
  rmSync(directory, { recursive: true, force: true })
  renameSync(room, directory)
  return objects
}

async function bytecodeCompiler({ sources }: Executable, objects: readonly string[]): Promise<string> {
  const compile = join(objects[0] ?? '', '../compile')
  const source = join(host, 'compile.c')
  if (existsSync(compile)) return compile
  await cc([...compilerFlags, ...hostFlags, '-I', sources.directory, source, ...objects, '-static-pie', '-lm', '-o', compile])
  return compile
}

function bytecode(compile: string, name: string, script: string, legible: boolean): Buffer {
  return execFileSync(compile, [name, ...(legible ? ['keep'] : [])], { input: script, maxBuffer: 1 << 26, stdio: ['pipe', 'pipe', 'inherit'] })
}

function piecesInC(pieces: readonly (readonly [string, Buffer])[]): string {
  return `#include "host.h"
${pieces.map(([, code], index) => `static const uint8_t piece_${index}[] = {${Array.from(code).join(',')}};`).join('\n')}
const struct piece program_pieces[] = {
${pieces.map(([name], index) => `  { "${name}", piece_${index}, sizeof piece_${index} },`).join('\n')}
};
`
}

const prefixes = (sources: Sources, room: string): string[] =>
  [[sources.directory, 'quickjs-ng'], [host, 'host'], [room, 'build']].map(([path = '', name = '']) => `-ffile-prefix-map=${path}=${name}`)

async function cc(words: readonly string[]): Promise<void> {
  try {
    await run(compiler, words, { maxBuffer: 1 << 24 })
  } catch (thrown) {
    const { stderr } = thrown as { readonly stderr?: string }
    throw new Error(`the compiler refused: ${stderr?.trim() ?? String(thrown)}`, { cause: thrown })
  }
}

/** @throws Missing where nothing can be linked, in one line. */
function compilerVersion(): string {
  try {
    execFileSync(compiler, ['-static-pie', '-x', 'c', '-', '-lm', '-o', '/dev/null'], { input: '#include <math.h>\nint main(int n, char **w) { return w != 0 && sin(n) > 1; }', stdio: ['pipe', 'ignore', 'pipe'] })
    return execFileSync(compiler, ['--version'], { encoding: 'utf8' })
  } catch (thrown) {
    throw new Missing(`a C compiler, or the C library's static part, is missing: install the packages gcc and libc6-dev`, { cause: thrown })
  }
}
