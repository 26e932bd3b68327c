/**
 * Client owners as they may come from the network, and their spelling in both dialects. Their bytes are written as
 * lowercase hex.
 */
import { createHash } from 'node:crypto'
import fc from 'fast-check'
import type { Owner } from './oracle.ts'

export const owner = (bytes: string | Uint8Array): Owner => Buffer.from(bytes).toString('hex')

/** The spellings of an owner in the dialect of the 2010 thread: only what must be escaped, every byte, or as hex. */
export type Spelling = 'octal' | 'all octal' | 'hex' | 'HEX'
export const spellings: readonly Spelling[] = ['octal', 'all octal', 'hex', 'HEX']

/** A field of a kernel RPC cache. An empty field would vanish between its spaces, so it is spelled `\x`. */
export function escaped(it: Owner, spelling: Spelling = 'octal'): string {
  if (spelling === 'HEX') return `\\x${it.toUpperCase()}`
  if (spelling === 'hex' || it === '') return `\\x${it}`
  const plain = (byte: number): boolean => spelling === 'octal' && byte > 0x20 && byte < 0x7f && byte !== 0x5c
  return [...Buffer.from(it, 'hex')]
    .map((byte) => (plain(byte) ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, '0')}`))
    .join('')
}

/** The bytes of such a field, or undefined if the kernel would refuse it. */
export function unescaped(field: string): Owner | undefined {
  const hex = /^\\x((?:[0-9a-f]{2})*)$/i.exec(field)
  if (hex) return hex[1]?.toLowerCase()
  if (!/^(?:[!-[\]-~]|\\[0-3][0-7]{2})+$/.test(field)) return undefined
  const bytes = field
    .match(/\\\d{3}|./g)
    ?.map((it) => (it.length > 1 ? Number.parseInt(it.slice(1), 8) : it.charCodeAt(0)))
  return owner(Buffer.from(bytes ?? []))
}

/** An owner for people: the escaped form, cut if it is long. */
export function readable(it: Owner): string {
  const field = escaped(it)
  return field.length <= 48 ? field : `${field.slice(0, 24)}... (${it.length / 2} bytes, ends in ${field.slice(-8)})`
}

const long = 'Linux NFSv4.2 '.padEnd(1024, 'x')
const digest = (text: string, how: 'hex' | 'base64url'): string => createHash('sha256').update(text).digest(how)

/** Owners that a careless program would confuse with each other, or with its own files. A life uses one family. */
const families: readonly (readonly Owner[])[] = [
  ['Linux NFSv4.0 ada/192.0.2.1', 'Linux NFSv4.1 bob', 'Linux NFSv4.2 eve'],
  ['', '.', '..', '../../x'],
  ['../boot_time', '../../boot_time', 'boot_time', 'new_boot_time', 'old_boot_time', 'v4clients'],
  ['ada', 'Ada', 'ADA', 'ada ', ' ada'],
  ['\0', 'a\0', 'a\0b', 'a', '\0\0'],
  ['\n', 'a\n', 'a\nb', 'a\tb', 'a b', 'a\\b', 'a\\nb'],
  ['\\x61', '\\141', 'a', '61', '0x61', '%61'],
  ['%2e%2e', '..', '%2F', '/', '//', 'a/b', 'a%2Fb'],
  ['-rf', '--help', '--', '-s', '-f', '--version'],
  ['1e3', '1000', '0x10', '16', '010', 'true', '__proto__', 'constructor'],
  ['a'.repeat(127), 'a'.repeat(128), 'a'.repeat(254), 'a'.repeat(255), 'a'.repeat(256), `${'a'.repeat(255)}b`],
  [long, `${long.slice(0, -1)}y`, long.slice(0, -1), digest(long, 'hex'), digest(long, 'base64url')],
  [
    long,
    `sha256:${digest(long, 'hex')}`,
    `sha256-${digest(long, 'hex')}`,
    `%sha256-${digest(long, 'hex')}`,
    `\\x${digest(long, 'hex')}`,
    `=${digest(long, 'hex')}`,
  ],
  ['hash:', 'hash:61', `hash:${'0123456789abcdef'.repeat(2)}`, '0123456789abcdef'.repeat(2), 'Hash:', 'hash'],
  ['.lock', 'lock', '.tmp', 'ada.new', 'ada.lock', '.ada', 'ada~', 'ada.'],
]
  .map((family) => family.map((it) => owner(it)))
  .concat([
    [[0xff], [0xfe], [0xff, 0xfe], [0xc3, 0xa4], [0xe4], [0xef, 0xbf, 0xbd]].map((it) => owner(Buffer.from(it))),
  ])

/** A few bytes after a beginning that is the same for all: a program that cuts names short would confuse them. */
const random = (most: number): fc.Arbitrary<readonly Owner[]> =>
  fc
    .tuple(
      fc.constantFrom(0, 0, 200, 235, 250, 1000),
      fc.uniqueArray(
        fc.uint8Array({ maxLength: 24 }).map((it) => owner(it)),
        { minLength: 1, maxLength: most },
      ),
    )
    .map(([length, ends]) => ends.map((end) => owner('x'.repeat(length)) + end))

/** A few different owners for one life. They shrink to the first of a family. */
export const someOwners = (most: number): fc.Arbitrary<readonly Owner[]> =>
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc
        .constantFrom(...families)
        .chain((family) => fc.subarray([...family], { minLength: 1, maxLength: Math.min(most, family.length) })),
    },
    { weight: 1, arbitrary: random(most) },
  )
