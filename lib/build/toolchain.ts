/**
 * Finds the compiler, the linker and the C library: this machine's own, or those for another architecture.
 *
 * The C library is musl, because its programs start faster (docs/performance.md), or otherwise the compiler's own,
 * which is mostly glibc.
 */
import { execFile, execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { endianness } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { debianArchitecture } from './debian-archive.ts'
import { muslFor, type Musl } from './musl.ts'
import { Missing } from './sources.ts'

/** Debian's names of architectures, and how their compilers' names begin. */
const triplets: Readonly<Record<string, string>> = {
  amd64: 'x86_64-linux-gnu',
  arm64: 'aarch64-linux-gnu',
  armhf: 'arm-linux-gnueabihf',
  i386: 'i686-linux-gnu',
  ppc64el: 'powerpc64le-linux-gnu',
  riscv64: 'riscv64-linux-gnu',
  s390x: 's390x-linux-gnu',
}

const bigEndian = ['s390x']

/** Architectures on which the compilers' long double is not that of musl. */
const otherNumbers = ['ppc64el']

/** The program that runs one of another architecture here: qemu's name of the architecture. */
const emulated: Readonly<Record<string, string>> = {
  arm64: 'qemu-aarch64-static',
  ppc64el: 'qemu-ppc64le-static',
  riscv64: 'qemu-riscv64-static',
}

export interface CLibrary {
  /** Other than musl, it may be any. */
  readonly name: 'musl' | "the compiler's own"
  /** The directory that MUSL_DEV would name. */
  readonly root: string
  /** The digest of its bytes. */
  readonly digest: string
  /** Words for the compiler: where its headers are. */
  readonly headers: readonly string[]
  /**
   * How to link a program that needs no library. Not every C library can be linked statically and position-independent.
   */
  readonly linking: '-static-pie' | '-static'
  /** Words for the linker, before what is linked, and after it. */
  readonly before: readonly string[]
  readonly after: readonly string[]
}

export interface Toolchain {
  readonly compiler: string
  /** The compiler's own version text. */
  readonly version: string
  readonly library: CLibrary
  /** The emulator for its programs, if its order of bytes is not this machine's. */
  readonly emulator: string | undefined
  /** Two ways to run one of its programs on this machine, each at another address. */
  readonly runs: readonly [readonly string[], readonly string[]] | undefined
}

export interface Target {
  /** Debian's name of the target architecture; undefined for this machine's own. */
  readonly architecture?: string | undefined
  /** Whether it is for AddressSanitizer and UndefinedBehaviorSanitizer, which are made for glibc. */
  readonly sanitized: boolean
  readonly cache: string
  readonly progress: (line: string) => void
}

/** A toolchain is looked for only once, because that takes trials, and perhaps a download. */
const found = new Map<string, Toolchain>()

/** @throws Missing, in one line. */
export function toolchain(target: Target): Toolchain {
  const key = `${target.architecture ?? ''} ${target.sanitized}`
  const tools = found.get(key) ?? find(target)
  found.set(key, tools)
  return tools
}

function find(target: Target): Toolchain {
  const { architecture } = target
  const triplet = architecture === undefined ? undefined : triplets[architecture]
  if (architecture !== undefined && triplet === undefined)
    throw new Missing(`--arch=${architecture}: there are ${Object.keys(triplets).join(', ')}`)
  const compiler = triplet === undefined ? (process.env['CC'] ?? 'cc') : `${triplet}-gcc`
  const library = (target.sanitized ? undefined : musl(compiler, target)) ?? ownLibrary(compiler)
  if (library === undefined) {
    const packages =
      triplet === undefined || architecture === undefined
        ? 'gcc and libc6-dev'
        : `gcc-${triplet.replace('_', '-')} and libc6-dev-${architecture}-cross`
    throw new Missing(`a C compiler, or the C library's static part, is missing: install the packages ${packages}`)
  }
  return {
    compiler,
    version: execFileSync(compiler, ['--version'], { encoding: 'utf8' }),
    library,
    emulator:
      architecture !== undefined && bigEndian.includes(architecture) !== (endianness() === 'BE')
        ? `qemu-${architecture}-static`
        : undefined,
    runs: architecture === undefined ? [[], []] : inEmulator(emulated[architecture]),
  }
}

/** Without an option, the emulator loads a program at the same address each time. */
function inEmulator(emulator: string | undefined): Toolchain['runs'] {
  if (emulator === undefined || spawnSync(emulator, ['--version']).status !== 0) return undefined
  return [[emulator], [emulator, '-R', '0x4000000000']]
}

function musl(compiler: string, { architecture, cache, progress }: Target): CLibrary | undefined {
  const name = architecture ?? debianArchitecture(process.arch)
  const triplet = triplets[name]
  const kernel = kernelHeaders(compiler)
  if (triplet === undefined || otherNumbers.includes(name) || kernel === undefined) return undefined
  const place = muslFor({ architecture: name, triplet, cache, progress })
  const library = typeof place === 'string' ? undefined : muslAt(place, compiler, kernel)
  if (library !== undefined && links(compiler, library)) return library
  const why = typeof place === 'string' ? place : 'this compiler links nothing with it'
  progress(
    `the C library is the compiler's own, not Debian's package musl-dev (${why}): with glibc an upcall takes longer`,
  )
  return undefined
}

function muslAt({ root, headers, libraries }: Musl, compiler: string, kernel: readonly string[]): CLibrary {
  const file = (name: string): string => join(libraries, name)
  return {
    name: 'musl',
    root,
    digest: digestOf(file('libc.a')),
    headers: [
      '-nostdinc',
      ...['-isystem', headers, '-isystem', answerOf(compiler, '-print-file-name=include')],
      // The kernel's headers, which musl does not have.
      ...kernel.flatMap((directory) => ['-idirafter', directory]),
    ],
    linking: '-static-pie',
    // This is what -static-pie means. Not every architecture's compiler knows that option.
    before: ['-static', '-Wl,-pie,--no-dynamic-linker,-z,text', '-nostdlib', file('rcrt1.o'), file('crti.o')],
    after: ['-Wl,--start-group', file('libc.a'), '-lgcc', '-Wl,--end-group', file('crtn.o')],
  }
}

/** The directories of the kernel's headers, for this compiler. */
function kernelHeaders(compiler: string): string[] | undefined {
  const headers = ['asm/unistd.h', 'linux/seccomp.h']
  const { status, stdout } = spawnSync(compiler, ['-M', '-x', 'c', '-'], {
    input: headers.map((name) => `#include <${name}>\n`).join(''),
    encoding: 'utf8',
  })
  if (status !== 0) return undefined
  const paths = stdout.split(/[\s\\]+/)
  return [
    ...new Set(
      headers
        .flatMap((name) => paths.filter((path) => path.endsWith(`/${name}`)))
        .map((path) => dirname(dirname(path))),
    ),
  ]
}

function ownLibrary(compiler: string): CLibrary | undefined {
  for (const linking of ['-static-pie', '-static'] as const) {
    const library = {
      name: "the compiler's own",
      root: 'none',
      digest: '',
      headers: [],
      linking,
      before: [linking],
      after: ['-lm'],
    } as const
    if (links(compiler, library)) return { ...library, digest: digestOf(answerOf(compiler, '-print-file-name=libc.a')) }
  }
  return undefined
}

const answerOf = (compiler: string, question: string): string =>
  execFileSync(compiler, [question], { encoding: 'utf8' }).trim()

const digestOf = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex')

function links(compiler: string, { headers, before, after }: CLibrary): boolean {
  const text = '#include <math.h>\nint main(int n, char **w) { return w != 0 && sin(n) > 1; }'
  return (
    spawnSync(
      compiler,
      [
        ...headers,
        ...before,
        '-fPIE',
        '-fstack-protector-all',
        '-x',
        'c',
        '-',
        '-x',
        'none',
        ...after,
        '-o',
        '/dev/null',
      ],
      {
        input: text,
        stdio: ['pipe', 'ignore', 'ignore'],
      },
    ).status === 0
  )
}

const run = promisify(execFile)

export async function compile({ compiler, library }: Toolchain, words: readonly string[]): Promise<void> {
  try {
    await run(compiler, [...library.headers, ...words], { maxBuffer: 1 << 24 })
  } catch (thrown) {
    const { stderr } = thrown as { readonly stderr?: string }
    throw new Error(`the compiler refused: ${stderr?.trim() ?? String(thrown)}`, { cause: thrown })
  }
}

/** Links a program with the C library, so that it needs no other file. */
export function link(tools: Toolchain, words: readonly string[]): Promise<void> {
  const { before, after } = tools.library
  return compile(tools, [...before, ...words, ...after])
}
