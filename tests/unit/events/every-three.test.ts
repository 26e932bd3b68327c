/**
 * Three upcalls at once, one of which takes back what it has recorded: the check of a client without a session, if it
 * then finds that grace has ended or that the client was removed (lib/events/check.ts). Another upcall may have relied
 * on that record. The check stops before two of its calls, or twice before one. The lock is taken over twice.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { mayNotReclaim, type Event } from '../../life/oracle.ts'
import { ann, bob, check, create, graceDone, remove, start } from '../../proof/scenarios.ts'
import { atOnce, upcall, type Act } from './at-once.ts'
import { begun, situations, type Situation } from './situations.ts'

const named = (name: string): Situation => {
  const found = situations.find((situation) => situation.name === name)
  assert.ok(found !== undefined, name)
  return found
}

const meetings = [
  { situation: named('in grace'), ends: [graceDone('2000'), remove(bob)], restart: start('3000') },
  {
    situation: named('in the first grace, after a crash in it'),
    ends: [graceDone('2000'), remove(bob)],
    restart: start('3000'),
  },
  {
    situation: named('in the first grace, with legacy clients'),
    ends: [graceDone('1000'), remove(bob)],
    restart: start('3000'),
  },
]
const relying = [create(bob, 'N'), create(bob, 'Y'), check(bob, 'N'), check(bob, 'Y')]

/** A server that has restarted asks anew. How its predecessor would have been answered does not matter. */
const ofServerThatIsGone: Act = {
  ...upcall(check(bob, 'N')),
  meanings: [{ event: check(bob, 'N') }, { event: undefined, statuses: [mayNotReclaim] }],
}

/** A create takes no lock when it finds that grace is over. */
const takesLock = (event: Event, before: readonly Event[]): boolean =>
  event.event === 'create'
    ? !before.some((other) => other.event === 'grace done')
    : event.event !== 'check' || event.session !== 'Y'

const hasMadeRecord = (calls: readonly string[] | undefined): boolean =>
  calls?.some((call) => /^(?:renameat|symlinkat) .*\/bob$/.test(call)) === true

describe('in memory, a check without a session, and two other upcalls at once', () => {
  for (const { situation, ends, restart } of meetings)
    it(`${situation.name}: the outcome is that of some order, unless an upcall relies on a record that the check takes back`, () => {
      const before = begun(situation)
      const all = { triples: 0, stops: 0, 'taken back': 0, 'not promised': 0 }
      const violations: string[] = []
      const windows = new Set<string>()
      const began = performance.now()
      for (const end of [...ends, restart])
        for (const one of relying)
          for (const others of [
            [one, end],
            [end, one],
          ]) {
            const found = atOnce({
              before,
              first: end === restart ? ofServerThatIsGone : upcall(check(bob, 'N')),
              others: others.map((event) => upcall(event)),
              clients: [ann, bob],
            })
            all.triples++
            all.stops += found.stops
            for (const { changed, stoodBefore, what } of found.violations)
              // The kernel asks of one client one thing at a time: the record is not promised yet (lib/store/begun.ts).
              if (/the upcall that recorded it has not succeeded/.test(what)) all['not promised']++
              // docs/locking.md: the client loses what it could reclaim, but nobody gets another's lock.
              else if (hasMadeRecord(changed[others.indexOf(one)])) {
                all['taken back']++
                windows.add(stoodBefore[others.indexOf(one)] ?? '')
                const passing = others.filter((event, at) => takesLock(event, others.slice(0, at))).length
                assert.equal(what.match(/goes on without the lock: held for 2 s/g)?.length, passing, what)
              } else violations.push(what)
          }
      console.log(`# ${situation.name}: ${JSON.stringify(all)}, ${Math.round(performance.now() - began)} ms`)
      assert.deepEqual(violations, [])
      assert.notEqual(all['taken back'], 0)
      // Between making the record and taking it back, the check only reads.
      for (const call of windows)
        assert.match(call, /^(?:getdents64|openat|fstat|fstatat|readlinkat) |^unlinkat \S+\/bob$/)
    })
})
