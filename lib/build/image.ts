/**
 * Makes the image of the started engine (lib/syscalls/host/image.h): the memory that a process of the program has
 * written, made independent of the address at which it ran.
 *
 * A word is taken for an address if it points into the program. Two processes, each of which runs at another address,
 * show whether that is right: the words that they take for addresses must point to the same places in the program, and
 * all other words must be equal. What points to the stack is of no use to another process, which sets that itself.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Toolchain } from './toolchain.ts'

type Runs = NonNullable<Toolchain['runs']>

export interface Image {
  /** Addresses are relative to the program's load address. */
  readonly bytes: Buffer
  /** One bit for each word: whether it is an address. */
  readonly addresses: Buffer
  /** The number of bytes that are in use. */
  readonly used: number
}

/** The size of a word in bytes. */
const word = 8
const pageSize = 4096
/** A size that is enough for any image. */
const enoughForAny = 1 << 20
const stackReach = 1n << 20n

/** image_state of lib/syscalls/host/image.h. */
const states = ['none', 'wanted', 'made'] as const

/**
 * @param making how to link the program with a text in assembler, a directory, and two ways to run it; undefined for a
 * program without an image
 * @returns the text in assembler with which the program is linked. The program that writes the image and the one that
 * contains it differ in nothing else, so all places in them are the same.
 */
export async function imageInAssembler(
  making:
    { readonly link: (image: string) => Promise<string>; readonly scratch: string; readonly runs: Runs } | undefined,
): Promise<string> {
  const none = inAssembler('none', pageSize)
  if (making === undefined) return none
  const { link, scratch, runs } = making
  const madeOf = async (size: number): Promise<Image | undefined> =>
    imageOf(await link(inAssembler('wanted', size)), runs)
  const used = (await madeOf(enoughForAny))?.used
  const image = used === undefined ? undefined : await madeOf(Math.ceil(used / pageSize) * pageSize)
  if (image === undefined) return none
  const [bytes, addresses] = [join(scratch, 'image'), join(scratch, 'addresses')]
  writeFileSync(bytes, image.bytes)
  writeFileSync(addresses, image.addresses)
  return inAssembler('made', image.bytes.length, `.incbin "${bytes}"`, `.incbin "${addresses}"`)
}

function inAssembler(
  state: (typeof states)[number],
  size: number,
  bytes = `.zero ${size}`,
  addresses = `.zero ${size / word / 8}`,
): string {
  return `.section .note.GNU-stack, "", %progbits
.section .data.image, "aw", %progbits
.balign ${pageSize}
.globl image, image_blocks, image_end
.set image_blocks, image + ${pageSize}
image: ${bytes}
image_end:
.section .rodata.image, "a", %progbits
.balign ${word}
.globl image_addresses, image_state
image_addresses: ${addresses}
image_state: .byte ${states.indexOf(state)}
`
}

/**
 * @returns undefined for a program whose words are not of 64 bits, or are big-endian
 * @throws where two processes disagree.
 */
function imageOf(program: string, runs: Runs): Image | undefined {
  const file = readFileSync(program)
  const [class64, littleEndian] = [2, 1]
  if (file[4] !== class64 || file[5] !== littleEndian) return undefined
  const size = loadedSize(file)
  const [one, other] = runs.map((words) => imageIn(written([...words, program]), size))
  return one === undefined || other === undefined ? undefined : agreed(one, other)
}

const written = ([program = '', ...words]: readonly string[]): Buffer =>
  execFileSync(program, words, { env: {}, maxBuffer: 1 << 26, stdio: ['ignore', 'pipe', 'inherit'] })

/** @throws where two processes disagree. */
export function agreed(one: Image, other: Image): Image {
  if (!one.bytes.equals(other.bytes) || !one.addresses.equals(other.addresses))
    throw new Error('the started engine is not the same in two processes')
  return one
}

/**
 * @param memory in the form in which write_image of lib/syscalls/host/image.c writes it
 * @param size of the whole program in memory
 */
export function imageIn(memory: Buffer, size: number): Image {
  const places = 3
  const [begin = 0n, used = 0n, stack = 0n] = Array.from({ length: places }, (_, at) =>
    memory.readBigUInt64LE(at * word),
  )
  const bytes = Buffer.from(memory.subarray(places * word))
  const addresses = Buffer.alloc(bytes.length / word / 8)
  for (let at = 0; at < bytes.length / word; at++) {
    const value = bytes.readBigUInt64LE(at * word)
    if (value >= begin && value < begin + BigInt(size)) {
      bytes.writeBigUInt64LE(value - begin, at * word)
      addresses[at >> 3] = (addresses[at >> 3] ?? 0) | (1 << (at & 7))
    } else if (value > stack - stackReach && value < stack + stackReach) bytes.writeBigUInt64LE(0n, at * word)
  }
  return { bytes, addresses, used: Number(used) }
}

/** @returns the bytes from a 64-bit program's beginning to the end of its last segment. */
function loadedSize(program: Buffer): number {
  const [headers, size, count] = [
    Number(program.readBigUInt64LE(32)),
    program.readUInt16LE(54),
    program.readUInt16LE(56),
  ]
  const loaded = 1
  const ends = Array.from({ length: count }, (_, at) => headers + at * size)
    .filter((at) => program.readUInt32LE(at) === loaded)
    .map((at) => Number(program.readBigUInt64LE(at + 16) + program.readBigUInt64LE(at + 40)))
  return Math.max(...ends)
}
