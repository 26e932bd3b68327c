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
import { KnownRecords } from '../../../lib/serve/known-records.ts'
import { listFor } from '../../../lib/serve/list.ts'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import { writeLinksBy } from '../../../lib/syscalls/node.ts'
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
  const { entries, answer } = begin((calls) => {
    const monotonic = (): number => clock
    const writeEach: Calls['writeEach'] = (descriptor, message, at, room, texts, from, until) => {
      for (let nth = from; nth < until; nth++) clock += cost(named++)
      return calls.writeEach(descriptor, message, at, room, texts, from, until)
    }
    return { monotonic, writeEach, writeLinks: writeLinksBy({ ...calls, writeEach, monotonic }) }
  })
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

it('a list during which serve is stopped for half a minute is given', () => {
  for (const slow of [0, 100])
    assert.deepEqual(
      start((nth) => (nth === slow ? 30_000 : 0.02)),
      { named: recorded, status: 0 },
    )
})

/**
 * What the kernel is told, and what the log says.
 * @param refuses a name that the kernel does not take.
 */
function told(
  batches: readonly (readonly [owners: readonly string[], principal: string | undefined])[],
  refuses?: string,
): { named: string[]; count: number; errors: string[] } {
  const named: string[] = []
  const errors: string[] = []
  const write = (bytes: Uint8Array): number => {
    const entry = Buffer.from(bytes)
    const name = entry.subarray(10, 10 + entry.readUInt16LE(8)).toString()
    if (name === refuses) return -22
    const principal = entry.subarray(1035, 1035 + entry.readUInt8(1034)).toString('hex')
    return named.push(principal === '' ? name : `${name} ${principal}`)
  }
  const pipe: Partial<Pipe> = {
    path: 'cld',
    write,
    writeEach: (entry, names, from, until) =>
      writeEach(() => write(entry), entry, ownerField, ownerRoom, names, from, until),
  }
  const log: Partial<Log> = { error: (line) => void errors.push(line) }
  const graceStart: Partial<Taken> = { header: { version: 2, command: 4, xid: 1 }, size: 1067, whole: true }
  const { calls } = systemInMemory()
  const list = listFor(
    { calls, pipe: pipe as Pipe, log: log as Log, nfsd: {} as Nfsd, known: new KnownRecords(calls) },
    graceStart as Taken,
    () => [],
  )
  const count = list.nfsd.allowClients(
    (allow) => {
      for (const [owners, principal] of batches) allow(owners, principal)
    },
    () => undefined,
  )
  return { named, count, errors }
}

it('a client with an empty name is not named, because the kernel takes no such name; the log says so', () => {
  const { named, count, errors } = told([[['', 'ann'], undefined]])
  assert.deepEqual([named, count], [['ann'], 1])
  assert.match(errors.join(), /^a client with an empty owner may not reclaim/)
})

it('a client whose name would mean another one is not named, wherever it stands among others; the log says so', () => {
  for (const owners of [
    ['hash:00', 'ann', 'hash;', 'zoe'],
    ['ann', 'hash:00', 'hash;', 'zoe'],
    ['ann', 'hash;', 'zoe', 'hash:'],
  ]) {
    const { named, count, errors } = told([[owners, undefined]])
    assert.deepEqual([named, count], [['ann', 'hash;', 'zoe'], 3])
    assert.match(errors.join(), /^"hash:(?:00)?" may not reclaim: to the kernel its name would mean another client$/)
  }
})

it('a name that the kernel refuses is passed over, wherever it stands among others; the log says so', () => {
  const crowd = Array.from({ length: 200 }, (_, nth) => `client ${nth}`)
  for (const nth of [0, 63, 64, 127, 199]) {
    const refused = `client ${nth}`
    const { named, count, errors } = told([[crowd, undefined]], refused)
    assert.deepEqual(
      named,
      crowd.filter((name) => name !== refused),
    )
    assert.deepEqual([count, errors], [199, [`the kernel refuses "${refused}": it may not reclaim`]])
  }
})

it("a client's principal is told with its name, and with no other one's", () => {
  const [one, other] = ['ab'.repeat(31), 'cd'.repeat(32)]
  const { named } = told([
    [['ann'], one],
    [['bob', 'cy'], undefined],
    [['dora'], other],
    [['eve'], one],
  ])
  assert.deepEqual(named, [`ann ${one}`, 'bob', 'cy', `dora ${other}`, `eve ${one}`])
})
