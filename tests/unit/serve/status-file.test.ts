/** The file that tells people and scripts what `serve` is doing. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { nothingDone, statusFileAt, type Doing } from '../../../lib/serve/status-file.ts'
import { systemInMemory } from '../../support/memory/machine.ts'

const path = '/run/serve.json'
const odd = '/a "b" \\ \u0001\n\u00e9'

function written(doing: Doing, stateDirectory = '/var/lib/nfs'): unknown {
  const files = systemInMemory()
  statusFileAt(files.calls, path, '1.2.3.4.5', stateDirectory).write(doing)
  const file = files.tree(path).get('')
  assert.ok(file?.kind === 'file')
  return JSON.parse(file.bytes)
}

describe("serve's status file", () => {
  it('is JSON, whatever the paths are', () => {
    const pipe = {
      path: `${odd}/cld`,
      status: { kind: 'file', uid: 0, mode: 0o600, mtime: 0, device: 43, inode: 9 },
    } as const
    assert.deepEqual(written({ ...nothingDone(), pipe, protocol: 2, named: 0, notRecorded: ['616461', '00'] }, odd), {
      format: 1,
      process: { id: systemInMemory().calls.processId(), holder: '1.2.3.4.5' },
      state_directory: odd,
      mode: 'serving',
      pipe: { path: `${odd}/cld`, device: 43, inode: 9 },
      protocol: 2,
      grace_started: null,
      grace_over: null,
      named: 0,
      messages: {
        create: { answered: 0, failed: 0 },
        remove: { answered: 0, failed: 0 },
        check: { answered: 0, failed: 0 },
        grace_start: { answered: 0, failed: 0 },
        grace_done: { answered: 0, failed: 0 },
      },
      not_recorded: ['616461', '00'],
    })
  })

  it('says of a process without a pipe that it waits', () => {
    const { mode, pipe } = written(nothingDone()) as { readonly mode: unknown; readonly pipe: unknown }
    assert.deepEqual([mode, pipe], ['waiting', null])
  })
})
