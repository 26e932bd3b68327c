import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { removeLegacyRecords, usualTop } from '../../../lib/store/v4recovery.ts'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import { anywhere } from '../../../lib/syscalls/files.ts'
import type { Tree } from '../../proof/trees.ts'
import { memoryFiles, type MemoryFiles } from '../../support/memory/files.ts'

const directory: Tree = new Map([['', { kind: 'directory' }]])
const [first, second] = ['0', '1'].map((digit) => `${usualTop}/${digit.repeat(32)}`) as [string, string]

/** A disk on which the kernel's own tracker has two clients, and something that happens before a call. */
function withTwo(call: keyof Calls, happens: (files: MemoryFiles) => void): { calls: Calls; files: MemoryFiles } {
  const files = memoryFiles()
  files.plant(new Map([['', { kind: 'directory' }]]), usualTop)
  for (const path of [first, second]) files.plant(directory, path)
  let before = 0
  files.hooks.before = ({ name }) => {
    if (name === call && before++ === 0) happens(files)
    return undefined
  }
  return { calls: files.calls, files }
}

describe("the directories of the kernel's own tracker", () => {
  for (const call of ['fstatat', 'unlinkat'] as const)
    it(`are gone, also if another upcall removes them (before ${call})`, () => {
      const { calls, files } = withTwo(call, (others) => {
        for (const path of [first, second]) others.remove(path)
      })
      assert.equal(removeLegacyRecords(usualTop, anywhere(calls)), 0)
      assert.deepEqual([...files.tree(usualTop).keys()], [''])
    })

  it('are counted, if they can not be removed', () => {
    const { calls } = withTwo('fstatat', (files) => {
      files.plant(directory, `${first}/something`)
    })
    assert.equal(removeLegacyRecords(usualTop, anywhere(calls)), 1)
  })
})
