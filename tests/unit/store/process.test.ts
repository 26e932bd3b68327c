import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { holderName, lifeOf } from '../../../lib/store/process.ts'
import { errno } from '../../../lib/syscalls/errno.ts'
import { anywhere } from '../../../lib/syscalls/files.ts'
import type { MemoryFiles } from '../../support/memory/files.ts'
import { systemInMemory } from '../../support/memory/machine.ts'

const statOf = (id: number, state = 'S'): string =>
  `${id} (a) b) ${state} 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 77 1 1\n`

/** A system with one other process, and the name of that process. */
function withProcess(stat = statOf(50)): { files: MemoryFiles; life: () => string } {
  const files = systemInMemory()
  files.plant(new Map([['', { kind: 'file', bytes: stat }]]), '/proc/50/stat')
  const us = holderName(anywhere(files.calls))
  const holder = ['50', '77', ...us.split('.').slice(2)].join('.')
  return { files, life: () => lifeOf(holder, us, anywhere(files.calls)) }
}

describe('a process', () => {
  it('lives, if the process with its number started when it did', () => {
    assert.equal(withProcess().life(), 'alive')
  })

  it('is known in its boot also by a name without its machine, and in no other', () => {
    const system = anywhere(withProcess().files.calls)
    const us = holderName(system)
    const [, , boot = '', , space] = us.split('.')
    assert.equal(holderName(system, 'this boot'), us.replace(/[.][^.]*([.][^.]*)$/, '.$1'))
    assert.equal(lifeOf(['50', '77', boot, '', space].join('.'), us, system), 'alive')
    assert.equal(lifeOf(['50', '78', boot, '', space].join('.'), us, system), 'dead')
    assert.equal(lifeOf(['50', '77', boot.replace(/^./, 'x'), '', space].join('.'), us, system), 'unknown')
  })

  it('is dead, if its number has no process, another one, or a zombie', () => {
    const { files, life } = withProcess()
    files.remove('/proc/50')
    assert.equal(life(), 'dead')
    assert.equal(withProcess(statOf(50).replace(' 77 ', ' 78 ')).life(), 'dead')
    assert.equal(withProcess(statOf(50, 'Z')).life(), 'dead')
  })

  for (const [how, code] of [
    ['1', errno.EPERM],
    ['2', errno.ENOENT],
  ] as const)
    it(`is not known to be dead, if /proc hides all processes of others (hidepid=${how})`, () => {
      const { files, life } = withProcess()
      files.hooks.before = ({ paths }) =>
        paths.some((path) => /^\/proc\/[0-9]+\/stat$/.test(path)) ? -code : undefined
      assert.equal(life(), 'unknown')
    })
})
