/**
 * A search of the model of tests/proof/protocol-model.ts: the helper's rules have no fault, and rules known to be wrong
 * show theirs.
 */
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { inPart, report, seconds, type Row } from './figures.ts'
import {
  draftTwoRenames,
  draftWithoutBootstrap,
  explore,
  neverForgets,
  noStore,
  ours,
  wrong,
  type Event,
  type Outcome,
  type Rules,
} from './protocol-model.ts'

const rows: Row[] = []

/** `stops`: how often the server stops. */
function search(rules: Rules, stops: number, events: readonly Event[] = []): Outcome {
  const began = performance.now()
  const outcome = explore(rules, stops, events)
  rows.push({
    rules: rules.name,
    beside: events.join(', '),
    stops,
    states: outcome.states,
    fault: outcome.fault?.what ?? 'none',
    'steps of the shortest way to it': outcome.fault?.way.length ?? '',
    seconds: seconds(began),
  })
  if (outcome.fault !== undefined)
    console.log(`# ${rules.name}: ${outcome.fault.way.filter((step) => !/: call \d+$/.test(step)).join('; ')}`)
  return outcome
}

/** What may happen, and the largest number of stops. The second number is for pull requests. */
const worlds: readonly {
  readonly title: string
  readonly events: readonly Event[]
  readonly stops: readonly [number, number]
}[] = [
  { title: 'crashes anywhere', events: [], stops: [4, 3] },
  {
    title:
      "a client of the kernel's own tracker, and starts that die, after which the kernel asks again or goes on without us",
    events: ['legacy', 'a start dies'],
    stops: [3, 2],
  },
  {
    title: "a client of the kernel's own tracker, and ends of grace that die when they have committed",
    events: ['legacy', 'an end of grace dies'],
    stops: [3, 2],
  },
  {
    title: 'removes and ends of grace that the storage refuses',
    events: ['a remove is refused', 'an end of grace is refused'],
    stops: [3, 1],
  },
  {
    title: "ends of grace that the storage refuses, or that are lost and seen by an upcall that can't record them",
    events: ['an end of grace is refused', 'an end of grace is seen, and not recorded'],
    stops: [3, 2],
  },
  {
    title: 'an end of grace that a person types, and that sleeps between any two of its calls',
    events: ['by hand'],
    stops: [2, 1],
  },
  {
    title: 'upcalls that are killed when they have begun, while the machine stays up',
    events: ['a remove is lost', 'a create is lost', 'an end of grace is lost'],
    stops: [3, 2],
  },
  { title: 'release 0.1.0 before, and an upgrade at any start', events: ['format 1'], stops: [3, 2] },
  { title: 'a state directory that is wiped under the server', events: ['wiped'], stops: [3, 2] },
]

describe("in every state of the model the helper's rules let nobody reclaim illegally, and refuse nobody who may", () => {
  for (const {
    title,
    events,
    stops: [all, part],
  } of worlds)
    it(title, () => {
      const { fault } = search(ours, inPart ? part : all, events)
      assert.equal(fault, undefined)
    })
})

const stopsIn = (way: readonly string[]): number =>
  way.filter((action) => action === 'the machine crashes' || action === 'the server is stopped').length

// A model has nothing of the program in it: what it finds changes only with the model, so a pull request need not wait.
describe('the model finds', { skip: inPart }, () => {
  it("the RFC's first edge condition, where there is no store: a lease expires, another client locks, the server restarts", () => {
    const { fault } = search(noStore, 2)
    assert.equal(fault?.what, 'illegal reclaim')
    assert.ok(
      fault.way.some((action) => action.includes('lease expires')),
      fault.way.join('\n'),
    )
    assert.equal(stopsIn(fault.way), 1, fault.way.join('\n'))
  })
  it("the RFC's second edge condition, where grace done forgets nobody: a client misses one grace period, and reclaims in the next", () => {
    const { fault } = search(neverForgets, 2)
    assert.equal(fault?.what, 'illegal reclaim')
    assert.ok(!fault.way.some((action) => action.includes('lease expires')), fault.way.join('\n'))
    assert.equal(stopsIn(fault.way), 2, fault.way.join('\n'))
  })
  it('that the draft of 2010 has no bootstrap: nobody may ever reclaim', () => {
    assert.equal(search(draftWithoutBootstrap, 2).fault?.what, 'legal reclaim refused')
  })
  it('that a crash between the two renames of the draft of 2010 loses every client', () => {
    const { fault } = search(draftTwoRenames, 2)
    assert.equal(fault?.what, 'legal reclaim refused')
    const crash = fault.way.lastIndexOf('the machine crashes')
    assert.equal(fault.way[crash - 1], 'ending: call 1', fault.way.join('\n'))
  })
  const faults: Readonly<
    Record<keyof typeof wrong, readonly [NonNullable<Outcome['fault']>['what'], number, ...Event[]]>
  > = {
    'a check with a session takes a legacy client over': ['illegal reclaim', 2, 'legacy'],
    'a legacy client is taken over, and a first grace period forgotten': ['legal reclaim refused', 2, 'legacy'],
    'the end of grace forgets no legacy client': ['illegal reclaim', 2, 'legacy'],
    'an end of grace that died is not followed up': ['illegal reclaim', 2, 'legacy', 'an end of grace dies'],
    'a start makes no mark': ['illegal reclaim', 3, 'a start dies'],
    'a start takes its mark away before it tidies up': ['illegal reclaim', 3, 'a start dies'],
    'an instance without a tracker spares legacy clients': ['illegal reclaim', 2, 'legacy', 'a start dies'],
    'the end of grace completes whatever instance it finds when it wakes up': ['legal reclaim refused', 2, 'by hand'],
    'a sweep removes what is older than the current instance': ['legal reclaim refused', 2],
    'of two facts the one that was written last counts': ['legal reclaim refused', 2, 'by hand'],
    'a remove that the storage refuses leaves no mark': ['illegal reclaim', 1, 'a remove is refused'],
    'an end of grace that the storage refuses leaves no mark': ['illegal reclaim', 2, 'an end of grace is refused'],
    'a create or a check that can not record the end of grace leaves no mark': [
      'illegal reclaim',
      2,
      'an end of grace is seen, and not recorded',
    ],
    'a start lets nobody reclaim because of it': [
      'legal reclaim refused',
      2,
      'an end of grace is seen, and not recorded',
    ],
    'a remove makes no note': ['illegal reclaim', 2, 'a remove is lost'],
    'an end of grace makes no note': ['illegal reclaim', 2, 'an end of grace is lost'],
    'a create makes no note': ['illegal reclaim', 2, 'a create is lost'],
    'a start does not complete a remove that was cut short': ['illegal reclaim', 2, 'a remove is lost'],
    'a start does not take back a create that was cut short': ['illegal reclaim', 2, 'a create is lost'],
    'a start removes the record of a create that was cut short, wherever it came from': [
      'legal reclaim refused',
      2,
      'a create is lost',
    ],
    'the note of a create replaces that of a remove': ['illegal reclaim', 2, 'a remove is lost', 'a create is lost'],
    'a create that succeeds leaves the note of an earlier one': ['legal reclaim refused', 2, 'a create is lost'],
    'format 1 is brought to format 2 mark of the format first': ['illegal reclaim', 3, 'format 1'],
  }
  for (const [name, [what, stops, ...events]] of Object.entries(faults))
    it(`${what}, if ${name}`, () => {
      assert.equal(search({ ...wrong[name as keyof typeof wrong], name }, stops, events).fault?.what, what)
    })
  after(() => {
    report({ technique: 'protocol-model', rows })
  })
})
