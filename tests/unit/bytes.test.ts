/** The words of a command line are bytes. As a text, each character is one byte. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { bytesOf, textOf } from '../../lib/bytes.ts'

describe('a word of the command line', () => {
  it('may hold any bytes, and they come back unchanged', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 10_000, size: 'max' }), (bytes) => {
        assert.equal(textOf(bytes), Buffer.from(bytes).toString('latin1'))
        assert.deepEqual(bytesOf(textOf(bytes)), bytes)
      }),
    )
  })

  it('has no character above 255, which would be no byte', () => {
    assert.throws(() => bytesOf('a\u0100'), RangeError)
  })
})
