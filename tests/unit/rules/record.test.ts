import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { readRecord, recordLine, recordName } from '../../../lib/rules/record.ts'
import { ownerFromHex, type ClientOwner } from '../../../lib/upcall/owner.ts'

const owner = (text: string): ClientOwner => ownerFromHex(Buffer.from(text, 'latin1').toString('hex'))
const anyOwner = fc.uint8Array({ maxLength: 1024, size: 'max' }).map((value) => value as ClientOwner)
const principal = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString('hex'))
const facts = fc.record(
  { session: fc.constantFrom(true, false, 'unknown' as const), recorded: fc.nat(), principal },
  { noNullPrototype: true, requiredKeys: ['session', 'recorded'] },
)

describe('the name of a record', () => {
  it('is readable where the owner is', () => {
    assert.equal(recordName(owner('Linux NFSv4.0 ada/10.0.0.1')), 'Linux%20NFSv4.0%20ada%2F10.0.0.1')
    assert.equal(recordName(owner('')), '%')
    assert.equal(recordName(owner('..')), '%2E.')
    assert.match(recordName(owner('x'.repeat(256))), /^%sha256-[0-9a-f]{64}$/)
  })

  it('is one name in any directory: at most 255 bytes, never hidden, never a path', () => {
    fc.assert(
      fc.property(anyOwner, (some) => /^[A-Za-z0-9_,:=@+%-][A-Za-z0-9_.,:=@+%-]{0,254}$/.test(recordName(some))),
    )
  })

  it('is never that of another owner', () => {
    fc.assert(fc.property(anyOwner, anyOwner, (a, b) => Buffer.compare(a, b) === 0 || recordName(a) !== recordName(b)))
  })
})

describe('the line of a record', () => {
  it('comes back with its owner, at any length', () => {
    fc.assert(
      fc.property(anyOwner, facts, (some, said) => {
        const read = readRecord(recordName(some), recordLine(some, said))
        assert.ok(typeof read === 'object')
        assert.deepEqual(read.facts, said)
        assert.deepEqual(Buffer.from(read.owner), Buffer.from(some))
      }),
    )
  })

  it('fits into the inode of ext4, unless it holds the owner', () => {
    assert.ok(recordLine(owner('x'.repeat(255)), { session: true, recorded: 999_999_999_999 }).length < 60)
  })

  it('of version 1 is still understood', () => {
    const line = 'session=Y,recorded=1795328617,check=c50feb4e'
    assert.deepEqual(readRecord('ada', line), {
      owner: owner('ada'),
      facts: { session: true, recorded: 1_795_328_617 },
    })
    assert.equal(readRecord('bob', line), undefined)
  })

  it('of a newer version is no damage, and nothing that could be believed', () => {
    for (const line of [
      'v3,session=Y,recorded=1,check=00000000',
      'v3,',
      'v10,x',
      recordLine(owner('ada'), { session: true, recorded: 1 }).replace('v2', 'v3'),
    ])
      assert.equal(readRecord('ada', line), 'newer', line)
    for (const line of ['v,', 'v0,x', 'v03,x', 'v1,session=Y,recorded=1,check=00000000', 'V3,x', 'v9999999999,x', ''])
      assert.equal(readRecord('ada', line), undefined, line)
  })

  it('holds no time that a calendar has not', () => {
    assert.equal(readRecord('ada', recordLine(owner('ada'), { session: true, recorded: 9_999_999_999_999 })), undefined)
  })

  it('is not understood with any one character changed, or under another name', () => {
    fc.assert(
      fc.property(
        anyOwner,
        facts,
        fc.nat(),
        fc.constantFrom('0', '1', 'Y', 'N', ',', 'x', ''),
        (some, said, where, other) => {
          const line = recordLine(some, said)
          const at = where % line.length
          const changed = line.slice(0, at) + other + line.slice(at + 1)
          assert.ok(changed === line || typeof readRecord(recordName(some), changed) !== 'object', changed)
          assert.equal(readRecord(recordName(owner('somebody else')), line), undefined)
        },
      ),
    )
  })
})
