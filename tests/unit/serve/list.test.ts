/**
 * The list of who may reclaim has a time limit: a kernel that walks all names for each new one would keep the whole
 * server waiting.
 */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { writeEach } from '../../../lib/bytes.ts'
import type { Log } from '../../../lib/kernel/log.ts'
import type { Nfsd } from '../../../lib/kernel/nfsd.ts'
import type { Pipe, Taken } from '../../../lib/kernel/pipe.ts'
import { listFor } from '../../../lib/serve/list.ts'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import { ownerField, ownerRoom } from '../../../lib/upcall/message.ts'
import { systemInMemory } from '../../support/memory/machine.ts'
import { die, live, newMachine } from '../../support/memory/serving.ts'
import { message, statusOf } from '../../support/pipe/messages.ts'

const recorded = 300

/**
 * A server starts that knows {@link recorded} clients.
 * @param cost how long the kernel takes for name number `nth`, in ms.
 */
function start(cost: (nth: number) => number): { named: number; status: number } {
  const machine = newMachine()
  const { kernel } = machine
  const begin = (change?: (calls: Calls) => Partial<Calls>): ReturnType<typeof kernel.ask> => {
    kernel.remove('again')
    kernel.ask(message(2, 'getVersion', {}))
    const asked = kernel.ask(message(2, 'graceStart', {}))
    live(machine, change)
    return asked
  }
  begin()
  for (let nth = 0; nth < recorded; nth++) kernel.ask(message(2, 'create', { owner: Buffer.from(`client ${nth}`) }))
  live(machine)
  die(machine)
  let clock = 0
  let named = 0
  const { entries, answer } = begin((calls) => ({
    monotonic: () => clock,
    writeEach: (descriptor, message, at, room, texts, from, until) => {
      for (let nth = from; nth < until; nth++) clock += cost(named++)
      return calls.writeEach(descriptor, message, at, room, texts, from, until)
    },
  }))
  assert.ok(answer !== undefined)
  return { named: entries.length, status: statusOf(answer) }
}

it('if names take little time, the kernel is told all of them', () => {
  assert.deepEqual(
    start(() => 0.02),
    { named: recorded, status: 0 },
  )
})

it('if they have taken five seconds, the kernel is told that it gets no list', () => {
  const { named, status } = start(() => 50)
  assert.ok(named > 100 && named < 200, `it was told ${named}`)
  assert.equal(status, -121)
})

it('a list of which one name takes a second, on a busy machine, is given', () => {
  for (const slow of [0, 64])
    assert.deepEqual(
      start((nth) => (nth === slow ? 1000 : 0.02)),
      { named: recorded, status: 0 },
    )
})

it('a client with an empty name is not named, because the kernel takes no such name; the log says so', () => {
  const entries: Buffer[] = []
  const errors: string[] = []
  const pipe: Partial<Pipe> = {
    path: 'cld',
    writeEach: (entry, names, from, until) =>
      writeEach(() => entries.push(Buffer.from(entry)), entry, ownerField, ownerRoom, names, from, until),
  }
  const log: Partial<Log> = { error: (line) => void errors.push(line) }
  const graceStart: Partial<Taken> = { header: { version: 2, command: 4, xid: 1 }, size: 1067, whole: false }
  const list = listFor(
    { calls: systemInMemory().calls, pipe: pipe as Pipe, log: log as Log, nfsd: {} as Nfsd },
    graceStart as Taken,
    () => [],
  )
  list.nfsd.allowClients(
    (allow) => {
      allow(['', 'ann'], undefined)
    },
    () => undefined,
  )
  assert.deepEqual(
    entries.map((entry) => entry.subarray(10, 10 + entry.readUInt16LE(8)).toString()),
    ['ann'],
  )
  assert.match(errors.join(), /^a client with an empty owner may not reclaim/)
})
