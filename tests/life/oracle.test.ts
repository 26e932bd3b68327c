/** The oracle itself is tested with the two edge conditions of RFC 7530 §9.6.3.4, as the RFC tells them. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { halfway, owing } from './halfway.ts'
import { blank, judge, mayNotReclaim, otherInstance, type Event, type Verdict } from './oracle.ts'

const start: Event = { event: 'start', bootTime: '7' }
const done: Event = { event: 'grace done', bootTime: '7' }
const create = (owner: string, session: 'Y' | 'N' = 'Y'): Event => ({ event: 'create', owner, session })
const check = (owner: string, session: 'Y' | 'N' = 'Y'): Event => ({ event: 'check', owner, session })
const remove = (owner: string): Event => ({ event: 'remove', owner })
const legacy = (owner: string): Event => ({ event: 'legacy', owner })

/** The last verdict of a life. `Y`: from there on `v4_end_grace` reads Y. */
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
  it('a client that was recorded and never left may', () => {
    assert.equal(answer(start, done, create('a'), start, check('a')), 0)
  })
  it('first edge condition: a client whose lease expired before the restart may not', () => {
    assert.equal(answer(start, done, create('a'), remove('a'), start, check('a')), mayNotReclaim)
  })
  it('second edge condition: a client that missed a whole grace period may not', () => {
    assert.equal(answer(start, done, create('a'), start, done, start, check('a')), mayNotReclaim)
  })
  it('a client that missed a grace period may not either if its end was not reported, once grace is seen to be over', () => {
    assert.equal(answer(start, done, create('a'), start, 'Y', check('a')), mayNotReclaim)
  })
})

describe('or became active in a later partial one', () => {
  it('a crash in grace does not lose a client that had reclaimed', () => {
    assert.equal(answer(start, done, create('a'), start, create('a'), start, check('a')), 0)
  })
  it('nor a client that had yet to reclaim', () => {
    assert.equal(answer(start, done, create('a'), start, start, start, check('a')), 0)
  })
  it('nor a new client', () => {
    assert.equal(answer(start, done, start, create('a'), start, check('a')), 0)
  })
  it('nor any client before a grace period ever completed: the beginning counts as the end of the last full instance', () => {
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
  it('may reclaim in the first grace period, also after crashes in it', () => {
    assert.equal(answer(legacy('a'), start, check('a')), 0)
    assert.equal(answer(legacy('a'), start, start, check('a')), 0)
  })
  it('may not later: its check with a session does not record it, and the end of grace forgets it', () => {
    assert.equal(answer(legacy('a'), start, check('a'), done, start, check('a')), mayNotReclaim)
  })
  it('may later, if its check without a session has recorded it', () => {
    assert.equal(answer(legacy('a'), start, check('a', 'N'), done, start, check('a')), 0)
  })
  it('may not once it has left', () => {
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
  it('everybody may who could before, if the kernel asked for one start twice, so that no instance ran between', () => {
    assert.equal(answer(start, done, create('a'), failed('7'), start, check('a')), 0)
  })
  it('nobody may after two different failed starts, because the server ran between them: a later start named like one of them does not change that', () => {
    assert.equal(answer(start, done, create('a'), failed('7'), failed('8'), start, check('a')), mayNotReclaim)
  })
  it('a client that comes afterwards may reclaim again', () => {
    assert.equal(answer(start, done, failed('8'), start, create('a'), start, check('a')), 0)
  })
})

describe('after a remove or an end of grace that failed on the disk', () => {
  const refused: Event = { event: 'not done' }
  it('nobody may reclaim after the next start, but until then nothing changes', () => {
    assert.equal(answer(start, done, create('a'), refused, start, check('a')), mayNotReclaim)
    assert.equal(answer(start, done, create('a'), start, refused, check('a')), 0)
  })
  it('a client that comes afterwards may reclaim again', () => {
    assert.equal(answer(start, done, refused, start, create('a'), start, check('a')), 0)
  })
})

describe('after an end of grace that was seen in the kernel, and could not be recorded', () => {
  const lacks: Event = { event: 'end not recorded' }
  it('the next start records it: clients that were active may reclaim, and those that had not reclaimed may not', () => {
    assert.equal(answer(start, done, create('a'), start, lacks, start, check('a')), mayNotReclaim)
    assert.equal(answer(start, done, create('a'), start, create('a'), lacks, start, check('a')), 0)
  })
  it('if it is recorded, clients that were active may reclaim, and those that had not reclaimed may not', () => {
    assert.equal(answer(start, create('a'), create('b'), done, start, create('a'), lacks, done, start, check('a')), 0)
    assert.equal(
      answer(start, create('a'), create('b'), done, start, create('a'), lacks, done, start, check('b')),
      mayNotReclaim,
    )
  })
})

describe('after an upcall that was killed when it had begun, and the machine stays up', () => {
  /** The answers that may come to the last event, whatever the killed one had done. */
  const answers = (before: readonly Event[], killed: Event, ...after: readonly Event[]): number[] => {
    const memory = blank()
    for (const event of before) judge(memory, event)
    const all = owing(halfway(memory, killed, false), memory, killed, { at: 'begun' }).flatMap((left) =>
      after.map((event) => judge(left, event).statuses[0] ?? -1).slice(-1),
    )
    return [...new Set(all)].sort()
  }
  const recorded = [start, done, create('a'), create('b')]
  it('a client that should have been removed may or may not be there until the next start, and not after it', () => {
    assert.deepEqual(answers(recorded, remove('a'), check('a')), [0, mayNotReclaim])
    assert.deepEqual(answers(recorded, remove('a'), start, check('a')), [mayNotReclaim])
    assert.deepEqual(answers(recorded, remove('a'), start, check('b')), [0])
    assert.deepEqual(answers(recorded, remove('a'), create('a'), start, check('a')), [0], 'it came back')
  })
  it('an end of grace is recorded by the next start', () => {
    const inGrace = [...recorded, start, create('a')]
    assert.deepEqual(answers(inGrace, done, start, check('a')), [0])
    assert.deepEqual(answers(inGrace, done, start, check('b')), [mayNotReclaim])
  })
  it('a client whose create was killed stands as before it, because the kernel will not say when it is gone', () => {
    assert.deepEqual(answers(recorded, create('c'), start, check('c')), [mayNotReclaim])
    assert.deepEqual(answers([...recorded, start], create('a'), start, check('a')), [0])
    assert.deepEqual(answers([...recorded, start], check('a', 'N'), done, start, check('a')), [mayNotReclaim])
    assert.deepEqual(answers([...recorded, start, create('a')], create('a'), done, start, check('a')), [0])
  })
})

describe('a person', () => {
  const byHand = (event: 'expire' | 'allow' | 'import', owner: string): Event => ({ event, owner })
  it('removes a client, in grace or after it', () => {
    assert.equal(answer(start, done, create('a'), byHand('expire', 'a'), start, check('a')), mayNotReclaim)
    assert.equal(answer(start, done, create('a'), start, byHand('expire', 'a'), check('a')), mayNotReclaim)
  })
  it('removes the clients that have not come back, and no others', () => {
    assert.equal(answer(start, done, create('a'), start, { event: 'prune' }, check('a')), mayNotReclaim)
    assert.equal(answer(start, done, create('a'), start, create('a'), { event: 'prune' }, check('a')), 0)
    assert.equal(answer(start, done, create('a'), { event: 'prune' }, start, check('a')), 0)
  })
  it('allows a client until the grace period in which it may reclaim is over', () => {
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
  it('of a client without a session records it', () => {
    assert.equal(answer(start, done, create('a', 'N'), start, check('a', 'N'), done, check('a')), 0)
  })
  it('of a client with a session does not: the kernel has yet to report that it has reclaimed', () => {
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
  it('nor beside a client without a session: it never reports that it is done', () => {
    assert.equal(last(start, create('a', 'N'), create('b'))?.endGrace, 'must not')
  })
})

it('the grace end of another instance ends nothing', () => {
  const other: Event = { event: 'grace done', bootTime: '8' }
  assert.equal(answer(start, other), otherInstance)
  assert.equal(answer(start, done, create('a'), start, other, check('a')), 0)
})
