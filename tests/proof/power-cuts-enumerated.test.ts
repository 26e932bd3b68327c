/**
 * All power cuts. The model of tests/proof/power-loss.ts says what a disk may hold at each moment of an upcall. Every
 * such state is made, and the next start runs on it.
 *
 * The trace begins with the first upcall of a scenario's life. So what earlier upcalls have not synced may be lost too.
 */
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { removeSync } from 'fs-extra/esm'
import { artefacts, type Artefact } from '../support/artefacts.ts'
import { briefly } from '../support/strace.ts'
import { inPart, report, seconds, type Row } from './figures.ts'
import { mutant, mutations, type Mutant } from './mutants.ts'
import { cutterFor, type Counted } from './power-cutter.ts'
import { eitherWay, isEssential, isTraced, memoryAfter, scenarios, sequences, type Scenario } from './scenarios.ts'
import { futuresByRule, scratch } from './verdicts.ts'

const rows: Row[] = []
const executable = artefacts().find(({ name }) => name === 'executable')

/** Sequences that are also run for a pull request. They have few states. */
const quick = ['check of a v4.0 client, remove, start', 'remove, then create again']

describe('power lost at any moment of an upcall', { skip: executable === undefined }, () => {
  for (const scenario of [...scenarios.filter(isTraced), ...sequences].filter(
    (each) => !inPart || isEssential(each) || quick.includes(each.name),
  ))
    it(`in '${scenario.name}': what was acknowledged is durable, and nobody else may reclaim`, async () => {
      assert.ok(executable)
      const began = performance.now()
      const { violations, ...counted } = await cutEverywhere(executable, scenario, Infinity)
      rows.push({ scenario: scenario.name, ...counted, violations: violations.length, seconds: seconds(began) })
      assert.deepEqual(violations, [])
    })
  after(() => {
    report({ technique: 'power-cuts-enumerated', rows })
  })
})

/** The scenario that finds each mutant. One is enough. */
const shown: readonly (readonly [Mutant, string])[] = [
  ['no directory fsync', 'create, new, out of grace'],
  ['no barrier after an upcall', 'remove out of grace'],
  ['remove syncs one directory', 'check of a v4.0 client, remove, start'],
  ['start without a barrier', 'start, create, grace done, start: the first life'],
  ['grace done commits unsynced moves', 'grace done because of a create that had no time for its barrier'],
  ['sweep before the commit', 'grace done, some reclaimed'],
  ['reclaim by copy, old one first', 'check of a v4.0 client, promoting'],
  ['first grace forgotten', 'start after a crash in the first grace'],
]

describe('the enumeration of power cuts can fail', { skip: executable === undefined }, () => {
  const caught: Row[] = []
  const directory = scratch()
  for (const [name, where] of inPart ? shown.slice(0, 3) : shown)
    it(`and does where ${mutations[name].what}`, async () => {
      const broken = mutant(name, directory)
      const scenario = [...scenarios, ...sequences].find((each) => each.name === where)
      assert.ok(scenario !== undefined, where)
      const { violations } = await cutEverywhere(broken, scenario, 1)
      assert.notEqual(violations.length, 0)
      caught.push({ broken: mutations[name].what, 'caught in': where, how: violations[0]?.split('\n')[0] ?? '' })
    })
  after(() => {
    report({ technique: 'power-cuts-enumerated-mutants', rows: caught })
    removeSync(directory)
  })
})

/** Traces a scenario's life, and asks about every state that a cut in its act may leave, up to `enough` violations. */
async function cutEverywhere(artefact: Artefact, scenario: Scenario, enough: number): Promise<Counted> {
  const cutter = cutterFor(artefact, scenario, enough)
  const { clients } = cutter
  try {
    let memory = memoryAfter([])
    for (const [number, event] of [...scenario.before, ...scenario.act].entries()) {
      const inAct = number >= scenario.before.length
      const isUnfinished = scenario.unfinished === true && number === scenario.before.length
      const barrier = { name: 'fsync', nth: 1, thread: 0, text: '', paths: [], result: 0, injected: false }
      const { changes, status } = await cutter.upcall(
        event,
        inAct ? scenario.grace : undefined,
        isUnfinished ? { call: barrier, what: 'signal=SIGKILL' } : undefined,
      )
      const later = memoryAfter([event], memory, inAct ? scenario.grace : undefined)
      const unacknowledged = eitherWay(scenario, memory, event).map((each) => futuresByRule(each, clients))
      for (const call of changes) {
        if (inAct && !isUnfinished)
          await cutter.cut(`before ${briefly(call, cutter.machine.dir)} of ${event.event}`, unacknowledged)
        if (cutter.isEnough()) break
        cutter.follow(call)
      }
      const mustHold = status === 0 ? [futuresByRule(later, clients)] : unacknowledged
      if (inAct && !isUnfinished) await cutter.cut(`after ${event.event} was acknowledged`, mustHold)
      memory = later
    }
    return cutter.counted()
  } finally {
    cutter.scrap()
  }
}
