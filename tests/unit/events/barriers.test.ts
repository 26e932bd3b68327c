/** Upcalls on a machine in memory sync what the table of barriers in docs/durability.md says. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { machineWith } from '../../support/memory/machine.ts'

const page = readFileSync(join(import.meta.dirname, '../../../docs/durability.md'), 'utf8')

/** What a row of the table says. The key is the first word of its first cell. */
const said = new Map(
  [...page.matchAll(/^\| `(\w+)`[^|]* \| (\d)([^|]*) \| ([^|]*) \|$/gm)].map(
    ([, verb = '', least = '', when = '', of = '']) => [verb, { least: Number(least), when: when.trim(), of }],
  ),
)

const session = { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' }
const hex = (owner: string): string => Buffer.from(owner).toString('hex')

/** A machine in grace, after a full instance of ada, bob and eve; and what its upcalls sync. */
function inGrace() {
  const machine = machineWith()
  const synced: string[] = []
  machine.files.hooks.before = ({ name, paths }) => {
    if (name === 'fsync') synced.push(paths[0]?.split('/').at(-1) ?? '')
    return undefined
  }
  /** @returns what the upcall syncs. The directory of an instance is called `instance`. */
  const call = (words: readonly string[], environment = {}): readonly string[] => {
    synced.length = 0
    assert.equal(machine.upcall(words, environment), 0, words.join(' '))
    return synced.map((name) => (/^\d+$/.test(name) ? 'instance' : name))
  }
  call(['init'])
  for (const owner of ['ada', 'bob', 'eve']) call(['create', hex(owner)], session)
  call(['gracedone', '0'])
  const started = call(['init'])
  return { call, started, machine, synced }
}

describe('the barriers of an upcall', () => {
  it('are those of the table in docs/durability.md', () => {
    const { call, started } = inGrace()
    const done = {
      init: started,
      create: call(['create', hex('ada')], session),
      check: call(['check', hex('bob')]),
      remove: call(['remove', hex('eve')]),
      gracedone: call(['gracedone', '0']),
    }
    const again = { remove: call(['remove', hex('bob')]), gracedone: call(['gracedone', '0']) }

    assert.deepEqual([...said.keys()], ['create', 'remove', 'init', 'gracedone'])
    assert.deepEqual(done.init, ['v4clients'])
    assert.deepEqual([done.create, done.check], [['instance'], ['instance']])
    assert.deepEqual(done.gracedone, ['instance', 'v4clients'])
    for (const verb of ['init', 'create', 'gracedone'] as const)
      assert.equal(done[verb].length, said.get(verb)?.least, verb)
    assert.match(page, /^\| `create`, promoting `check` \| 1 \| the current instance's directory \|$/m)

    assert.equal(said.get('remove')?.when, '; in grace, one more for each older instance')
    assert.equal(again.remove.length, said.get('remove')?.least, 'out of grace')
    assert.equal(done.remove.length, again.remove.length + 1, 'one older instance')

    assert.match(said.get('gracedone')?.of ?? '', /`v4clients`; none if grace is over$/)
    assert.deepEqual(again.gracedone, [])
  })

  it('are none for the check of a client with a session', () => {
    const { call } = inGrace()
    assert.deepEqual(call(['check', hex('ada')], session), [])
  })

  it('include those of an end of grace that was killed, before any check is answered: it may not be durable yet', () => {
    for (const [owner, environment, status] of [
      ['eve', session, 1],
      ['eve', {}, 1],
      ['ada', session, 0],
    ] as const) {
      const { call, machine, synced } = inGrace()
      call(['create', hex('ada')], session)
      const { before } = machine.files.hooks
      machine.files.hooks.before = ({ name, paths }) => {
        if (name === 'fsync' && paths[0]?.endsWith('v4clients') === true) throw new Error('killed')
        return undefined
      }
      assert.throws(() => machine.upcall(['gracedone', '0']), /killed/)
      machine.files.hooks.before = before
      synced.length = 0
      assert.equal(machine.upcall(['check', hex(owner)], environment) === 0, status === 0, owner)
      assert.equal(synced[0], 'v4clients', owner)
    }
  })
})
