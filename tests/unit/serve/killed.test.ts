/**
 * `serve` is killed at each of its calls, in each state, alone and with many messages queued; then the next `serve`
 * comes. The kernel's end of the pipe and the file system are in memory, and lose nothing when a process dies.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { tryAgain } from '../../../lib/serve/retry.ts'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import { errno } from '../../../lib/syscalls/errno.ts'
import type { AskedMessage } from '../../support/memory/pipe.ts'
import { copyOf, die, live, liveUntil, newMachine, type Machine } from '../../support/memory/serving.ts'
import { message, type Command } from '../../support/pipe/messages.ts'

const lives = (machine: Machine): 'lives' | 'killed' => liveUntil(machine, Infinity)

type Asked = readonly [Command, string?]

const ask = ({ kernel }: Machine, asked: readonly Asked[]): AskedMessage[] =>
  asked.map(([command, name]) =>
    kernel.ask(
      command === 'getVersion'
        ? message(1, command)
        : message(2, command, name === undefined ? undefined : { owner: Buffer.from(name) }),
    ),
  )

/** What happens before: each step is answered before the next is asked. */
function played(before: readonly (readonly Asked[] | 'restart')[]): Machine {
  const machine = newMachine()
  for (const step of before)
    if (step === 'restart') machine.kernel.remove('again')
    else {
      ask(machine, step)
      assert.equal(lives(machine), 'lives')
    }
  return machine
}

/** Who may reclaim at the next start. */
function listAfter(machine: Machine): string[] {
  machine.kernel.remove('again')
  const [, start] = ask(machine, [['getVersion'], ['graceStart']])
  lives(machine)
  return (start?.entries ?? []).map((entry) => entry.subarray(10, 10 + entry.readUInt16LE(8)).toString()).sort()
}

const start: readonly Asked[] = [['getVersion'], ['graceStart']]
const creates = (...names: readonly string[]): readonly Asked[] => names.map((name) => ['create', name])
const sixteen = Array.from({ length: 16 }, (_, at) => `c${at}`)
const done: readonly Asked[] = [['graceDone']]

/** @property due who may reclaim at the next start, when all is answered. */
interface Case {
  readonly title: string
  readonly before: readonly (readonly Asked[] | 'restart')[]
  readonly asked: readonly Asked[]
  readonly due: readonly string[]
}

const once: readonly (readonly Asked[] | 'restart')[] = [start, done, creates('ada', 'bob')]

const cases: readonly Case[] = [
  { title: 'the first start', before: [], asked: start, due: [] },
  { title: 'a start with clients', before: [...once, 'restart'], asked: start, due: ['ada', 'bob'] },
  {
    title: 'a start in grace',
    before: [...once, 'restart', start, creates('ada'), 'restart'],
    asked: start,
    due: ['ada', 'bob'],
  },
  { title: 'a create after grace', before: once, asked: creates('eve'), due: ['ada', 'bob', 'eve'] },
  {
    title: 'the first message of a pipe in version 0, with which an instance begins',
    before: [...once, 'restart'],
    asked: creates('ada'),
    due: ['ada', 'bob'],
  },
  { title: 'a reclaim', before: [...once, 'restart', start], asked: creates('ada'), due: ['ada', 'bob'] },
  {
    title: 'sixteen at once',
    before: [...once, 'restart', start],
    asked: creates(...sixteen),
    due: ['ada', 'bob', ...sixteen],
  },
  { title: 'a remove after grace', before: once, asked: [['remove', 'ada']], due: ['bob'] },
  {
    title: 'a remove in grace',
    before: [...once, 'restart', start, creates('ada')],
    asked: [['remove', 'ada']],
    due: ['bob'],
  },
  { title: 'the end of grace', before: [...once, 'restart', start, creates('ada')], asked: done, due: ['ada'] },
  {
    title: 'the last create and the end of grace',
    before: [...once, 'restart', start, creates('ada')],
    asked: [...creates('eve'), ...done],
    due: ['ada', 'eve'],
  },
  {
    title: 'a client that comes after its remove',
    before: once,
    asked: [['remove', 'ada'], ...creates('ada'), ['remove', 'bob']],
    due: ['ada'],
  },
]

describe('serve, killed before any of its calls: the next one answers, nothing is lost, and no thread waits for ever', () => {
  for (const { title, before, asked, due } of cases)
    it(title, () => {
      const begun = played(before)
      for (let at = 0; ; at++) {
        const machine = copyOf(begun)
        const messages = ask(machine, asked)
        const how = liveUntil(machine, at)
        const answered = messages.filter(({ answer }) => answer?.readInt16LE(2) === 0)
        lives(machine)
        assert.deepEqual(machine.kernel.orphans(), [], `killed before call ${at}: an nfsd thread waits for ever`)
        for (const { answer } of messages) assert.equal(answer?.readInt16LE(2), 0, `killed before call ${at}`)
        assert.deepEqual(
          listAfter(machine),
          [...due].sort(),
          `killed before call ${at}, ${answered.length} were answered`,
        )
        if (how === 'lives') return
      }
    })
})

/**
 * @property steps of messages, each answered before the next is sent. @property due the lists of which the next start
 * may name one.
 */
interface Refused {
  readonly title: string
  readonly before: readonly (readonly Asked[] | 'restart')[]
  readonly steps: readonly (readonly Asked[])[]
  readonly due: readonly (readonly string[])[]
}

const refusals: readonly Refused[] = [
  { title: 'a create', before: once, steps: [creates('eve')], due: [['ada', 'bob', 'eve']] },
  {
    title: 'two creates, and a third',
    before: once,
    steps: [creates('eve', 'fay'), creates('gus')],
    due: [['ada', 'bob', 'eve', 'fay', 'gus']],
  },
  {
    title: 'a create whose client then leaves',
    before: once,
    steps: [creates('eve'), [['remove', 'eve']]],
    due: [['ada', 'bob']],
  },
  { title: 'a remove', before: once, steps: [[['remove', 'ada']]], due: [['bob'], []] },
  {
    title: 'a remove whose client comes back',
    before: once,
    steps: [[['remove', 'ada']], creates('ada')],
    due: [['ada', 'bob'], []],
  },
  { title: 'two removes', before: once, steps: [[['remove', 'ada']], [['remove', 'bob']]], due: [[]] },
  {
    title: 'an end of grace',
    before: [...once, 'restart', start, creates('ada')],
    steps: [done],
    due: [['ada'], []],
  },
]

/** No client's record can be made or removed, and no grace ended. */
const refusing = (calls: Calls): Partial<Calls> => {
  const isRefused = (name: string): boolean => /^[a-z]{3}$/.test(name) || name.endsWith('.full')
  return {
    symlinkat: (text, directory, name) => (isRefused(name) ? -errno.EIO : calls.symlinkat(text, directory, name)),
    unlinkat: (directory, name, how) => (isRefused(name) ? -errno.EIO : calls.unlinkat(directory, name, how)),
    renameat: (fromDirectory, from, toDirectory, to) =>
      isRefused(to) ? -errno.EIO : calls.renameat(fromDirectory, from, toDirectory, to),
  }
}

describe('serve, killed before any of its calls while the disk fails: the next one does the work, or nobody may reclaim', () => {
  for (const { title, before, steps, due } of refusals)
    for (const [killedIn] of steps.entries())
      it(`${title}, in step ${killedIn + 1}`, () => {
        const begun = played(before)
        for (let at = 0; ; at++) {
          const machine = copyOf(begun)
          let how: 'lives' | 'killed' = 'lives'
          for (const [number, asked] of steps.entries()) {
            ask(machine, asked)
            // One process may do several steps. Here each step has a process of its own, which continues what is left.
            const ended = liveUntil(machine, number === killedIn ? at : Infinity, refusing)
            if (number === killedIn) how = ended
            if (ended === 'killed') liveUntil(machine, Infinity, refusing)
          }
          const { server } = live(machine)
          tryAgain(server)
          die(machine)
          assert.deepEqual(machine.kernel.orphans(), [], `killed before call ${at}`)
          const list = listAfter(machine)
          assert.ok(
            due.some((names) => names.join() === list.join()),
            `killed before call ${at}: ${list.join()}`,
          )
          if (how === 'lives') return
        }
      })
})
