/**
 * State directories outlive programs: under this release, the same clients may reclaim as under the release that wrote
 * a state directory.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { Event } from '../../life/oracle.ts'
import { create, graceDone, remove, start, upcallFor } from '../../proof/scenarios.ts'
import { plant, readTree, type Node, type Tree } from '../../proof/trees.ts'
import { call, machineAt, scratch, scrapTree } from '../../proof/verdicts.ts'
import { artefacts, settings, type Artefact } from '../../support/artefacts.ts'
import { changing, fired, trace, type Call } from '../../support/strace.ts'
import { reclaimers, released, restarted, verdictsOf, type Verdicts, type Written } from './released.ts'

/** 0.1.0 forgot at a restart what was recorded in a first grace period that never ended. That was a fault. */
const lostByFault = ['the first grace period', 'the first grace period, after a crash in it']

const due = (release: string, { name, verdicts }: Written): Verdicts =>
  release === '0.1.0' && lostByFault.includes(name) ? { ...verdicts, restart: verdicts.now } : verdicts

/** If a link can't hold a record (XFS: 1023 bytes), the record is a file with the same line. */
const withFiles = (tree: Tree): Tree =>
  new Map(
    [...tree].map(([path, node]): [string, Node] => [
      path,
      node.kind === 'link' && node.target.length > 1000 ? { kind: 'file', bytes: node.target } : node,
    ]),
  )

/**
 * Both programs decide with the same modules what a record means. But each has its own way to read names, links and
 * files. So the bundle is asked about the directory that has every kind of them, and about the one with most instances.
 */
const ofInterest = ({ name }: Artefact, written: readonly Written[]): readonly Written[] =>
  name === 'executable'
    ? written
    : written.filter((one) => ['full', 'partial, after two crashes in grace'].includes(one.name))

for (const artefact of artefacts())
  for (const [release, written] of released())
    describe(`a state directory that release ${release} has written (${artefact.name})`, { concurrency: 2 }, () => {
      for (const one of ofInterest(artefact, written)) {
        it(`${one.name}: the same clients may reclaim, now and later`, async () => {
          const tree: Tree = new Map(one.tree)
          assert.deepEqual(await verdictsOf(artefact, tree, one.owners), due(release, one))
          assert.deepEqual(await verdictsOf(artefact, withFiles(tree), one.owners), due(release, one))
        })
        it(`${one.name}: a server continues in it, and its next end of grace forgets the clients that did not come`, async () => {
          const machine = machineAt(scratch())
          try {
            plant(new Map(one.tree), machine.stateDir)
            const newcomer = Buffer.from('eve').toString('hex')
            for (const event of [start('8000'), create(newcomer, 'Y'), graceDone('8000')]) {
              const { status, stderr } = await call(artefact, machine, event, '8000')
              assert.equal(status, 0, `${event.event}: ${stderr}`)
              assert.doesNotMatch(stderr, /can't be understood|could not be understood/)
            }
            assert.deepEqual(await reclaimers(artefact, readTree(machine.stateDir), [...one.owners, newcomer]), [
              newcomer,
            ])
          } finally {
            scrapTree(machine)
          }
        })
      }
    })

for (const artefact of artefacts().filter(({ name }) => name === 'executable'))
  for (const [release, written] of released())
    describe(
      `brought from release ${release} to the present format, and killed at each call (${artefact.name})`,
      { concurrency: 2 },
      () => {
        const stranger = Buffer.from('eve').toString('hex')
        for (const one of written)
          for (const event of [start('8000'), remove(stranger)])
            it(`${one.name}, by ${event.event}: after a restart the same clients may reclaim`, async () => {
              const { points, wrong } = await killedEverywhere(artefact, one, event, due(release, one))
              assert.ok(points > 2, `${points} calls were seen`)
              assert.deepEqual(wrong, [])
            })
      },
    )

/** The machine goes down with the upcall, so only the state directory is left. */
async function killedEverywhere(
  artefact: Artefact,
  { tree, owners }: Written,
  event: Event,
  { restart }: Verdicts,
): Promise<{ points: number; wrong: string[] }> {
  const { words, env } = upcallFor(event)
  const run = async (
    call?: Call,
  ): Promise<{ readonly dir: string; readonly left: Tree; readonly traced: Awaited<ReturnType<typeof trace>> }> => {
    const machine = machineAt(scratch())
    try {
      plant(new Map(tree), machine.stateDir)
      const traced = await trace(artefact, [...settings(machine), ...words], env, {
        fault: call && { call, what: 'signal=SIGKILL' },
      })
      return { dir: machine.dir, left: readTree(machine.stateDir), traced }
    } finally {
      scrapTree(machine)
    }
  }
  const whole = await run()
  const points = changing(whole.traced.calls, join(whole.dir, 'state'))
  const wrong: string[] = []
  for (const call of points) {
    const { dir, left, traced } = await run(call)
    const label = `killed at ${call.name} ${call.paths.join(' ').replaceAll(whole.dir, '')}`
    if (!fired(traced, { call, what: 'signal=SIGKILL' }, whole.dir, dir))
      wrong.push(`${label}: the kill did not come there`)
    const after = await reclaimers(artefact, left, owners, restarted)
    if (JSON.stringify(after) !== JSON.stringify(restart))
      wrong.push(`${label}: after a restart may reclaim ${after.join(' ') || 'nobody'}`)
  }
  return { points: points.length, wrong }
}
