/**
 * Kills at the pipe: the daemon dies at every system call from the moment when a message reaches it until it waits for
 * the next, alone and with sixteen messages, and at every call of its own start. Then another takes its place.
 *
 * After each kill, every nfsd thread gets its answer, from one of the two. What the kernel is told at its next start is
 * what the rule says after all of these messages, in the order of their xids: nothing that was acknowledged is lost,
 * and nothing comes back that was removed.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { briefly, type Call } from '../support/strace.ts'
import { each, inPart, report, seconds as secondsSince, type Row } from './figures.ts'
import {
  acts,
  listing,
  listsByRule,
  lived,
  memoryAfterAll,
  nfsdcld,
  openBench,
  runAct,
  serve,
  statusIn,
  wrongIn,
  type Act,
  type Bench,
  type Outcome,
  type Subject,
} from './pipe-acts.ts'

const width = 2
const rows: Row[] = []
const inNewest = ['a start with clients', 'a new client', 'sixteen at once that leave and come']
let bench: Bench | undefined
let newest: Bench | undefined
before(async () => {
  bench = await openBench(width)
  newest = await openBench(width, { orphans: 'release' })
})
after(async () => {
  await bench?.scrap()
  await newest?.scrap()
  report({ technique: 'pipe-kill-points', rows })
})

describe('serve, killed', () => {
  const totals = { points: 0, twice: 0, notFired: 0, violations: 0 }
  let began = 0
  before(() => {
    began = performance.now()
  })
  for (const act of acts)
    it(`in '${act.name}': no thread is left behind, and all that was acknowledged holds`, async () => {
      assert.ok(bench)
      const counted = await killEverywhere(bench, serve, act)
      totals.points += counted.points
      totals.twice += counted.twice
      totals.notFired += counted.notFired
      totals.violations += counted.violations.length
      assert.deepEqual(counted.violations, [])
    })
  after(() => {
    rows.push({
      daemon: 'serve',
      acts: acts.length,
      'kill points': totals.points,
      'killed twice': totals.twice,
      'not fired': totals.notFired,
      violations: totals.violations,
      seconds: secondsSince(began),
    })
  })
})

describe('serve, killed under a kernel that gives up what was read and not answered', () => {
  for (const act of acts.filter(({ name }) => inNewest.includes(name)))
    it(`in '${act.name}': no thread is left behind, and all that was acknowledged holds`, async () => {
      assert.ok(newest)
      // A start that dies with its reader has the kernel go on in version 0, without a list.
      assert.deepEqual((await killEverywhere(newest, serve, act, { mayLoseList: true })).violations, [])
    })
})

describe('the check of kills at the pipe can fail', () => {
  it('and does with nfsdcld, which reads a message and keeps it until its database is written', async () => {
    assert.ok(bench)
    const act = acts.find(({ name }) => name === 'a new client')
    assert.ok(act)
    const { violations, points } = await killEverywhere(bench, nfsdcld, act, { patienceMs: 300 })
    assert.match(violations.join('\n'), /left behind/)
    rows.push({
      daemon: 'nfsdcld',
      acts: 1,
      'kill points': points,
      violations: violations.length,
      first: violations[0] ?? '',
    })
  })
})

const changes = new Set(['write', 'symlinkat', 'unlinkat', 'renameat', 'renameat2', 'mkdirat', 'fsync', 'fdatasync'])

interface Counted {
  points: number
  twice: number
  notFired: number
  readonly violations: string[]
}

interface Leniency {
  /** How long a thread may wait for the second daemon. */
  readonly patienceMs?: number
  readonly mayLoseList?: boolean
}

async function killEverywhere(
  bench: Bench,
  subject: Subject,
  act: Act,
  { patienceMs, mayLoseList = false }: Leniency = {},
): Promise<Counted> {
  const tree = await lived(bench, subject, act.before)
  const counted: Counted = { points: 0, twice: 0, notFired: 0, violations: [] }
  const common = { subject, act, tree, ...(patienceMs === undefined ? {} : { patienceMs }) }
  const judge = judgeOf(bench, subject, act, mayLoseList)
  const judged = async (label: string, outcome: Outcome): Promise<void> => {
    const wrong = await judge(outcome)
    if (wrong !== undefined) counted.violations.push(`${label}: ${wrong}`)
  }

  const whole = await runAct(bench, { ...common, faults: [] })
  await judged('without a kill', whole)
  const points = pointsOf(whole)
  const seconds = points.filter(({ name }) => changes.has(name))
  const chosen = inPart ? points.filter((_, index) => index % 9 === 0) : points
  await each(chosen, width, async (call) => {
    const label = `killed at ${briefly(call, '')}`
    const kill = { call, what: 'signal=SIGKILL' }
    const outcome = await runAct(bench, { ...common, faults: [kill] })
    counted.points++
    if (!outcome.died) counted.notFired++
    await judged(label, outcome)
    // The second dies as well, before it changes something; as it looks round when it starts, other calls can't be
    // counted.
    const second = seconds[counted.points % seconds.length]
    if (subject !== serve || act.act.length > 1 || !changes.has(call.name) || second === undefined) return
    counted.twice++
    const both = await runAct(bench, { ...common, faults: [kill, { call: second, what: 'signal=SIGKILL' }] })
    await judged(`${label}, then at ${briefly(second, '')}`, both)
  })
  return counted
}

/** What is wrong with an outcome of an act by the rule; undefined, if nothing is. */
function judgeOf(
  bench: Bench,
  subject: Subject,
  act: Act,
  mayLoseList: boolean,
): (outcome: Outcome) => Promise<string | undefined> {
  const memory = memoryAfterAll(act.before)
  const afterwards = memoryAfterAll(act.act, memory)
  const lists = listing(bench, subject, afterwards)
  const expected = listsByRule(afterwards)
  const named = act.act[0]?.event === 'start' ? listsByRule(memory).restart : undefined
  return async (outcome) =>
    wrongIn(outcome) ??
    refused(outcome) ??
    (mayLoseList && outcome.named === undefined
      ? undefined
      : differs('was told', outcome.named && [...new Set(outcome.named)], named)) ??
    (outcome.ended.some((how) => how !== 'never' && 'failed' in how)
      ? undefined
      : await lists(outcome.tree).then(
          (found) =>
            differs('is told after a restart', found.restart, expected.restart) ??
            differs('is told after the end of grace and a restart', found.graceDone, expected.graceDone),
        ))
}

/**
 * Every call from the one in which the daemon waited for the first message to the one in which it waits for the next.
 */
function pointsOf({ calls, firstOfMessage }: Outcome): Call[] {
  assert.ok(firstOfMessage >= 0, 'a message reached it')
  return calls.filter(({ result }, index) => index > 0 && result !== undefined)
}

function refused({ ended, said }: Outcome): string | undefined {
  const status = ended.map(statusIn).find((status) => status !== undefined && status !== 0)
  return status === undefined ? undefined : `a message was answered with ${status}: ${said}`
}

function differs(
  what: string,
  found: readonly string[] | undefined,
  expected: readonly string[] | undefined,
): string | undefined {
  const readable = (owners: readonly string[] = []): string =>
    owners.map((owner) => Buffer.from(owner, 'hex').toString('latin1').slice(0, 12)).join(', ') || 'nobody'
  return readable(found) === readable(expected)
    ? undefined
    : `the kernel ${what}: ${readable(found)}; by the rule: ${readable(expected)}`
}
