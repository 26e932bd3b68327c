import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  instanceFrom,
  instanceFromFiles,
  latestStart,
  nextStart,
  olderThan,
  reclaimableIn,
  startFromName,
  startFromText,
  startToText,
  type Start,
} from '../../../lib/rules/instance.ts'

const s = (value: number): Start => value as Start

describe('the name of an instance', () => {
  it('is the clock if that has gone forward, otherwise one more than the latest start, and never below 2', () => {
    assert.equal(nextStart(1_795_328_616_999, []), 1_795_328_616)
    assert.equal(nextStart(1_795_328_616_000, [s(1_795_328_616)]), 1_795_328_617)
    assert.equal(nextStart(0, [s(5), s(9), s(7)]), 10)
    assert.equal(nextStart(-5000, []), 2)
    assert.equal(nextStart(1000, []), 2)
  })

  it('is larger than every earlier one, under any clock', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -(2 ** 31), max: 2 ** 32 }), { minLength: 1 }), (clock) => {
        const starts: Start[] = []
        for (const seconds of clock) {
          const start = nextStart(seconds * 1000, starts)
          assert.ok(start !== undefined && starts.every((seen) => seen < start))
          starts.push(start)
        }
      }),
    )
  })

  it('can be read back, under any clock and beside any other, or there is none', () => {
    const edge = [
      ['a clock of the year 33 658', 999_999_999_999_000, [], 2],
      ['the last but one is seen', 5000, [latestStart - 1], latestStart],
      ['the last one is seen', 5000, [latestStart], undefined],
      ['a clock that is no number', Number.NaN, [7], 8],
    ] as const
    for (const [title, nowMs, seen, expected] of edge) {
      const start = nextStart(
        nowMs,
        seen.map((value) => s(value)),
      )
      assert.equal(start, expected, title)
      assert.ok(start === undefined || startFromText(startToText(start)) === start, title)
    }
  })

  it('is a directory name of digits only', () => {
    for (const name of ['0', '5', '1795328616', '999999999999']) assert.equal(startFromName(name), Number(name))
    for (const name of ['', '05', '-5', '5.partial', '1e3', '0x5', '1000000000000', ' 5', '5\n', 'damaged', '٥'])
      assert.equal(startFromName(name), undefined, name)
  })

  it('is written as ASCII seconds and a newline, and read back with or without', () => {
    assert.equal(startToText(s(1795328616)), '1795328616\n')
    assert.equal(startFromText('1795328616\n'), 1795328616)
    assert.equal(startFromText('1795328616'), 1795328616)
    for (const text of ['', '\n', '5\n\n', '5\r\n', '\ufeff5', '5\0'])
      assert.equal(startFromText(text), undefined, JSON.stringify(text))
  })
})

describe('the instance that the marks describe', () => {
  const [full, partial] = [
    (start: number) => ({ start: s(start), full: true }),
    (start: number) => ({ start: s(start), full: false }),
  ]
  const table = [
    ['no marks: none', [], { kind: 'none' }],
    ['a first start: partial since the beginning', [partial(9)], { kind: 'partial', start: s(9), full: undefined }],
    [
      'a second start before any grace ended: still since the beginning',
      [partial(7), partial(9)],
      { kind: 'partial', start: s(9), full: undefined },
    ],
    ['the latest has completed its grace: full', [partial(5), full(9)], { kind: 'full', start: s(9) }],
    [
      'a start after that: partial since the last full one',
      [full(5), full(7), partial(9)],
      { kind: 'partial', start: s(9), full: s(7) },
    ],
    [
      'the end of an older instance that comes late changes nothing of a later full one',
      [full(5), full(9)],
      { kind: 'full', start: s(9) },
    ],
    [
      'both marks of one instance, seen across the rename that ends grace: full',
      [partial(9), full(9)],
      { kind: 'full', start: s(9) },
    ],
  ] as const
  for (const [title, facts, expected] of table)
    it(title, () => {
      assert.deepEqual(instanceFrom(facts), expected)
      assert.deepEqual(instanceFrom(facts.toReversed()), expected, 'in any order')
    })
})

describe('format 1: the instance that the two files describe', () => {
  const table = [
    ['no files: none', 'absent', 'absent', { kind: 'none' }],
    ['boot_time alone: full', s(5), 'absent', { kind: 'full', start: s(5) }],
    ['both: partial', s(5), s(9), { kind: 'partial', start: s(9), full: s(5) }],
    ['new_boot_time alone: older records proved nothing', 'absent', s(9), { kind: 'partial', start: s(9), full: s(9) }],
    ['the same twice, seen across the rename that ends grace: full', s(9), s(9), { kind: 'full', start: s(9) }],
    [
      'a damaged boot_time beside a sound new one proves nothing about the past',
      { damaged: 'x' },
      s(9),
      { kind: 'partial', start: s(9), full: s(9) },
    ],
  ] as const
  for (const [title, bootTime, newBootTime, expected] of table)
    it(title, () => {
      assert.deepEqual(instanceFromFiles(bootTime, newBootTime), expected)
    })

  it('a damaged or impossible one is damaged', () => {
    for (const [bootTime, newBootTime] of [
      [{ damaged: 'x' }, 'absent'],
      ['absent', { damaged: 'x' }],
      [s(5), { damaged: 'x' }],
      [s(9), s(5)],
    ] as const)
      assert.equal(instanceFromFiles(bootTime, newBootTime).kind, 'damaged')
  })

  it('records count in the last full instance and in later partial ones, which are searched first, newest first', () => {
    const partial = { kind: 'partial', start: s(9), full: s(5) } as const
    const starts = [3, 5, 7, 9, 11].map(s)
    assert.deepEqual(reclaimableIn(partial, starts), [9, 7, 5])
    assert.deepEqual(olderThan(partial, starts), [7, 5])
    assert.deepEqual(reclaimableIn({ ...partial, full: undefined }, starts), [9, 7, 5, 3], 'since the beginning')
    assert.deepEqual(reclaimableIn({ kind: 'full', start: s(5) }, starts), [5])
    assert.deepEqual(reclaimableIn({ kind: 'none' }, starts), [])
  })
})
