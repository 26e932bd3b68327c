/** Techniques that have no failing control of their own, tried on a helper that is broken on purpose: each must fail. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { root } from '../artefacts.ts'
import { inPart, report, type Row } from './figures.ts'
import { mutations, type Mutant } from './mutants.ts'

const tried: readonly (readonly [string, string, Mutant])[] = [
  ['kill-points', 'check of a v4.0 client, promoting', 'reclaim by copy, old one first'],
  ['clocks', 'ahead by an hour', 'starts are times'],
  ['hostile-input', 'a start always mends it', 'checksum not looked at'],
  ['against-the-peer', 'never from the rule', 'remove forgets nobody'],
]

describe('a broken helper does not pass', { skip: inPart }, () => {
  const rows: Row[] = []
  for (const [technique, pattern, name] of tried)
    it(`${technique}, where ${mutations[name].what}`, async () => {
      const { status, text } = await testsOn(name, technique, pattern)
      const ran = /^# tests [1-9]/m.test(text) && !/there is no such mutant|is not in the built program/.test(text)
      const line = /^ *(?:\+ +')?(.*(?:status|may reclaim|it says|differ|Expected).*)$/m.exec(text)?.[1] ?? ''
      rows.push({ technique, broken: mutations[name].what, caught: status === 0 ? 'no' : 'yes', how: line.slice(0, 200) })
      assert.ok(ran, text)
      assert.notEqual(status, 0)
    })
  after(() => { report({ technique: 'able-to-fail', rows }) })
})

function testsOn(name: Mutant, technique: string, pattern: string): Promise<{ status: number | null; text: string }> {
  const env = { ...process.env, PROOF: 'ci', PROOF_MUTANT: name }
  // Inside a test, the runner would think itself a part of this one.
  Reflect.deleteProperty(env, 'NODE_TEST_CONTEXT')
  return new Promise((resolve, reject) => {
    let text = ''
    const child = spawn(join(root, 'node_modules/.bin/tsx'),
      ['--test', '--test-reporter=tap', `--test-name-pattern=${pattern}`, join(root, `tests/proof/${technique}.test.ts`)],
      { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] })
    child.stdout.setEncoding('utf8').on('data', (more: string) => { text += more })
    child.stderr.setEncoding('utf8').on('data', (more: string) => { text += more })
    child.once('error', reject)
    child.once('close', (status) => { resolve({ status, text }) })
  })
}
