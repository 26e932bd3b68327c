/**
 * Techniques without a failing control of their own are tried on a helper that is broken on purpose. Each must fail.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { Script } from 'node:vm'
import { root } from '../support/artefacts.ts'
import { inPart, report, type Row } from './figures.ts'
import { mutated, mutations, type Mutant } from './mutants.ts'

/** Technique, test by name, mutant, and the line of the test's output that shows that it failed for this reason. */
const tried: readonly (readonly [string, string, Mutant, RegExp])[] = [
  [
    'kill-points',
    'check of a v4.0 client, promoting',
    'reclaim by copy, old one first',
    /killed at[^]*?\+ '(.*by the rule: .*)'/,
  ],
  ['kill-points', 'start after a crash in the first grace', 'no mark of a start', /no mark tells of it/],
  ['kill-points', 'grace done, some reclaimed', 'grace done in two calls', /killed at[^]*?\+ '(.*by the rule: .*)'/],
  ['kill-points', 'start after a crash in the first grace', 'first grace forgotten', /by the rule: .*/],
  ['kill-points', 'grace done, with legacy clients', 'legacy clients stay', /by the rule: .*/],
  ['kill-points', 'grace done, with legacy clients', 'a check with a session is a record', /by the rule: .*/],
  ['kill-points', 'remove out of grace', 'a remove makes no note', /after a start may reclaim: .*/],
  ['kill-points', 'remove out of grace', 'a cut-short remove stays', /after a start may reclaim: .*/],
  ['kill-points', 'create, new, out of grace', 'a cut-short create stays', /after a start may reclaim: .*/],
  ['kill-points', 'grace done, some reclaimed', 'gracedone makes no note', /after a start may reclaim: .*/],
  ['clocks', 'a day behind', 'starts are times', /upcall \d+, .*status 0, but it .*?(?=:)/],
  ['hostile-input', 'a start always mends it', 'checksum not looked at', /a stranger may reclaim/],
  ['against-the-peer', 'never from the rule', 'remove forgets nobody', /status 0, but it was .*?(?=:)/],
  ['races', 'grace done, meanwhile start', 'grace done completes what it finds', /stopped after .*: .*by the rule: .*/],
  [
    'races',
    'create ann, meanwhile create ann, grace over and not heard to be, with legacy clients',
    'what another has removed stays',
    /stopped after .*: statuses 135 and 0/,
  ],
  ['races', '16 at a time', 'a store in one piece', /no order of the upcalls of .* has these statuses/],
]

describe('every mutant', () => {
  for (const name of Object.keys(mutations) as Mutant[])
    it(`still differs from the program, and is one: ${mutations[name].what}`, () => {
      assert.doesNotThrow(() => new Script(mutated(name).replace(/^#!.*/, '')))
    })
})

describe('a broken helper does not pass', { skip: inPart }, () => {
  const rows: Row[] = []
  for (const [technique, pattern, name, shows] of tried)
    it(`${technique}, where ${mutations[name].what}`, async () => {
      const { status, text } = await testsOn(name, technique, pattern)
      const ran = /^# tests [1-9]/m.test(text) && !/there is no such mutant|is not in the built program/.test(text)
      const [line = '', clause = line] = shows.exec(text) ?? []
      const how = briefly(clause)
      rows.push({ technique, broken: mutations[name].what, caught: status !== 0 && how !== '' ? 'yes' : 'no', how })
      assert.ok(ran, text)
      assert.notEqual(status, 0)
      assert.notEqual(how, '', `it failed for another reason:\n${text}`)
    })
  after(() => {
    report({ technique: 'able-to-fail', rows })
  })
})

/** One clause, as the assertion printed it. */
const briefly = (clause: string): string =>
  clause
    .replace(/\\?['"],?$/, '')
    .replace(/ \(\d+ to [^)]*\)/g, '')
    .slice(0, 160)

function testsOn(name: Mutant, technique: string, pattern: string): Promise<{ status: number | null; text: string }> {
  const env = { ...process.env, PROOF: 'ci', PROOF_MUTANT: name }
  // Otherwise the runner inside a test would take itself for a part of this one.
  Reflect.deleteProperty(env, 'NODE_TEST_CONTEXT')
  return new Promise((resolve, reject) => {
    let text = ''
    const child = spawn(
      join(root, 'node_modules/.bin/tsx'),
      [
        '--test',
        '--test-reporter=tap',
        `--test-name-pattern=${pattern}`,
        join(root, `tests/proof/${technique}.test.ts`),
      ],
      { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] },
    )
    child.stdout.setEncoding('utf8').on('data', (more: string) => {
      text += more
    })
    child.stderr.setEncoding('utf8').on('data', (more: string) => {
      text += more
    })
    child.once('error', reject)
    child.once('close', (status) => {
      resolve({ status, text })
    })
  })
}
