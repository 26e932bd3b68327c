/**
 * Every two upcalls at once, in process, in every state that matters (at-once.ts).
 *
 * tests/proof/races.test.ts does the same to the built program, with fewer pairs: a run takes a hundred times as long
 * there.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Owner } from '../../life/oracle.ts'
import { ann, bob, dan } from '../../proof/scenarios.ts'
import { atOnce, upcall } from './at-once.ts'
import { begun, pairsIn, situations, type Situation } from './situations.ts'

const clients: readonly Owner[] = [ann, bob, dan]

function everyPair(situation: Situation): { stops: number; pairs: number; violations: string[] } {
  const before = begun(situation)
  const all = { stops: 0, pairs: 0, violations: [] as string[] }
  for (const [first, other] of pairsIn(situation)) {
    const { stops, violations } = atOnce({ before, first: upcall(first), others: [upcall(other)], clients })
    all.pairs++
    all.stops += stops
    // The same fault shows at several calls.
    all.violations.push(...violations.slice(0, 1).map(({ what }) => what))
  }
  return all
}

describe('in memory, two upcalls at once', () => {
  for (const situation of situations)
    it(`${situation.name}: as in one order or the other`, () => {
      const began = performance.now()
      const { stops, pairs, violations } = everyPair(situation)
      console.log(`# ${situation.name}: ${pairs} pairs, ${stops} stops, ${Math.round(performance.now() - began)} ms`)
      assert.deepEqual(violations, [])
    })
})
