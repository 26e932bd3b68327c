/**
 * `serve` dies at each of its calls, in each state, alone and with many messages queued; then the next one comes. The kernel's
 * end is in memory; the file system is this machine's, which loses nothing when a process dies.
 */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { openLog } from '../../../lib/kernel/log.ts'
import { openPipe } from '../../../lib/kernel/pipe.ts'
import { serverFor } from '../../../lib/serve/server.ts'
import { hold } from '../../../lib/serve/serve.ts'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import { holderName } from '../../../lib/store/process.ts'
import { anywhere } from '../../../lib/syscalls/files.ts'
import { nodeCalls } from '../../../lib/syscalls/node.ts'
import { message, type Command } from '../../support/pipe/messages.ts'
import { kernelEnd, type AskedMessage, type KernelEnd } from '../../support/memory/pipe.ts'

/** Of memory, where there is one: nothing here is about the disk. */
const room = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'serve-killed-'))
after(() => {
  rmSync(room, { recursive: true })
})

class Killed extends Error {}

/** Calls of a process that is killed before its call of that number. Its id is nobody's. */
function processThatDies(
  calls: Calls,
  before: number,
  id: number,
): { readonly calls: Calls; readonly made: () => number } {
  let made = 0
  const counted = Object.fromEntries(
    Object.entries(calls).map(([name, call]: [string, unknown]) => [
      name,
      typeof call !== 'function'
        ? call
        : (...given: unknown[]): unknown => {
            if (made >= before) throw new Killed()
            if (!['now', 'monotonic', 'processId', 'userId'].includes(name)) made++
            return (call as (...given: unknown[]) => unknown)(...given)
          },
    ]),
  ) as unknown as Calls
  // What it says is not looked at here.
  const sleep = (): void => undefined
  const write: Calls['write'] = (descriptor, bytes) =>
    descriptor === 2 ? bytes.length : counted.write(descriptor, bytes)
  return { calls: { ...counted, write, sleep, processId: () => id }, made: () => made }
}

interface Machine {
  readonly kernel: KernelEnd
  readonly directory: string
  lives: number
}

let machines = 0
function newMachine(): Machine {
  const directory = join(room, String(machines++))
  return { kernel: kernelEnd(nodeCalls(), join(directory, 'cld')), directory, lives: 0 }
}

/** One process: holds the pipe and answers what is queued, unless it dies first. @returns how many calls it made, if it lives. */
function live(machine: Machine, dies = Infinity): number | 'died' {
  const { kernel, directory } = machine
  const { calls, made } = processThatDies(kernel.calls, dies, 5_000_000 + machine.lives++)
  try {
    const log = openLog(calls, { foreground: true, debug: false })
    const settings = {
      stateDirectory: join(directory, 'state'),
      runDirectory: join(directory, 'run'),
      nfsdDirectory: join(directory, 'nfsd'),
      configuration: undefined,
      foreground: true,
      debug: false,
      complaints: [],
    }
    calls.mkdirat(-100, directory, 0o700)
    calls.mkdirat(-100, settings.runDirectory, 0o700)
    const server = serverFor({ calls, settings, log, bootId: 'boot', holder: holderName(anywhere(calls)) }, 2, {
      write: () => undefined,
      remove: () => undefined,
    })
    const pipe = openPipe(calls, join(directory, 'cld'))
    assert.ok(pipe !== undefined)
    const held = hold(server, join(settings.runDirectory, 'replies'), pipe)
    assert.notEqual(held, 'gone')
    return made()
  } catch (thrown) {
    if (!(thrown instanceof Killed)) throw thrown
    return 'died'
  } finally {
    kernel.die()
  }
}

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
      assert.notEqual(live(machine), 'died')
    }
  return machine
}

/** Who may reclaim at the next start. */
function listAfter(machine: Machine): string[] {
  machine.kernel.remove('again')
  const [, start] = ask(machine, [['getVersion'], ['graceStart']])
  live(machine)
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

describe('serve, killed before any of its calls: the next one answers, nothing is lost, and nobody waits for ever', () => {
  for (const { title, before, asked, due } of cases)
    it(title, () => {
      for (let at = 0; ; at++) {
        const machine = played(before)
        const messages = ask(machine, asked)
        const died = live(machine, at)
        const answered = messages.filter(({ answer }) => answer?.readInt16LE(2) === 0)
        live(machine)
        assert.deepEqual(machine.kernel.orphans(), [], `killed before call ${at}: an nfsd thread waits for ever`)
        for (const { answer } of messages) assert.equal(answer?.readInt16LE(2), 0, `killed before call ${at}`)
        assert.deepEqual(
          listAfter(machine),
          [...due].sort(),
          `killed before call ${at}, ${answered.length} were answered`,
        )
        if (died !== 'died') return
      }
    })
})
