/**
 * More clients than should be held in memory: each is shown, none twice, and the memory in use does not grow with them.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { ensureDirSync } from 'fs-extra/esm'
import { membersOf } from '../../lib/commands/move/json-stream.ts'
import { recordLine, recordName } from '../../lib/rules/record.ts'
import type { ClientOwner } from '../../lib/upcall/owner.ts'
import { done, forPeople, hex, server, type Server } from '../contract/server.ts'
import { root, settings } from '../support/artefacts.ts'
import { beside } from '../support/people.ts'

const many = 120_000

/** In a full instance whose grace is over. */
function record(s: Server, count: number, nameOf: (at: number) => string): void {
  const room = join(s.stateDir, 'v4clients')
  ensureDirSync(join(room, '1000'), 0o700)
  for (const name of ['format-2', '1000.full']) symlinkSync('-', join(room, name))
  for (let i = 0; i < count; i++) {
    const owner = Buffer.from(nameOf(i)) as Uint8Array as ClientOwner
    symlinkSync(
      recordLine(owner, { session: i % 2 === 0 ? 'has session' : 'no session', recorded: 900 }),
      join(room, '1000', recordName(owner)),
    )
  }
}

const peakOf = (s: Server): string => join(s.nfsdDir, 'peak')

/** Options for Node: a heap that would not hold so many clients, and a report of the peak. */
const frugal = `--max-old-space-size=40 --require=${join(root, 'tests/support/peak-memory.cjs')}`

/** The result, in a file. */
function toFile(
  s: Server,
  file: string,
  input: string | undefined,
  ...words: readonly string[]
): Promise<number | null> {
  const [program = '', ...before] = s.artefact.command
  const [out, given] = [openSync(file, 'w'), input === undefined ? undefined : openSync(input, 'r')]
  const child = spawn(program, [...before, ...settings(s.machine), ...words], {
    cwd: '/',
    env: { PATH: process.env['PATH'] ?? '', NODE_OPTIONS: frugal, PEAK_MEMORY: peakOf(s) },
    stdio: [given ?? 'ignore', out, 'inherit'],
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (status) => {
      for (const descriptor of [out, given]) if (descriptor !== undefined) closeSync(descriptor)
      resolve(status)
    })
  })
}

forPeople(`${many} clients`, (artefact) => {
  it('are listed, counted, verified, exported, imported, and named by prune, whatever memory there is', async () => {
    const [s, other] = [server(artefact), server(artefact)]
    record(s, many, (at) => `client-${at}`)
    const file = join(s.nfsdDir, 'out')
    const said = async (on: Server, input: string | undefined, ...words: readonly string[]): Promise<string> => {
      assert.equal(await toFile(on, file, input, ...words), done, words.join(' '))
      return readFileSync(file, 'utf8')
    }
    assert.equal((await said(s, undefined, 'list')).split('\n').length, many + 2)
    const { clients } = JSON.parse(await said(s, undefined, 'list', '--json')) as { clients: { owner: string }[] }
    assert.equal(new Set(clients.map(({ owner }) => owner)).size, many)
    assert.match(
      await said(s, undefined, 'status'),
      new RegExp(`\\nclients +${many} may reclaim after the next start\\n`),
    )
    assert.deepEqual((JSON.parse(await said(s, undefined, 'status', '--json')) as { counts: object }).counts, {
      recorded: many,
      reclaimed: 0,
      new: 0,
      waiting: 0,
      void: 0,
      legacy: 0,
      damaged: 0,
    })
    assert.match(
      await said(s, undefined, 'verify'),
      new RegExp(`^${many} records can be understood; nothing is wrong\n$`),
    )
    const exported = join(s.nfsdDir, 'clients.json')
    writeFileSync(exported, await said(s, undefined, 'export'))
    const { imported } = JSON.parse(await said(other, exported, 'import', '--yes', '--json', '-')) as {
      imported: number
    }
    assert.equal(imported, many)
    await s.init()
    assert.match(
      await said(s, undefined, 'prune', '--unseen', '1', '--dry-run'),
      new RegExp(`^UNSEEN .*\\n(?: +1 .*\\n){${many}}${many} clients would be pruned\n$`),
    )
    const status = JSON.parse(await said(s, undefined, 'status', '--json')) as {
      clients: { owner: string }[]
      grace: { held_by: { client: { owner: string } }[] }
    }
    for (const told of [status.clients, status.grace.held_by.map(({ client }) => client)])
      assert.equal(new Set(told.map(({ owner }) => owner)).size, many)
    await other.init()
    for (const owner of ['client-0', `client-${many - 1}`])
      assert.equal((await other.check(owner, 'v4.1')).status, done, hex(owner))
    assert.notEqual((await other.check(`client-${many}`, 'v4.1')).status, done)
  })
})

forPeople('a database of 110 MB', (artefact) => {
  it('is written and read in memory that does not grow with it', async () => {
    const [s, other] = [server(artefact), server(artefact)]
    const count = 20_000
    record(s, count, (at) => `client-${at}`.padEnd(1000, '.'))
    const database = beside(s, 'main.sqlite')
    // Node with all scripts and without clients takes 110 MB.
    for (const [on, most, words] of [
      [s, 230, ['export', '--to', 'nfsdcld', '-o', database]],
      [other, 190, ['import', '--dry-run', '--json', database]],
    ] as const) {
      assert.equal(await toFile(on, beside(s, 'out'), undefined, ...words), done, words.join(' '))
      const peak = Number(readFileSync(peakOf(on), 'utf8'))
      assert.ok(peak < most, `${words.join(' ')} took ${peak} MB`)
    }
    const { size } = statSync(database)
    assert.ok(size > 110e6, `it has ${size} bytes`)
    assert.equal((JSON.parse(readFileSync(beside(s, 'out'), 'utf8')) as { imported: number }).imported, count)
  })
})

describe('a JSON object read in parts', () => {
  const text = String.raw`{"a":{"b":[1,"]}\"\\"]},"list":[{"x":"\u00e9}"},[2],"]",-3.5e1,null],"n":12 ,"empty":[], "other":[{}]}`

  it('has the same members wherever the parts end', () => {
    const whole = JSON.parse(text) as Record<string, unknown>
    for (let size = 1; size <= text.length; size++) {
      const parts = Array.from({ length: Math.ceil(text.length / size) }, (_, at) =>
        text.slice(at * size, (at + 1) * size),
      )
      const read: Record<string, unknown> = { list: [], empty: [] }
      for (const { name, value, isItem } of membersOf(parts, ['list', 'empty'], (what) => new Error(what)))
        if (isItem) (read[name] as unknown[]).push(value)
        else read[name] = value
      assert.deepEqual(read, whole, `parts of ${size}`)
    }
  })

  it('is refused if it is not valid, also if only its end is missing', () => {
    for (const wrong of [
      '',
      '[]',
      '{',
      '{"a"',
      '{"a":',
      '{"a":1',
      '{"a":1,}',
      '{"list":[1 2]}',
      '{"list":[1,]}',
      '{"a":tru}',
      '{} x',
      '{"a":1}}',
      'null',
      ...Array.from(text, (_, at) => text.slice(0, at)),
    ])
      assert.throws(() => [...membersOf([wrong], ['list'], (what) => new Error(what))], /no JSON/, wrong)
  })
})
