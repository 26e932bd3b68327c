import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { oneLine } from '../../lib/text.ts'

describe('a sentence that the source wraps', () => {
  it('has a blank where a line breaks, and none at its ends', () => {
    assert.equal(
      oneLine`
        no client may reclaim,
        now or later
      `,
      'no client may reclaim, now or later',
    )
  })

  it('keeps what is put into it as it is', () => {
    assert.equal(oneLine`the name ${'a\n  b'} has ${2} lines`, 'the name a\n  b has 2 lines')
  })
})
