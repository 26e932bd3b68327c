/** What the next `serve` does about answers that were written down and may not have been given. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { lastReplies } from '../../../lib/serve/journal.ts'
import { answerQueued } from '../../../lib/serve/round.ts'
import type { AskedMessage } from '../../support/memory/pipe.ts'
import { begin, die, journalPath, live, liveUntil, newMachine, type Machine } from '../../support/memory/serving.ts'
import { message, statusOf } from '../../support/pipe/messages.ts'

const statusIn = ({ answer }: AskedMessage): number | undefined => (answer === undefined ? undefined : statusOf(answer))

/** A server has started, and a create was written to the journal when its reader died. */
interface Cut {
  readonly machine: Machine
  readonly create: AskedMessage
}

/** @param how whether the last byte of the create had been read. */
function cut(how: 'its last byte was read' | 'its last byte was not read'): Cut {
  for (let at = 0; ; at++) {
    const machine = newMachine()
    for (const [version, command] of [
      [1, 'getVersion'],
      [2, 'graceStart'],
    ] as const)
      machine.kernel.ask(message(version, command))
    live(machine)
    die(machine)
    const create = machine.kernel.ask(message(2, 'create', { owner: Buffer.from('ann') }))
    assert.equal(liveUntil(machine, at), 'killed')
    const { calls } = machine.files
    const [pipe = ''] = journalOf(machine)
    const isNoted = lastReplies(calls, journalPath, pipe).some(({ message: { header } }) => header.xid === create.xid)
    const isQueued = machine.kernel.queued().includes(create.xid)
    if (isNoted && create.answer === undefined && isQueued === (how === 'its last byte was not read'))
      return { machine, create }
  }
}

function journalOf({ files }: Machine): string[] {
  const node = files.tree(journalPath).get('')
  return node?.kind === 'file' ? node.bytes.split('\n') : []
}

const busy = '9.00 9.00 9.00 3/412 4711\n'
const idle = '9.00 9.00 9.00 1/412 4711\n'

/** The next process, and how it is when time passes. */
function next(machine: Machine): {
  readonly life: ReturnType<typeof begin>
  readonly wait: (ms: number, load: string) => void
} {
  let passed = 0
  const life = begin(machine, (calls) => ({ monotonic: () => calls.monotonic() + passed }))
  const { held } = life
  assert.ok(held !== 'gone')
  return {
    life,
    wait: (ms, load) => {
      machine.files.replace('/proc/loadavg', new Map([['', { kind: 'file', bytes: load }]]))
      for (let end = passed + ms; passed < end; passed += 50) held.owed.due(held)
    },
  }
}

describe('a message whose answer was written down by a serve that was killed', () => {
  it('and that its thread queues again late, is not answered before it is read: the thread would go on without it', () => {
    const { machine, create } = cut('its last byte was not read')
    const queues = machine.kernel.holdBack()
    const { life, wait } = next(machine)
    wait(4000, busy)
    assert.equal(create.answer, undefined)
    queues()
    assert.ok(life.held !== 'gone')
    answerQueued(life.server, life.held.pipe, life.held.journal)
    assert.equal(statusIn(create), 0)
    assert.equal(life.held.owed.dueAt(life.held), undefined)
  })

  it('and whose thread waits for the answer, is answered as soon as no other thread is about to run', () => {
    const { machine, create } = cut('its last byte was read')
    const { wait } = next(machine)
    wait(1000, busy)
    assert.equal(create.answer, undefined)
    wait(50, idle)
    assert.equal(statusIn(create), 0)
  })

  it('and whose thread waits for the answer on a machine that is always busy, is answered after five seconds', () => {
    const { machine, create } = cut('its last byte was read')
    const { wait } = next(machine)
    wait(5100, busy)
    assert.equal(statusIn(create), 0)
  })

  it('keeps no other message waiting', () => {
    const { machine, create } = cut('its last byte was read')
    const { life } = next(machine)
    const other = machine.kernel.ask(message(2, 'create', { owner: Buffer.from('bob') }))
    assert.ok(life.held !== 'gone')
    answerQueued(life.server, life.held.pipe, life.held.journal)
    assert.equal(statusIn(other), 0)
    assert.equal(create.answer, undefined)
  })

  it('is answered by the one after the next, if the next is killed as well', () => {
    const { machine, create } = cut('its last byte was read')
    const { life } = next(machine)
    assert.ok(life.held !== 'gone')
    for (const name of ['bob', 'cal', 'dan']) {
      machine.kernel.ask(message(2, 'create', { owner: Buffer.from(name) }))
      answerQueued(life.server, life.held.pipe, life.held.journal)
    }
    die(machine)
    const { wait } = next(machine)
    wait(300, idle)
    assert.equal(statusIn(create), 0)
    assert.deepEqual(machine.kernel.orphans(), [])
  })
})
