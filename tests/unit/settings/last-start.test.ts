import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { noteDirectory, sinceStart } from '../../../lib/settings/last-start.ts'
import type { Settings } from '../../../lib/settings/settings.ts'
import { atFlags } from '../../../lib/syscalls/calls.ts'
import type { Node } from '../../proof/trees.ts'
import { runDirectory, systemInMemory } from '../../support/memory/machine.ts'

const files = systemInMemory()
const { calls } = files

const settings = (stateDirectory: string, empty: boolean, run = runDirectory): Settings => ({
  stateDirectory,
  nfsdDirectory: '/proc/fs/nfsd',
  runDirectory: run,
  configuration: { file: '/etc/nfs.conf', empty },
  foreground: false,
  debug: false,
  complaints: [],
})
const note = `${runDirectory}/start-%2Fetc%2Fnfs.conf`

describe('between two starts', () => {
  const table: readonly (readonly [
    what: string,
    atStart: Settings,
    now: Settings,
    goesTo: string,
    says: RegExp | undefined,
  ])[] = [
    ['the same configuration', settings('/srv', false), settings('/srv', false), '/srv', undefined],
    ['none, as before', settings('/var', true), settings('/var', true), '/var', undefined],
    [
      'one that leads elsewhere',
      settings('/srv', false),
      settings('/new', false),
      '/srv',
      /has changed .* would be '\/new', but until the next start it is '\/srv'/,
    ],
    [
      'one that is empty and leads elsewhere',
      settings('/srv', false),
      settings('/var', true),
      '/srv',
      /is empty or missing now, .* would be '\/var', but/,
    ],
    [
      'one that is empty and leads to the same place',
      settings('/var', false),
      settings('/var', true),
      '/var',
      /is empty or missing now, and was not when the server started$/,
    ],
    ['one where there was none, to the same place', settings('/var', true), settings('/var', false), '/var', undefined],
    ['none, as before, that leads elsewhere', settings('/var', true), settings('/srv', true), '/var', /has changed/],
    ['one where there was none, elsewhere', settings('/var', true), settings('/srv', false), '/var', /has changed/],
  ]
  for (const [what, atStart, now, goesTo, says] of table)
    it(`upcalls find the server's directory with ${what}`, () => {
      noteDirectory(calls, atStart)
      const { stateDirectory, changed } = sinceStart(calls, now)
      assert.equal(stateDirectory, goesTo)
      if (says === undefined) assert.equal(changed, undefined)
      else assert.match(changed ?? '', says)
    })

  it('the newest start counts', () => {
    noteDirectory(calls, settings('/one', false))
    noteDirectory(calls, settings('/two', false))
    assert.equal(calls.readlinkat(atFlags.AT_FDCWD, note), 'configured:/two')
    assert.equal(sinceStart(calls, settings('/three', false)).stateDirectory, '/two')
  })

  it('a note that is none is said, and not gone by', () => {
    const broken: readonly Node[] = [
      { kind: 'link', target: 'configured:relative' },
      { kind: 'link', target: '/srv' },
      { kind: 'directory' },
    ]
    for (const node of broken) {
      files.remove(note)
      files.plant(new Map([['', node]]), note)
      const { stateDirectory, changed } = sinceStart(calls, settings('/srv', false))
      assert.equal(stateDirectory, '/srv')
      assert.match(changed ?? '', /the state directory of the last start is not known/)
    }
    files.remove(note)
  })

  it('nothing is said where nothing is noted', () => {
    for (const directory of [runDirectory, '/missing', '/etc/machine-id'])
      assert.deepEqual(sinceStart(calls, settings('/srv', false, directory)), {
        stateDirectory: '/srv',
        changed: undefined,
      })
  })
})
