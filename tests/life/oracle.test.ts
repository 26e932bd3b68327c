/** The judge is judged by the two edge conditions that RFC 7530 §9.6.3.4 warns of, told as it tells them. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { blank, judge, mayNotReclaim, otherInstance, type Event, type Verdict } from './oracle.ts'

const start: Event = { event: 'start', bootTime: '7' }
const done: Event = { event: 'grace done', bootTime: '7' }
const create = (owner: string, session: 'Y' | 'N' = 'Y'): Event => ({ event: 'create', owner, session })
const check = (owner: string, session: 'Y' | 'N' = 'Y'): Event => ({ event: 'check', owner, session })
const remove = (owner: string): Event => ({ event: 'remove', owner })
const legacy = (owner: string): Event => ({ event: 'legacy', owner })

/** The last verdict of a life. `Y`: what v4_end_grace reads from there on. */
function last(...events: readonly (Event | 'Y')[]): Verdict | undefined {
  const memory = blank()
  let graceOver = false,
    verdict: Verdict | undefined
  for (const event of events) {
    if (event === 'Y') graceOver = true
    else {
      if (event.event === 'start') graceOver = false
      verdict = judge(memory, event, { graceOver })
    }
  }
  return verdict
}

const answer = (...events: readonly (Event | 'Y')[]): number | undefined => last(...events)?.statuses[0]

describe('a client may reclaim if it was active at the end of the last full instance', () => {
  it('so one that was recorded, and never left, may', () => {
    assert.equal(answer(start, done, create('a'), start, check('a')), 0)
  })
  it('first edge condition: one whose lease expired before the restart may not', () => {
    assert.equal(answer(start, done, create('a'), remove('a'), start, check('a')), mayNotReclaim)
  })
  it('second edge condition: one that missed a whole grace period may not', () => {
    assert.equal(answer(start, done, create('a'), start, done, start, check('a')), mayNotReclaim)
  })
  it('and one that missed a grace period whose end nobody told us of may not, once we see that grace is over', () => {
    assert.equal(answer(start, done, create('a'), start, 'Y', check('a')), mayNotReclaim)
  })
})

describe('or became active in a later partial one', () => {
  it('so a crash in grace loses nobody: not who had reclaimed', () => {
    assert.equal(answer(start, done, create('a'), start, create('a'), start, check('a')), 0)
  })
  it('nor who had yet to', () => {
    assert.equal(answer(start, done, create('a'), start, start, start, check('a')), 0)
  })
  it('nor who was new', () => {
    assert.equal(answer(start, done, start, create('a'), start, check('a')), 0)
  })
  it('also before any grace period ever completed: the beginning counts as the end of the last full instance', () => {
    assert.equal(answer(start, create('a'), start, check('a')), 0)
    assert.equal(answer(start, create('a'), start, start, check('a')), 0)
    assert.equal(
      answer(start, create('a'), start, done, start, check('a')),
      mayNotReclaim,
      'it missed the first grace period that completed',
    )
  })
})

describe("a client that only the kernel's own tracker knows", () => {
  it('may reclaim in a grace period that it could know of, over crashes', () => {
    assert.equal(answer(legacy('a'), start, check('a')), 0)
    assert.equal(answer(legacy('a'), start, start, check('a')), 0)
  })
  it('and no later: its check with a session is no record, and the end of grace forgets it', () => {
    assert.equal(answer(legacy('a'), start, check('a'), done, start, check('a')), mayNotReclaim)
  })
  it('unless its check without a session has made it active', () => {
    assert.equal(answer(legacy('a'), start, check('a', 'N'), done, start, check('a')), 0)
  })
  it('and may not once it has left', () => {
    assert.equal(answer(legacy('a'), start, remove('a'), check('a')), mayNotReclaim)
  })
  it('is waited for: grace does not end early', () => {
    assert.equal(last(legacy('a'), start, create('b'))?.endGrace, 'must not')
  })
})

describe('after an instance that ran without a tracker', () => {
  const failed = (bootTime: string | undefined): Event => ({ event: 'failed start', bootTime })
  it('nobody may reclaim: it may have granted anything', () => {
    assert.equal(answer(start, done, create('a'), failed('8'), start, check('a')), mayNotReclaim)
    assert.equal(answer(legacy('a'), failed('8'), start, check('a')), mayNotReclaim)
    assert.equal(answer(start, done, create('a'), failed(undefined), start, check('a')), mayNotReclaim)
  })
  it('unless the kernel asked for one start twice, so that no instance ran', () => {
    assert.equal(answer(start, done, create('a'), failed('7'), start, check('a')), 0)
  })
  it('which is no such start if it has run, and only bears the same name', () => {
    assert.equal(answer(start, done, create('a'), failed('7'), failed('8'), start, check('a')), mayNotReclaim)
  })
  it('and whoever comes then may reclaim again', () => {
    assert.equal(answer(start, done, failed('8'), start, create('a'), start, check('a')), 0)
  })
})

describe('after a remove or an end of grace that the storage refused', () => {
  const refused: Event = { event: 'not done' }
  it('nobody may reclaim, but who reclaims already may go on', () => {
    assert.equal(answer(start, done, create('a'), refused, start, check('a')), mayNotReclaim)
    assert.equal(answer(start, done, create('a'), start, refused, check('a')), 0)
  })
  it('and whoever comes then may reclaim again', () => {
    assert.equal(answer(start, done, refused, start, create('a'), start, check('a')), 0)
  })
})

describe('after an end of grace that the kernel shows, and that could not be recorded', () => {
  const lacks: Event = { event: 'end not recorded' }
  it('nobody may reclaim, if nobody records it before the next start', () => {
    assert.equal(answer(start, done, create('a'), start, lacks, start, check('a')), mayNotReclaim)
  })
  it('whoever was active may reclaim, if somebody does, and who had not reclaimed may not', () => {
    assert.equal(answer(start, create('a'), create('b'), done, start, create('a'), lacks, done, start, check('a')), 0)
    assert.equal(
      answer(start, create('a'), create('b'), done, start, create('a'), lacks, done, start, check('b')),
      mayNotReclaim,
    )
  })
})

describe('a person', () => {
  const byHand = (event: 'expire' | 'allow' | 'import', owner: string): Event => ({ event, owner })
  it('takes a client out, in grace or after it', () => {
    assert.equal(answer(start, done, create('a'), byHand('expire', 'a'), start, check('a')), mayNotReclaim)
    assert.equal(answer(start, done, create('a'), start, byHand('expire', 'a'), check('a')), mayNotReclaim)
  })
  it('takes out whoever has not come back, and nobody else', () => {
    assert.equal(answer(start, done, create('a'), start, { event: 'prune' }, check('a')), mayNotReclaim)
    assert.equal(answer(start, done, create('a'), start, create('a'), { event: 'prune' }, check('a')), 0)
    assert.equal(answer(start, done, create('a'), { event: 'prune' }, start, check('a')), 0)
  })
  it('lets a client in until the grace period that it may reclaim in is over', () => {
    assert.equal(answer(start, done, byHand('allow', 'a'), start, check('a')), 0)
    assert.equal(answer(start, done, start, byHand('allow', 'a'), check('a')), 0)
    assert.equal(answer(start, done, start, byHand('allow', 'a'), done, start, check('a')), mayNotReclaim)
  })
  it('brings clients from elsewhere, and loses none by it', () => {
    assert.equal(answer(byHand('import', 'a'), start, check('a')), 0)
    assert.equal(answer(start, create('a'), byHand('import', 'b'), start, check('a')), 0)
    assert.equal(answer(byHand('import', 'a'), start, done, start, check('a')), mayNotReclaim)
  })
})

describe('a check', () => {
  it('of a client without a session is its record', () => {
    assert.equal(answer(start, done, create('a', 'N'), start, check('a', 'N'), done, check('a')), 0)
  })
  it('of a client with a session is not: it has yet to say that it is done', () => {
    assert.equal(answer(start, done, create('a'), start, check('a'), done, check('a')), mayNotReclaim)
  })
})

describe('grace may end early', () => {
  it('when the last client with a session is done', () => {
    assert.equal(last(start, done, create('a'), start, create('a'))?.endGrace, 'must')
  })
  it('but not while somebody may still reclaim', () => {
    assert.equal(last(start, done, create('a'), create('b'), start, create('a'))?.endGrace, 'must not')
  })
  it('nor beside a client without a session: it never says that it is done', () => {
    assert.equal(last(start, create('a', 'N'), create('b'))?.endGrace, 'must not')
  })
})

it('the grace end of another instance ends nothing', () => {
  const other: Event = { event: 'grace done', bootTime: '8' }
  assert.equal(answer(start, other), otherInstance)
  assert.equal(answer(start, done, create('a'), start, other, check('a')), 0)
})
