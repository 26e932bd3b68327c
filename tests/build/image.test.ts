import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { engineForImages } from '../../lib/build/engine.ts'
import { agreed, imageIn } from '../../lib/build/image.ts'

/** As a process writes it: the address of the program, the size in use, the stack, and 64 words of memory. */
function memoryOf(begin: bigint, words: readonly bigint[]): Buffer {
  const memory = Buffer.alloc((3 + 64) * 8)
  for (const [at, value] of [begin, 24n, 0x7ffd_0000_1000n, ...words].entries()) memory.writeBigUInt64LE(value, at * 8)
  return memory
}

describe('the image of the started engine', () => {
  const size = 0x1000

  it('has addresses in the program as offsets, and lists the words that have them', () => {
    const { bytes, addresses, used } = imageIn(memoryOf(0x5000n, [7n, 0x5000n, 0x5fffn, 0x4fffn, 0x6000n]), size)
    assert.deepEqual(
      [0, 1, 2, 3, 4, 5].map((at) => bytes.readBigUInt64LE(at * 8)),
      [7n, 0n, 0xfffn, 0x4fffn, 0x6000n, 0n],
    )
    assert.equal(addresses.readBigUInt64LE(), 0b110n)
    assert.equal(used, 24)
  })

  it('contains no address of the stack', () => {
    const { bytes } = imageIn(memoryOf(0x5000n, [0x7ffd_0000_0123n, 0x7ffe_0000_0123n]), size)
    assert.deepEqual([bytes.readBigUInt64LE(), bytes.readBigUInt64LE(8)], [0n, 0x7ffe_0000_0123n])
  })

  it('does not depend on the addresses of the processes that it is made from', () => {
    const image = imageIn(memoryOf(0x5000n, [1n, 0x5010n]), size)
    assert.equal(agreed(image, imageIn(memoryOf(0x9000n, [1n, 0x9010n]), size)), image)
  })

  for (const [what, other] of [
    ['hold something else', [2n, 0x9010n]],
    ['point elsewhere', [1n, 0x9018n]],
    ['hold a number where the other points to the program', [1n, 0x5010n]],
  ] as const)
    it(`is refused if two processes ${what}`, () => {
      const image = imageIn(memoryOf(0x5000n, [1n, 0x5010n]), size)
      assert.throws(() => agreed(image, imageIn(memoryOf(0x9000n, other), size)), /not the same in two processes/)
    })

  it('is not made of any other engine than the one that this build knows', () => {
    assert.equal(engineForImages('static uint32_t shape_initial_hash(JSObject *proto)'), undefined)
  })
})
