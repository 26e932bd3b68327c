/**
 * Kills: the process dies at every call that changes the state directory, at its end, and twice in a row.
 *
 * After each kill, the state must mean what it meant before the upcall or after it, and nothing else. The upcall,
 * repeated, must succeed without waiting for the dead process, and then everything must be as after it. How much longer
 * than usual it took is only reported, because times prove nothing on a busy machine. A kill does not show a missing
 * fsync, because the page cache survives it. The power cuts do.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { halfway, owing, Progress } from '../life/halfway.ts'
import type { Event, Owner } from '../life/oracle.ts'
import { quickest, settings, type Artefact, type Machine, type Said } from '../support/artefacts.ts'
import { briefly, changes, changing, struckAt, touching, trace, type Call, type Traced } from '../support/strace.ts'
import { each, inPart, report, seconds, type Row } from './figures.ts'
import type { Futures } from './futures.ts'
import { subjects } from './mutants.ts'
import {
  bootTimeAt,
  check,
  clientsOf,
  isEssential,
  memoryAfter,
  scenarios,
  start,
  upcallFor,
  type Scenario,
} from './scenarios.ts'
import { plant, readTree, type Tree } from './trees.ts'
import {
  call,
  disagreement,
  futuresByRule,
  machineAt,
  observer,
  patienceMs,
  prepared,
  readable,
  scratch,
  scrapTree,
  setGrace,
} from './verdicts.ts'

const rows: Row[] = []
/**
 * A run that takes this many ms longer than usual is measured again. A busy machine is slow now and then; a real wait
 * comes every time.
 */
const repeatMs = 100
const attempts = inPart ? 1 : 10

for (const artefact of subjects()) {
  // Node starts slowly, and makes the same calls, so a part of a part is enough.
  const chosen = !inPart
    ? scenarios
    : artefact.name === 'executable'
      ? scenarios.filter(isEssential)
      : scenarios.filter(isEssential).slice(6, 8)
  describe(`the ${artefact.name}, killed`, () => {
    const totals = { points: 0, twice: 0, notFired: 0, slowest: 0, violations: 0 }
    let began = 0
    before(() => {
      began = performance.now()
    })
    for (const scenario of chosen)
      it(`in '${scenario.name}': everything acknowledged holds, and the next upcall waits for nobody`, async () => {
        const counted = await killEverywhere(artefact, scenario).catch((thrown: unknown) => {
          totals.violations++
          throw thrown
        })
        const { points, twice, notFired, slowest } = counted
        totals.points += points
        totals.twice += twice
        totals.notFired += notFired
        totals.slowest = Math.max(totals.slowest, slowest)
      })
    after(() => {
      rows.push({
        artefact: artefact.name,
        scenarios: chosen.length,
        'kill points': totals.points,
        'killed twice': totals.twice,
        'not fired': totals.notFired,
        violations: totals.violations,
        'slowest repeat, ms over normal': Math.round(totals.slowest),
        seconds: seconds(began),
      })
    })
  })
}
after(() => {
  report({ technique: 'kill-points', rows })
})

interface Run {
  readonly traced: Traced
  readonly tree: Tree
  readonly marks: Tree
  readonly dir: string
}

async function killEverywhere(
  artefact: Artefact,
  scenario: Scenario,
): Promise<{ points: number; twice: number; notFired: number; slowest: number }> {
  const [event] = scenario.act
  assert.ok(event !== undefined)
  const { machine, tree } = await prepared(artefact, scenario)
  scrapTree(machine)
  const bootTime = bootTimeAt([...scenario.before, event])

  const run = async (from: Tree, fault?: { call: Call; what: string }): Promise<Run> =>
    on(from, scenario, async (there) => {
      const { words, env } = upcallFor(event, bootTime, there)
      const traced = await trace(artefact, [...settings(there), ...words], env, { fault })
      return { traced, tree: readTree(there.stateDir), marks: readTree(there.runDir), dir: there.dir }
    })
  const killedAt = async (from: Tree, point: Call, was: string): Promise<Run & { isThere: boolean }> =>
    struckAt(point, async (call, isPoint) => {
      const dead = await run(from, { call, what: 'signal=SIGKILL' })
      return { ...dead, isThere: isPoint(dead.traced, 'signal=SIGKILL', was, dead.dir) }
    })
  const clients = clientsOf(scenario)
  const { ask } = observer(quickest(artefact), clients, 'kill')
  const { earlier, afterwards, allowed } = futuresOf(scenario, event)

  const whole = await run(tree)
  const expected = whole.traced.status
  const faults = points(whole)
  const one = touching(whole.traced.calls, `${whole.dir}/state`)
  assert.equal(one.size, 1, `${one.size} threads touched the state directory`)
  assert.equal(disagreement(await ask(whole.tree), [afterwards], 'kill'), undefined, 'without a kill')
  const normal = async (): Promise<number> =>
    (await on(tree, scenario, async (there) => call(artefact, there, event, bootTime))).ms
  const usual = await normal()

  const counted = { points: 0, twice: 0, notFired: 0, slowest: 0 }
  const killed = new Map<string, Run>()
  await each(faults, 2, async (point) => {
    const label = `killed at ${briefly(point, whole.dir)}`
    const dead = await killedAt(tree, point, whole.dir)
    counted.points++
    assert.ok(dead.isThere, `${label}: the kill did not come there`)
    assert.equal(disagreement(await ask(dead.tree), allowed, 'kill'), undefined, label)
    const wrong = await (event.event === 'start'
      ? ranUntracked(quickest(artefact), dead, {
          clients,
          bootTime: event.bootTime,
          mayRestart: earlier.restart,
          mustBeNoted: point.paths.some((path) => path.startsWith(`${whole.dir}/state`)),
        })
      : cutShort(quickest(artefact), dead, scenario, event))
    assert.equal(wrong, undefined, `${label}, and the machine stays up`)

    const repeat = (): Promise<Said & { tree: Tree }> =>
      on(dead.tree, scenario, async (there) => ({
        ...(await call(artefact, there, event, bootTime)),
        tree: readTree(there.stateDir),
      }))
    const again = await repeat()
    assert.equal(again.status, expected, `${label}, then repeated: ${again.stderr}`)
    assert.doesNotMatch(again.stderr, /goes on without the lock/, `${label}, then repeated`)
    assert.ok(again.ms < patienceMs, `${label}: the repeat took ${again.ms} ms`)
    let over = again.ms - usual
    for (let attempt = 1; over > repeatMs && attempt < attempts; attempt++)
      over = Math.min(over, (await repeat()).ms - (await normal()))
    counted.slowest = Math.max(counted.slowest, over)
    assert.equal(disagreement(await ask(again.tree), [afterwards], 'kill'), undefined, `${label}, then repeated`)
    killed.set(briefly(point, whole.dir), dead)
  })

  // A start is killed twice in one state only: it makes many calls, which are the same in every state.
  const isOneOfMany = event.event === 'start' && scenario.name !== 'start after a crash in grace'
  if (artefact.name === 'executable' && !isOneOfMany)
    for (const [label, dead] of killed) {
      if (inPart && counted.twice > 3) break
      const resumed = await run(dead.tree)
      await each(points(resumed), 2, async (point) => {
        const dead2 = await killedAt(dead.tree, point, resumed.dir)
        counted.twice++
        const both = `killed at ${label}, then at ${briefly(point, resumed.dir)}`
        assert.ok(dead2.isThere, `${both}: the kill did not come there`)
        assert.equal(disagreement(await ask(dead2.tree), allowed, 'kill'), undefined, both)
      })
    }
  return counted
}

/** What may hold before an upcall, after it, and after a kill in it. */
function futuresOf(
  scenario: Scenario,
  event: Event,
): { readonly earlier: Futures; readonly afterwards: Futures; readonly allowed: readonly Futures[] } {
  const clients = clientsOf(scenario)
  const memory = memoryAfter(scenario.before)
  const earlier = futuresByRule(memory, clients)
  const afterwards = futuresByRule(memoryAfter([event], memory, scenario.grace), clients)
  if (scenario.grace !== 'over') return { earlier, afterwards, allowed: [earlier, afterwards] }
  // An end of grace that was not reported is made up for first, which is a step of its own.
  const ended = futuresByRule(memoryAfter([{ event: 'grace done', bootTime: undefined }], memory), clients)
  return { earlier, afterwards, allowed: [earlier, ended, afterwards] }
}

/**
 * A start died, and the machine lives: the kernel runs this instance without a tracker. After it nobody may reclaim,
 * unless the kernel asks for the same start once more. @returns what is wrong.
 */
async function ranUntracked(
  artefact: Artefact,
  { tree, marks, dir }: Run,
  {
    clients,
    bootTime,
    mayRestart,
    mustBeNoted,
  }: {
    readonly clients: readonly Owner[]
    readonly bootTime: string | undefined
    readonly mayRestart: string
    readonly mustBeNoted: boolean
  },
): Promise<string | undefined> {
  // Not yet, or not any more: it died before its first call, or after its last.
  if (marks.size < 2) return mustBeNoted ? 'no mark tells of it' : undefined
  const after = (next: Event): Promise<string> => mayReclaimAfter(artefact, { tree, marks, dir }, next, clients)
  const [another, again] = [await after(start('7777')), await after(start(bootTime ?? '7777'))]
  if (another !== '') return `after another start may reclaim: ${another}; by the rule: nobody may reclaim`
  return again === mayRestart
    ? undefined
    : `after the same start once more may reclaim: ${again}; by the rule: ${mayRestart}`
}

/** Who may reclaim after a start, if the machine has stayed up. */
const mayReclaimAfter = (
  artefact: Artefact,
  { tree, marks, dir }: Pick<Run, 'tree' | 'marks' | 'dir'>,
  next: Event,
  clients: readonly Owner[],
): Promise<string> =>
  on(tree, { grace: undefined }, async (there) => {
    // What is in the run directory is named after the state directory's path.
    const digest = createHash('sha256').update(there.stateDir).digest('hex')
    const [was = '', is = ''] = [`${dir}/state`, there.stateDir].map(encodeURIComponent)
    const named = (path: string): string => path.replace(/^[0-9a-f]{64}/, digest).replace(`begun-${was}`, `begun-${is}`)
    plant(new Map([...marks].map(([path, node]) => [named(path), node])), there.runDir)
    const { status, stderr } = await call(artefact, there, next)
    assert.equal(status, 0, stderr)
    const allowed: Owner[] = []
    for (const owner of clients) if ((await call(artefact, there, check(owner, 'Y'))).status === 0) allowed.push(owner)
    return readable(allowed)
  })

/** An upcall died, and the kernel goes on. The next start must do what it has left. @returns what is wrong. */
async function cutShort(artefact: Artefact, dead: Run, scenario: Scenario, event: Event): Promise<string | undefined> {
  const clients = clientsOf(scenario)
  const progress = new Progress(`${dead.dir}/state`, `${dead.dir}/run`)
  for (const one of dead.traced.calls.filter(changes)) {
    progress.comesTo(one)
    if ((one.result ?? -1) >= 0) progress.hasMade(one)
  }
  const memory = memoryAfter(scenario.before)
  const lefts = halfway(memory, event, scenario.grace === 'over')
  const due = new Set(owing(lefts, memory, event, progress).map((left) => futuresByRule(left, clients).restart))
  const may = await mayReclaimAfter(artefact, dead, start('7777'), clients)
  const shown = (owners: string): string => (owners === '' ? 'nobody' : owners)
  return due.has(may)
    ? undefined
    : `after a start may reclaim: ${shown(may)}; by the rule: ${[...due].map(shown).join(', or ')}`
}

/** The calls to die at: every one that changes something, and the end, when all is done and nothing is acknowledged. */
function points({ traced, dir }: Run): Call[] {
  const last = traced.calls.filter(({ name }) => name === 'exit_group').slice(-1)
  return [...changing(traced.calls, dir), ...last]
}

async function on<T>(
  tree: Tree,
  { grace }: { readonly grace?: Scenario['grace'] | undefined },
  work: (machine: Machine) => Promise<T>,
): Promise<T> {
  const machine = machineAt(scratch())
  try {
    if (tree.size > 0) plant(tree, machine.stateDir)
    setGrace(machine, grace)
    return await work(machine)
  } finally {
    scrapTree(machine)
  }
}
