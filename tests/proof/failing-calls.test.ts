/**
 * Calls that fail: each call that changes the state directory fails with EIO, ENOSPC, EDQUOT, EROFS or EMFILE, one at a
 * time; and a disk that is really full.
 *
 * Status 0 after a failed barrier would be a lie. A failed upcall leaves a line, and a state that means what it meant
 * before or after. The next upcall recovers.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { artefacts, quickest, settings, type Artefact, type Machine } from '../support/artefacts.ts'
import { briefly, changing, struckAt, trace, type Fault } from '../support/strace.ts'
import { each, inPart, report, seconds, type Row } from './figures.ts'
import { fileSystems, newDisk, type FileSystem } from './loop-disks.ts'
import { mutations, withMutant } from './mutants.ts'
import {
  ann,
  bob,
  bootTimeAt,
  cal,
  check,
  clientsOf,
  create,
  dan,
  graceDone,
  isEssential,
  memoryAfter,
  remove,
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
  live,
  machineAt,
  observer,
  onlyTidying,
  prepared,
  scratch,
  scrapTree,
  setGrace,
} from './verdicts.ts'

/**
 * All of them on the executable. On the bundle, which has the same code and starts slowly, the two that differ most.
 */
const errorsFor = ({ name }: Artefact): readonly string[] =>
  inPart || name === 'bundle' ? ['EIO', 'ENOSPC'] : ['EIO', 'ENOSPC', 'EDQUOT', 'EROFS', 'EMFILE']
/** No room, or no right to write: even then a known client is not refused (lib/events/check.ts). */
const noRoom = ['ENOSPC', 'EDQUOT', 'EROFS']
const executable = artefacts().find(({ name }) => name === 'executable')

const rows: Row[] = []
for (const artefact of artefacts()) {
  const chosen = !inPart
    ? scenarios
    : artefact.name === 'executable'
      ? scenarios.filter(isEssential)
      : scenarios.filter(isEssential).slice(6, 8)
  describe(`one call of the ${artefact.name} fails`, () => {
    let began = 0
    before(() => {
      began = performance.now()
    })
    const total = { cases: 0, barriers: 0, refused: 0, violations: 0 }
    const statuses = new Set<number | string>()
    for (const scenario of chosen)
      it(`in '${scenario.name}': no status 0 on a failed barrier, nothing is lost, and the next upcall recovers`, async () => {
        const { cases, barriers, refused, violations, seen } = await failEverywhere(artefact, scenario)
        total.cases += cases
        total.barriers += barriers
        total.refused += refused
        total.violations += violations.length
        for (const status of seen) statuses.add(status)
        assert.deepEqual(violations, [])
      })
    after(() => {
      rows.push({
        artefact: artefact.name,
        errors: errorsFor(artefact).join(' '),
        scenarios: chosen.length,
        cases: total.cases,
        'of them on barriers': total.barriers,
        'status not 0': total.refused,
        statuses: [...statuses].sort().join(' '),
        violations: total.violations,
        seconds: seconds(began),
      })
    })
  })
}
after(() => {
  report({ technique: 'failing-calls', rows })
})

describe('the check of failing calls can fail', { skip: executable === undefined }, () => {
  it(`and does where ${mutations['failed barrier forgiven'].what}`, async () => {
    const scenario = scenarios.find(({ name }) => name === 'create, new, out of grace')
    assert.ok(scenario)
    await withMutant('failed barrier forgiven', async (broken) => {
      const { violations } = await failEverywhere(broken, scenario)
      assert.match(violations.join('\n'), /status 0/)
      report({
        technique: 'failing-calls-mutants',
        rows: [
          { broken: mutations['failed barrier forgiven'].what, 'caught in': scenario.name, how: violations[0] ?? '' },
        ],
      })
    })
  })
})

async function failEverywhere(
  artefact: Artefact,
  scenario: Scenario,
): Promise<{
  cases: number
  barriers: number
  refused: number
  violations: string[]
  seen: Set<number | string>
}> {
  const [event] = scenario.act
  assert.ok(event)
  const { machine, tree } = await prepared(artefact, scenario)
  scrapTree(machine)
  const bootTime = bootTimeAt([...scenario.before, event])
  const on = async <T>(from: Tree, work: (machine: Machine) => Promise<T>): Promise<T> => {
    const there = machineAt(scratch())
    try {
      if (from.size > 0) plant(from, there.stateDir)
      setGrace(there, scenario.grace)
      return await work(there)
    } finally {
      scrapTree(there)
    }
  }
  const traced = (there: Machine, fault?: Fault): ReturnType<typeof trace> => {
    const { words, env } = upcallFor(event, bootTime, there)
    return trace(artefact, [...settings(there), ...words], env, { fault })
  }
  const clients = clientsOf(scenario)
  const { ask } = observer(quickest(artefact), clients, 'kill')
  const memory = memoryAfter(scenario.before)
  const allowed = [
    memory,
    ...(scenario.grace === 'over' ? [memoryAfter([{ event: 'grace done', bootTime: undefined }], memory)] : []),
    memoryAfter([event], memory, scenario.grace),
  ].map((one) => futuresByRule(one, clients))
  const afterwards = allowed.slice(-1)

  const whole = await on(tree, async (there) => ({ ...(await traced(there)), dir: there.dir }))
  const counted = { cases: 0, barriers: 0, refused: 0, violations: [] as string[], seen: new Set<number | string>() }
  const cases = changing(whole.calls, whole.dir).flatMap((point) =>
    errorsFor(artefact).map((error) => ({ point, error })),
  )
  await each(cases, 2, async ({ point, error }) => {
    const label = `${error} from ${briefly(point, whole.dir)}`
    const { run, left, isThere } = await struckAt(point, async (call, isPoint) =>
      on(tree, async (there) => {
        const run = await traced(there, { call, what: `error=${error}` })
        const isThere = isPoint(run, `error=${error}`, whole.dir, there.dir)
        return { run, left: readTree(there.stateDir), isThere }
      }),
    )
    const violation = (what: string): void => void counted.violations.push(`${label}: ${what}`)
    counted.cases++
    counted.seen.add(run.status)
    if (!isThere) violation('the error did not come there')
    const isBarrier = point.name === 'fsync' || point.name === 'fdatasync'
    if (isBarrier) counted.barriers++
    // A call that only tidies up may fail. power-cuts-after-failure shows that this does no harm.
    if (isBarrier && run.status === 0 && !onlyTidying.test(run.stderr)) violation('status 0 after a failed barrier')
    if (run.status !== 0) counted.refused++
    if (run.status !== whole.status && !/error|critical|warning/.test(run.stderr))
      violation(`status ${run.status} without a line`)
    // A check is answered even if its change can't be written. The log says what that costs.
    const stays =
      run.status === 0 &&
      event.event === 'check' &&
      (/critical: the end of grace could not be recorded/.test(run.stderr) ||
        (noRoom.includes(error) && /critical: .*can't be carried over/.test(run.stderr)))
    const wrong = disagreement(await ask(left), run.status === 0 && !stays ? afterwards : allowed, 'kill')
    if (wrong !== undefined) violation(`status ${run.status}, ${wrong}`)
    const again = await on(left, async (there) => ({
      ...(await call(artefact, there, event, bootTime)),
      tree: readTree(there.stateDir),
    }))
    if (again.status !== whole.status) violation(`the next upcall ended with ${again.status}: ${again.stderr}`)
    const notMended = disagreement(await ask(again.tree), afterwards, 'kill')
    if (notMended !== undefined) violation(`after the next upcall ${notMended}`)
  })
  return counted
}

describe('a full disk', { skip: executable === undefined }, () => {
  const rows: Row[] = []
  for (const fileSystem of fileSystems())
    it(`of ${fileSystem}: a known client is let in, remove and grace done work, and nothing is lost`, async () => {
      assert.ok(executable)
      rows.push(await liveOnFull(executable, fileSystem))
    })
  after(() => {
    report({ technique: 'full-disk', rows })
  })
})

/**
 * A btrfs as small as those of the loop disks has hardly any room for its own trees, and may refuse anything. So these
 * tests need a larger one.
 */
async function liveOnFull(artefact: Artefact, fileSystem: FileSystem): Promise<Row> {
  const disk = newDisk(fileSystem, fileSystem === 'btrfs' ? 'usual' : 'smallest')
  try {
    const top = disk.mount()
    const machine = machineAt(join(top, 'machine'))
    await live(artefact, machine, [
      start('1000'),
      create(ann, 'Y'),
      create(bob, 'N'),
      create(cal, 'Y'),
      graceDone('1000'),
      start('2000'),
    ])
    fill(top)
    const answers: Record<string, number | string> = {}
    const ask = async (
      name: string,
      event: Parameters<typeof call>[2],
      expected: readonly (number | string)[],
    ): Promise<void> => {
      const { status, stderr } = await call(artefact, machine, event, '2000')
      answers[name] = status
      assert.ok(expected.includes(status), `${name} ended with ${status}: ${stderr}`)
      if (status !== 0) assert.match(stderr, /ENOSPC|no space|space/i)
    }
    await ask('check of a v4.1 client', check(ann, 'Y'), [0])
    await ask('check of a v4.0 client', check(bob, 'N'), [0])
    await ask('create, reclaiming', create(ann, 'Y'), [0])
    await ask('create, new', create(dan, 'Y'), [0, 135])
    await ask('remove', remove(cal), [0])
    await ask('grace done', graceDone('2000'), [0])
    disk.unfill()
    await live(artefact, machine, [start('3000')])
    for (const [owner, expected] of [
      [ann, 0],
      [bob, 0],
      [cal, 255],
      [dan, answers['create, new'] === 0 ? 0 : 255],
    ] as const)
      assert.equal(
        (await call(artefact, machine, check(owner, 'Y'))).status,
        expected,
        `${owner} after a start with space again`,
      )
    return { 'file system': fileSystem, ...answers, violations: 0 }
  } finally {
    disk.scrap()
  }
}

/** Not a byte is left, and not an inode. */
function fill(top: string): void {
  for (const size of ['1M', '64k', '4k', '512']) {
    try {
      execFileSync('dd', ['if=/dev/zero', `of=${join(top, `fill-${size}`)}`, `bs=${size}`], { stdio: 'ignore' })
    } catch {
      // No space left, which is the purpose.
    }
  }
  execFileSync('sync', ['-f', top])
}
