/** The model of tests/proof/protocol-model.ts, searched: the helper's rules have no fault, and the rules known to be wrong show theirs. */
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { inPart, report, seconds, type Row } from './figures.ts'
import { draftTwoRenames, draftWithoutBootstrap, explore, neverForgets, noStore, ours, type Rules } from './protocol-model.ts'

const crashes = inPart ? 3 : 4
const rows: Row[] = []

const search = (rules: Rules, bound = crashes): ReturnType<typeof explore> => {
  const began = performance.now()
  const outcome = explore(rules, bound)
  rows.push({
    rules: rules.name, crashes: bound, states: outcome.states, fault: outcome.fault?.what ?? 'none',
    'steps of the shortest way to it': outcome.fault?.way.length ?? '', seconds: seconds(began),
  })
  if (outcome.fault !== undefined) console.log(`# ${rules.name}: ${outcome.fault.way.join('; ')}`)
  return outcome
}

describe('in every state of the model', () => {
  it("the helper's rules let nobody reclaim illegally, and refuse nobody who may", () => {
    const { fault } = search(ours)
    assert.equal(fault, undefined)
  })
})

describe('the model finds', () => {
  it("the RFC's first edge condition, where there is no store: a lease expires, another client locks, the server restarts", () => {
    const { fault } = search(noStore)
    assert.equal(fault?.what, 'illegal reclaim')
    assert.ok(fault.way.some((action) => action.includes('lease expires')), fault.way.join('\n'))
    assert.equal(fault.way.filter((action) => action === 'the server crashes').length, 1, fault.way.join('\n'))
  })
  it("the RFC's second edge condition, where grace done forgets nobody: a client misses one grace period, and reclaims in the next", () => {
    const { fault } = search(neverForgets)
    assert.equal(fault?.what, 'illegal reclaim')
    assert.ok(!fault.way.some((action) => action.includes('lease expires')), fault.way.join('\n'))
    assert.equal(fault.way.filter((action) => action === 'the server crashes').length, 2, fault.way.join('\n'))
  })
  it('that the draft of 2010 has no bootstrap: nobody may ever reclaim', () => {
    const { fault } = search(draftWithoutBootstrap)
    assert.equal(fault?.what, 'legal reclaim refused')
  })
  it('that a crash between the two renames of the draft of 2010 loses every client', () => {
    const { fault } = search(draftTwoRenames)
    assert.equal(fault?.what, 'legal reclaim refused')
    const crash = fault.way.lastIndexOf('the server crashes')
    assert.equal(fault.way[crash - 1], 'ending: one step', fault.way.join('\n'))
  })
  after(() => { report({ technique: 'protocol-model', rows }) })
})
