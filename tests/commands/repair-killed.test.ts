/**
 * A repair, an expire and an allow that are killed at any call: no other client's verdict changes, and a repeat
 * completes them.
 */
import assert from 'node:assert/strict'
import { readdirSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { done, forPeople, hex } from '../contract/server.ts'
import { newMachine, scrap, type Artefact, type Machine } from '../support/artefacts.ts'
import { called, killedEverywhere, mayReclaim } from './killed.ts'

const everybody = ['ada', 'bob', 'cid', 'eve']

/** ada and bob were in the full instance; cid is new in grace. */
async function inGrace(artefact: Artefact, machine: Machine): Promise<void> {
  for (const words of [
    ['init'],
    ['create', hex('ada')],
    ['create', hex('bob')],
    ['grace_done'],
    ['init'],
    ['create', hex('cid')],
  ])
    assert.equal(await called(artefact, machine, words), done)
}

/** The newest instance's directory. */
const current = ({ stateDir }: Machine): string => {
  const room = join(stateDir, 'v4clients')
  return join(
    room,
    readdirSync(room)
      .filter((name) => /^\d+$/.test(name))
      .sort()
      .at(-1) ?? '',
  )
}

interface Case {
  readonly name: string
  readonly words: readonly string[]
  readonly make: (machine: Machine) => Promise<void> | void
  /** Who may reclaim before, and after. In between it is one of the two. */
  readonly before: readonly string[]
  readonly after: readonly string[]
}

forPeople('killed anywhere', (artefact) => {
  const cases: readonly Case[] = [
    {
      name: 'a repair of a damaged record that stands before an older whole one lets its client in at no moment',
      words: ['verify', '--repair', '--yes'],
      make: (machine) => {
        symlinkSync('session=Y,recorded=1,check=00000000', join(current(machine), 'ada'))
      },
      before: ['bob', 'cid'],
      after: ['bob', 'cid'],
    },
    {
      name: 'a repair of a time that hides an end of grace, in format 1, lets nobody in at any moment',
      words: ['verify', '--repair', '--yes'],
      make: ({ stateDir }) => {
        unlinkSync(join(stateDir, 'v4clients/format-2'))
        writeFileSync(join(stateDir, 'new_boot_time'), 'never', { mode: 0o600 })
      },
      before: [],
      after: [],
    },
    {
      name: 'an expiry takes out its client or does not',
      words: ['expire', '--yes', 'ada'],
      make: () => undefined,
      before: ['ada', 'bob', 'cid'],
      after: ['bob', 'cid'],
    },
    {
      name: 'an allowance lets in its client or does not',
      words: ['allow', '--yes', 'ada'],
      make: async (machine) => {
        assert.equal(await called(artefact, machine, ['remove', hex('ada')]), done)
      },
      before: ['bob', 'cid'],
      after: ['ada', 'bob', 'cid'],
    },
  ]
  for (const { name, words, make, before, after } of cases)
    it(name, async () => {
      const template = newMachine()
      // If it was complete already, a repeated expire finds no client of that name.
      const isExpiry = words[0] === 'expire'
      try {
        await killedEverywhere(artefact, template, {
          words,
          prepare: async (machine) => {
            await inGrace(artefact, machine)
            await make(machine)
          },
          left: async (machine, label) => {
            for (const start of ['now', 'after a start'] as const) {
              const allowed = (await mayReclaim(artefact, machine, everybody, start)).join()
              assert.ok([before.join(), after.join()].includes(allowed), `${label}, ${start}: ${allowed}`)
            }
          },
          ...(isExpiry ? { mayBeRefused: true } : {}),
          repeated: async (machine, label) => {
            assert.deepEqual(await mayReclaim(artefact, machine, everybody, 'now'), after, label)
          },
        })
      } finally {
        scrap(template)
      }
    })
})
