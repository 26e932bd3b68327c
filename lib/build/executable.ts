/**
 * The executable: the engine, its host in C (lib/syscalls/host/) and the upcalls' bytecode, linked statically.
 *
 * The same sources and the same compiler make the same bytes, wherever and whenever: no path and no time is in them.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Sources } from './sources.ts'
import { compile, toolchain, type Toolchain } from './toolchain.ts'

const host = join(import.meta.dirname, '../syscalls/host')
/** The first is the engine itself, which what makes bytecode has in it. */
const engineFiles = ['quickjs', 'libregexp', 'libunicode', 'dtoa']
const hostFiles = ['host', 'calls', 'waiting', 'confine', 'words']

/** For the engine and its host. No section of a function that nobody calls is linked in. */
const commonFlags = [
  '-std=gnu17',
  '-fPIE',
  '-fstack-protector-strong',
  '-fcf-protection=none',
  '-fno-asynchronous-unwind-tables',
  '-ffunction-sections',
  '-fdata-sections',
  '-D_GNU_SOURCE',
  '-D_FILE_OFFSET_BITS=64',
  '-D_TIME_BITS=64',
  '-DNDEBUG',
  '-D__STDC_NO_ATOMICS__=1',
]
/** Ours must please the compiler; the engine's warnings are its authors'. */
const hostFlags = ['-Wall', '-Wextra', '-Werror']
const engineFlags = ['-w']
const linkerFlags = ['-Wl,-z,relro,-z,now,-z,noexecstack,--gc-sections,--build-id=none']

/** More is inlined than -O2 would: 9 % fewer instructions for a check, 30 KB. -O3 would be 1 % fewer and 60 KB more. */
const optimised = ['-O2', '--param=max-inline-insns-auto=30', '--param=inline-min-speedup=15']
const sanitizers = ['-O1', '-g', '-fsanitize=address', '-fno-omit-frame-pointer']
/** Of the host alone: the engine counts on what other compilers define. */
const sanitizersOfHost = ['-fsanitize=undefined', '-fno-sanitize-recover=all']

export interface Executable {
  readonly pieces: readonly string[]
  readonly sources: Sources
  readonly cache: string
  readonly into: string
  /** Debian's name of the architecture that it is for; undefined for this machine's own. */
  readonly architecture?: string | undefined
  /** Names and lines stay in it, for a person who looks for a mistake. */
  readonly legible: boolean
  /** For AddressSanitizer and UndefinedBehaviorSanitizer. */
  readonly sanitized: boolean
  /** More for the linker: a test's own clock, say. */
  readonly more?: readonly string[]
  readonly progress: (line: string) => void
}

/** @throws Missing where there is no compiler, or no static C library. */
export async function buildExecutable(wanted: Executable): Promise<void> {
  const tools = toolchain(wanted.architecture)
  const objects = await engineObjects(wanted, tools)
  const room = join(wanted.cache, `link-${process.pid}`)
  mkdirSync(room, { recursive: true })
  try {
    const compiler = await bytecodeCompiler(wanted)
    const program = join(room, 'program.c')
    writeFileSync(
      program,
      piecesInC(wanted.pieces.map((script, number) => bytecode(compiler, `piece ${number}`, script, wanted.legible))),
    )
    const built = join(room, 'built')
    await compile(tools, [
      ...flags(wanted),
      ...hostFlags,
      ...(wanted.sanitized ? sanitizersOfHost : []),
      ...prefixes(wanted.sources, room),
      '-I',
      wanted.sources.directory,
      '-I',
      host,
      // A sanitizer has a malloc(3) of its own.
      ...[...hostFiles, ...(wanted.sanitized ? [] : ['memory'])].map((name) => join(host, `${name}.c`)),
      program,
      ...(wanted.more ?? []),
      ...objects,
      wanted.sanitized ? '-pie' : tools.linking,
      ...linkerFlags,
      ...(wanted.legible || wanted.sanitized ? [] : ['-s']),
      '-lm',
      '-o',
      built,
    ])
    mkdirSync(dirname(wanted.into), { recursive: true })
    // Perhaps on another file system, and perhaps somebody runs the old one.
    copyFileSync(built, `${wanted.into}.new`)
    renameSync(`${wanted.into}.new`, wanted.into)
  } finally {
    rmSync(room, { recursive: true, force: true })
  }
}

const flags = ({ sanitized }: Executable): string[] => [...commonFlags, ...(sanitized ? sanitizers : optimised)]

const digest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16)

/** Compiled once for each version of the engine, compiler and flags. */
async function engineObjects(wanted: Executable, tools: Toolchain): Promise<string[]> {
  const { sources, cache, progress, architecture } = wanted
  const key = digest(
    JSON.stringify([
      sources.version,
      tools.version,
      flags(wanted),
      engineFiles.map((name) => readFileSync(join(sources.directory, `${name}.c`), 'utf8')),
    ]),
  )
  const directory = join(cache, `objects-${key}`)
  const objects = engineFiles.map((name) => join(directory, `${name}.o`))
  if (objects.every((object) => existsSync(object))) return objects
  progress(
    `compiling the engine, QuickJS-ng ${sources.version}${architecture === undefined ? '' : `, for ${architecture}`}: half a minute, this once`,
  )
  const room = `${directory}.${process.pid}`
  mkdirSync(room, { recursive: true })
  await Promise.all(
    engineFiles.map((name) =>
      compile(tools, [
        ...flags(wanted),
        ...engineFlags,
        ...prefixes(sources, room),
        '-c',
        join(sources.directory, `${name}.c`),
        '-o',
        join(room, `${name}.o`),
      ]),
    ),
  )
  rmSync(directory, { recursive: true, force: true })
  renameSync(room, directory)
  return objects
}

/**
 * What makes bytecode, as words to run. Bytecode is the same on all architectures but for the order of bytes: where that is
 * another one, it is made by a program of the other architecture, in an emulator.
 */
async function bytecodeCompiler(wanted: Executable): Promise<string[]> {
  const foreign = toolchain(wanted.architecture)
  const tools = foreign.emulator === undefined ? toolchain() : foreign
  const native: Executable = {
    ...wanted,
    sanitized: false,
    architecture: foreign === tools ? wanted.architecture : undefined,
  }
  const objects = await engineObjects(native, tools)
  const source = join(host, 'compile.c')
  const compiler = join(objects[0] ?? '', `../compile-${digest(readFileSync(source, 'utf8'))}`)
  if (!existsSync(compiler))
    await compile(tools, [
      ...commonFlags,
      // It runs for some milliseconds, and is compiled whenever the engine is.
      '-O0',
      ...engineFlags,
      '-I',
      wanted.sources.directory,
      source,
      ...objects.slice(1),
      tools.linking,
      '-lm',
      '-o',
      compiler,
    ])
  return tools.emulator === undefined ? [compiler] : [tools.emulator, compiler]
}

function bytecode([program = '', ...words]: readonly string[], name: string, script: string, legible: boolean): Buffer {
  const code = execFileSync(program, [...words, name, ...(legible ? ['keep'] : [])], {
    input: script,
    maxBuffer: 1 << 26,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  // Its checksum, of which the engine takes this for none: what is part of the executable is as whole as that.
  code.fill(0xff, 1, 5)
  return code
}

function piecesInC(pieces: readonly Buffer[]): string {
  return `#include "host.h"
${pieces.map((code, index) => `static const uint8_t piece_${index}[] = {${Array.from(code).join(',')}};`).join('\n')}
const struct piece program_pieces[] = {
${pieces.map((_, index) => `  { piece_${index}, sizeof piece_${index} },`).join('\n')}
};
const int program_piece_count = ${pieces.length};
`
}

const prefixes = (sources: Sources, room: string): string[] =>
  [
    [sources.directory, 'quickjs-ng'],
    [host, 'host'],
    [room, 'build'],
  ].map(([path = '', name = '']) => `-ffile-prefix-map=${path}=${name}`)
