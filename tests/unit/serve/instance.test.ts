/** Servers whose start `serve` has not recorded: what it takes them for, and who may reclaim afterwards. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { openPipe } from '../../../lib/kernel/pipe.ts'
import { beginServing } from '../../../lib/serve/current-pipe.ts'
import { tryAgain } from '../../../lib/serve/retry.ts'
import { answerQueued } from '../../../lib/serve/round.ts'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import { errno } from '../../../lib/syscalls/errno.ts'
import { writeLinksBy } from '../../../lib/syscalls/node.ts'
import type { AskedMessage } from '../../support/memory/pipe.ts'
import {
  die,
  journalPath,
  live,
  liveUntil,
  newMachine,
  pipePath,
  type Life,
  type Machine,
} from '../../support/memory/serving.ts'
import { message, statusOf, type Command } from '../../support/pipe/messages.ts'

const ask = ({ kernel }: Machine, command: Command, owner?: string): AskedMessage =>
  kernel.ask(
    message(
      command === 'getVersion' || command === 'check' ? 1 : 2,
      command,
      owner === undefined ? {} : { owner: Buffer.from(owner) },
    ),
  )
const statusIn = ({ answer }: AskedMessage): number | undefined => (answer === undefined ? undefined : statusOf(answer))
const namedIn = ({ entries }: AskedMessage): string[] =>
  entries.map((entry) => entry.subarray(10, 10 + entry.readUInt16LE(8)).toString()).sort()

/** A new server starts, and asks. @returns its GraceStart. */
function serverStarts(machine: Machine): AskedMessage {
  machine.kernel.remove('again')
  ask(machine, 'getVersion')
  return ask(machine, 'graceStart')
}

/** A process answers all queued messages, and ends. */
function passes(machine: Machine): void {
  live(machine)
  die(machine)
}

/** Who may reclaim after a restart. */
function listAfter(machine: Machine): string[] {
  const start = serverStarts(machine)
  passes(machine)
  return namedIn(start)
}

/** Ann and Bob are recorded in a server instance whose grace is over. */
function played(): Machine {
  const machine = newMachine()
  serverStarts(machine)
  ask(machine, 'graceDone')
  for (const name of ['ann', 'bob']) ask(machine, 'create', name)
  passes(machine)
  return machine
}

/** The same, and then a new server. Another program has answered its start, and has ended. */
function playedByAnother(): Machine {
  const machine = played()
  serverStarts(machine)
  machine.kernel.letAnotherAnswer()
  return machine
}

/** The monotonic clock advances. */
function later(ms: number): {
  readonly clock: (calls: Life['calls']) => Partial<Life['calls']>
  readonly pass: () => void
} {
  let passed = 0
  return {
    clock: (calls) => ({ monotonic: () => calls.monotonic() + passed }),
    pass: () => {
      passed += ms
    },
  }
}

describe('a server some of whose messages were not answered by serve', () => {
  /** Ann leaves while another program holds the pipe, or nobody does. Then a process answers what comes next. */
  const missesRemove = (): Machine => {
    const machine = played()
    ask(machine, 'remove', 'ann')
    machine.kernel.letAnotherAnswer()
    return machine
  }

  it('names no client at its next start that may have left unnoticed (edge condition 1)', () => {
    const machine = missesRemove()
    ask(machine, 'create', 'cal')
    const { server } = live(machine)
    machine.kernel.remove()
    server.pipeGone()
    die(machine)
    assert.deepEqual(listAfter(machine), [], 'it stopped before the lost messages could have come')
  })

  it('names at its next start the clients that are recorded after the loss is certain', () => {
    const machine = missesRemove()
    const { clock, pass } = later(10_000)
    const { server, held } = live(machine, clock)
    assert.ok(held !== 'gone')
    pass()
    ask(machine, 'create', 'cal')
    answerQueued(server, held.pipe, held.journal)
    assert.deepEqual(listAfter(machine), ['cal'])
  })

  it('is known to have lost some, also if nothing is asked for a while, and processes come and go', () => {
    const machine = missesRemove()
    passes(machine)
    passes(machine)
    const { clock, pass } = later(10_000)
    const { server, held } = live(machine, clock)
    assert.ok(held !== 'gone')
    ask(machine, 'create', 'cal')
    answerQueued(server, held.pipe, held.journal)
    assert.notEqual(server.instance.dueAt(), undefined)
    pass()
    server.instance.due()
    ask(machine, 'create', 'dan')
    answerQueued(server, held.pipe, held.journal)
    assert.deepEqual(listAfter(machine), ['dan'])
  })

  it('loses no client, if the messages only come again late', () => {
    const machine = played()
    die(machine)
    const { clock, pass } = later(10_000)
    const late = ask(machine, 'remove', 'ann')
    const comes = machine.kernel.holdBack()
    ask(machine, 'create', 'cal')
    const { server, held } = live(machine, clock)
    assert.ok(held !== 'gone')
    comes()
    answerQueued(server, held.pipe, held.journal)
    assert.equal(statusIn(late), 0)
    pass()
    server.instance.due()
    assert.deepEqual(listAfter(machine), ['bob', 'cal'])
  })

  it('loses no client, if the first message comes last, and few are taken at once because the disk is slow', () => {
    const machine = played()
    die(machine)
    const late = ask(machine, 'remove', 'ann')
    const comes = machine.kernel.holdBack()
    const others = ['cal', 'dan', 'eve', 'fay', 'gus']
    for (const name of others) ask(machine, 'create', name)
    comes()
    const { clock, pass } = later(10_000)
    live(machine, (calls) => ({
      ...clock(calls),
      readText: (descriptor, length) => {
        const text = calls.readText(descriptor, length)
        return typeof text === 'string'
          ? text.replace(/^(Max open files +)\S+/m, (_, name: string) => `${name}66`)
          : text
      },
      fsync: (descriptor) => {
        pass()
        return calls.fsync(descriptor)
      },
    }))
    assert.equal(statusIn(late), 0)
    assert.deepEqual(listAfter(machine), ['bob', ...others])
  })

  it('loses no client, if no message was lost', () => {
    const machine = played()
    passes(machine)
    ask(machine, 'remove', 'ann')
    passes(machine)
    ask(machine, 'create', 'cal')
    passes(machine)
    assert.deepEqual(listAfter(machine), ['bob', 'cal'])
  })
})

describe('a server whose start another program has answered', () => {
  it('names at the next start the clients recorded from then on, and none that may have left unnoticed', () => {
    const machine = playedByAnother()
    const create = ask(machine, 'create', 'cal')
    passes(machine)
    assert.equal(statusIn(create), 0)
    assert.deepEqual(listAfter(machine), ['cal'])
  })

  it('names the right ones also after the end of its grace, and after the next end', () => {
    const machine = playedByAnother()
    for (const name of ['bob', 'cal']) ask(machine, 'create', name)
    ask(machine, 'graceDone')
    ask(machine, 'remove', 'cal')
    passes(machine)
    assert.deepEqual(listAfter(machine), ['bob'])
    ask(machine, 'graceDone')
    passes(machine)
    assert.deepEqual(listAfter(machine), [])
  })

  for (const command of ['remove', 'graceDone'] as const)
    it(`names nobody at the next start, if its only message was a ${command}`, () => {
      const machine = playedByAnother()
      const asked = ask(machine, command, command === 'remove' ? 'ann' : undefined)
      passes(machine)
      assert.equal(statusIn(asked), 0)
      assert.deepEqual(listAfter(machine), [])
    })

  it('is known again by the next process', () => {
    const machine = playedByAnother()
    for (const name of ['cal', 'dan', 'eve']) {
      ask(machine, 'create', name)
      passes(machine)
    }
    assert.deepEqual(listAfter(machine), ['cal', 'dan', 'eve'])
  })

  it('names nobody that it must not and everybody that was answered with 0, if serve is killed at any call', () => {
    for (let at = 0; ; at++) {
      const machine = playedByAnother()
      const creates = ['bob', 'cal'].map((name) => ask(machine, 'create', name))
      const how = liveUntil(machine, at)
      passes(machine)
      assert.deepEqual(creates.map(statusIn), [0, 0], `killed before call ${at}`)
      assert.deepEqual(listAfter(machine), ['bob', 'cal'], `killed before call ${at}`)
      if (how === 'lives') break
    }
  })

  it('names nobody that it must not, if any call of serve fails', () => {
    const fails = ['openat', 'mkdirat', 'symlinkat', 'fsync', 'unlinkat', 'renameat', 'readlinkat'] as const
    for (const name of fails)
      for (let at = 0; ; at++) {
        const machine = playedByAnother()
        const creates = ['bob', 'cal'].map((client) => ask(machine, 'create', client))
        let made = 0
        live(machine, (calls) => ({
          [name]: (...words: unknown[]): unknown => {
            const isElsewhere = words.some((word) => typeof word === 'string' && /^\/(?:proc|etc)|\/cld$/.test(word))
            if (!isElsewhere && made++ === at) return -errno.EIO
            return (calls[name] as (...words: unknown[]) => unknown)(...words)
          },
        }))
        die(machine)
        const list = listAfter(machine)
        const label = `call ${at} of ${name} failed`
        assert.ok(!list.includes('ann'), label)
        for (const [nth, client] of ['bob', 'cal'].entries())
          if (statusIn(creates[nth] as AskedMessage) === 0) assert.ok(list.includes(client) || list.length === 0, label)
        if (made <= at) break
      }
  })

  it('names nobody at the next start, if it has asked nothing for two seconds', () => {
    const machine = playedByAnother()
    const { clock, pass } = later(3000)
    const { server } = live(machine, clock)
    assert.ok((server.instance.dueAt() ?? Infinity) < Infinity)
    pass()
    server.instance.due()
    assert.equal(server.instance.dueAt(), undefined)
    die(machine)
    assert.deepEqual(listAfter(machine), [])
  })

  it('names nobody at the next start, if it stops without having asked anything', () => {
    const machine = playedByAnother()
    live(machine).server.pipeGone()
    die(machine)
    assert.deepEqual(listAfter(machine), [])
  })
})

describe('a server that has stopped before serve could read anything at its pipe', () => {
  /** The pipe is gone as soon as it is open. */
  const goesAtOnce = (machine: Machine): void => {
    let now = 0
    const { server, held } = live(machine, (calls) => ({
      openat: (directory, name, flags, mode) => {
        const descriptor = calls.openat(directory, name, flags, mode)
        if (name === pipePath && now++ === 0) machine.kernel.remove()
        return descriptor
      },
    }))
    assert.equal(held, 'gone')
    server.pipeGone()
    die(machine)
  }

  it('may have granted anything, if its start is not recorded: nobody may reclaim after the next start', () => {
    const machine = playedByAnother()
    goesAtOnce(machine)
    assert.deepEqual(listAfter(machine), [])
  })

  it('loses no client, if its start is recorded', () => {
    const machine = played()
    goesAtOnce(machine)
    assert.deepEqual(listAfter(machine), ['ann', 'bob'])
  })
})

it('a server that is slow to ask for its start loses no client', () => {
  const machine = played()
  machine.kernel.remove('again')
  const { clock, pass } = later(60_000)
  const { server, held } = live(machine, clock)
  pass()
  server.instance.due()
  ask(machine, 'getVersion')
  const start = ask(machine, 'graceStart')
  assert.ok(held !== 'gone')
  answerQueued(server, held.pipe, held.journal)
  die(machine)
  assert.deepEqual(namedIn(start), ['ann', 'bob'])
  ask(machine, 'create', 'cal')
  passes(machine)
  assert.deepEqual(listAfter(machine), ['ann', 'bob', 'cal'])
})

it('after rpc_pipefs was mounted anew, only clients recorded since may reclaim: others may have left unnoticed', () => {
  const machine = played()
  machine.kernel.mountAnew()
  ask(machine, 'create', 'cal')
  passes(machine)
  assert.deepEqual(listAfter(machine), ['cal'])
})

describe('a server that goes on in version 0', () => {
  it('because serve was killed at any call of its GraceStart, lets the right clients reclaim, and afterwards only those that did', () => {
    for (let at = 0; ; at++) {
      const machine = played()
      serverStarts(machine)
      const how = liveUntil(machine, at)
      machine.kernel.remove('again')
      const [ann, zoe] = [ask(machine, 'check', 'ann'), ask(machine, 'check', 'zoe')]
      passes(machine)
      assert.equal(statusIn(ann), 0, `killed before call ${at}`)
      assert.equal(statusIn(zoe), -errno.EACCES)
      ask(machine, 'graceDone')
      passes(machine)
      assert.deepEqual(listAfter(machine), ['ann'], `killed before call ${at}`)
      if (how === 'lives') break
    }
  })

  it('because its list took too long, is the same instance, also if no client comes', () => {
    const machine = played()
    const crowd = Array.from({ length: 200 }, (_, nth) => `client ${nth}`)
    for (const name of crowd) ask(machine, 'create', name)
    passes(machine)
    const start = serverStarts(machine)
    let now = 0
    const { server } = live(machine, (calls) => {
      const monotonic = (): number => now
      const writeEach: Calls['writeEach'] = (descriptor, message, at, room, texts, from, until) => {
        now += 100 * (until - from)
        return calls.writeEach(descriptor, message, at, room, texts, from, until)
      }
      return { monotonic, writeEach, writeLinks: writeLinksBy({ ...calls, writeEach, monotonic }) }
    })
    assert.equal(statusIn(start), -121)
    die(machine)
    machine.kernel.remove('again')
    const calls = server.calls
    const pipe = openPipe(calls, pipePath)
    assert.ok(pipe)
    beginServing(server, journalPath, pipe)
    assert.equal(server.instance.dueAt(), undefined)
    server.pipeGone()
    die(machine)
    assert.deepEqual(listAfter(machine), ['ann', 'bob', ...crowd].sort())
  })
})

it('a start that failed on the disk is recorded as soon as possible: clients recorded after that may reclaim', () => {
  const machine = played()
  const start = serverStarts(machine)
  let isBroken = true
  const { server, held } = live(machine, (calls) => ({
    symlinkat: (text, directory, name) =>
      isBroken && !name.startsWith('/run/') ? -errno.EIO : calls.symlinkat(text, directory, name),
  }))
  assert.ok(held !== 'gone')
  assert.deepEqual([statusIn(start), namedIn(start)], [0, []])
  const cal = ask(machine, 'create', 'cal')
  answerQueued(server, held.pipe, held.journal)
  assert.equal(statusIn(cal), -121)
  isBroken = false
  tryAgain(server)
  assert.deepEqual(server.unfinished.all(), [])
  const dan = ask(machine, 'create', 'dan')
  answerQueued(server, held.pipe, held.journal)
  assert.equal(statusIn(dan), 0)
  die(machine)
  assert.deepEqual(listAfter(machine), ['cal', 'dan'])
})

it('a server whose start is recorded loses no client, if its records can not be read for a while', () => {
  const machine = played()
  let isBroken = true
  const { server, held } = live(machine, (calls) => ({
    openat: (directory, name, flags, mode) =>
      isBroken && name.startsWith('/var/lib/nfs') ? -errno.EIO : calls.openat(directory, name, flags, mode),
  }))
  assert.ok(held !== 'gone')
  const cal = ask(machine, 'create', 'cal')
  answerQueued(server, held.pipe, held.journal)
  assert.equal(statusIn(cal), -121)
  isBroken = false
  tryAgain(server)
  die(machine)
  assert.deepEqual(listAfter(machine), ['ann', 'bob', 'cal'])
})
