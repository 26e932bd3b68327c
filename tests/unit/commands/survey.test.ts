/** What the commands for people say of records after an upcall that failed on the disk. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { legacyClients } from '../../../lib/commands/shared/legacy.ts'
import { reclaimableAtNextStart } from '../../../lib/commands/shared/next-start.ts'
import { walk } from '../../../lib/commands/shared/recorded-clients.ts'
import { survey } from '../../../lib/commands/shared/survey.ts'
import { perform } from '../../../lib/events/perform.ts'
import type { World } from '../../../lib/events/world.ts'
import { distrust, noteGraceEnd, noteStart } from '../../../lib/store/untracked.ts'
import { legacyNameOf } from '../../../lib/store/v4recovery.ts'
import type { Request } from '../../../lib/upcall/request.ts'
import { runDirectory, stateDirectory, systemInMemory } from '../../support/memory/machine.ts'
import { create, ownerNamed, worldOn } from '../events/world.ts'

const start: Request = { event: 'start', kernelBootTime: undefined }
const endOfGrace: Request = { event: 'grace-done', kernelBootTime: undefined, legacyTop: undefined }
const inGrace = [start, create('ada'), create('bob'), endOfGrace, start, create('ada'), create('eve')]

/** @returns what is shown of each client, and who may reclaim after the next start. */
function seenAfter(requests: readonly Request[], mark: (world: World) => void): readonly string[] {
  const { calls, plant } = systemInMemory()
  const legacy = legacyNameOf(ownerNamed('cal'))
  plant(new Map([['', { kind: 'directory' }]]), `${stateDirectory}/v4recovery/${legacy}`)
  for (const request of requests) perform(worldOn(calls).world, request)
  mark(worldOn(calls).world)
  const where = { calls, stateDirectory, runDirectory }
  const nameOf = (owner: Uint8Array): string => Buffer.from(owner).toString()
  const { clients } = walk(where)
  return [
    ...[...clients].map((client) => `${nameOf(client.owner)} ${client.standing}`),
    ...legacyClients(survey(where)).map((name) => `${name === legacy ? 'cal' : name} legacy`),
    ...[...reclaimableAtNextStart(where).clients].map(({ owner }) => `${nameOf(owner)} next`),
  ]
}

describe('after a remove or an end of grace that failed on the disk', () => {
  it('clients reclaim until grace is over, and none after the next start', () => {
    const trusted = seenAfter(inGrace, () => undefined)
    assert.deepEqual(trusted.slice(0, 3), ['ada current', 'eve current', 'bob waiting'])
    assert.ok(trusted.includes('bob next'))
    const refused = seenAfter(inGrace, ({ state }) => distrust(state, 'start'))
    assert.deepEqual(
      refused,
      trusted.filter((said) => !said.endsWith('next')),
    )
  })

  it("so do clients of the kernel's own tracker, in a first grace period", () => {
    const seen = seenAfter([start, create('ada')], ({ state }) => distrust(state, 'start'))
    assert.deepEqual(seen, ['ada current', 'cal legacy'])
  })

  it('no record has an effect once grace is over', () => {
    const seen = seenAfter([start, create('ada'), endOfGrace], ({ state }) => distrust(state, 'start'))
    assert.deepEqual(seen, ['ada void'])
  })
})

describe('no older record has an effect in grace', () => {
  it('if a server runs whose start is not recorded', () => {
    assert.deepEqual(
      seenAfter([start, create('ada')], ({ state }) => noteStart(state, '7')),
      ['ada void'],
    )
  })

  it('if the kernel has left it, and that could not be recorded', () => {
    const seen = seenAfter([start, create('ada')], ({ state, calls }) => {
      const [current] = survey({ calls, stateDirectory, runDirectory }).starts
      assert.ok(current !== undefined)
      noteGraceEnd(state, current)
    })
    assert.deepEqual(seen, ['ada current', 'ada next'])
  })
})
