/**
 * A barrier fails, and then the power is cut. Each fsync of each upcall fails with EIO in turn. Every state in which
 * the disk may then be is tried, and again after the upcall was repeated and has succeeded.
 *
 * A failed fsync is assumed to have made nothing durable, which is the least that it may do. A later fsync of the same
 * directory counts: a journalling file system that has lost a directory's change lets no later fsync succeed. A later
 * fsync of the same file might succeed falsely. So the helper never syncs a file twice, but writes a new one.
 */
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { judge } from '../life/oracle.ts'
import { artefacts, type Artefact } from '../support/artefacts.ts'
import { briefly, type Fault } from '../support/strace.ts'
import { inPart, report, seconds } from './figures.ts'
import { mutations, withMutant } from './mutants.ts'
import { cutterFor, watcherOf } from './power-cutter.ts'
import { eitherWay, isEssential, isTraced, memoryAfter, remember, scenarios, type Scenario } from './scenarios.ts'
import { futuresByRule, machineRestarts, onlyTidying } from './verdicts.ts'

const executable = artefacts().find(({ name }) => name === 'executable')
/** What is run for a pull request: one scenario of each verb except start, which has the most states. */
const chosen = inPart
  ? scenarios.filter((each) => isEssential(each) && isTraced(each) && !/start|again|longest/.test(each.name))
  : scenarios.filter(isTraced)

describe('a barrier fails, then the power goes', { skip: executable === undefined }, () => {
  const began = performance.now()
  const total = { barriers: 0, points: 0, states: 0, violations: 0 }
  for (const scenario of chosen)
    it(`in '${scenario.name}': not acknowledged, nothing earlier lost, and durable when it is repeated`, async () => {
      assert.ok(executable)
      const { barriers, points, states, violations } = await failEachBarrier(executable, scenario)
      total.barriers += barriers
      total.points += points
      total.states += states
      total.violations += violations.length
      assert.deepEqual(violations, [])
    })
  after(() => {
    report({
      technique: 'power-cuts-after-failure',
      rows: [
        {
          scenarios: chosen.length,
          'barriers failed': total.barriers,
          'crash points': total.points,
          'distinct states': total.states,
          violations: total.violations,
          seconds: seconds(began),
        },
      ],
    })
  })
})

describe('the cut after a failure can show a loss', { skip: executable === undefined }, () => {
  it(`and does where ${mutations['failed barrier forgiven'].what}`, async () => {
    const scenario = scenarios.find(({ name }) => name === 'create, new, out of grace')
    assert.ok(scenario)
    await withMutant('failed barrier forgiven', async (broken) => {
      const { violations } = await failEachBarrier(broken, scenario)
      const [loss] = violations.filter((violation) => violation.includes('by the rule'))
      assert.ok(loss, violations.join('\n'))
      report({
        technique: 'power-cuts-after-failure-mutants',
        rows: [
          {
            broken: mutations['failed barrier forgiven'].what,
            'caught in': scenario.name,
            how: loss.split('\n')[0] ?? '',
          },
        ],
      })
    })
  })
})

/** One life for each barrier of the upcall. */
async function failEachBarrier(
  artefact: Artefact,
  scenario: Scenario,
): Promise<{ barriers: number; points: number; states: number; violations: string[] }> {
  const [event] = scenario.act
  assert.ok(event)
  const before = memoryAfter(scenario.before)
  const found = { barriers: 0, points: 0, states: 0, violations: [] as string[] }
  const watching = watcherOf(artefact, scenario)
  for (let nth = 1, more = true; more; nth++) {
    const cutter = cutterFor(artefact, scenario, Infinity, watching)
    try {
      for (const earlier of scenario.before)
        for (const call of (await cutter.upcall(earlier)).changes) cutter.follow(call)
      const fault: Fault = {
        call: { name: 'fsync', nth, thread: 0, text: '', paths: [], result: 0, injected: false },
        what: 'error=EIO',
      }
      const failed = await cutter.upcall(event, scenario.grace, fault)
      const met = failed.calls.find(({ injected }) => injected)
      more = met !== undefined
      if (met === undefined) continue
      found.barriers++
      const label = `EIO from ${briefly(met, cutter.machine.dir)}`
      for (const call of failed.changes) cutter.follow(call)
      const either = eitherWay(scenario, before, event).map((memory) => futuresByRule(memory, cutter.clients))
      const held = [futuresByRule(memoryAfter([event], before, scenario.grace), cutter.clients)]
      // A call that only tidies up may fail. The cut then shows that the failure does no harm.
      if (failed.status === 0 && !onlyTidying.test(failed.stderr))
        found.violations.push(`${label}: status 0 after a failed barrier`)
      await cutter.cut(`${label}, then a power cut`, failed.status === 0 ? held : either)

      machineRestarts(cutter.machine)
      const again = await cutter.upcall(event, scenario.grace)
      for (const call of again.changes) cutter.follow(call)
      if (
        !judge(remember(before), event, { graceOver: scenario.grace === 'over' }).statuses.includes(
          Number(again.status),
        )
      )
        found.violations.push(`${label}, then repeated: status ${again.status}`)
      await cutter.cut(`${label}, repeated, then a power cut`, held)
      const counted = cutter.counted()
      found.points += counted['crash points']
      found.states = counted['distinct states']
      found.violations.push(...counted.violations)
    } finally {
      cutter.scrap()
    }
  }
  return found
}
