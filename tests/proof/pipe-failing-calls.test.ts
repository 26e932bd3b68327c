/**
 * Calls that fail under `serve`: each call on the state directory, the run directory and the pipe while messages are
 * carried out, one at a time. Every nfsd thread gets an answer, what was answered with 0 holds, and nobody is named at
 * the next start who must not reclaim. If a remove or an end of grace could not be recorded, nobody may be named at
 * all, and the log says so.
 *
 * The daemon is killed as soon as all is answered, so nothing may depend on its trying again.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { briefly, type Call } from '../support/strace.ts'
import { each, inPart, report, seconds, type Row } from './figures.ts'
import {
  acts,
  listsByRule,
  lived,
  memoryAfterAll,
  openBench,
  runAct,
  serve,
  statusIn,
  wrongIn,
  type Act,
  type Bench,
  type Outcome,
  type PipeEvent,
} from './pipe-acts.ts'

const width = 2
/** But for answers: the kernel refuses one, or has it. */
const fails = new Set([
  ...['openat', 'newfstatat', 'write', 'fsync', 'fdatasync', 'renameat', 'renameat2'],
  ...['symlinkat', 'unlinkat', 'mkdirat', 'readlinkat', 'getdents64'],
])
const errors = inPart ? ['EIO'] : ['EIO', 'ENOSPC', 'EROFS']
let bench: Bench | undefined
before(async () => {
  bench = await openBench(width)
})
after(async () => {
  await bench?.scrap()
})

describe('one call of serve fails', () => {
  const total = { cases: 0, 'status not 0': 0, violations: 0 }
  let began = 0
  before(() => {
    began = performance.now()
  })
  for (const act of acts)
    it(`in '${act.name}': each thread has its answer, no status 0 is a lie, and nobody is named who must not be`, async () => {
      assert.ok(bench)
      const { cases, refused, violations } = await failEverywhere(bench, act)
      total.cases += cases
      total['status not 0'] += refused
      total.violations += violations.length
      assert.deepEqual(violations, [])
    })
  after(() => {
    const row: Row = { daemon: 'serve', errors: errors.join(' '), acts: acts.length, ...total, seconds: seconds(began) }
    report({ technique: 'pipe-failing-calls', rows: [row] })
  })
})

async function failEverywhere(
  bench: Bench,
  act: Act,
): Promise<{ cases: number; refused: number; violations: string[] }> {
  const tree = await lived(bench, serve, act.before)
  const memory = memoryAfterAll(act.before)
  // Who is named within a start, and who at the next.
  const named = act.act[0]?.event === 'start' ? listsByRule(memory).restart : undefined
  const expected = listsByRule(memoryAfterAll(act.act, memory)).restart
  const counted = { cases: 0, refused: 0, violations: [] as string[] }
  const common = { subject: serve, act, tree, thenRestarts: true }

  const whole = await runAct(bench, { ...common, faults: [] })
  assert.deepEqual(whole.restart, expected, 'without a fault')
  const points = whole.calls.filter(
    (call) =>
      fails.has(call.name) &&
      (call.result ?? -1) >= 0 &&
      call.paths.some((path) => path.startsWith('/dev/shm')) &&
      !isAnswer(call),
  )
  const chosen = inPart ? points.filter((_, index) => index % 5 === 0) : points
  const cases = chosen.flatMap((call) => errors.map((error) => ({ call, error })))
  await each(cases, width, async ({ call, error }) => {
    counted.cases++
    const outcome = await struckUnlessAnswer(call, (at) =>
      runAct(bench, { ...common, faults: [{ call: at, what: `error=${error}` }] }),
    )
    if (outcome.ended.some((how) => statusIn(how) !== 0)) counted.refused++
    const wrong = wrongIn(outcome) ?? liesIn(outcome, act.act, named, expected)
    if (wrong !== undefined) counted.violations.push(`${error} from ${briefly(call, '')}: ${wrong}\n${outcome.said}`)
  })
  return counted
}

/**
 * Of a call that is counted by its name, one run may make one more before it, or one less: then an answer is struck.
 * That run is not looked at, and the next one is struck beside it.
 */
async function struckUnlessAnswer(call: Call, run: (call: Call) => Promise<Outcome>): Promise<Outcome> {
  for (const beside of [0, -1, 1, 0, -1, 1]) {
    const outcome = await run({ ...call, nth: Math.max(1, call.nth + beside) })
    const struck = outcome.calls.find(({ injected }) => injected)
    if (struck === undefined || !isAnswer(struck)) return outcome
  }
  throw new Error(`only answers are struck at ${briefly(call, '')}`)
}

const isAnswer = ({ name, paths }: Call): boolean => name === 'write' && paths[0]?.includes('/nfsd/cld') === true

function liesIn(
  { ended, named = [], restart = [], said }: Outcome,
  act: readonly PipeEvent[],
  mayBeNamed: readonly string[] | undefined,
  expected: readonly string[],
): string | undefined {
  const refused = act.filter((_, index) => statusIn(ended[index]) !== 0)
  const owners = new Set(refused.flatMap((event) => ('owner' in event ? [event.owner] : [])))
  const added = new Set(refused.flatMap((event) => (event.event === 'create' ? [event.owner] : [])))
  const readable = (list: readonly string[]): string =>
    list.map((owner) => Buffer.from(owner, 'hex').toString('latin1').slice(0, 12)).join(', ') || 'nobody'

  const strangers = [
    ...named.filter((owner) => mayBeNamed?.includes(owner) === false),
    ...restart.filter((owner) => !expected.includes(owner) && !added.has(owner)),
  ]
  if (strangers.length > 0) return `named, and must not be: ${readable(strangers)}`
  const isDistrusted = /nobody may reclaim|had not been recorded|untracked/i.test(said)
  if (isDistrusted && restart.length === 0) return undefined
  const missing = expected.filter((owner) => !restart.includes(owner) && !owners.has(owner))
  if (missing.length > 0) return `acknowledged, and not named at the next start: ${readable(missing)}`
  const listed = mayBeNamed?.filter((owner) => !named.includes(owner)) ?? []
  return listed.length > 0 && !isDistrusted ? `not named, and no line about it: ${readable(listed)}` : undefined
}
