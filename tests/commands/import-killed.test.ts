/**
 * An import is killed at any call. Clients that could reclaim before still may, no client may that is in neither place,
 * and repeating the import lets all clients reclaim.
 */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { done, forPeople, hex } from '../contract/server.ts'
import { newMachine, scrap } from '../support/artefacts.ts'
import { exportOf } from '../support/people.ts'
import { called, killedEverywhere, mayReclaim } from './killed.ts'

const source = ['ada', 'bob', 'cid']
const everybody = [...source, 'old', 'eve']

interface Before {
  readonly name: string
  readonly upcalls: readonly string[][]
  readonly may: readonly string[]
}

const befores: readonly Before[] = [
  { name: 'where nothing was', upcalls: [], may: [] },
  { name: 'into a first instance in its grace', upcalls: [['init'], ['create', hex('old')]], may: ['old'] },
  { name: 'into a full instance', upcalls: [['init'], ['create', hex('old')], ['grace_done']], may: ['old'] },
  {
    name: 'into a server stopped in grace',
    upcalls: [['init'], ['create', hex('old')], ['grace_done'], ['init']],
    may: ['old'],
  },
]

forPeople('an import killed', (artefact) => {
  for (const { name, upcalls, may } of befores)
    it(`${name}: no other client may reclaim, none is lost, and a repeat completes it`, async () => {
      const template = newMachine()
      const from = join(template.dir, 'clients.json')
      writeFileSync(from, exportOf(...source))
      try {
        await killedEverywhere(artefact, template, {
          words: ['import', '--yes', from],
          prepare: async (machine) => {
            for (const words of upcalls) assert.equal(await called(artefact, machine, words), done)
          },
          left: async (machine, label) => {
            const allowed = await mayReclaim(artefact, machine, everybody, 'after a start')
            assert.deepEqual(
              allowed.filter((owner) => !source.includes(owner)),
              may,
              label,
            )
          },
          repeated: async (machine, label) => {
            assert.deepEqual(
              await mayReclaim(artefact, machine, everybody, 'after a start'),
              [...source, ...may],
              label,
            )
          },
        })
      } finally {
        scrap(template)
      }
    })
})
