/**
 * Power cuts, all of them: the model of tests/proof/power-loss.ts says what a disk may hold at each moment of an upcall,
 * every such state is made, and the next start runs on it.
 *
 * The trace begins at the first upcall of a scenario's life, so what earlier upcalls left unsynced may be lost as well.
 */
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { artefacts, settings, type Artefact } from '../artefacts.ts'
import { inPart, report, seconds, type Row } from './figures.ts'
import { mutant, mutations, type Mutant } from './mutants.ts'
import { diskAt } from './power-loss.ts'
import { clientsOf, memoryAfter, scenarios, sequences, upcallFor, type Scenario } from './scenarios.ts'
import { briefly, changing, trace } from './trace.ts'
import { fingerprint, type Tree } from './trees.ts'
import { disagreement, futuresByRule, machineAt, observer, scratch, scrapTree, setGrace, type Futures } from './verdicts.ts'

const rows: Row[] = []
const executable = artefacts().find(({ name }) => name === 'executable')

describe('power lost at any moment of an upcall', { skip: executable === undefined }, () => {
  for (const scenario of [...scenarios, ...sequences])
    it(`in '${scenario.name}': what was acknowledged is there, and nobody else may reclaim`, async () => {
      assert.ok(executable)
      const began = performance.now()
      const { violations, ...counted } = await cutEverywhere(executable, scenario, Infinity)
      assert.deepEqual(violations, [])
      rows.push({ scenario: scenario.name, ...counted, violations: violations.length, seconds: seconds(began) })
    })
  after(() => { report({ technique: 'power-cuts-enumerated', rows }) })
})

/** Which scenario shows which mutant: one is enough. */
const shown: readonly (readonly [Mutant, string])[] = [
  ['no directory fsync', 'create, new, out of grace'],
  ['no file fsync', 'start after a full instance'],
  ['no barrier after an upcall', 'remove out of grace'],
  ['remove syncs one directory', 'check of a v4.0 client, remove, start'],
  ['start commits first', 'start, create, grace done, start: the first life'],
  ['grace done in two renames', 'grace done, some reclaimed'],
  ['grace done commits unsynced moves', 'grace done because of a create that had no time for its barrier'],
  ['sweep before the commit', 'grace done, some reclaimed'],
  ['reclaim by copy, old one first', 'check of a v4.0 client, promoting'],
  ['start in place', 'start after a crash in grace'],
]

describe('the enumeration of power cuts can fail', { skip: executable === undefined }, () => {
  const caught: Row[] = []
  const directory = scratch()
  for (const [name, where] of inPart ? shown.slice(0, 4) : shown)
    it(`and does where ${mutations[name].what}`, async () => {
      const broken = mutant(name, directory)
      const scenario = [...scenarios, ...sequences].find((each) => each.name === where)
      assert.ok(scenario !== undefined, where)
      const { violations } = await cutEverywhere(broken, scenario, 1)
      assert.notEqual(violations.length, 0)
      caught.push({ broken: mutations[name].what, 'caught in': where, how: violations[0]?.replace(/^.*?: /, '') ?? '' })
    })
  after(() => {
    report({ technique: 'power-cuts-enumerated-mutants', rows: caught })
    scrapTree({ dir: directory, stateDir: directory, nfsdDir: directory })
  })
})

interface Counted {
  readonly 'crash points': number
  readonly 'raw states': number
  readonly 'distinct states': number
  readonly bounded: number
  readonly violations: string[]
}

/** Traces a scenario's life and asks about every state that a cut in its act may leave. Stops at `enough` violations. */
async function cutEverywhere(artefact: Artefact, scenario: Scenario, enough: number): Promise<Counted> {
  const machine = machineAt(scratch())
  const top = machine.dir
  const disk = diskAt(top)
  const clients = clientsOf(scenario)
  const { ask, seen } = observer(artefact, clients, 'power cut')
  const counted = { points: 0, raw: 0, bounded: 0 }
  const violations: string[] = []
  const checked = new Set<string>()

  const cut = async (label: string, allowed: readonly Futures[]): Promise<void> => {
    counted.points++
    for (const whole of disk.afterCut(() => { counted.bounded++ })) {
      counted.raw++
      const state: Tree = within(whole, 'state')
      const key = `${fingerprint(state)}\n${JSON.stringify(allowed)}`
      if (checked.has(key)) continue
      checked.add(key)
      const wrong = disagreement(await ask(state), allowed, 'power cut')
      if (wrong !== undefined) violations.push(`${label}: ${wrong}\n${fingerprint(state)}`)
      if (violations.length >= enough) return
    }
  }

  try {
    let memory = memoryAfter([])
    let bootTime: string | undefined
    for (const [number, event] of [...scenario.before, ...scenario.act].entries()) {
      const inAct = number >= scenario.before.length
      setGrace(machine, inAct ? scenario.grace : undefined)
      if (event.event === 'start') bootTime = event.bootTime
      const { words, env } = upcallFor(event, bootTime)
      const isUnfinished = scenario.unfinished === true && number === scenario.before.length
      const barrier = { name: 'fsync', nth: 1, thread: 0, text: '', paths: [], result: 0, injected: false }
      const traced = await trace(artefact, [...settings(machine), ...words], env,
        isUnfinished ? { call: barrier, what: 'signal=SIGKILL' } : undefined)
      const later = memoryAfter([event], memory, inAct ? scenario.grace : undefined)
      // An end of grace that nobody told us is made up for first; before the barrier either may be on the disk alone.
      const healed = scenario.grace === 'over'
        ? [memoryAfter([{ event: 'grace done', bootTime: undefined }], memory), memoryAfter([event], memory)]
        : []
      const unacknowledged = [memory, ...healed, later].map((each) => futuresByRule(each, clients))
      for (const call of changing(traced.calls, machine.stateDir.replace(/\/state$/, ''))) {
        if (inAct && !isUnfinished) await cut(`before ${briefly(call, top)} of ${event.event}`, unacknowledged)
        if (violations.length >= enough) break
        if (!call.paths.some((path) => path.startsWith(machine.nfsdDir))) disk.apply(call)
      }
      const mustHold = traced.status === 0 ? [futuresByRule(later, clients)] : unacknowledged
      if (inAct && !isUnfinished && violations.length < enough) await cut(`after ${event.event} was acknowledged`, mustHold)
      memory = later
    }
  } finally {
    scrapTree(machine)
  }
  return { 'crash points': counted.points, 'raw states': counted.raw, 'distinct states': seen(), bounded: counted.bounded, violations }
}

/** The part of a tree below one of its directories. */
function within(tree: Tree, directory: string): Tree {
  const part = new Map(tree)
  part.clear()
  for (const [path, node] of tree) {
    if (path === directory) part.set('', node)
    else if (path.startsWith(`${directory}/`)) part.set(path.slice(directory.length + 1), node)
  }
  return part
}
