/** How an intent log is read: what was durable is understood, what was torn is none, and damage is seen. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { crc32 } from '../../../lib/bytes.ts'
import type { Start } from '../../../lib/rules/instance.ts'
import { blockSize, entryOf, headerOf, made, noEntries, readLog, removed } from '../../../lib/store/intent-log.ts'

const start = 1795328616 as Start
const header = headerOf(start)

/** A log with these texts in its blocks after the first. */
const logOf = (...blocks: readonly string[]): string =>
  [header, ...blocks].map((block) => block.padEnd(blockSize, '\0')).join('')

const entry = (number: number, ...changes: readonly string[]): string => entryOf(number, start, changes.join(''), crc32)

const read = (text: string): ReturnType<typeof readLog> => readLog(text, crc32)
const statesIn = (text: string): readonly (readonly [string, string | undefined])[] => {
  const { states, isDamaged } = read(text)
  assert.equal(isDamaged, false)
  return [...states]
}

describe('an intent log', () => {
  it('says of which instance it is', () => {
    assert.equal(read(logOf()).start, start)
  })

  it('gives each name the state of its last change', () => {
    assert.deepEqual(
      statesIn(
        logOf(
          entry(7, made('ada', 'v2,a'), made('bob', 'v2,b')),
          entry(8, removed('ada')),
          entry(9, made('ada', 'v2,c')),
        ),
      ),
      [
        ['ada', 'v2,c'],
        ['bob', 'v2,b'],
      ],
    )
  })

  it('has no entry that was not written to its end', () => {
    const whole = entry(2, made('bob', 'v2,b'))
    for (let length = 0; length < whole.length; length++)
      assert.deepEqual(statesIn(logOf(entry(1, made('ada', 'v2,a')), whole.slice(0, length))), [['ada', 'v2,a']])
  })

  it('has no entry that is torn over an older one', () => {
    const [old, now] = [entry(2, removed('x'.repeat(200))), entry(5, made('bob', 'y'.repeat(300)))]
    for (const torn of [100, 200])
      assert.deepEqual(statesIn(logOf(now.slice(0, torn) + old.padEnd(blockSize, '\0').slice(torn))), [])
  })

  it('ends where the entries of an earlier use begin', () => {
    assert.deepEqual(
      statesIn(logOf(entry(4, made('ada', 'v2,a')), entry(2, removed('ada')), entry(3, removed('ada')))),
      [['ada', 'v2,a']],
    )
  })

  it('has no entry once it is emptied', () => {
    const first = entry(1, made('ada', 'v2,a'))
    assert.deepEqual(statesIn(logOf(noEntries + first.slice(noEntries.length), entry(2, removed('ada')))), [])
  })

  it('may have an entry of several blocks', () => {
    const long = entry(1, ...Array.from({ length: 64 }, (_, at) => made(`client-${at}`, 'v2,'.padEnd(120, 'z'))))
    const blocks = Math.ceil(long.length / blockSize)
    assert.ok(blocks > 1)
    const text = header.padEnd(blockSize, '\0') + long.padEnd(blocks * blockSize, '\0') + entry(2, removed('client-9'))
    assert.equal(read(text).states.size, 64)
    assert.equal(read(text).states.get('client-9'), undefined)
  })

  it('is damaged, if an entry can not be read and a later one can', () => {
    const [one, two, three] = [entry(1, removed('ada')), entry(2, removed('bob')), entry(3, removed('cal'))]
    assert.equal(read(logOf(one, two.replace('bob', 'bib'), three)).isDamaged, true)
    assert.equal(read(logOf(one, two.replace('bob', 'bib'))).isDamaged, false)
  })

  it('is damaged, if its first entry can not be read and the second can', () => {
    const [one, two] = [entry(4, removed('ada')), entry(5, removed('bob'))]
    assert.equal(read(logOf(one.replace('ada', 'ida'), two)).isDamaged, true)
    assert.equal(read(logOf(entry(6, removed('ada')).replace('ada', 'ida'), two)).isDamaged, false)
  })

  it('is damaged, if it has an entry and does not say whose it is, or has one of another instance', () => {
    const text = logOf(entry(1, removed('ada')))
    assert.equal(read(`\0${text.slice(1)}`).isDamaged, true)
    assert.equal(read(logOf(entryOf(1, (start + 1) as Start, removed('ada'), crc32))).isDamaged, true)
  })
})
