import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { noteDirectory, sinceStart } from '../../../lib/settings/last-start.ts'
import type { Settings } from '../../../lib/settings/settings.ts'
import { atFlags, type Calls } from '../../../lib/syscalls/calls.ts'
import type { Node } from '../../proof/trees.ts'
import { runDirectory, systemInMemory } from '../../support/memory/machine.ts'

const files = systemInMemory()
const { calls } = files

const configured = (stateDirectory: string, run = runDirectory): Settings => ({
  stateDirectory,
  nfsdDirectory: '/proc/fs/nfsd',
  runDirectory: run,
  configuration: { file: '/etc/nfs.conf', empty: false },
  foreground: false,
  debug: false,
  complaints: [],
})
const withoutAny = (stateDirectory: string): Settings => ({
  ...configured(stateDirectory),
  configuration: { file: '/etc/nfs.conf', empty: true },
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
    ['the same configuration', configured('/srv'), configured('/srv'), '/srv', undefined],
    ['none, as before', withoutAny('/var'), withoutAny('/var'), '/var', undefined],
    [
      'one that leads elsewhere',
      configured('/srv'),
      configured('/new'),
      '/srv',
      /has changed .* would be '\/new', but until the next start it is '\/srv'/,
    ],
    [
      'one that is empty and leads elsewhere',
      configured('/srv'),
      withoutAny('/var'),
      '/srv',
      /is empty or missing now, .* would be '\/var', but/,
    ],
    [
      'one that is empty and leads to the same place',
      configured('/var'),
      withoutAny('/var'),
      '/var',
      /is empty or missing now, and was not when the server started$/,
    ],
    ['one where there was none, to the same place', withoutAny('/var'), configured('/var'), '/var', undefined],
    ['none, as before, that leads elsewhere', withoutAny('/var'), withoutAny('/srv'), '/var', /has changed/],
    ['one where there was none, elsewhere', withoutAny('/var'), configured('/srv'), '/var', /has changed/],
  ]
  for (const [what, atStart, now, , says] of table)
    it(`the next start logs the change with ${what}`, () => {
      noteDirectory(calls, atStart)
      const changed = noteDirectory(calls, now)
      if (says === undefined) assert.equal(changed, undefined)
      else assert.match(changed ?? '', /has changed since the last start|is empty or missing now/)
      assert.equal(noteDirectory(calls, now), undefined)
    })

  for (const [what, atStart, now, goesTo, says] of table)
    it(`upcalls find the server's directory with ${what}`, () => {
      noteDirectory(calls, atStart)
      const { stateDirectory, changed } = sinceStart(calls, now)
      assert.equal(stateDirectory, goesTo)
      if (says === undefined) assert.equal(changed, undefined)
      else assert.match(changed ?? '', says)
    })

  it('the note of the newest start counts', () => {
    noteDirectory(calls, configured('/one'))
    noteDirectory(calls, configured('/two'))
    assert.equal(calls.readlinkat(atFlags.AT_FDCWD, note), 'configured:/two')
    assert.equal(sinceStart(calls, configured('/three')).stateDirectory, '/two')
  })

  it('a note that can not be understood is reported, and not followed', () => {
    const broken: readonly Node[] = [
      { kind: 'link', target: 'configured:relative' },
      { kind: 'link', target: '/srv' },
      { kind: 'directory' },
    ]
    for (const node of broken) {
      files.remove(note)
      files.plant(new Map([['', node]]), note)
      const { stateDirectory, changed } = sinceStart(calls, configured('/srv'))
      assert.equal(stateDirectory, '/srv')
      assert.match(changed ?? '', /the state directory of the last start is not known/)
    }
    files.remove(note)
  })

  it('a note in a directory that another user owns is neither followed nor made', () => {
    const foreign: Calls = {
      ...calls,
      fstatat: (at, name, flags) => {
        const status = calls.fstatat(at, name, flags)
        return name === runDirectory && typeof status === 'object' ? { ...status, uid: 1000 } : status
      },
    }
    noteDirectory(calls, configured('/srv'))
    assert.deepEqual(sinceStart(foreign, configured('/new')), { stateDirectory: '/new', changed: undefined })
    assert.equal(noteDirectory(foreign, configured('/new')), undefined)
    assert.equal(calls.readlinkat(atFlags.AT_FDCWD, note), 'configured:/srv')
    files.remove(note)
  })

  it('nothing is reported if nothing is noted', () => {
    for (const directory of [runDirectory, '/missing', '/etc/machine-id'])
      assert.deepEqual(sinceStart(calls, configured('/srv', directory)), {
        stateDirectory: '/srv',
        changed: undefined,
      })
  })
})
