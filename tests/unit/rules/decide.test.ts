/** The pure transitions: what is recorded and asked gives what changes. One row for each rule. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { decide, type Before, type Begun, type Found, type Decision } from '../../../lib/rules/decide.ts'
import type { Instance, Start } from '../../../lib/rules/instance.ts'
import { ownerFromHex } from '../../../lib/upcall/owner.ts'
import type { Asked, KnownSession, Request } from '../../../lib/upcall/request.ts'

const ada = ownerFromHex('616461')
const [old, current] = [100 as Start, 200 as Start]
const none: Instance = { kind: 'none' }
const damaged: Instance = { kind: 'damaged', file: 'new_boot_time', why: 'it says nothing' }
const full = { kind: 'full', start: current } as const
const partial = { kind: 'partial', start: current, full: old } as const
const firstEver = { kind: 'partial', start: current, full: undefined } as const
const nowhere: Found = { kind: 'nothing' }
const inOld: Found = { kind: 'record', in: old }
const inCurrent: Found = { kind: 'record', in: current }

interface Given {
  instance: Instance
  found?: Found
  kernel?: 'in grace' | 'out of grace'
  kernelBootTime?: string
  legacy?: boolean
  begun?: Begun
}

const decideOn = (
  { instance, found = nowhere, kernel = 'in grace', kernelBootTime, legacy = false, begun }: Given,
  request: Asked,
): Decision => {
  const before: Before = {
    instance,
    kernelBootTime: () => kernelBootTime,
    graceIsOverInKernel: () => kernel === 'out of grace',
    hasLegacyRecord: () => legacy,
    newestRecord: () => found,
    begun: () => begun,
  }
  return decide(before, request)
}

const check = (session: KnownSession, legacyRecord?: string): Asked => ({
  event: 'check',
  owner: ada,
  session,
  legacyRecord,
})
const create: Asked = { event: 'create', owner: ada, session: 'has session', principal: undefined, kernelBootTime: '7' }
const remove: Asked = { event: 'remove', owner: ada }
const graceDone = (kernelBootTime?: string): Asked => ({ event: 'grace-done', kernelBootTime, legacyTop: undefined })

const table: readonly (readonly [string, Given, Asked, Decision['kind']])[] = [
  ['a client becomes active in grace', { instance: partial }, create, 'record'],
  ['a client becomes active out of grace', { instance: full, kernel: 'out of grace' }, create, 'record'],
  ['a client becomes active where nothing is recorded', { instance: none }, create, 'rebuild'],
  ['a client becomes active in an unknown instance', { instance: damaged }, create, 'refuse'],
  [
    'a client becomes active when grace end was missed',
    { instance: partial, kernel: 'out of grace' },
    create,
    'end-missed-grace',
  ],
  ['a client is gone', { instance: full }, remove, 'forget'],
  ['a client is gone in grace', { instance: partial }, remove, 'forget'],
  ['a client is gone in an unknown instance', { instance: damaged }, remove, 'forget'],
  ['a client is gone where nothing is recorded', { instance: none }, remove, 'nothing-to-do'],
  [
    'a client is gone when grace end was missed',
    { instance: partial, kernel: 'out of grace' },
    remove,
    'end-missed-grace',
  ],
  ['a known client with sessions asks', { instance: partial, found: inOld }, check('has session'), 'allow'],
  ['a known client without sessions asks', { instance: partial, found: inOld }, check('no session'), 'carry-over'],
  [
    'a client that has reclaimed asks again',
    { instance: partial, found: inCurrent },
    check('no session'),
    'confirm-record',
  ],
  [
    'a client with sessions that has reclaimed asks again',
    { instance: partial, found: inCurrent },
    check('has session'),
    'allow',
  ],
  ['a recorded client asks out of grace', { instance: full, found: inCurrent }, check('no session'), 'confirm-record'],
  ['an unknown client asks', { instance: partial }, check('has session'), 'refuse'],
  [
    'a client asks whose removal has begun',
    { instance: partial, found: inOld, begun: { kind: 'remove' } },
    check('has session'),
    'refuse',
  ],
  [
    'a client without sessions asks whose removal has begun',
    { instance: partial, found: inOld, begun: { kind: 'remove' } },
    check('no session'),
    'refuse',
  ],
  [
    'a client asks of which only a create that has not succeeded made a record',
    { instance: partial, found: inCurrent, begun: { kind: 'put', in: current, from: 'nowhere' } },
    check('has session'),
    'refuse',
  ],
  [
    'a client asks whose record a create that has not succeeded moved',
    { instance: partial, found: inCurrent, begun: { kind: 'put', in: current, from: old } },
    check('has session'),
    'allow',
  ],
  [
    'a client asks out of grace whose record a create that has not succeeded moved',
    { instance: full, found: inCurrent, begun: { kind: 'put', in: current, from: old } },
    check('has session'),
    'refuse',
  ],
  [
    "a client of the kernel's own tracker asks, of which a create that has not succeeded made a record",
    { instance: partial, found: inCurrent, legacy: true, begun: { kind: 'put', in: current, from: 'nowhere' } },
    check('has session', '/x/y'),
    'allow',
  ],
  [
    'a client with a damaged record asks',
    { instance: partial, found: { kind: 'damaged', in: old } },
    check('has session'),
    'refuse',
  ],
  ['a client asks in the first instance ever', { instance: firstEver }, check('has session'), 'refuse'],
  ['a client asks where nothing is recorded', { instance: none, found: inOld }, check('has session', '/x/y'), 'refuse'],
  ['a client asks in an unknown instance', { instance: damaged, found: inOld }, check('has session'), 'refuse'],
  [
    'a client asks when grace end was missed',
    { instance: partial, found: inOld, kernel: 'out of grace' },
    check('has session'),
    'end-missed-grace',
  ],
  [
    "a client with sessions that only the kernel's own tracker knows asks",
    { instance: partial, legacy: true },
    check('has session', '/x/y'),
    'allow',
  ],
  [
    "a client without sessions that only the kernel's own tracker knows asks",
    { instance: partial, legacy: true },
    check('no session', '/x/y'),
    'take-over',
  ],
  [
    "a client that the kernel's own tracker does not know either asks",
    { instance: partial },
    check('has session', '/x/y'),
    'refuse',
  ],
  [
    "a client of the kernel's own tracker asks out of grace",
    { instance: full, legacy: true },
    check('has session', '/x/y'),
    'refuse',
  ],
  [
    "a client of the kernel's own tracker asks when grace end was missed",
    { instance: partial, legacy: true, kernel: 'out of grace' },
    check('has session', '/x/y'),
    'end-missed-grace',
  ],
  [
    'a client whose record a newer program wrote asks',
    { instance: partial, found: { kind: 'newer', in: old } },
    check('has session'),
    'refuse',
  ],
  [
    'a client with a damaged record is not looked for elsewhere',
    { instance: partial, found: { kind: 'damaged', in: old }, legacy: true },
    check('has session', '/x/y'),
    'refuse',
  ],
  ['grace ends', { instance: partial }, graceDone(), 'end-grace'],
  ['grace ends, as told', { instance: partial, kernelBootTime: '7' }, graceDone('7'), 'end-grace'],
  ['grace ends where the start was told nothing', { instance: partial }, graceDone('7'), 'end-grace'],
  ['grace ends in the thread dialect', { instance: partial, kernelBootTime: '7' }, graceDone(), 'end-grace'],
  ['grace of another instance ends', { instance: partial, kernelBootTime: '7' }, graceDone('8'), 'refuse'],
  ['grace of another instance ends, out of grace', { instance: full, kernelBootTime: '7' }, graceDone('8'), 'refuse'],
  ['grace ends twice', { instance: full, kernelBootTime: '7' }, graceDone('7'), 'confirm-grace-end'],
  ['grace ends where nothing is recorded', { instance: none }, graceDone('7'), 'nothing-to-do'],
  ['grace of an unknown instance ends', { instance: damaged }, graceDone('7'), 'refuse'],
]

describe('one upcall, one decision', () => {
  for (const [title, given, request, expected] of table)
    it(`${title}: ${expected}`, () => {
      assert.equal(decideOn(given, request).kind, expected)
    })

  it('the kernel is asked about its grace only while grace runs by our records', () => {
    for (const instance of [full, none, damaged])
      for (const request of [create, remove, check('has session')])
        decide(
          {
            instance,
            kernelBootTime: () => undefined,
            graceIsOverInKernel: () => assert.fail('asked'),
            hasLegacyRecord: () => false,
            newestRecord: () => nowhere,
            begun: () => undefined,
          },
          request,
        )
  })

  it('for an unknown event does not compile', () => {
    // @ts-expect-error there is no such event
    const request: Request = { event: 'frobnicate' }
    assert.ok(request)
  })
})
