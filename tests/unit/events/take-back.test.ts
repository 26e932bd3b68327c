import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { perform, performTogether } from '../../../lib/events/perform.ts'
import { recordName } from '../../../lib/rules/record.ts'
import { errno } from '../../../lib/syscalls/errno.ts'
import type { Request } from '../../../lib/upcall/request.ts'
import type { MemoryFiles } from '../../support/memory/files.ts'
import { stateDirectory, systemInMemory } from '../../support/memory/machine.ts'
import { check, create, ownerNamed, worldOn, type Played } from './world.ts'

interface Machine extends Played {
  readonly files: MemoryFiles
}

const v4clients = `${stateDirectory}/v4clients`

function machine(): Machine {
  const files = systemInMemory()
  return { ...worldOn(files.calls), files }
}

const start = ({ world }: Played): void => {
  perform(world, { event: 'start', kernelBootTime: undefined })
}
const endGrace = ({ world }: Played): void => {
  perform(world, { event: 'grace-done', kernelBootTime: undefined, legacyTop: undefined })
}
const names = ({ files }: Machine): string[] => [...files.tree(v4clients).keys()]
const instances = (m: Machine): string[] =>
  names(m)
    .filter((name) => /^[0-9]+$/.test(name))
    .sort()
/** The instances in which a client is recorded; the oldest is 0. */
const placesOf = (m: Machine, name: string): number[] =>
  instances(m).flatMap((instance, at) => (names(m).includes(`${instance}/${recordName(ownerNamed(name))}`) ? [at] : []))
const isMarked = ({ files }: Machine): boolean => [...files.tree('/run').keys()].some((name) => name.endsWith('.ran'))

/** Fails calls of one name in one directory: the first, or all. */
function failing(m: Machine, how: 'once' | 'for good', calls: readonly string[], directory: string): void {
  let failed = false
  m.files.hooks.before = ({ name, paths }) => {
    if (!calls.includes(name) || !paths.some((path) => `${path}/`.startsWith(`${directory}/`))) return undefined
    if (failed && how === 'once') return undefined
    failed = true
    return -errno.EIO
  }
}

const refused = (m: Machine, request: Request): void => {
  assert.throws(() => {
    perform(m.world, request)
  }, /EIO/)
  m.files.hooks.before = () => undefined
}

/** In grace: ada and old have yet to reclaim. */
function inGrace(): { m: Machine; current: string } {
  const m = machine()
  start(m)
  perform(m.world, create('ada'))
  perform(m.world, create('old', 'no session'))
  endGrace(m)
  start(m)
  return { m, current: `${v4clients}/${instances(m)[1]}` }
}

describe('an upcall that fails after it has put a record in its place', () => {
  it('removes it: the kernel will not tell when its client is gone (edge condition 1)', () => {
    const m = machine()
    start(m)
    endGrace(m)
    failing(m, 'once', ['fsync'], `${v4clients}/${instances(m)[0]}`)
    refused(m, create('ada'))
    assert.deepEqual(placesOf(m, 'ada'), [])
    assert.ok(!isMarked(m), 'nobody else loses anything')
  })

  it('puts it back, if it was in an older instance', () => {
    for (const [request, name] of [
      [create('ada'), 'ada'],
      [check('old', 'no session'), 'old'],
    ] as const) {
      const { m, current } = inGrace()
      assert.deepEqual(placesOf(m, name), [0])
      failing(m, 'once', ['fsync'], current)
      refused(m, request)
      assert.deepEqual(placesOf(m, name), [0], request.event)
      assert.ok(!isMarked(m))
    }
  })

  it('does so too if only the check after it failed', () => {
    const { m } = inGrace()
    let moved = false
    m.files.hooks.before = ({ name }) => {
      moved ||= name === 'renameat'
      return moved && name === 'getdents64' ? -errno.EIO : undefined
    }
    refused(m, check('old', 'no session'))
    assert.deepEqual(placesOf(m, 'old'), [0])
  })

  it('keeps it if an earlier upcall has made it: that one has promised it', () => {
    const m = machine()
    start(m)
    endGrace(m)
    perform(m.world, create('ada'))
    failing(m, 'once', ['fsync'], v4clients)
    refused(m, create('ada'))
    assert.deepEqual(placesOf(m, 'ada'), [0])
  })

  it('lets nobody reclaim after the next start, if the record can not be removed', () => {
    for (const calls of [['fsync'], ['fsync', 'unlinkat']]) {
      const m = machine()
      start(m)
      perform(m.world, create('bob'))
      endGrace(m)
      failing(m, 'for good', calls, `${v4clients}/${instances(m)[0]}`)
      refused(m, create('ada'))
      assert.ok(isMarked(m))
      assert.match(m.lines.join('\n'), /critical: the record of "ada" can't be taken back .*EIO/)
      start(m)
      assert.throws(() => {
        perform(m.world, check('bob', 'no session'))
      }, /may-not-reclaim/)
    }
  })

  it('keeps it if it is durable: the older one, which would count again, may be gone', () => {
    for (const hit of [0, 1]) {
      const m = machine()
      start(m)
      perform(m.world, create('ada', 'no session'))
      endGrace(m)
      start(m)
      const older = `${v4clients}/${instances(m)[0]}`
      let calls = 0
      m.files.hooks.before = ({ name, paths }) =>
        name === 'unlinkat' && paths.some((path) => `${path}/`.startsWith(`${older}/`)) && calls++ === hit
          ? -errno.EIO
          : undefined
      perform(m.world, create('ada'))
      assert.equal(calls, hit + 1, 'its older record is removed, then the directory that it was in')
      assert.deepEqual(placesOf(m, 'ada'), hit === 0 ? [0, 1] : [1])
      assert.match(m.lines.join('\n'), /warning: "ada" is recorded, but its older records are not removed.*EIO/)
      m.files.hooks.before = () => undefined
      perform(m.world, check('ada', 'no session'))
    }
  })

  it('puts it back if its note stays, which would let the next start do so: the older one is still there then', () => {
    // Of the first, ada's facts change, so its older record is to be removed; of the second, the directory of that one.
    for (const session of ['no session', 'has session'] as const) {
      const m = machine()
      start(m)
      perform(m.world, create('ada', session))
      endGrace(m)
      start(m)
      const { asked } = m.kernel
      failing(m, 'for good', ['unlinkat'], '/run')
      assert.throws(() => {
        perform(m.world, create('ada'))
      }, /storage/)
      m.files.hooks.before = () => undefined
      assert.deepEqual(placesOf(m, 'ada'), [0])
      assert.equal(m.kernel.asked, asked, 'grace goes on')
    }
  })

  it('has removed its note once, before the first change that relies on its record', () => {
    for (const session of ['no session', 'has session'] as const) {
      const m = machine()
      start(m)
      perform(m.world, create('ada', session))
      endGrace(m)
      start(m)
      const [older = ''] = instances(m)
      const changes: string[] = []
      m.files.hooks.before = ({ name, paths }) => {
        if (name === 'unlinkat') changes.push(paths[0]?.replace(/^.*\/(?=[^/]*\/)/, '') ?? '')
        return undefined
      }
      perform(m.world, create('ada'))
      const note = changes.findIndex((path) => /^begun-.*\/ada$/.test(path))
      assert.equal(changes.filter((path) => path.startsWith('begun-')).length, 1, changes.join())
      assert.ok(note >= 0 && note < changes.findIndex((path) => path.split('/').includes(older)), changes.join())
    }
  })

  it('keeps it at the pipe, because there the kernel takes any answer for a record, and tells when the client is gone', () => {
    const m = machine()
    start(m)
    endGrace(m)
    failing(m, 'once', ['fsync'], v4clients)
    const [outcome] = performTogether(m.world, [create('ada', 'unknown')])
    assert.match(String(outcome), /EIO/)
    assert.deepEqual(placesOf(m, 'ada'), [0])
  })
})
