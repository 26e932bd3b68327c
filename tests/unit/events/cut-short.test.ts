/**
 * Every upcall in every state that matters (situations.ts), killed before each of its calls, and the machine stays up:
 * the kernel takes it for one that failed, and goes on. Then the next start must do what the rule says of it
 * (tests/life/halfway.ts). every-state.test.ts has the kills of starts.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { halfway, owing, Progress } from '../../life/halfway.ts'
import type { Event, Owner } from '../../life/oracle.ts'
import { disagreement, futuresByRule } from '../../proof/futures.ts'
import { ann, bob, create, dan, graceDone, start } from '../../proof/scenarios.ts'
import type { Tree } from '../../proof/trees.ts'
import { callShown } from '../../support/memory/files.ts'
import { machineWith, runDirectory, stateDirectory, Stopped } from '../../support/memory/machine.ts'
import { begun, situations, type Begun, type Situation } from './situations.ts'
import { observer, play } from './states.ts'

const clients: readonly Owner[] = [ann, bob, dan]
const states = observer()

/** What a kill before a call leaves. */
interface Left {
  readonly call: string
  readonly tree: Tree
  readonly run: Tree
  readonly progress: Pick<Progress, 'at'>
}

function killedAnywhere(before: Begun, event: Event): Left[] {
  const machine = machineWith(undefined, () => ({
    sleep: () => {
      machine.files.process.monotonic += 501
    },
  }))
  const { files, kernel } = machine
  before.putOn(machine)
  // The kernel is out of grace before it runs `gracedone`.
  if (event.event === 'grace done' && event.bootTime === before.bootTime && kernel.grace !== undefined)
    kernel.grace = 'over'
  const progress = new Progress(stateDirectory, runDirectory)
  const lefts: Left[] = []
  let made: { readonly tree: Tree; readonly run: Tree } | undefined
  files.hooks.before = (call) => {
    if (call.changes) progress.comesTo(call)
    made ??= { tree: files.tree(stateDirectory), run: files.tree(runDirectory) }
    lefts.push({ call: callShown(call), ...made, progress: { at: progress.at } })
    return undefined
  }
  files.hooks.answered = (call, answer) => {
    if (!call.changes) return
    made = undefined
    if (Number(answer) >= 0) progress.hasMade(call)
  }
  play(machine, event, before.bootTime)
  return lefts
}

/** @returns how many kills there were, and what was wrong after them. */
function everyKill(situation: Situation): { kills: number; violations: string[] } {
  const before = begun(situation)
  const found = { kills: 0, violations: [] as string[] }
  for (const event of situation.upcalls.filter((each) => each.event !== 'start')) {
    const lefts = halfway(before.memory, event, before.grace === 'over')
    for (const { call, tree, run, progress } of killedAnywhere(before, event)) {
      found.kills++
      const wrong = disagreement(
        states.futures(states.standing(tree, run), clients, 'kill'),
        owing(lefts, before.memory, event, progress).map((memory) => futuresByRule(memory, clients)),
        'kill',
      )
      if (wrong === undefined) continue
      // The same fault shows at several calls.
      found.violations.push(`${JSON.stringify(event)}, killed before ${call}: ${wrong}`)
      break
    }
  }
  return found
}

describe('in memory, an upcall that is killed while the machine stays up', () => {
  for (const situation of situations.filter(({ rule }) => rule === undefined))
    it(`${situation.name}: it is completed or taken back by the next start`, () => {
      const { kills, violations } = everyKill(situation)
      console.log(`# ${situation.name}: ${kills} kills`)
      assert.deepEqual(violations, [])
    })
})

describe('in memory, a start after many upcalls that were killed', () => {
  it('takes back what all of them have put into place with one barrier for each directory', () => {
    const machine = machineWith()
    const { files } = machine
    for (const event of [start('1000'), create(ann, 'Y'), graceDone('1000')])
      assert.equal(play(machine, event, '1000'), 0)
    files.hooks.before = (call) => {
      if (call.name === 'fsync') throw new Stopped()
      return undefined
    }
    for (let number = 0; number < 30; number++) {
      files.process.id++
      assert.equal(play(machine, create(`c0${number + 10}`, 'Y'), '1000'), 'stopped')
    }
    const synced: string[] = []
    files.hooks.before = (call) => {
      if (call.name === 'fsync') synced.push(callShown(call))
      return undefined
    }
    files.process.id++
    assert.equal(play(machine, start('2000'), '2000'), 0)
    files.hooks.before = () => undefined
    assert.equal(synced.filter((call) => /v4clients\/[0-9]+$/.test(call)).length, 1)
    const records = [...files.tree(stateDirectory).keys()].filter((path) => /v4clients\/[0-9]+\/./.test(path))
    assert.deepEqual(
      records.map((path) => path.slice(path.lastIndexOf('/') + 1)),
      ['ann'],
    )
    assert.deepEqual(
      [...files.tree(runDirectory).keys()].filter((path) => /begun-[^/]*\/./.test(path)),
      [],
    )
  })
})
