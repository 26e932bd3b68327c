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
import { begun, besideTwoFacts, pairsIn, situations, type Situation } from './situations.ts'

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

/**
 * A start that makes two facts, an instance that is full and its own, beside an upcall of the server before it: no
 * kernel asks so. What is late is then of no order with the start, in one of these ways, and gives nobody a lock that
 * another may have had: the full instance stands for the one that asks.
 */
const late: Readonly<Record<string, RegExp>> = {
  'is refused, because its instance is over':
    /^(?:create|remove|grace done) .*, meanwhile start 3000: statuses 140, 0\n/,
  'is recorded in the instance that is full': /^start 3000 stands before symlinkat \S+\.partial, meanwhile create /,
  'finds nothing left to end': /^start 3000 stands before .*, meanwhile grace done \d+: statuses 0, 0\n/,
  'only alarms': /: <#>nfsd-userland-helper: /,
  'counts no more after a restart': /, meanwhile create .*: statuses 0, 0, after a restart, may reclaim: nobody; /,
}

describe('in memory, a start that makes two facts, and an upcall that is late', () => {
  for (const situation of situations.filter((one) => besideTwoFacts(one).length > 0))
    it(`${situation.name}: as in some order, or the late one has no effect that counts`, () => {
      const before = begun(situation)
      const others = besideTwoFacts(situation).flatMap(([first, other]) =>
        atOnce({ before, first: upcall(first), others: [upcall(other)], clients }).violations.map(({ what }) => what),
      )
      assert.deepEqual(
        others.filter((what) => !Object.values(late).some((is) => is.test(what))),
        [],
      )
    })
})
