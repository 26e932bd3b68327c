/** A run directory in which others may write: what they could have put there, or taken away, is not believed. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { options } from '../../../lib/settings/options.ts'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import { mayNotReclaim } from '../../life/oracle.ts'
import { ann, check, create, graceDone, remove, start } from '../../proof/scenarios.ts'
import { machineWith, stateDirectory, type Machine } from '../../support/memory/machine.ts'
import { play } from '../events/states.ts'

const runDirectory = options['run-dir'].usual

const link = (target: string) => new Map([['', { kind: 'link', target } as const]])
const directory = new Map([['', { kind: 'directory' } as const]])

/** Whose the run directory is. @returns what the log says of it */
const kinds: readonly (readonly [string, (machine: Machine, given: Given) => void, RegExp])[] = [
  [
    'belongs to another user',
    (_, given) => {
      given.uid = 1000
    },
    /belongs to another user \(1000\)/,
  ],
  [
    'is writable by others',
    (_, given) => {
      given.mode = 0o777
    },
    /is writable by others/,
  ],
  [
    'is a link that leads elsewhere',
    ({ files }) => {
      files.remove(runDirectory)
      files.plant(directory, '/etc/elsewhere')
      files.plant(link('/etc/elsewhere'), runDirectory)
    },
    /is not a directory/,
  ],
]

interface Given {
  uid: number
  mode: number
}

/** A machine, and what stat(2) says of the run directory there. */
function machineOf(): { readonly machine: Machine; readonly given: Given } {
  const given: Given = { uid: 0, mode: 0o755 }
  const fault = (calls: Calls): Partial<Calls> => ({
    fstatat: (at, name, flags) => {
      const status = calls.fstatat(at, name, flags)
      return name === runDirectory && typeof status === 'object' && status.kind === 'directory'
        ? { ...status, ...given }
        : status
    },
  })
  const machine = machineWith(undefined, fault)
  for (const event of [start('1000'), create(ann, 'Y'), graceDone('1000')]) assert.equal(play(machine, event), 0)
  return { machine, given }
}

const notes = ({ files }: Machine): string[] => [...files.tree(runDirectory).keys()].filter((name) => name !== '')

describe('in memory, a run directory that', () => {
  for (const [kind, make, says] of kinds) {
    it(`${kind}: a start makes no mark there, says why, and succeeds`, () => {
      const { machine, given } = machineOf()
      make(machine, given)
      const before = notes(machine)
      let during: string[] = []
      machine.files.hooks.before = ({ name }) => {
        if (name === 'fsync') during = notes(machine)
        return undefined
      }
      assert.equal(play(machine, start('2000')), 0)
      assert.deepEqual(during, before)
      assert.match(machine.log.join(''), says)
      assert.equal(play(machine, check(ann, 'Y')), 0)
    })

    it(`${kind}: a mark there counts, also one that says it is of the same start`, () => {
      const { machine, given } = machineOf()
      // A start that is killed leaves its mark.
      machine.files.hooks.before = ({ name }) => (name === 'fsync' ? -5 : undefined)
      assert.notEqual(play(machine, start('2000')), 0)
      machine.files.hooks.before = () => undefined
      const marks = machine.files.tree(runDirectory)
      make(machine, given)
      machine.files.plant(marks, kind.includes('link') ? '/etc/elsewhere' : runDirectory)
      assert.equal(play(machine, start('2000')), 0)
      assert.equal(play(machine, check(ann, 'Y')), mayNotReclaim)
    })

    it(`${kind}: a failed remove says that it could not be noted`, () => {
      const { machine, given } = machineOf()
      make(machine, given)
      machine.files.hooks.before = ({ name, paths }) =>
        name === 'fsync' && paths.some((path) => path.startsWith(stateDirectory)) ? -5 : undefined
      assert.notEqual(play(machine, remove(ann)), 0)
      assert.match(machine.log.join(''), says)
      assert.match(machine.log.join(''), /let nobody reclaim after the next start/)
    })
  }
})

it('in memory, a run directory of another user that can not be read keeps no start from its work, and nobody may reclaim', () => {
  const { machine, given } = machineOf()
  given.uid = 1000
  machine.files.hooks.before = ({ name, paths }) =>
    paths.some((path) => (path === runDirectory ? name === 'openat' : path.startsWith(`${runDirectory}/`)))
      ? -13
      : undefined
  assert.equal(play(machine, start('2000')), 0)
  assert.equal(play(machine, create(ann, 'Y')), 0)
  assert.equal(play(machine, check(ann, 'Y')), 0)
  assert.equal(play(machine, start('3000')), 0)
  assert.equal(play(machine, check(ann, 'Y')), mayNotReclaim)
})
