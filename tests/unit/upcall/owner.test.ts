import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Failed } from '../../../lib/failure.ts'
import {
  escapeOwner,
  ownerFromEscaped,
  ownerFromHex,
  quoteOwner,
  showOwner,
  type ClientOwner,
} from '../../../lib/upcall/owner.ts'

const bytes = (...values: readonly number[]): Buffer => Buffer.from(values)
const owner = (text: string): ClientOwner => ownerFromHex(Buffer.from(text, 'latin1').toString('hex'))
const anyOwner = fc.uint8Array({ maxLength: 1024 }).map((value) => value as ClientOwner)

describe('the RPC caches spelling of an owner', () => {
  const table: readonly (readonly [string, Buffer])[] = [
    ['plain', Buffer.from('plain')],
    ['\\x', bytes()],
    ['\\x00ff', bytes(0, 0xff)],
    ['\\xABcd', bytes(0xab, 0xcd)],
    ['Linux\\040NFSv4.1\\040ada', Buffer.from('Linux NFSv4.1 ada')],
    ['\\000', bytes(0)],
    ['\\377\\012\\011\\134', bytes(0xff, 0x0a, 0x09, 0x5c)],
    ['\\1410', Buffer.from('a0')],
    ['a/b..', Buffer.from('a/b..')],
    ['-rf', Buffer.from('-rf')],
    ['\\134x61', Buffer.from('\\x61')],
  ]
  for (const [word, expected] of table)
    it(`${JSON.stringify(word)} is ${expected.toString('hex') || 'the owner of no bytes'}`, () => {
      assert.deepEqual(Buffer.from(ownerFromEscaped(word)), expected)
    })

  for (const word of [
    '',
    '\\',
    '\\9',
    '\\x1',
    '\\x0g',
    '\\x 0',
    '\\400',
    '\\777',
    '\\08',
    '\\1',
    '\\12',
    'a b',
    'a\n',
    '\t',
    'é',
    '\x7f',
    '\x00',
    'a\\',
    '\\X61',
    '\\\\',
  ])
    it(`${JSON.stringify(word)} is refused`, () => {
      assert.throws(() => ownerFromEscaped(word), Failed)
    })

  it('is read back byte for byte, from one field of printable ASCII of at most 2050 characters', () => {
    fc.assert(
      fc.property(anyOwner, (some) => {
        const word = escapeOwner(some)
        assert.match(word, /^[\x21-\x7e]{2,2050}$|^[\x21-\x7e]$/)
        assert.deepEqual(Buffer.from(ownerFromEscaped(word)), Buffer.from(some))
      }),
    )
  })

  it('takes any word, or refuses it as a failure: nothing else is thrown', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('\\', 'x', '0', '1', '7', '9', 'a', 'g', ' ', '\n', '/', '.', 'é') }),
        (word) => {
          try {
            assert.ok(ownerFromEscaped(word).length <= 1024)
          } catch (thrown) {
            assert.ok(thrown instanceof Failed)
          }
        },
      ),
    )
  })
})

describe('the Linux kernel spelling of an owner', () => {
  it('is two hex digits for each byte, in upper or lower case', () => {
    assert.deepEqual(Buffer.from(ownerFromHex('00fFAb')), bytes(0, 0xff, 0xab))
    assert.equal(ownerFromHex('').length, 0)
    assert.equal(ownerFromHex('61'.repeat(1024)).length, 1024)
  })
  for (const word of ['6', '616', 'zz', '0x61', ' 61', '61\n', '-1', '６１', '61'.repeat(1025)])
    it(`${JSON.stringify(word.slice(0, 20))} is refused`, () => {
      assert.throws(() => ownerFromHex(word), Failed)
    })
})

describe('an owner in a log line', () => {
  it('is shortened, with its length', () => {
    assert.equal(showOwner(owner('x'.repeat(1024))), `"${'x'.repeat(160)}"... (1024 bytes)`)
  })
  it('is quoted, and keeps its spaces', () => {
    assert.equal(showOwner(owner('Linux NFSv4.2 ada')), '"Linux NFSv4.2 ada"')
  })
  it('holds nothing that moves a cursor, and no quote that does not end it', () => {
    fc.assert(fc.property(anyOwner, (some) => /^"[ !#-~]+"(?:\.\.\. \([0-9]+ bytes\))?$/.test(showOwner(some))))
  })
})

describe('an owner as people see it', () => {
  it('has nothing that a shell changes within double quotes, and is never taken for an option', () => {
    for (const [bytes, shown] of [
      ['a b', '"a b"'],
      ['!', '"\\041"'],
      ['a"b', '"a\\042b"'],
      ['$x', '"\\044x"'],
      ['`', '"\\140"'],
      ['-a-b', '"\\055a-b"'],
    ] as const)
      assert.equal(quoteOwner(owner(bytes)), shown)
  })
})
