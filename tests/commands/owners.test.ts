/** A client owner named by a person: the intended one, or a clear refusal. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { describe, it } from 'node:test'
import { ownerNamed, ownerSpelled, type Known } from '../../lib/commands/shared/owners.ts'
import { Failed, report } from '../../lib/failure.ts'
import { escapeOwner, quoteOwner, type ClientOwner } from '../../lib/upcall/owner.ts'

const owner = (bytes: string | Uint8Array): ClientOwner => Buffer.from(bytes as string) as Uint8Array as ClientOwner
const ada = owner('Linux NFSv4.1 ada')
const adam = owner('Linux NFSv4.1 adam')
const bob = owner('bob\n')
const binary = owner(Uint8Array.of(0, 0xff, 0x2f))
const all = [ada, adam, bob, binary]
const known: Known = { has: (owner) => all.some((other) => Buffer.compare(owner, other) === 0), all: () => all }

type Spelling = 'as printed' | 'in hex'
const named = (word: string, spelling: Spelling = 'as printed'): string =>
  escapeOwner(ownerNamed(word, known, { hex: spelling === 'in hex' }))
const refusal = (word: string, spelling: Spelling = 'as printed'): string => {
  try {
    return named(word, spelling)
  } catch (thrown) {
    if (thrown instanceof Failed) return report(thrown.failure).line
    throw thrown
  }
}

describe('an owner named by a person', () => {
  it('may be spelled as it is printed', () => {
    for (const each of all) assert.equal(named(escapeOwner(each)), escapeOwner(each))
  })

  it('may be pasted into a shell as it is shown', () => {
    for (const text of [
      'Linux NFSv4.1 ada',
      'a"$HOME`id`!!\'b\\',
      '-y',
      '',
      'x\n\x1b',
      ' two  spaces ',
      '\\040',
      '\\x61',
      '*',
    ]) {
      const shown = quoteOwner(owner(text))
      const word = execFileSync('bash', ['-c', `printf %s ${shown}`], { encoding: 'utf8' })
      assert.equal(Buffer.from(ownerSpelled(word, { hex: false })).toString(), text, shown)
      assert.ok(!word.startsWith('-'), `${shown} is no option`)
    }
  })

  it('may be spelled with its spaces, or in hex', () => {
    assert.equal(named('Linux NFSv4.1 adam'), 'Linux\\040NFSv4.1\\040adam')
    assert.equal(named('\\x626f620a'), 'bob\\012')
    assert.equal(named('626F620a', 'in hex'), 'bob\\012')
  })

  it('may be a prefix that only one client has, even one that ends within an escape', () => {
    for (const prefix of ['b', 'bob\\', 'bob\\01', '\\x00f']) assert.ok(named(prefix))
  })

  it('is found by its whole name, also if others begin with it', () => {
    assert.equal(named('Linux NFSv4.1 ada'), 'Linux\\040NFSv4.1\\040ada')
  })

  it('is refused if several begin with it, and these are named', () => {
    assert.match(
      refusal('Linux'),
      /^2 clients begin like this \("Linux NFSv4\.1 ada", "Linux NFSv4\.1 adam"\): 'Linux'$/,
    )
  })

  it('is refused if no client begins with it', () => {
    for (const word of ['eve', '', 'Bob', 'bob\\012\\012']) assert.match(refusal(word), /^no client has this owner/)
    assert.match(refusal('626f', 'in hex'), /^no client has this owner/, 'with --hex there are no prefixes')
    assert.match(refusal('bob', 'in hex'), /not hexadecimal|odd number/)
  })
})
