/**
 * Builds the executable: the engine, its host in C (lib/syscalls/host/), the upcalls' bytecode, and the image of the
 * engine that has read it, linked statically.
 *
 * The same sources and the same compiler always make the same bytes, which contain no path and no time.
 */
import { copyFileSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { mkdirpSync, removeSync } from 'fs-extra/esm'
import {
  bytecode,
  bytecodeCompiler,
  compiledOnce,
  digest,
  engineObjects,
  flags,
  host,
  prefixes,
  type Wanted,
} from './engine.ts'
import { imageInAssembler } from './image.ts'
import { compile, link, toolchain, type Toolchain } from './toolchain.ts'

const hostFiles = ['host', 'image', 'mathematics', 'calls', 'links', 'waiting', 'confine', 'texts', 'words']

/** Our own code must compile without a warning. */
const hostFlags = ['-Wall', '-Wextra', '-Werror']
const linkerFlags = ['-Wl,-z,relro,-z,now,-z,noexecstack,--gc-sections,--build-id=none']
/** For the host alone: the engine relies on behaviour that the sanitizer reports. */
const sanitizersOfHost = ['-fsanitize=undefined', '-fno-sanitize-recover=all']

export interface Executable extends Wanted {
  /** The scripts. The first is the program: a function, as the value of its last statement. */
  readonly pieces: readonly string[]
  /** A script that runs before the first one when an image is made. */
  readonly beforehand?: string
  readonly into: string
  /** Whether names and lines are kept, for a person who looks for a mistake. */
  readonly legible: boolean
  /** More words for the linker, for example a test's own clock. */
  readonly more?: readonly string[]
}

/** @throws Missing, if there is no compiler, or no static C library */
export async function buildExecutable(wanted: Executable): Promise<void> {
  const { sources, legible, sanitized } = wanted
  const tools = toolchain(wanted)
  const engine = await engineObjects(wanted, tools)
  const scratch = join(wanted.cache, `link-${process.pid}`)
  mkdirpSync(scratch)
  try {
    const compiler = await bytecodeCompiler(wanted)
    const program = join(scratch, 'program.c')
    writeFileSync(
      program,
      piecesInC(
        wanted.pieces.map((script, number) => bytecode(compiler, { name: `piece ${number}`, script, legible })),
        bytecode(compiler, { name: 'beforehand', script: wanted.beforehand ?? '', legible }),
      ),
    )
    const forAll = [
      ...flags(wanted),
      ...(sanitized ? sanitizersOfHost : []),
      ...prefixes(sources, scratch),
      ...['-I', sources.directory, '-I', host],
    ]
    const object = join(scratch, 'program.o')
    await compile(tools, [...forAll, ...hostFlags, '-c', program, '-o', object])
    const objects = [...(await hostObjects(wanted, tools, [...forAll, ...hostFlags])), object]
    const linkWith = async (image: string): Promise<string> => {
      const [text, built] = [join(scratch, 'image.s'), join(scratch, 'built')]
      writeFileSync(text, image)
      const words = [
        ...forAll,
        text,
        ...objects,
        ...(wanted.more ?? []),
        ...engine.files,
        ...linkerFlags,
        ...(legible || sanitized ? [] : ['-s']),
        ...['-o', built],
      ]
      await (sanitized ? compile(tools, [...words, '-pie', '-lm']) : link(tools, words))
      return built
    }
    // A sanitizer manages the memory itself, so there is no image.
    const canHave = engine.hasImages && !sanitized && tools.library.linking === '-static-pie'
    const making = canHave && tools.runs !== undefined ? { link: linkWith, scratch, runs: tools.runs } : undefined
    const built = await linkWith(await imageInAssembler(making))
    mkdirpSync(dirname(wanted.into))
    // The target may be on another file system, and a process may be running the old one.
    copyFileSync(built, `${wanted.into}.new`)
    renameSync(`${wanted.into}.new`, wanted.into)
  } finally {
    removeSync(scratch)
  }
}

/** Compiled once for each state of its sources. */
function hostObjects(wanted: Executable, tools: Toolchain, words: readonly string[]): Promise<string[]> {
  const { sources, cache, sanitized } = wanted
  // A sanitizer has its own malloc(3).
  const names = [...hostFiles, ...(sanitized ? [] : ['memory'])]
  const texts = readdirSync(host).map((name) => readFileSync(join(host, name), 'utf8'))
  const key = digest(
    JSON.stringify([sources.version, tools.version, tools.library.digest, flags(wanted), hostFlags, sanitized, texts]),
  )
  return compiledOnce(join(cache, `host-${key}`), names, (name, object) =>
    compile(tools, [...words, '-c', join(host, `${name}.c`), '-o', object]),
  )
}

function piecesInC(pieces: readonly Buffer[], beforehand: Buffer): string {
  const inC = (code: Buffer): string => `{${Array.from(code).join(',')}}`
  return `#include "host.h"
${pieces.map((code, index) => `static const uint8_t piece_${index}[] = ${inC(code)};`).join('\n')}
static const uint8_t beforehand[] = ${inC(beforehand)};
const struct piece program_beforehand = { beforehand, sizeof beforehand };
const struct piece program_pieces[] = {
${pieces.map((_, index) => `  { piece_${index}, sizeof piece_${index} },`).join('\n')}
};
const int program_piece_count = ${pieces.length};
`
}
