/** Words are bytes, each character one of them. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { bytesOf, textOf } from '../../lib/bytes.ts'

describe('a word', () => {
  it('is bytes, whatever they are, and comes back', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 10_000, size: 'max' }), (bytes) => {
        assert.equal(textOf(bytes), Buffer.from(bytes).toString('latin1'))
        assert.deepEqual(bytesOf(textOf(bytes)), bytes)
      }),
    )
  })

  it('has no character that is no byte', () => {
    assert.throws(() => bytesOf('a\u0100'), RangeError)
  })
})
