/**
 * The list of who may reclaim has its time: a kernel that walks all names for each one keeps the whole server waiting.
 */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import { die, live, newMachine } from '../../support/memory/serving.ts'
import { message, statusOf } from '../../support/pipe/messages.ts'

const inProgress = -115
const recorded = 300

/**
 * A server that knows {@link recorded} clients starts.
 * @param cost what the kernel takes for the name of that number, in ms.
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
    write: (descriptor, bytes) => {
      if (bytes.length > 8 && Buffer.from(bytes).readInt16LE(2) === inProgress) clock += cost(named++)
      return calls.write(descriptor, bytes)
    },
  }))
  assert.ok(answer !== undefined)
  return { named: entries.length, status: statusOf(answer) }
}

it('where names cost little, the kernel is told all of them', () => {
  assert.deepEqual(
    start(() => 0.02),
    { named: recorded, status: 0 },
  )
})

it('where they have taken five seconds, the kernel is told that it gets no list', () => {
  const { named, status } = start(() => 50)
  assert.ok(named > 100 && named < 200, `it was told ${named}`)
  assert.equal(status, -121)
})

it('one that takes a second, on a machine that had something else to do, is one', () => {
  for (const slow of [0, 64])
    assert.deepEqual(
      start((nth) => (nth === slow ? 1000 : 0.02)),
      { named: recorded, status: 0 },
    )
})
