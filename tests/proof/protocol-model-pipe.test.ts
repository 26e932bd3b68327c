/**
 * A search of the model of tests/proof/protocol-model-pipe.ts: the rules of `serve` have no fault, and rules that are
 * wrong in one point show theirs.
 */
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { inPart, report, seconds, type Row } from './figures.ts'
import {
  explorePipe,
  serve,
  wrongAtThePipe,
  type Limits,
  type PipeFault,
  type PipeOutcome,
  type PipeRules,
} from './protocol-model-pipe.ts'

const rows: Row[] = []

function search(rules: PipeRules, limits: Limits): PipeOutcome {
  const began = performance.now()
  const outcome = explorePipe(rules, limits)
  const { stops, kills, failures, helper, untracked, unseen, alone } = limits
  rows.push({
    rules: rules.name,
    beside: [
      ...(helper === true ? ['the helper'] : []),
      ...(untracked === true ? ['no serve'] : []),
      ...(alone === true ? ['one client'] : []),
      ...(unseen === undefined ? [] : [`another program${unseen === 'noticed' ? '' : ', noticed or not'}`]),
    ].join(', '),
    stops,
    kills,
    failures,
    states: outcome.states,
    fault: outcome.fault?.what ?? 'none',
    'steps of the shortest way to it': outcome.fault?.way.length ?? '',
    seconds: seconds(began),
  })
  return outcome
}

const limits = (stops: number, kills: number, failures: number): Limits => ({ stops, kills, failures })

describe('in every state of the model serve lets nobody reclaim illegally, refuses nobody who may, and leaves no thread behind', () => {
  const worlds: readonly (readonly [title: string, whole: Limits, part: Limits])[] = [
    ['killed between any two steps', limits(2, 1, 0), limits(1, 1, 0)],
    ['killed twice, so that a start is begun three times', limits(1, 2, 0), limits(0, 2, 0)],
    ['with storage that fails', limits(2, 0, 1), limits(1, 0, 1)],
    ['with storage that fails, and killed as well', limits(1, 1, 1), limits(0, 1, 1)],
    [
      'with storage that fails, and instances that ask by the helper between',
      { ...limits(2, 0, 1), helper: true },
      { ...limits(1, 0, 1), helper: true },
    ],
    ['with storage that fails twice, and killed in between', limits(0, 1, 2), limits(0, 0, 2)],
    [
      'with instances whose start another program answered',
      { ...limits(2, 0, 0), unseen: 'noticed' },
      { ...limits(1, 0, 0), unseen: 'noticed' },
    ],
    [
      'with instances whose start another program answered, and killed',
      { ...limits(1, 1, 0), unseen: 'noticed' },
      { ...limits(0, 1, 0), unseen: 'noticed' },
    ],
    [
      'with instances whose start another program answered, and storage that fails',
      { ...limits(1, 0, 1), unseen: 'noticed' },
      { ...limits(0, 0, 1), unseen: 'noticed' },
    ],
    [
      'with instances that ask by the helper, and instances that start while nobody reads',
      { ...limits(1, 1, 0), helper: true, untracked: true },
      { ...limits(1, 0, 0), helper: true, untracked: true },
    ],
  ]
  for (const [title, whole, part] of worlds)
    it(title, () => {
      const { fault } = search(serve, inPart ? part : whole)
      assert.equal(fault, undefined, fault?.way.join('\n'))
    })
})

// A model has nothing of the program in it: what it finds changes only with the model, so a pull request need not wait.
describe('the model finds', { skip: inPart }, () => {
  const faults: Readonly<Record<keyof typeof wrongAtThePipe, readonly [PipeFault, Limits]>> = {
    'it answers before the barrier': ['legal reclaim refused', limits(1, 0, 0)],
    'it reads the last byte before the journal': ['a thread waits for ever', limits(0, 1, 0)],
    'it answers before it reads the last byte': ['a message is answered before it is read', limits(0, 0, 0)],
    'it reads a message whole, as nfsdcld does': ['a thread waits for ever', limits(0, 1, 0)],
    'it makes no mark when a remove fails': ['illegal reclaim', limits(1, 0, 1)],
    'it makes no mark when an end of grace fails': ['illegal reclaim', limits(2, 0, 1)],
    'it makes no mark when a start fails': ['illegal reclaim', limits(2, 0, 1)],
    'it takes a start that is asked for again after a kill for one that ran without it': [
      'legal reclaim refused',
      limits(1, 1, 0),
    ],
    'it tries again in whatever instance is the current one': ['illegal reclaim', { ...limits(2, 0, 1), helper: true }],
    'it tries again what a later message of the same client has settled': ['legal reclaim refused', limits(1, 0, 1)],
    'it says the answers of the journal at once': ['a message is answered before it is read', limits(0, 1, 0)],
    'it says no answer of the journal': ['a thread waits for ever', limits(0, 1, 0)],
    "it says another pipe's answers": ['a message is answered before it is read', limits(1, 1, 0)],
    'it takes its mark away when anything has been done': ['illegal reclaim', limits(1, 0, 1)],
    'it takes the mark of the process before for its own': ['illegal reclaim', limits(1, 1, 1)],
    'its list keeps what a later message has settled': ['legal reclaim refused', { ...limits(1, 1, 1), alone: true }],
    'it writes its list when it has answered': ['legal reclaim refused', { ...limits(1, 1, 1), alone: true }],
    'it goes on in the records that it finds, whoever has started the server': [
      'illegal reclaim',
      { ...limits(2, 0, 0), unseen: 'noticed' },
    ],
    'it takes a server for another one after a kill': ['legal reclaim refused', limits(1, 1, 0)],
    'it does not note a server that asks nothing': ['illegal reclaim', { ...limits(2, 0, 0), unseen: 'noticed' }],
    'it names whom it knew where a start could not be recorded': ['illegal reclaim', limits(2, 0, 1)],
    'it makes no mark before a start': ['illegal reclaim', { ...limits(2, 1, 0), untracked: true }],
  }
  it('what nobody can know: a server that comes and goes beside another program', () => {
    assert.equal(
      search({ ...serve, name: 'serve, which does not see it' }, { ...limits(2, 0, 0), unseen: 'or not' }).fault?.what,
      'illegal reclaim',
    )
  })
  for (const [name, [what, within]] of Object.entries(faults))
    it(`${what}, if ${name}`, () => {
      const rules: PipeRules = { ...serve, ...wrongAtThePipe[name as keyof typeof wrongAtThePipe], name }
      assert.equal(search(rules, within).fault?.what, what)
    })
  after(() => {
    report({ technique: 'protocol-model-pipe', rows })
  })
})
