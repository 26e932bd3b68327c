/** Clients come back while a command removes them: before each of its calls, with the lock taken over. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { asRecorded, forgetAll } from '../../../lib/commands/shared/forget.ts'
import { newestEntryOf } from '../../../lib/commands/shared/recorded-clients.ts'
import { survey } from '../../../lib/commands/shared/survey.ts'
import { perform } from '../../../lib/events/perform.ts'
import type { Start } from '../../../lib/rules/instance.ts'
import { recordName } from '../../../lib/rules/record.ts'
import { distrust } from '../../../lib/store/untracked.ts'
import type { Request } from '../../../lib/upcall/request.ts'
import { runDirectory, stateDirectory, systemInMemory } from '../../support/memory/machine.ts'
import { check, create, ownerNamed, worldOn } from '../events/world.ts'
import { interrupted } from './interrupted.ts'

const start: Request = { event: 'start', kernelBootTime: undefined }
const endOfGrace: Request = { event: 'grace-done', kernelBootTime: undefined, legacyTop: undefined }
const ada = ownerNamed('ada')

/** @returns whether the command says that ada came back, for each of its calls before which ada did. */
function comesBackBeforeEach(
  before: readonly Request[],
  wasIn: (starts: readonly Start[]) => Start | undefined,
): boolean[] {
  const told: boolean[] = []
  for (;;) {
    const { calls, tree } = systemInMemory()
    for (const request of before) perform(worldOn(calls).world, request)
    const starts = [...tree(`${stateDirectory}/v4clients`).keys()]
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .sort()
    const command = interrupted(calls, told.length, () => {
      perform(worldOn(calls).world, create('ada'))
    })
    const cameBack = forgetAll(
      worldOn(command.calls).world,
      { calls: command.calls, stateDirectory, runDirectory },
      [{ owner: ada, in: wasIn(starts as Start[]) }],
      () => undefined,
    )
    if (command.made() <= told.length) return told
    const isRecorded = tree(`${stateDirectory}/v4clients/${starts.at(-1)}`).has(recordName(ada))
    assert.ok(isRecorded, `not recorded, if it comes back before call ${told.length}`)
    told.push(cameBack.length > 0)
  }
}

describe('a client that comes back while a command removes it', () => {
  it('keeps its new record, if it had none that counted and grace is over', () => {
    const told = comesBackBeforeEach([start, endOfGrace], () => undefined)
    assert.ok(told.includes(true))
  })

  it('keeps its new record, if it had one from before this grace period', () => {
    const told = comesBackBeforeEach([start, create('ada'), endOfGrace, start], ([first]) => first)
    assert.ok(told.includes(true))
  })
})

describe('a client that reclaims while a command looks for it', () => {
  it('is found, whichever call it reclaims before', () => {
    for (let nth = 0; ; nth++) {
      const { calls } = systemInMemory()
      for (const request of [start, create('ada'), endOfGrace, start]) perform(worldOn(calls).world, request)
      const named = interrupted(calls, nth, () => {
        perform(worldOn(calls).world, check('ada', 'no session'))
      })
      const surveyed = survey({ calls: named.calls, stateDirectory, runDirectory })
      const found = [asRecorded(surveyed, ada).in, newestEntryOf(surveyed, ada).in]
      assert.ok(!found.includes(undefined), `not found, if it reclaims before call ${nth}`)
      if (named.made() <= nth) return
    }
  })
})

describe('a client that a person removes after a remove that failed on the disk', () => {
  for (const [when, before] of [
    ['in grace', [start, create('ada')]],
    ['after it', [start, endOfGrace, create('ada')]],
  ] as const)
    it(`has no record any more, though no record counts at the next start (${when})`, () => {
      const { calls, tree } = systemInMemory()
      const where = { calls, stateDirectory, runDirectory }
      for (const request of before) perform(worldOn(calls).world, request)
      const { world } = worldOn(calls)
      distrust(world.state, 'serve')
      assert.deepEqual(
        forgetAll(world, where, [asRecorded(survey(where), ada)], () => undefined),
        [],
      )
      const left = [...tree(stateDirectory).keys()].filter((path) => path.endsWith(`/${recordName(ada)}`))
      assert.deepEqual(left, [])
    })
})
