/**
 * Every upcall in every state that matters (situations.ts), killed before each of its calls, and the machine stays up:
 * the kernel takes it for one that failed, and goes on. Then the next start must do what the rule says of it
 * (tests/life/halfway.ts). every-state.test.ts has the kills of starts.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { errno } from '../../../lib/syscalls/errno.ts'
import { halfway, owing, Progress } from '../../life/halfway.ts'
import type { Event, Owner } from '../../life/oracle.ts'
import { disagreement, futuresByRule } from '../../proof/futures.ts'
import { ann, bob, check, create, dan, graceDone, remove, start } from '../../proof/scenarios.ts'
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

describe('in memory, a start after more upcalls that were killed than a log should name', () => {
  it('names a hundred clients, and counts the rest', () => {
    const machine = machineWith()
    const { files, log } = machine
    for (const event of [start('1000'), graceDone('1000')]) assert.equal(play(machine, event, '1000'), 0)
    files.hooks.before = (call) => {
      if (call.name === 'fsync') throw new Stopped()
      return undefined
    }
    for (let number = 0; number < 130; number++) {
      files.process.id++
      assert.equal(play(machine, create(`${1000 + number}`, 'Y'), '1000'), 'stopped')
    }
    files.hooks.before = () => undefined
    files.process.id++
    log.length = 0
    assert.equal(play(machine, start('2000'), '2000'), 0)
    assert.equal(log.filter((line) => line.includes('is taken back')).length, 100)
    assert.equal(log.filter((line) => line.includes('so it is with 30 more clients')).length, 1)
  })
})

describe('in memory, a start that finds a note which can not be understood', () => {
  it('lets nobody reclaim, and the next start goes by what was recorded since', () => {
    const machine = machineWith()
    const { files } = machine
    for (const event of [start('1000'), create(ann, 'Y'), graceDone('1000')])
      assert.equal(play(machine, event, '1000'), 0)
    const notes = [...files.tree(runDirectory).keys()].find((path) => /begun-[^/]*$/.test(path)) ?? ''
    files.plant(new Map([['', { kind: 'link', target: 'nothing of ours' }]]), `${runDirectory}/${notes}/bob`)
    assert.equal(play(machine, start('2000'), '2000'), 0)
    assert.equal(play(machine, check(ann, 'Y'), '2000'), 255)
    for (const event of [create(dan, 'Y'), graceDone('2000')]) assert.equal(play(machine, event, '2000'), 0)
    assert.equal(play(machine, start('3000'), '3000'), 0)
    assert.equal(play(machine, check(dan, 'Y'), '3000'), 0)
  })
})

describe('in memory, a create in grace that is killed, and after it the last one that the server waits for', () => {
  it('takes no right to reclaim from its client, if the server crashes before it ends grace', () => {
    const machine = machineWith()
    const { files, kernel } = machine
    for (const event of [start('1000'), create(ann, 'Y'), create(bob, 'Y'), graceDone('1000'), start('2000')]) {
      if (event.event === 'start') kernel.grace = 'running'
      assert.equal(play(machine, event, event.event === 'start' ? event.bootTime : '1000'), 0)
    }
    files.hooks.before = ({ name }) => {
      if (name === 'fsync') throw new Stopped()
      return undefined
    }
    assert.equal(play(machine, create(ann, 'Y'), '2000'), 'stopped')
    files.hooks.before = () => undefined
    const instances = (): number =>
      [...files.tree(stateDirectory).keys()].filter((path) => /v4clients\/[0-9]+$/.test(path)).length
    assert.equal(instances(), 2)
    files.process.id++
    assert.equal(play(machine, create(bob, 'Y'), '2000'), 0)
    assert.equal(instances(), 1, 'the older directory is empty, so grace may end')
    files.process.id++
    kernel.grace = 'running'
    assert.equal(play(machine, start('3000'), '3000'), 0)
    for (const owner of [ann, bob]) assert.equal(play(machine, check(owner, 'Y'), '3000'), 0)
  })
})

/** Where there is no room for a page, a tmpfs takes a link only if its text is shorter than this (mm/shmem.c). */
const shortLink = 128

describe('in memory, a remove that is killed where the run directory is full', () => {
  /** @returns the status of a check of the client in the next instance, and what was logged. */
  function afterKilledRemove(owner: Owner): { status: unknown; log: string } {
    const machine = machineWith()
    const { files, log } = machine
    for (const event of [start('1000'), create(owner, 'Y'), create(bob, 'Y'), graceDone('1000')])
      assert.equal(play(machine, event, '1000'), 0)
    files.hooks.before = ({ name, paths, text }) => {
      const isNote = name === 'symlinkat' && paths.some((path) => path.startsWith(runDirectory))
      if (isNote && text.length >= shortLink) return -errno.ENOSPC
      if (name === 'unlinkat' && paths.some((path) => /v4clients\/[0-9]+\//.test(path))) throw new Stopped()
      return undefined
    }
    assert.equal(play(machine, remove(owner), '1000'), 'stopped')
    files.hooks.before = () => undefined
    files.process.id++
    assert.equal(play(machine, start('2000'), '2000'), 0)
    return { status: play(machine, check(owner, 'Y'), '2000'), log: log.join('') }
  }

  it('is completed by the next start, however long the name: the note has no need of room', () => {
    for (const owner of [ann, Buffer.alloc(75, 'x').toString('hex'), Buffer.alloc(255, 'x').toString('hex')]) {
      const { status, log } = afterKilledRemove(owner)
      assert.equal(status, 255)
      assert.match(log, /is removed: an upcall that should have done it was cut short/)
    }
  })
  it('lets nobody reclaim, if the note has no room for an owner whose name is a digest', () => {
    const { status, log } = afterKilledRemove(Buffer.alloc(300, 'x').toString('hex'))
    assert.equal(status, 255)
    assert.match(log, /can't be understood: nobody may reclaim/)
  })
})

describe('in memory, an upcall that can note nothing', () => {
  it('says so, and does what it was asked', () => {
    const machine = machineWith()
    const { files, log } = machine
    for (const event of [start('1000'), graceDone('1000')]) assert.equal(play(machine, event, '1000'), 0)
    files.hooks.before = ({ name, paths }) =>
      name === 'symlinkat' && paths.some((path) => path.startsWith(runDirectory)) ? -errno.ENOSPC : undefined
    log.length = 0
    assert.equal(play(machine, create(ann, 'Y'), '1000'), 0)
    assert.match(log.join(''), /what this upcall begins can't be noted in .*ENOSPC/)
  })
})
