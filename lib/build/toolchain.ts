/** The compiler and the linker: this machine's own, or one that makes programs for another architecture. */
import { execFile, execFileSync, spawnSync } from 'node:child_process'
import { endianness } from 'node:os'
import { promisify } from 'node:util'
import { Missing } from './sources.ts'

/** Debian's names of architectures, and the names by which their compilers begin. */
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

/** What runs a program of another architecture here: qemu's name of it. */
const emulated: Readonly<Record<string, string>> = {
  arm64: 'qemu-aarch64-static',
  ppc64el: 'qemu-ppc64le-static',
  riscv64: 'qemu-riscv64-static',
}

export interface Toolchain {
  readonly compiler: string
  /** What it says of itself. */
  readonly version: string
  /** How a program is linked that needs no library. Not every C library can be linked statically and at any address. */
  readonly linking: '-static-pie' | '-static'
  /** What runs a program of it on this machine, where the two differ in the order of bytes. */
  readonly emulator: string | undefined
  /** Two ways to run a program of it on this machine, each with the program at another address. */
  readonly runs: readonly [readonly string[], readonly string[]] | undefined
}

/** @param architecture undefined for this machine's own. @throws Missing, in one line. */
export function toolchain(architecture?: string): Toolchain {
  const triplet = architecture === undefined ? undefined : triplets[architecture]
  if (architecture !== undefined && triplet === undefined)
    throw new Missing(`--arch=${architecture}: there are ${Object.keys(triplets).join(', ')}`)
  const compiler = triplet === undefined ? (process.env['CC'] ?? 'cc') : `${triplet}-gcc`
  const linking = (['-static-pie', '-static'] as const).find((way) => links(compiler, way))
  if (linking === undefined) {
    const packages =
      triplet === undefined || architecture === undefined
        ? 'gcc and libc6-dev'
        : `gcc-${triplet.replace('_', '-')} and libc6-dev-${architecture}-cross`
    throw new Missing(`a C compiler, or the C library's static part, is missing: install the packages ${packages}`)
  }
  return {
    compiler,
    version: execFileSync(compiler, ['--version'], { encoding: 'utf8' }),
    linking,
    emulator:
      architecture !== undefined && bigEndian.includes(architecture) !== (endianness() === 'BE')
        ? `qemu-${architecture}-static`
        : undefined,
    runs: architecture === undefined ? [[], []] : inEmulator(emulated[architecture]),
  }
}

/** Left alone, it loads a program at the same address each time. */
function inEmulator(emulator: string | undefined): Toolchain['runs'] {
  if (emulator === undefined || spawnSync(emulator, ['--version']).status !== 0) return undefined
  return [[emulator], [emulator, '-R', '0x4000000000']]
}

function links(compiler: string, way: string): boolean {
  try {
    execFileSync(compiler, [way, '-x', 'c', '-', '-lm', '-o', '/dev/null'], {
      input: '#include <math.h>\nint main(int n, char **w) { return w != 0 && sin(n) > 1; }',
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    return true
  } catch {
    return false
  }
}

const run = promisify(execFile)

export async function compile({ compiler }: Toolchain, words: readonly string[]): Promise<void> {
  try {
    await run(compiler, words, { maxBuffer: 1 << 24 })
  } catch (thrown) {
    const { stderr } = thrown as { readonly stderr?: string }
    throw new Error(`the compiler refused: ${stderr?.trim() ?? String(thrown)}`, { cause: thrown })
  }
}
