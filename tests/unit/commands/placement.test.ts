/** An import that finds a record of the client in place makes it durable, as if it had written it. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { inMemory } from '../../life/in-memory.ts'
import { owner } from '../../life/owners.ts'
import { Stopped } from '../../support/memory/machine.ts'

const ada = owner('ada')
const clock = 1795328616
/** A power cut leaves the disk in one of fewer states than this. */
const states = 8

/** The statuses of a `check` after a power cut, in each state that the disk may be in then. */
async function reclaimsAfterPowerCut(imports: boolean): Promise<Set<unknown>> {
  const statuses = new Set<unknown>()
  for (let left = 0; left < states; left++) {
    const place = inMemory()
    await place.upcall(['init'], {}, clock)
    const { hooks } = place.machine.files
    hooks.before = ({ name }) => {
      if (name === 'fsync') throw new Stopped()
      return undefined
    }
    assert.equal((await place.upcall(['create', ada], {}, clock)).status, 'SIGKILL')
    hooks.before = () => undefined
    if (imports) assert.equal((await place.command({ verb: 'import', owner: ada })).status, 0)
    place.cutPower(left)
    await place.upcall(['init'], {}, clock)
    statuses.add((await place.upcall(['check', ada], {}, clock)).status)
  }
  return statuses
}

describe('an import of a client whose create was killed before its barrier', () => {
  it('makes the record that it finds durable', async () => {
    assert.deepEqual(await reclaimsAfterPowerCut(true), new Set([0]))
  })

  it('is needed for that: without the import, a power cut may lose the client', async () => {
    assert.deepEqual(await reclaimsAfterPowerCut(false), new Set([0, 255]))
  })
})
