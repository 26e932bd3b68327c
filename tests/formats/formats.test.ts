/** State directories outlive programs: what any release has written lets the same clients reclaim under this one. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { artefacts } from '../artefacts.ts'
import { create, graceDone, start } from '../proof/scenarios.ts'
import { plant, readTree, type Node, type Tree } from '../proof/trees.ts'
import { call, machineAt, scratch, scrapTree } from '../proof/verdicts.ts'
import { released, verdictsOf, type Verdicts, type Written } from './released.ts'

/** 0.1.0 forgot at a restart what was recorded in a first grace period that never ended. That was a fault. */
const lostByFault = ['the first grace period', 'the first grace period, after a crash in it']

const due = (release: string, { name, verdicts }: Written): Verdicts =>
  release === '0.1.0' && lostByFault.includes(name) ? { ...verdicts, restart: verdicts.now } : verdicts

/** Where a link can't hold a record (XFS: 1023 bytes), it is a file with the same line. */
const withFiles = (tree: Tree): Tree =>
  new Map([...tree].map(([path, node]): [string, Node] => [path, node.kind === 'link' && node.target.length > 1000 ? { kind: 'file', bytes: node.target } : node]))

for (const artefact of artefacts())
  for (const [release, written] of released())
    describe(`a state directory that release ${release} has written (${artefact.name})`, { concurrency: 2 }, () => {
      for (const one of written) {
        it(`${one.name}: the same clients may reclaim, now and later`, async () => {
          const tree: Tree = new Map(one.tree)
          assert.deepEqual(await verdictsOf(artefact, tree, one.owners), due(release, one))
          assert.deepEqual(await verdictsOf(artefact, withFiles(tree), one.owners), due(release, one))
        })
        it(`${one.name}: a server lives on in it, and its next end of grace forgets who did not come`, async () => {
          const machine = machineAt(scratch())
          try {
            plant(new Map(one.tree), machine.stateDir)
            const newcomer = Buffer.from('eve').toString('hex')
            for (const event of [start('8000'), create(newcomer, 'Y'), graceDone('8000')]) {
              const { status, stderr } = await call(artefact, machine, event, '8000')
              assert.equal(status, 0, `${event.event}: ${stderr}`)
              assert.doesNotMatch(stderr, /can't be understood|could not be understood/)
            }
            const { now } = await verdictsOf(artefact, readTree(machine.stateDir), [...one.owners, newcomer])
            assert.deepEqual(now, [newcomer])
          } finally {
            scrapTree(machine)
          }
        })
      }
    })
