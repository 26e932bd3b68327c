import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { oneLine } from '../../lib/text.ts'

describe('a sentence that is wrapped in the source', () => {
  it('has a space for each line break, and none at its ends', () => {
    assert.equal(
      oneLine`
        no client may reclaim,
        now or later
      `,
      'no client may reclaim, now or later',
    )
  })

  it('keeps inserted values as they are', () => {
    assert.equal(oneLine`the name ${'a\n  b'} has ${2} lines`, 'the name a\n  b has 2 lines')
  })
})
