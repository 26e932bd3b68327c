/** Messages of the cld pipe (include/uapi/linux/nfsd/cld.h), byte by byte. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { textOf, writeEach } from '../../../lib/bytes.ts'
import { hexOf } from '../../../lib/upcall/hex.ts'
import {
  answerTo,
  commands,
  inOrder,
  listEntry,
  needsLastByte,
  ownerField,
  ownerRoom,
  probe,
  putPrincipal,
  readHeader,
  readMessage,
  sizeOf,
} from '../../../lib/upcall/message.ts'

const sizes = { 1: 1034, 2: 1067 } as const

/** A message as the kernel packs it. */
function message(
  { version, command, xid = 7 }: { readonly version: 1 | 2; readonly command: number; readonly xid?: number },
  body: Uint8Array = new Uint8Array(),
  hash?: Uint8Array,
): Buffer {
  const bytes = Buffer.alloc(sizes[version])
  bytes.writeUInt8(version, 0)
  bytes.writeUInt8(command, 1)
  bytes.writeUInt32LE(xid, 4)
  if (command <= 2) {
    bytes.writeUInt16LE(body.length, 8)
    bytes.set(body, 10)
  }
  if (hash !== undefined) {
    bytes.writeUInt8(hash.length, 1034)
    bytes.set(hash, 1035)
  }
  return bytes
}

const owner = Buffer.from('Linux NFSv4.2 ada')
const hash = Buffer.from('0123456789abcdef0123456789ABCDEF')

describe('a message of the pipe', () => {
  it('has the size of its version, and no other version is known', () => {
    assert.deepEqual([0, 1, 2, 3, 255].map(sizeOf), [undefined, 1034, 1067, undefined, undefined])
  })

  for (const version of [1, 2] as const) {
    const withheld = sizes[version] - 1

    it(`of version ${version} can be understood without its last byte`, () => {
      for (const [name, command] of Object.entries(commands)) {
        const whole = message({ version, command }, owner)
        assert.equal(readMessage(whole.subarray(0, withheld))?.event, name)
        assert.deepEqual(readMessage(whole.subarray(0, withheld)), readMessage(whole))
        assert.equal(readMessage(whole.subarray(0, withheld - 1)), undefined, 'one byte less is none')
      }
    })

    it(`of version ${version} names its owner, whatever its bytes, up to 1024 of them`, () => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 1024 }), (bytes) => {
          const asked = readMessage(message({ version, command: commands.remove }, bytes))
          assert.ok(asked?.event === 'remove')
          assert.equal(hexOf(asked.owner), hexOf(bytes))
        }),
      )
    })

    it(`of version ${version} with an owner of more than 1024 bytes is refused`, () => {
      const bytes = message({ version, command: commands.create })
      for (const length of [1025, 4096, 65535]) {
        bytes.writeUInt16LE(length, 8)
        assert.equal(readMessage(bytes), undefined)
      }
    })

    it(`of version ${version} with an unknown command is refused`, () => {
      for (const command of [6, 7, 128, 255]) assert.equal(readMessage(message({ version, command }, owner)), undefined)
    })
  }

  it('of version 1 needs its last byte only if the owner has the largest length', () => {
    assert.equal(
      needsLastByte(message({ version: 1, command: commands.create }, Buffer.alloc(1024, 1)).subarray(0, 1033)),
      true,
    )
    assert.equal(
      needsLastByte(message({ version: 1, command: commands.create }, Buffer.alloc(1023, 1)).subarray(0, 1033)),
      false,
    )
    assert.equal(
      needsLastByte(message({ version: 2, command: commands.create }, Buffer.alloc(1024, 1)).subarray(0, 1066)),
      false,
    )
  })

  it("has 31 bytes of a principal's digest: the last byte is read only when the record is durable, and the kernel compares as many as it is given", () => {
    const asked = readMessage(message({ version: 2, command: commands.create }, owner, hash).subarray(0, 1066))
    assert.ok(asked?.event === 'create')
    assert.equal(asked.principal, hash.subarray(0, 31).toString('hex'))
  })

  it('without a principal has none; with a digest of another length it is refused', () => {
    const asked = readMessage(message({ version: 2, command: commands.create }, owner))
    assert.ok(asked?.event === 'create')
    assert.equal(asked.principal, undefined)
    for (const length of [1, 31, 33, 255]) {
      const bytes = message({ version: 2, command: commands.create }, owner)
      bytes.writeUInt8(length, 1034)
      assert.equal(readMessage(bytes), undefined, String(length))
    }
  })

  it('is understood or refused, and nothing worse, whatever its bytes and its length', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1100 }), fc.constantFrom(0, 1, 2, 3), (bytes, version) => {
        if (bytes.length > 0) bytes[0] = version
        readMessage(bytes)
        needsLastByte(bytes)
      }),
    )
  })
})

/** The entries of a list, all in the same bytes. */
function entries(version: 1 | 2): (owner: string, principal?: string) => Uint8Array {
  const entry = listEntry({ version, command: commands['grace-start'], xid: 1 }, sizes[version])
  return (owner, principal) => {
    putPrincipal(entry, principal)
    writeEach(() => 0, entry, ownerField, ownerRoom, [owner], 0, 1)
    return entry
  }
}

describe('an answer', () => {
  it('has the size, the version, the command and the xid of its message, and its status', () => {
    const answer = answerTo({ version: 2, command: commands.create, xid: 0x01020304 }, 1067, -121)
    assert.equal(answer.length, 1067)
    assert.deepEqual([...answer.subarray(0, 8)], [2, 0, 0x87, 0xff, 4, 3, 2, 1])
  })

  it('to GetVersion has the version in the ninth byte', () => {
    assert.equal(answerTo({ version: 1, command: commands.version, xid: 0 }, 1034, 0, 2)[8], 2)
  })

  it("to GraceStart follows one write for each name: 'in progress' (-115), the name, and the principal if there is room", () => {
    const entry = Buffer.from(entries(2)(textOf(owner), hash.toString('hex')))
    assert.deepEqual([entry.readInt16LE(2), entry.readUInt8(1), entry.readUInt32LE(4)], [-115, 4, 1])
    assert.deepEqual(entry.subarray(10, 10 + entry.readUInt16LE(8)), owner)
    assert.deepEqual(entry.subarray(1035, 1035 + entry.readUInt8(1034)), hash)
    assert.equal(entries(1)(textOf(owner), hash.toString('hex')).length, 1034)
  })

  it('to GraceStart names each client without remains of the one before', () => {
    const entryOf = entries(2)
    const fresh = (name: string, principal?: string): string => hexOf(entries(2)(name, principal))
    for (const [name, principal] of [
      ['a long name', hash.toString('hex')],
      ['short', undefined],
      ['a longer name than any', hash.toString('hex').slice(0, 62)],
    ] as const)
      assert.equal(hexOf(entryOf(name, principal)).slice(0, 2070), fresh(name, principal).slice(0, 2070), name)
  })

  it("that only tests whether a message waits is 'in progress', and of another command", () => {
    const asking = Buffer.from(probe(9, 1067))
    assert.deepEqual([asking.readInt16LE(2), asking.readUInt8(1), asking.readUInt32LE(4)], [-115, 0, 9])
  })
})

it('the order of the xids is the order in which the kernel asked, also where the counter begins anew', () => {
  const xids = [0xffff_fffe, 0, 0xffff_ffff, 1]
  const headers = xids.map((xid) => readHeader(message({ version: 1, command: commands.create, xid })))
  assert.deepEqual(
    headers.sort(inOrder).map(({ xid }) => xid),
    [0xffff_fffe, 0xffff_ffff, 0, 1],
  )
})
