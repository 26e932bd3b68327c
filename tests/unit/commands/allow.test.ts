/** Grace ends while `allow` works: before each of its calls, with the lock taken over. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { carryOut, planFor } from '../../../lib/commands/allow.ts'
import { perform } from '../../../lib/events/perform.ts'
import { failureFrom, report } from '../../../lib/failure.ts'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import type { Request } from '../../../lib/upcall/request.ts'
import { runDirectory, stateDirectory, systemInMemory } from '../../support/memory/machine.ts'
import { create, ownerNamed, worldOn } from '../events/world.ts'
import { interrupted } from './interrupted.ts'

const start: Request = { event: 'start', kernelBootTime: undefined }
const endOfGrace: Request = { event: 'grace-done', kernelBootTime: undefined, legacyTop: undefined }
const bob = ownerNamed('bob')

/** @returns what the command says, for an end of grace before each of its calls; 'allowed' if it does not fail. */
function sayings(): ReadonlySet<string> {
  const said = new Set<string>()
  for (let nth = 0; ; nth++) {
    const { calls } = systemInMemory()
    for (const request of [start, create('ada'), endOfGrace, start]) perform(worldOn(calls).world, request)
    const { calls: ours, made } = interrupted(calls, nth, () => {
      perform(worldOn(calls).world, endOfGrace)
    })
    said.add(outcomeOn(ours))
    if (made() <= nth) return said
  }
}

function outcomeOn(calls: Calls): string {
  const { world } = worldOn(calls)
  const where = { calls, stateDirectory, runDirectory }
  try {
    carryOut(world, where, planFor(world, where, [bob]))
    return 'allowed'
  } catch (thrown) {
    return report(failureFrom(thrown)).line
  }
}

it('allow, while grace ends: if its directory is removed meanwhile, it says so, and says to run it again', () => {
  assert.deepEqual(
    sayings(),
    new Set([
      'allowed',
      '"bob" is not allowed: by now it could only reclaim after the next start; run the command again',
      `"bob" is not allowed: '${stateDirectory}/v4clients/1800000000' was removed meanwhile, as at an end of grace; ` +
        'run the command again',
    ]),
  )
})
