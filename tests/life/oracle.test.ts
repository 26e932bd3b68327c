/** The judge is judged by the two edge conditions that RFC 7530 §9.6.3.4 warns of, told as it tells them. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { blank, judge, mayNotReclaim, otherInstance, type Event, type Verdict } from './oracle.ts'

const start: Event = { event: 'start', bootTime: '7' }
const done: Event = { event: 'grace done', bootTime: '7' }
const create = (owner: string, session: 'Y' | 'N' = 'Y'): Event => ({ event: 'create', owner, session })
const check = (owner: string, session: 'Y' | 'N' = 'Y'): Event => ({ event: 'check', owner, session })
const remove = (owner: string): Event => ({ event: 'remove', owner })

/** The last verdict of a life. `Y`: what v4_end_grace reads from there on. */
function last(...events: readonly (Event | 'Y')[]): Verdict | undefined {
  const memory = blank()
  let graceOver = false, verdict: Verdict | undefined
  for (const event of events) {
    if (event === 'Y') graceOver = true
    else {
      if (event.event === 'start') graceOver = false
      verdict = judge(memory, event, graceOver)
    }
  }
  return verdict
}

const answer = (...events: readonly (Event | 'Y')[]): number | undefined => last(...events)?.statuses[0]

describe('a client may reclaim if it was active at the end of the last full instance', () => {
  it('so one that was recorded, and never left, may', () =>
    { assert.equal(answer(start, done, create('a'), start, check('a')), 0) })
  it('first edge condition: one whose lease expired before the restart may not', () =>
    { assert.equal(answer(start, done, create('a'), remove('a'), start, check('a')), mayNotReclaim) })
  it('second edge condition: one that missed a whole grace period may not', () =>
    { assert.equal(answer(start, done, create('a'), start, done, start, check('a')), mayNotReclaim) })
  it('and one that missed a grace period whose end nobody told us of may not, once we see that grace is over', () =>
    { assert.equal(answer(start, done, create('a'), start, 'Y', check('a')), mayNotReclaim) })
})

describe('or became active in a later partial one', () => {
  it('so a crash in grace loses nobody: not who had reclaimed', () =>
    { assert.equal(answer(start, done, create('a'), start, create('a'), start, check('a')), 0) })
  it('nor who had yet to', () =>
    { assert.equal(answer(start, done, create('a'), start, start, start, check('a')), 0) })
  it('nor who was new', () =>
    { assert.equal(answer(start, done, start, create('a'), start, check('a')), 0) })
  it('but before any grace period completed, nobody may', () =>
    { assert.equal(answer(start, create('a'), start, check('a')), mayNotReclaim) })
})

describe('a check', () => {
  it('of a client without a session is its record', () =>
    { assert.equal(answer(start, done, create('a', 'N'), start, check('a', 'N'), done, check('a')), 0) })
  it('of a client with a session is not: it has yet to say that it is done', () =>
    { assert.equal(answer(start, done, create('a'), start, check('a'), done, check('a')), mayNotReclaim) })
})

describe('grace may end early', () => {
  it('when the last client with a session is done', () =>
    { assert.equal(last(start, done, create('a'), start, create('a'))?.endGrace, 'must') })
  it('but not while somebody may still reclaim', () =>
    { assert.equal(last(start, done, create('a'), create('b'), start, create('a'))?.endGrace, 'must not') })
  it('nor beside a client without a session: it never says that it is done', () =>
    { assert.equal(last(start, create('a', 'N'), create('b'))?.endGrace, 'must not') })
})

it('the grace end of another instance ends nothing', () => {
  const other: Event = { event: 'grace done', bootTime: '8' }
  assert.equal(answer(start, other), otherInstance)
  assert.equal(answer(start, done, create('a'), start, other, check('a')), 0)
})
