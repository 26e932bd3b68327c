/** Text and bytes, by hand where that is quicker: the same as the runtime's own. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { bytesOf, putText, textOf } from '../../lib/system/text.ts'

const texts = fc.oneof(fc.string({ maxLength: 700 }), fc.string({ unit: 'grapheme', maxLength: 700 }))

describe('a text', () => {
  it('is UTF-8 in bytes, and comes back', () => {
    fc.assert(fc.property(texts, (text) => {
      assert.deepEqual(Buffer.from(bytesOf(text)), Buffer.from(text))
      assert.equal(textOf(bytesOf(text)), text)
    }))
  })

  it('is read from any part of a room, and from nothing else of it', () => {
    fc.assert(fc.property(texts, texts, texts, (before, text, after) => {
      const [first, middle, last] = [before, text, after].map((part) => Buffer.from(part)) as [Buffer, Buffer, Buffer]
      assert.equal(textOf(Buffer.concat([first, middle, last]), first.length, first.length + middle.length), text)
    }))
  })

  it('of bytes that are no UTF-8 has U+FFFD in it, and keeps a byte order mark', () => {
    assert.equal(textOf(Uint8Array.of(0x61, 0xff, 0x62)), 'a\ufffdb')
    assert.equal(textOf(Uint8Array.of(0xef, 0xbb, 0xbf, 0x61)), '\ufeffa')
  })

  it('goes into a room only if it is ASCII and there is room for it', () => {
    const room = new Uint8Array(4)
    assert.ok(putText('abcd', room))
    assert.deepEqual([...room], [0x61, 0x62, 0x63, 0x64])
    assert.ok(!putText('abcde', room))
    assert.ok(!putText('\u00e4', room))
  })
})
