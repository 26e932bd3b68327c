/**
 * Every two upcalls at once, in process, in every state that matters (at-once.ts).
 *
 * tests/proof/races.test.ts does the same with the built program, but with fewer pairs, because a run takes a hundred
 * times as long there.
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
    // The same fault shows at several calls, so only the first few are printed.
    all.violations.push(...violations.slice(0, 1).map(({ what }) => what))
  }
  return all
}

describe('in memory, two upcalls at once', () => {
  for (const situation of situations)
    it(`${situation.name}: the outcome is that of one order or the other`, () => {
      const began = performance.now()
      const { stops, pairs, violations } = everyPair(situation)
      console.log(`# ${situation.name}: ${pairs} pairs, ${stops} stops, ${Math.round(performance.now() - began)} ms`)
      assert.deepEqual(violations, [])
    })
})

/**
 * A start that records two facts (the end of the instance before, and its own instance), beside a late upcall of the
 * server before it. No kernel asks like this. The outcome need not be that of an order. But it must be one of these,
 * and none of them gives a client a lock that another may have had, because the instance of the late upcall is the one
 * that is now full.
 */
const late: Readonly<Record<string, RegExp>> = {
  'is refused, because its instance is over':
    /^(?:create|remove|grace done) .*, meanwhile start 3000: statuses 140, 0\n/,
  'is recorded in the instance that is full': /^start 3000 stands before symlinkat \S+\.partial, meanwhile create /,
  'finds nothing left to end': /^start 3000 stands before .*, meanwhile grace done \d+: statuses 0, 0\n/,
  'only alarms': /: <#>nfsd-userland-helper: /,
  'counts no more after a restart': /, meanwhile create .*: statuses 0, 0, after a restart, may reclaim: nobody; /,
}

describe('in memory, a start that also records the end of the instance before, and a late upcall of that instance', () => {
  for (const situation of situations.filter((one) => besideTwoFacts(one).length > 0))
    it(`${situation.name}: the outcome is that of some order, or the late upcall has no effect that counts`, () => {
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
