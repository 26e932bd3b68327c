/** Owners are 0 to 1024 arbitrary bytes: all are distinct, all are safe, and all come back unchanged. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { done, eachArtefact, mayNotReclaim, server, type Owner } from './server.ts'

const long = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed * 13 + (i >> 8)) & 0xff)

const odd: readonly Owner[] = [
  '',
  '.',
  '..',
  '.hidden',
  '../../x',
  '/etc/passwd',
  'a/b',
  '\0',
  'a\0b',
  'line\nfeed',
  '\x1b[31mred',
  'Linux NFSv4.1 ada',
  'linux nfsv4.1 ada',
  'LINUX NFSV4.1 ADA',
  ' ',
  '%',
  '%41',
  'A',
  '%sha256-',
  `%sha256-${createHash('sha256').update('x'.repeat(256)).digest('hex')}`,
  `sha256-${'0'.repeat(64)}`,
  '%new-1-1',
  'damaged',
  '1795328616',
  '1795328616.partial',
  'boot_time',
  '\\x61',
  '\\141',
  'x'.repeat(254),
  'x'.repeat(255),
  'x'.repeat(256),
  'X'.repeat(256),
  'x'.repeat(1024),
  `${'x'.repeat(1023)}y`,
  ' '.repeat(85),
  ' '.repeat(86),
  Uint8Array.of(0xff, 0xfe),
  Uint8Array.of(0xc3, 0xa9),
  long(255, 1),
  long(256, 2),
  long(1023, 3),
  long(1024, 4),
  new Uint8Array(1024),
  new Uint8Array(1023),
  new Uint8Array(1024).fill(0xff),
]

eachArtefact('client owners', (artefact) => {
  it('are each recorded separately, however odd, and nothing is written outside the state directory', async () => {
    const s = server(artefact)
    await s.init()
    const half = odd.filter((_, i) => i % 2 === 0)
    for (const owner of half) assert.equal((await s.create(owner, 'v4.1')).status, done, JSON.stringify(owner))
    for (const [i, owner] of odd.entries())
      assert.equal((await s.check(owner, 'v4.1')).status, i % 2 === 0 ? done : mayNotReclaim, JSON.stringify(owner))
    const [instance] = readdirSync(join(s.stateDir, 'v4clients')).filter((name) => /^[0-9]+$/.test(name))
    const names = readdirSync(join(s.stateDir, 'v4clients', instance ?? ''))
    assert.equal(names.length, half.length)
    for (const name of names) assert.match(name, /^(?:[A-Za-z0-9_,:=@+-]|%)[\x21-\x7e]{0,254}$/)
    assert.deepEqual(readdirSync(join(s.stateDir, '..')).sort(), ['nfsd', 'run', 'state'])
    assert.ok(!existsSync('/x'))
  })

  it('come back byte for byte: the kernel is told who may reclaim in its own spelling', async () => {
    const s = server(artefact)
    await s.init()
    for (const owner of odd) await s.create(owner, 'v4.1')
    await s.graceDone()
    writeFileSync(join(s.nfsdDir, 'allow_client'), '')
    await s.call(['start'])
    const told = readFileSync(join(s.nfsdDir, 'allow_client'), 'latin1').split('\n').slice(0, -1)
    assert.equal(told.length, odd.length)
    for (const word of told) {
      assert.match(word, /^[\x21-\x7e]{1,2050}$/)
      assert.equal((await s.call(['expire_client', word])).status, done)
    }
    for (const owner of odd) assert.equal((await s.check(owner, 'v4.1')).status, mayNotReclaim, JSON.stringify(owner))
  })
})
