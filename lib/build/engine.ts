/**
 * Compiles the engine: its objects, and the program that makes bytecode of scripts. This is done once for each version
 * of the engine, the compiler, the C library and the flags.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { mkdirpSync, removeSync } from 'fs-extra/esm'
import { oneLine } from '../text.ts'
import type { Sources } from './sources.ts'
import { compile, link, toolchain, type Target, type Toolchain } from './toolchain.ts'

export const host = join(import.meta.dirname, '../syscalls/host')
/** The first is the engine itself, which is part of the bytecode compiler's own source. */
const engineFiles = ['quickjs', 'libregexp', 'libunicode', 'dtoa']

/** Flags for the engine and its host. Functions that are never called are not linked in. */
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
/** Warnings about the engine are for its authors. */
const engineFlags = ['-w']

/**
 * Inlines more than -O2: a check takes 9 % fewer instructions, and the program grows by 30 KB. -O3 would save 1 % more,
 * for 60 KB more.
 */
const optimised = ['-O2', '--param=max-inline-insns-auto=30', '--param=inline-min-speedup=15']
const sanitizers = ['-O1', '-g', '-fsanitize=address', '-fno-omit-frame-pointer']

export interface Wanted extends Target {
  readonly sources: Sources
}

export const flags = ({ sanitized }: Wanted): string[] => [...commonFlags, ...(sanitized ? sanitizers : optimised)]

/** Keeps the paths of this machine out of what is compiled. */
export const prefixes = (sources: Sources, scratch: string): string[] =>
  [
    [sources.directory, 'quickjs-ng'],
    [host, 'host'],
    [scratch, 'build'],
  ].map(([path = '', name = '']) => `-ffile-prefix-map=${path}=${name}`)

export const digest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16)

/** Changes to the engine's text: for speed, and so that its memory does not depend on its address (image.ts). */
const changes: readonly (readonly [text: string, instead: string])[] = [
  // Most objects here have more than two properties, and growing one takes 600 instructions. This saves 3 % of a check,
  // for 16 KB.
  ['#define JS_PROP_INITIAL_SIZE 2', '#define JS_PROP_INITIAL_SIZE 4'],
  // The properties of an object literal are almost always new to it. Looking for one to replace takes twice as long.
  [
    `                ret = JS_DefinePropertyValue(ctx, sp[-2], atom, sp[-1],
                                             JS_PROP_C_W_E | JS_PROP_THROW);
                sp--;
                if (unlikely(ret < 0))`,
    `                JSObject *p1 = JS_VALUE_GET_TAG(sp[-2]) == JS_TAG_OBJECT ? JS_VALUE_GET_OBJ(sp[-2]) : NULL;
                JSProperty *pr1;
                if (p1 && !p1->is_exotic && p1->extensible && !find_own_property(&pr1, p1, atom)) {
                    pr1 = add_property(ctx, p1, atom, JS_PROP_C_W_E);
                    ret = pr1 ? 0 : -1;
                    if (pr1)
                        pr1->u.value = sp[-1];
                    else
                        JS_FreeValue(ctx, sp[-1]);
                } else
                    ret = JS_DefinePropertyValue(ctx, sp[-2], atom, sp[-1],
                                                 JS_PROP_C_W_E | JS_PROP_THROW);
                sp--;
                if (unlikely(ret < 0))`,
  ],
  // An object's shape is found by a hash of its prototype's address. The address's offset in the program is used
  // instead.
  [
    'static uint32_t shape_initial_hash(JSObject *proto)\n{\n    uint32_t h;\n    h = shape_hash(1, (uintptr_t)proto);',
    `extern const char __ehdr_start[] __attribute__((visibility("hidden")));
static uint32_t shape_initial_hash(JSObject *proto)
{
    uint32_t h;
    uintptr_t place = proto ? (uintptr_t)proto - (uintptr_t)__ehdr_start : 0;
    h = shape_hash(1, place);`,
  ],
  ['h = shape_hash(h, (uint64_t)(uintptr_t)proto >> 32);', 'h = shape_hash(h, (uint64_t)place >> 32);'],
  // While an image is made, small blocks are cleared when they are freed.
  ['static void js_arena_free(JSRuntime *rt, void *ptr)\n{', 'extern const uint8_t image_state;\n$&'],
  [
    'JSArena *ar = (JSArena *)((uint8_t *)b -',
    `if (unlikely(image_state == 1))
            memset(ptr, 0, block_size - sizeof(JSMallocBlockHeader));
        $&`,
  ],
]

/**
 * The engine's text with these changes. @returns undefined, if the text does not have each of these places exactly once
 */
export function engineForImages(text: string): string | undefined {
  let changed = text
  for (const [place, instead] of changes) {
    if (changed.split(place).length !== 2) return undefined
    changed = changed.replace(place, instead)
  }
  return changed
}

export interface Objects {
  readonly files: readonly string[]
  /** Whether the engine can be started when the program is built. */
  readonly hasImages: boolean
}

/** Compiled once for each version of the engine, compiler, C library and flags. */
export async function engineObjects(wanted: Wanted, tools: Toolchain): Promise<Objects> {
  const { sources, cache, progress, architecture } = wanted
  const engine = readFileSync(join(sources.directory, 'quickjs.c'), 'utf8')
  const changed = engineForImages(engine)
  const key = digest(
    JSON.stringify([
      sources.version,
      tools.version,
      tools.library.digest,
      flags(wanted),
      changed ?? engine,
      engineFiles.map((name) => readFileSync(join(sources.directory, `${name}.c`), 'utf8')),
    ]),
  )
  const kept = join(cache, `objects-${key}`)
  const files = await compiledOnce(kept, engineFiles, async (name, object) => {
    if (name === 'quickjs')
      progress(
        oneLine`
          compiling the engine, QuickJS-ng
          ${sources.version}${architecture === undefined ? '' : `, for ${architecture}`}: half a minute, this once
        `,
      )
    if (name === 'quickjs' && changed === undefined)
      progress(`QuickJS-ng ${sources.version} is not the one that this build knows: each process starts it anew`)
    const scratch = dirname(object)
    const source = join(name === 'quickjs' ? scratch : sources.directory, `${name}.c`)
    if (name === 'quickjs') writeFileSync(source, changed ?? engine)
    await compile(tools, [
      ...flags(wanted),
      ...engineFlags,
      ...prefixes(sources, scratch),
      ...['-I', sources.directory, '-c', source, '-o', object],
    ])
  })
  return { files, hasImages: changed !== undefined }
}

/** @param directory where the objects are kept; `make` makes those that are missing. @returns their paths */
export async function compiledOnce(
  directory: string,
  names: readonly string[],
  make: (name: string, object: string) => Promise<void>,
): Promise<string[]> {
  const objects = names.map((name) => `${name}.o`)
  const kept = objects.map((object) => join(directory, object))
  const areKept = (): boolean => kept.every((object) => existsSync(object))
  if (areKept()) return kept
  const scratch = `${directory}.${process.pid}`
  mkdirpSync(scratch)
  await Promise.all(names.map((name) => make(name, join(scratch, `${name}.o`))))
  try {
    renameSync(scratch, directory)
  } catch (thrown) {
    // Another build has made them meanwhile, and may be reading them.
    if (!areKept()) throw thrown
    removeSync(scratch)
  }
  return kept
}

/**
 * The command that makes bytecode. Bytecode differs between architectures only in the order of bytes. If that differs
 * from this machine's, the bytecode is made by a program of the other architecture, in an emulator.
 */
export async function bytecodeCompiler(wanted: Wanted): Promise<string[]> {
  const plain: Wanted = { ...wanted, sanitized: false }
  const native: Wanted = toolchain(plain).emulator === undefined ? { ...plain, architecture: undefined } : plain
  const tools = toolchain(native)
  const { files: objects } = await engineObjects(native, tools)
  const source = join(host, 'compile.c')
  const compiler = join(objects[0] ?? '', `../compile-${digest(readFileSync(source, 'utf8'))}`)
  if (!existsSync(compiler))
    await link(tools, [
      ...commonFlags,
      // It runs only for milliseconds, and is compiled whenever the engine is.
      '-O0',
      ...engineFlags,
      '-I',
      wanted.sources.directory,
      source,
      ...objects.slice(1),
      '-o',
      compiler,
    ])
  return tools.emulator === undefined ? [compiler] : [tools.emulator, compiler]
}

export function bytecode(
  [program = '', ...words]: readonly string[],
  { name, script, legible }: { readonly name: string; readonly script: string; readonly legible: boolean },
): Buffer {
  const code = execFileSync(program, [...words, name, ...(legible ? ['keep'] : [])], {
    input: script,
    maxBuffer: 1 << 26,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  // This is the checksum, with the value that the engine takes for none. Bytecode inside the executable needs no check.
  code.fill(0xff, 1, 5)
  return code
}
