/**
 * `serve` with an intent log, and nobody beside it. Before each call with which it changes the disk, it is killed, or
 * the power is cut, in every state in which the disk may be then; or a call of the log fails. What it has answered
 * with 0 holds, by the rule (tests/life/oracle.ts). Each client is judged by itself.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { errno } from '../../../lib/syscalls/errno.ts'
import { blank, judge, remember, type Event, type Memory, type Owner } from '../../life/oracle.ts'
import { futuresByRule, readable, type Observed } from '../../proof/futures.ts'
import { ann, bob, create, dan, remove } from '../../proof/scenarios.ts'
import { callShown, type Made } from '../../support/memory/files.ts'
import { runDirectory, stateDirectory, Stopped } from '../../support/memory/machine.ts'
import type { AskedMessage } from '../../support/memory/pipe.ts'
import { statusOf } from '../../support/pipe/messages.ts'
import { everything } from '../events/situations.ts'
import { observer, play } from '../events/states.ts'
import { changesDisk, creates, eventOf, isOfLog, serving, statusesOf, type Serving, type Step } from './with-a-log.ts'

const states = observer()
const sixteen: readonly Owner[] = Array.from({ length: 16 }, (_, at) => Buffer.from(`c${at}`).toString('hex'))

interface Case {
  readonly title: string
  /** What it has answered before. */
  readonly before: readonly Step[]
  readonly steps: readonly Step[]
  /** Whose records are looked at. */
  readonly clients?: readonly Owner[]
}

/** Grace is over, so the next rest makes a log. */
const full: readonly Step[] = [[['graceStart']], [...creates(ann, bob), ['graceDone']]]
const removes = (...owners: readonly Owner[]): Step => owners.map((owner) => ['remove', owner])
/** A log of four blocks has three entries. */
const three: readonly Step[] = [creates(dan), removes(ann), creates(ann)]

const cases: readonly Case[] = [
  { title: 'a log is made', before: full, steps: ['rest'] },
  { title: 'a client comes', before: [...full, 'rest'], steps: [creates(dan)] },
  { title: 'a client goes', before: [...full, 'rest'], steps: [removes(ann)] },
  {
    title: 'a client comes, goes and comes back',
    before: [...full, 'rest'],
    steps: [creates(dan), removes(dan), creates(dan)],
  },
  {
    title: 'clients come and go at once',
    before: [...full, 'rest'],
    steps: [[...creates(dan), ['remove', ann], ['remove', dan], ...creates(ann), ['remove', bob]]],
  },
  {
    title: 'sixteen come at once',
    before: [...full, 'rest'],
    steps: [creates(...sixteen)],
    clients: [ann, bob, ...sixteen],
  },
  {
    title: 'two clients are known already, and one is not',
    before: [...full, 'rest', creates(dan)],
    steps: [[...creates(ann, dan), ['remove', bob], ['remove', bob]]],
  },
  { title: 'a client goes, and the log is full', before: [...full, 'rest', ...three], steps: [removes(dan)] },
  {
    title: 'a client comes back, and the log is full',
    before: [...full, 'rest', ...three, removes(dan)],
    steps: [creates(dan)],
  },
  {
    title: 'a log that was full is used again',
    before: [...full, 'rest', ...three, removes(dan)],
    steps: [creates(dan), removes(ann)],
  },
  { title: 'a log is emptied', before: [...full, 'rest', ...three], steps: ['rest'] },
  {
    title: 'a log that was emptied is used again',
    before: [...full, 'rest', ...three, 'rest'],
    steps: [removes(dan), removes(ann)],
  },
  {
    title: 'a server starts',
    before: [...full, 'rest', creates(dan), removes(ann)],
    steps: [[['getVersion']], [['graceStart']]],
  },
  {
    title: 'a server starts, clients reclaim, and grace ends',
    before: [...full, 'rest', creates(dan), removes(ann), [['graceStart']]],
    steps: [[...creates(dan), ['remove', bob]], [['graceDone']], 'rest', creates(ann)],
  },
  { title: 'grace ends once more', before: [...full, 'rest', creates(dan), removes(ann)], steps: [[['graceDone']]] },
  { title: 'a server stops', before: [...full, 'rest', creates(dan), removes(ann)], steps: ['stop'] },
]

/** How many states of a disk are looked at, at most: the least, the most, and some others. */
const most = everything ? 1500 : 15

const mayReclaim = (memory: Memory, owner: Owner): boolean => futuresByRule(memory, [owner]).restart !== ''

/** One that was not answered may have happened. */
interface Happened {
  readonly event: Event
  readonly isSure: boolean
}

const happenedIn = (step: Step, messages: readonly AskedMessage[]): readonly Happened[] =>
  messages.flatMap(({ answer }, nth) => {
    const event = typeof step === 'string' ? undefined : eventOf(step[nth] ?? ['getVersion'])
    return event === undefined ? [] : [{ event, isSure: answer !== undefined && statusOf(answer) === 0 }]
  })

/** Whether a client may reclaim, in each way in which this may have happened. */
function mayBe(memory: Memory, happened: readonly Happened[], owner: Owner): ReadonlySet<boolean> {
  let ways: readonly Memory[] = [memory]
  for (const { event, isSure } of happened) {
    if ('owner' in event && event.owner !== owner) continue
    ways = ways.flatMap((way) => {
      const then = remember(way)
      judge(then, event)
      return isSure ? [then] : [way, then]
    })
  }
  return new Set(ways.map((way) => mayReclaim(way, owner)))
}

/** Why this is not what must hold; undefined, if it is. */
function wrongIn(
  { trouble, restart, nextLife }: Observed,
  memory: Memory,
  happened: readonly Happened[],
  clients: readonly Owner[],
): string | undefined {
  if (trouble.length > 0) return trouble.join('; ')
  const now = restart.split(' ')
  const wrong = clients.filter((owner) => !mayBe(memory, happened, owner).has(now.includes(readable([owner]))))
  if (wrong.length > 0) return `may reclaim: ${restart}; wrong about ${readable(wrong)}`
  return nextLife === futuresByRule(memory, clients).nextLife ? undefined : `and then: ${String(nextLife)}`
}

/** @returns what a power cut may leave now, or a kill, that does not hold what was answered */
function* lostNow(
  s: Serving,
  memory: Memory,
  happened: readonly Happened[],
  clients: readonly Owner[],
): Generator<string> {
  const { files } = s.machine
  const killed = states.futures(
    states.standing(files.tree(stateDirectory), files.tree(runDirectory)),
    clients,
    'power cut',
  )
  const wrong = wrongIn(killed, memory, happened, clients)
  // An upcall that finds that a start was killed takes the instance for one without us.
  const isStarting = happened.some(({ event, isSure }) => event.event === 'start' && !isSure)
  if (wrong !== undefined && !isStarting) yield `killed: ${wrong}`
  let count = 0
  for (const tree of s.left()) {
    if (count++ * clients.length > most * 3) return
    const lost = wrongIn(states.futures(states.standing(tree), clients, 'power cut'), memory, happened, clients)
    if (lost !== undefined) yield `cut: ${lost}`
  }
}

interface Lived {
  readonly s: Serving
  readonly memory: Memory
}

function lived(before: readonly Step[]): Lived {
  const s = serving()
  const memory = remember(blank())
  for (const step of before) {
    const messages = s.step(step)
    for (const status of statusesOf(messages)) assert.equal(status, 0)
    for (const { event } of happenedIn(step, messages)) judge(memory, event)
  }
  return { s, memory }
}

describe('serve with an intent log: what it has answered holds, wherever the power is cut or it is killed', () => {
  for (const { title, before, steps, clients = [ann, bob, dan] } of cases)
    it(title, () => {
      const { s, memory } = lived(before)
      const found = new Set<string>()
      for (const step of steps) {
        const messages = typeof step === 'string' ? [] : s.ask(...step)
        const look = (where: string): void => {
          for (const wrong of lostNow(s, memory, happenedIn(step, messages), clients)) found.add(`${where}: ${wrong}`)
        }
        s.machine.files.hooks.before = (made) => {
          if (changesDisk(made)) look(`before ${callShown(made)}`)
          return undefined
        }
        s.act(step)
        s.machine.files.hooks.before = () => undefined
        for (const status of statusesOf(messages)) assert.equal(status, 0)
        look('answered')
        for (const { event } of happenedIn(step, messages)) judge(memory, event)
      }
      assert.deepEqual([...found], [])
    })

  it('is there, has an entry for each of three rounds, and then none', () => {
    const { s } = lived([...full, 'rest', ...three])
    assert.equal(s.logs().length, 1)
    const entries = (): number => {
      const text = s.machine.files.tree(stateDirectory).get(s.logs()[0] ?? '')
      assert.ok(text?.kind === 'file')
      return [1, 2, 3].filter((at) => /^[1-9]/.test(text.bytes.slice(4096 * at, 4096 * at + 1))).length
    }
    assert.equal(entries(), 3)
    s.step('rest')
    assert.equal(entries(), 2, 'the first says that there are none')
    s.step('stop')
    assert.deepEqual(s.logs(), [])
  })

  const many = Array.from({ length: 200 }, (_, at) => Buffer.from(`client ${at}`).toString('hex'))
  for (const [what, step] of [
    ['of two clients', removes(ann, bob)],
    ['of two hundred', creates(...many)],
  ] as const)
    it(`a round ${what} waits for one sync, of the log`, () => {
      const s = serving(16)
      for (const before of [...full, 'rest', creates(dan)] as const) s.step(before)
      const synced: string[] = []
      s.machine.files.hooks.before = ({ name, paths: [path = ''] }) => {
        if (name === 'fsync' || name === 'fdatasync') synced.push(path.replace(/[0-9.]+$/, ''))
        return undefined
      }
      for (const status of statusesOf(s.step(step))) assert.equal(status, 0)
      assert.deepEqual(synced, [`${stateDirectory}/v4clients/intent-log`])
    })
})

/** Stops `serve` before its call number `at` that changes the disk. @returns undefined, if it makes no such call */
function killedIn({ s }: Lived, step: Step, at: number): string | undefined {
  let calls = 0
  let where: string | undefined
  s.machine.files.hooks.before = (made) => {
    if (where !== undefined) throw new Stopped()
    if (!changesDisk(made) || calls++ !== at) return undefined
    where = callShown(made)
    throw new Stopped()
  }
  try {
    if (typeof step !== 'string') s.ask(...step)
    s.act(step)
  } catch (thrown) {
    if (!(thrown instanceof Stopped)) throw thrown
  }
  s.machine.files.hooks.before = () => undefined
  s.die()
  return where
}

/** One of so many calls is killed before, and another one with each event; with EVERY_PAIR every call. */
const sample = everything ? 1 : 3

describe('serve with an intent log is killed, an upcall is answered, and the power is cut: what that has promised holds', () => {
  const later: readonly (readonly [Event, Owner])[] = [
    [remove(dan), dan],
    [create(ann, 'Y'), ann],
    [remove(ann), ann],
    [create(dan, 'N'), dan],
  ]
  for (const [number, { title, before, steps }] of cases.filter(({ clients }) => clients === undefined).entries())
    it(title, () => {
      const found = new Set<string>()
      // Who creates in an instance whose start was killed comes after one without us.
      const starts = steps.some(
        (step) => typeof step !== 'string' && step.some(([command]) => command === 'graceStart'),
      )
      for (const [which, [event, owner]] of later.entries()) {
        const due = event.event === 'create'
        if (due && starts) continue
        for (const [nth, step] of steps.entries())
          for (let at = (number + which) % sample; ; at += sample) {
            const one = lived([...before, ...steps.slice(0, nth)])
            const where = killedIn(one, step, at)
            if (where === undefined) break
            assert.equal(play(one.s.machine, event), 0)
            let count = 0
            for (const tree of one.s.left()) {
              if (count++ === most) break
              const { restart, trouble } = states.futures(states.standing(tree), [owner], 'power cut')
              if (trouble.length > 0 || (restart !== '') !== due)
                found.add(`killed before ${where}, then ${event.event}: may reclaim: "${restart}" ${trouble.join()}`)
            }
          }
      }
      assert.deepEqual([...found], [])
    })
})

/** Everything that happens to a log. */
const wholeLife: readonly Step[] = [
  'rest',
  creates(dan),
  removes(ann),
  creates(ann),
  removes(dan),
  removes(bob),
  'rest',
  creates(dan, bob),
  removes(bob),
  [['graceDone']],
  'rest',
  removes(dan),
  'stop',
]

/** What changes more than records needs the log to be gone. */
const closes = 'graceDone'

type Fault = (made: Made, calls: number) => number | undefined

/** @returns the calls of the log that were made, and the statuses that are no success */
function failing(fault: Fault): { readonly calls: number; readonly refused: readonly string[] } {
  const { s, memory } = lived(full)
  const refused: string[] = []
  const clients = [ann, bob, dan]
  let calls = 0
  let failed = ''
  // What was not answered with 0 may have happened all the same.
  const happened: Happened[] = []
  const found = new Set<string>()
  for (const step of wholeLife) {
    s.machine.files.hooks.before = (made) => {
      if (!isOfLog(made)) return undefined
      const failure = fault(made, calls++)
      if (failure !== undefined) failed = callShown(made)
      return failure
    }
    const messages = s.step(step)
    s.machine.files.hooks.before = () => undefined
    happened.push(...happenedIn(step, messages))
    for (const [nth, status] of statusesOf(messages).entries())
      if (status !== 0 && step[nth]?.[0] !== closes) refused.push(`${failed}: ${String(step[nth])} ${String(status)}`)
    let count = 0
    if (failed === '') continue
    for (const tree of s.left()) {
      if (count++ === most) break
      const lost = wrongIn(states.futures(states.standing(tree), clients, 'power cut'), memory, happened, clients)
      if (lost !== undefined) found.add(`${failed} fails, then ${JSON.stringify(step)}: cut: ${lost}`)
    }
  }
  assert.deepEqual([...found], [])
  return { calls, refused }
}

describe('serve with an intent log that fails: what it has answered with 0 holds after a power cut', () => {
  const everyFault = (code: number, from: number): readonly string[] => {
    const refused: string[] = []
    for (let at = everything ? 0 : from; ; at += sample) {
      const once = failing((_, nth) => (nth === at ? -code : undefined))
      if (once.calls <= at) break
      refused.push(...once.refused)
    }
    return refused
  }
  for (const [from, name, code] of [
    [0, 'EIO', errno.EIO],
    [1, 'ENOSPC', errno.ENOSPC],
    [2, 'EROFS', errno.EROFS],
  ] as const)
    it(`one call fails with ${name}, and no request about a client does`, () => {
      assert.deepEqual(everyFault(code, from), [])
    })

  for (const failingCalls of ['pwrite64', 'fdatasync', 'fsync', 'write', 'openat', 'renameat', 'fcntl'])
    it(`each ${failingCalls} fails, and no request about a client does`, () => {
      assert.deepEqual(failing(({ name }) => (name === failingCalls ? -errno.EIO : undefined)).refused, [])
    })

  for (const [title, names] of [
    ['it can not be removed', ['unlinkat']],
    ['it can neither be written nor be removed', ['pwrite64', 'unlinkat']],
    ['it can neither be synced nor be removed', ['fdatasync', 'unlinkat']],
    ['it can not be looked at', ['fstatat', 'fstat']],
  ] as const)
    it(title, () => {
      failing(({ name }) => ((names as readonly string[]).includes(name) ? -errno.EIO : undefined))
    })
})

describe('serve with an intent log, whose disk is not what it was', () => {
  it('the records are gone: the log goes too, and nothing is due for ever', () => {
    const { s } = lived([...full, 'rest', removes(ann)])
    assert.equal(s.isDue(), true)
    s.machine.files.remove(`${stateDirectory}/v4clients`)
    s.step('rest')
    s.step('rest')
    assert.equal(s.isDue(), false)
  })

  // It has failed, and is mounted again without a boot: as after a power cut, but the holder lives.
  for (const [title, step] of [
    ['a client comes', creates(ann)],
    ['a client goes', removes(bob)],
    ['nobody asks', 'rest'],
    ['the server stops', 'stop'],
  ] as const)
    it(`it has lost what it may, and ${title}: what was answered before and after holds`, () => {
      const { s, memory } = lived([...full, 'rest', creates(dan), removes(ann)])
      const { files } = s.machine
      const [least] = s.left()
      assert.ok(least)
      files.replace(stateDirectory, least)
      // The first may fail.
      const happened = [1, 2].flatMap(() => happenedIn(step, s.step(step)))
      assert.equal(happened.at(-1)?.isSure ?? true, true)
      s.die()
      const now = states.standing(files.tree(stateDirectory))
      const clients = [ann, bob, dan]
      assert.equal(wrongIn(states.futures(now, clients, 'power cut'), memory, happened, clients), undefined)
    })
})
