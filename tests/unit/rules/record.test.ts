import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { bytesOf, crc32, spelledAs, textOf } from '../../../lib/bytes.ts'
import {
  checkField,
  ownerIn,
  readRecord,
  recordLine,
  recordName,
  usualFacts,
  type Facts,
  type Read,
} from '../../../lib/rules/record.ts'
import { ownerFromHex, type ClientOwner } from '../../../lib/upcall/owner.ts'

const owner = (text: string): ClientOwner => ownerFromHex(Buffer.from(text, 'latin1').toString('hex'))
const anyOwner = fc.uint8Array({ maxLength: 1024, size: 'max' }).map((value) => value as ClientOwner)
const principal = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString('hex'))
const facts = fc.record(
  { session: fc.constantFrom('has session', 'no session', 'unknown'), recorded: fc.nat(), principal },
  { noNullPrototype: true, requiredKeys: ['session', 'recorded'] },
)

/** What the fast reading says of an entry; undefined, if it leaves it to {@link readRecord}. */
function readFast(name: string, line: string): { owner: string; principal: string | undefined } | undefined {
  const { plain, others } = spelledAs([name], [line], usualFacts(), checkField)
  const [owner = others[0]?.decoded] = plain
  return owner === undefined ? undefined : { owner, principal: others[0]?.digits }
}

describe('the name of a record', () => {
  it('is the owner, percent-encoded, or its digest', () => {
    fc.assert(fc.property(anyOwner, (some) => recordName(some) === nameByTheDefinition(textOf(some))))
    for (let byte = 0; byte < 256; byte++) {
      const text = String.fromCharCode(0x61, byte)
      assert.equal(recordName(bytesOf(text) as ClientOwner), nameByTheDefinition(text))
    }
  })

  it('is readable if the owner is', () => {
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

  it('is different for every two owners', () => {
    fc.assert(fc.property(anyOwner, anyOwner, (a, b) => Buffer.compare(a, b) === 0 || recordName(a) !== recordName(b)))
  })
})

const encodedByTheDefinition = (text: string): string =>
  text.replace(
    /[^A-Za-z0-9_.,:=@+-]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
  )

function nameByTheDefinition(text: string): string {
  const encoded = text === '' ? '%' : encodedByTheDefinition(text).replace(/^\./, '%2E')
  return encoded.length > 255
    ? `%sha256-${createHash('sha256').update(Buffer.from(text, 'latin1')).digest('hex')}`
    : encoded
}

/** What an entry means by the definition: it is valid if writing its contents would give exactly this entry. */
function readByTheDefinition(name: string, line: string): Read {
  const [, version = '1'] = /^v([1-9][0-9]{0,8}),/.exec(line) ?? []
  if (Number(version) > 2) return 'newer'
  const [whole, letter, recorded, principal] =
    /^(?:v2,)?session=([YN?]),recorded=([0-9]{1,12})(?:,principal=([0-9a-f]{62}(?:[0-9a-f]{2})?))?,check=/.exec(line) ??
    []
  if (whole === undefined) return undefined
  const said: Facts = {
    session: letter === '?' ? 'unknown' : letter === 'Y' ? 'has session' : 'no session',
    recorded: Number(recorded),
    ...(principal === undefined ? {} : { principal }),
  }
  const written = line.indexOf(',owner=')
  const encoded = written >= 0 ? line.slice(written + ',owner='.length) : name === '%' ? '' : name
  const text = encoded.replace(/%([0-9A-F]{2})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  )
  const core = whole.slice(0, -',check='.length).replace(/recorded=[0-9]+/, `recorded=${said.recorded}`)
  const isDigest = nameByTheDefinition(text).startsWith('%sha256-')
  const spelled = `${core},check=${crc32(text + core)}${isDigest ? `,owner=${encodedByTheDefinition(text)}` : ''}`
  return nameByTheDefinition(text) === name && spelled === line && !(version === '1' && principal !== undefined)
    ? { owner: text, facts: said }
    : undefined
}

describe('the line of a record', () => {
  it('is understood if and only if the definition says so, whatever was done to it and to its name', () => {
    const nasty = fc.constantFrom(
      ...[
        '%',
        '%u',
        '%u0041',
        '%u4E2D',
        '%2F',
        '%2f',
        '%41',
        '*',
        '/',
        ',',
        ':',
        '=',
        '.',
        '%2E',
        '%2C',
        '%3A',
        '%3D',
        '%00',
      ],
      ...[
        'v1,',
        'v2,',
        'v3,',
        ',check=',
        ',owner=',
        ',principal=',
        '0',
        '-',
        '1e3',
        '.5',
        '+',
        ' ',
        'session=',
        '\xff',
      ],
    )
    const near = fc.oneof(
      anyOwner,
      fc.array(nasty, { maxLength: 12 }).map((parts) => bytesOf(parts.join('')) as ClientOwner),
    )
    const edit = fc.record({ at: fc.nat(), cut: fc.nat({ max: 4 }), put: fc.oneof(nasty, fc.constant('')) })
    const edited = (text: string, edits: readonly { at: number; cut: number; put: string }[]): string =>
      edits.reduce((now, { at, cut, put }) => {
        const from = at % (now.length + 1)
        return now.slice(0, from) + put + now.slice(from + cut)
      }, text)
    // The checksum fits, so that it hides no other fault.
    const mended = (name: string, line: string): string => {
      const end = line.indexOf(',check=')
      const written = line.indexOf(',owner=')
      const encoded = written >= 0 ? line.slice(written + 7) : name === '%' ? '' : name
      const text = encoded.replace(/%([0-9A-Fa-f]{2})/g, (_, digits: string) =>
        String.fromCharCode(Number.parseInt(digits, 16)),
      )
      const core = line.slice(0, Math.max(end, 0))
      const sum = crc32(text + core)
      return end < 0 ? line : `${core},check=${sum}${line.slice(end + 15)}`
    }
    fc.assert(
      fc.property(
        fc.record({
          some: near,
          said: facts,
          ofLine: fc.array(edit, { maxLength: 3 }),
          ofName: fc.array(edit, { maxLength: 2 }),
          mend: fc.boolean(),
          isOld: fc.boolean(),
        }),
        ({ some, said, ofLine, ofName, mend, isOld }) => {
          const name = edited(recordName(some), ofName)
          const written = isOld ? recordLine(some, said).replace('v2,', '') : recordLine(some, said)
          const changed = edited(written, ofLine)
          const line = mend ? mended(name, changed) : changed
          const read = readByTheDefinition(name, line)
          assert.deepEqual(readRecord(name, line), read, `${name} -> ${line}`)
          const fast = readFast(name, line)
          if (fast === undefined) return
          assert.ok(typeof read === 'object', `${name} -> ${line}`)
          assert.deepEqual(fast, { owner: read.owner, principal: read.facts.principal })
        },
      ),
      { numRuns: 3000 },
    )
  })

  it('is not understood by the fast reading, if it is spelled otherwise than it would be written', () => {
    const owner = (name: string, core: string): string | undefined =>
      readFast(name, `${core},check=${crc32(name + core)}`)?.owner
    assert.equal(owner('ann', 'v2,session=?,recorded=10'), 'ann')
    assert.equal(owner('ann', 'v2,session=Y,recorded=999999999999'), 'ann')
    for (const core of [
      'v2,session=?,recorded=010',
      'v2,session=?,recorded=00',
      'v2,session=?,recorded=1000000000000',
      'v2,session=?,recorded=',
      'v2,session=?,recorded=10,',
      'v2,session=?,recorded=1e3',
      'v2,session=?,recorded=10,principal=ab',
      'v2,session=n,recorded=10',
      'v3,session=?,recorded=10',
      'session=?,recorded=10',
    ])
      assert.equal(owner('ann', core), undefined, core)
    for (const name of ['', '.', '.ann', 'a n', 'a/n', 'a%2cn', 'n'.repeat(256)])
      assert.equal(owner(name, 'v2,session=?,recorded=10'), undefined, name)
  })

  it('is understood by the fast reading, except under the name of a digest, or one that begins with a dot', () => {
    fc.assert(
      fc.property(anyOwner, facts, (some, said) => {
        const [name, line] = [recordName(some), recordLine(some, said)]
        const isUsual = !/^%(?:$|sha256-|2E)/.test(name)
        assert.deepEqual(
          readFast(name, line),
          isUsual ? { owner: textOf(some), principal: said.principal } : undefined,
          name,
        )
      }),
    )
  })

  it('comes back with its owner, at any length', () => {
    fc.assert(
      fc.property(anyOwner, facts, (some, said) => {
        const read = readRecord(recordName(some), recordLine(some, said))
        assert.ok(typeof read === 'object')
        assert.deepEqual(read.facts, said)
        assert.deepEqual(Buffer.from(ownerIn(read)), Buffer.from(some))
      }),
    )
  })

  it('fits into the inode of ext4, unless it holds the owner', () => {
    assert.ok(recordLine(owner('x'.repeat(255)), { session: 'has session', recorded: 999_999_999_999 }).length < 60)
  })

  it('of version 1 is still understood', () => {
    const line = 'session=Y,recorded=1795328617,check=c50feb4e'
    assert.deepEqual(readRecord('ada', line), {
      owner: 'ada',
      facts: { session: 'has session', recorded: 1_795_328_617 },
    })
    assert.equal(readRecord('bob', line), undefined)
  })

  it('of a newer version is not taken for damage, and not believed', () => {
    for (const line of [
      'v3,session=Y,recorded=1,check=00000000',
      'v3,',
      'v10,x',
      recordLine(owner('ada'), { session: 'has session', recorded: 1 }).replace('v2', 'v3'),
    ])
      assert.equal(readRecord('ada', line), 'newer', line)
    for (const line of ['v,', 'v0,x', 'v03,x', 'v1,session=Y,recorded=1,check=00000000', 'V3,x', 'v9999999999,x', ''])
      assert.equal(readRecord('ada', line), undefined, line)
  })

  it('holds no time that is not in the calendar', () => {
    assert.equal(
      readRecord('ada', recordLine(owner('ada'), { session: 'has session', recorded: 9_999_999_999_999 })),
      undefined,
    )
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
