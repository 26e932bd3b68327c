/** The build says which Node it needs. Debian 12's own is too old for it. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { isTooOld } from '../../lib/build/node-version.ts'

it('a Node before 20.19 is too old to build and test', () => {
  for (const version of ['18.20.4', '20.9.0', '20.18.3']) assert.ok(isTooOld(version), version)
  for (const version of ['20.19.0', '20.20.2', '21.0.0', '22.13.0', '24.1.0']) assert.ok(!isTooOld(version), version)
})

it('README.md names the same Node, before the commands that need it', () => {
  const readme = readFileSync(join(import.meta.dirname, '../../README.md'), 'utf8')
  assert.match(readme, /Node 20\.19 or later[^]*npm ci && npm start/)
})
