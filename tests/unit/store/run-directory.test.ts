/**
 * A mark in the run directory belongs to one state directory, whatever link leads there: also while the link leads
 * nowhere, because the disk is not mounted or fails, or no descriptor is left.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { errno } from '../../../lib/syscalls/errno.ts'
import { mayNotReclaim } from '../../life/oracle.ts'
import { ann, check, create, graceDone, start } from '../../proof/scenarios.ts'
import { machineWith, runDirectory, stateDirectory, type Machine } from '../../support/memory/machine.ts'
import { play } from '../events/states.ts'

const link = (target: string) => new Map([['', { kind: 'link', target } as const]])
const directory = new Map([['', { kind: 'directory' } as const]])

/** The links through which the path leads to the records. */
const ways: readonly (readonly [string, (machine: Machine) => void])[] = [
  [
    'a link',
    ({ files }) => {
      files.plant(link('/srv/disk/nfs'), stateDirectory)
    },
  ],
  [
    'a link to a link',
    ({ files }) => {
      files.plant(link('/srv/here'), stateDirectory)
      files.plant(link('disk/nfs'), '/srv/here')
    },
  ],
  [
    'a link above it',
    ({ files }) => {
      files.remove('/var/lib')
      files.plant(link('/srv/disk'), '/var/lib')
    },
  ],
]

/** Why a start fails there. @returns what ends the failure. */
const failures: readonly (readonly [string, (machine: Machine) => () => void])[] = [
  [
    'its disk is not mounted',
    ({ files }) => {
      const tree = files.tree('/srv/disk')
      files.replace('/srv/disk', directory)
      // A start would make what is missing. Here it may not.
      files.hooks.before = ({ name, paths }) =>
        name === 'mkdirat' && !paths.some((path) => path.startsWith('/run')) ? -errno.EACCES : undefined
      return () => {
        files.replace('/srv/disk', tree)
      }
    },
  ],
  [
    'its disk fails',
    ({ files }) => {
      const isThere = (path: string): boolean => path === stateDirectory || path.startsWith(`${stateDirectory}/`)
      files.hooks.before = ({ name, paths }) => (name !== 'readlinkat' && paths.some(isThere) ? -errno.EIO : undefined)
      return () => undefined
    },
  ],
  [
    'few descriptors are left',
    ({ files }) => {
      files.hooks.before = ({ name, paths }) =>
        name === 'openat' && paths.some((path) => !path.startsWith('/proc/') && !path.startsWith('/dev/'))
          ? -errno.EMFILE
          : undefined
      return () => undefined
    },
  ],
]

describe('in memory, a start that fails if a link leads to the state directory', () => {
  for (const [way, lead] of ways)
    for (const [failure, befall] of failures)
      it(`(${way}; ${failure}): nobody may reclaim after the next start`, () => {
        const machine = machineWith()
        const { files } = machine
        files.plant(directory, '/srv/disk')
        files.plant(directory, '/srv/disk/nfs')
        lead(machine)
        for (const event of [start('1000'), create(ann, 'Y'), graceDone('1000')]) assert.equal(play(machine, event), 0)
        const mend = befall(machine)
        assert.notEqual(play(machine, start('2000')), 0)
        files.hooks.before = () => undefined
        mend()
        assert.equal(play(machine, start('3000')), 0)
        assert.equal(play(machine, check(ann, 'Y')), mayNotReclaim, machine.log.join(''))
      })
})

describe('in memory, a start during which a link begins to lead elsewhere', () => {
  it('removes the mark that it has made', () => {
    const machine = machineWith()
    const { files } = machine
    for (const disk of ['/srv/one', '/srv/other']) files.plant(directory, disk)
    files.plant(link('/srv/one'), stateDirectory)
    files.hooks.before = ({ name, paths }) => {
      if (name === 'symlinkat' && paths.some((path) => path.endsWith('.partial')))
        files.replace(stateDirectory, link('/srv/other'))
      return undefined
    }
    assert.equal(play(machine, start('1000')), 0)
    assert.deepEqual(
      [...files.tree(runDirectory).keys()].filter((name) => /[0-9a-f]{64}/.test(name)),
      [],
    )
  })
})
