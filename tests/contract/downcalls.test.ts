/** What an upcall writes to nfsd's files, and when. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { isCall, traced } from '../support/strace.ts'
import { done, eachArtefact, server } from './server.ts'

eachArtefact('the end of grace', (artefact) => {
  it('is asked for by the create after which nobody recorded is left to reclaim', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    s.kernelGrace('N\n')
    await s.init()
    await s.check('ada', 'v4.1')
    await s.create('ada', 'v4.1')
    assert.equal(s.kernelWasAskedToEndGrace(), false, 'bob is left')
    await s.create('eve', 'v4.1')
    assert.equal(s.kernelWasAskedToEndGrace(), false, 'a new client is not who is waited for')
    await s.create('bob', 'v4.1')
    assert.equal(s.kernelWasAskedToEndGrace(), true)
  })

  it('is asked for by the first client, if nobody was recorded', async () => {
    const s = server(artefact)
    s.kernelGrace('N\n')
    await s.init()
    assert.equal(s.kernelWasAskedToEndGrace(), false, 'a start does not ask: the kernel would deadlock')
    await s.create('ada', 'v4.1')
    assert.equal(s.kernelWasAskedToEndGrace(), true)
  })

  it('is not asked for while a client without a session is recorded, reclaimed or not', async () => {
    for (const reclaimed of [true, false]) {
      const s = server(artefact)
      await s.fullInstanceWith('ada', 'v40')
      s.kernelGrace('N\n')
      await s.init()
      if (reclaimed) await s.check('v40', 'v4.0')
      await s.create('ada', 'v4.1')
      assert.equal(s.kernelWasAskedToEndGrace(), false)
    }
    const s = server(artefact)
    s.kernelGrace('N\n')
    await s.init()
    await s.create('new v40', 'v4.0')
    await s.create('ada', 'v4.1')
    assert.equal(s.kernelWasAskedToEndGrace(), false)
  })

  it('is asked for only by a create of a client with a session', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    s.kernelGrace('N\n')
    await s.init()
    await s.remove('ada')
    await s.check('ada', 'v4.0')
    await s.check('ada', 'v4.1')
    await s.init()
    assert.equal(s.kernelWasAskedToEndGrace(), false)
  })

  it('is asked for again in the same instance, after a client of a crashed instance came back', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    s.kernelGrace('N\n')
    await s.init()
    await s.create('ada', 'v4.1')
    await s.init()
    await s.create('bob', 'v4.1')
    assert.equal(s.kernelWasAskedToEndGrace(), false, 'ada has not reclaimed in this instance')
    await s.create('ada', 'v4.1')
    assert.equal(s.kernelWasAskedToEndGrace(), true)
  })

  it('is asked for by one plain write of Y, after the barrier and without the lock', async () => {
    const s = server(artefact)
    s.kernelGrace('N\n')
    await s.init()
    const said = await traced(s, ['create', '616461'], { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' })
    assert.equal(said.status, done)
    const calls = said.calls.map(({ text }) => text)
    const at = (pattern: RegExp): number => calls.findIndex((line) => pattern.test(line))
    const writes = calls.filter((line) => /\b(?:p?write|p?writev)\w*\(\d+<[^>]*v4_end_grace>/.test(line))
    assert.equal(writes.length, 1)
    assert.match(writes[0] ?? '', /^(?:write|pwrite64)\(.*"Y", 1(?:, 0)?\) = 1/)
    const [locked, unlocked, synced, asked] = [
      calls.findIndex((line) => isCall(line, 'symlink', 'lock')),
      calls.findIndex((line) => isCall(line, 'unlink', 'lock')),
      at(/^fsync\(/),
      at(/write\w*\(.*"Y", 1/),
    ]
    assert.ok(
      locked > 0 && locked < unlocked && unlocked < synced && synced < asked,
      [locked, unlocked, synced, asked].join(' '),
    )
  })

  it('does not make the upcall fail, if the kernel refuses it or has no such file', async () => {
    const s = server(artefact)
    await s.init()
    assert.equal((await s.create('ada', 'v4.1')).status, done, 'no such file')
    assert.ok(!existsSync(join(s.nfsdDir, 'v4_end_grace')))
  })
})

eachArtefact('allow_client', (artefact) => {
  it('is told every owner that may reclaim once, newline-separated and escaped', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('Linux NFSv4.1 ada', 'bob\\', 'gone')
    await s.remove('gone')
    await s.init()
    await s.create('bob\\', 'v4.1')
    writeFileSync(join(s.nfsdDir, 'allow_client'), '')
    assert.equal((await s.call(['start'])).status, done)
    const told = readFileSync(join(s.nfsdDir, 'allow_client'), 'latin1')
    assert.deepEqual(told.split('\n').sort(), ['', 'Linux\\040NFSv4.1\\040ada', 'bob\\134'])
  })

  it('is never given a line in two writes, however many lines there are', async () => {
    const s = server(artefact)
    const owners = Array.from({ length: 40 }, (_, i) => `client ${i} ${'-'.repeat(i * 20)}`)
    await s.fullInstanceWith(...owners)
    writeFileSync(join(s.nfsdDir, 'allow_client'), '')
    const { calls } = await traced(s, ['start'])
    const writes = calls.map(({ text }) => text).filter((line) => /^write\w*\(\d+<[^>]*allow_client>/.test(line))
    assert.ok(writes.length > 1, 'more than one write holds')
    for (const line of writes) assert.match(line, /\\n", ([0-9]+)(?:, \d+)?\) = \1$/, 'whole lines, written whole')
    assert.equal(readFileSync(join(s.nfsdDir, 'allow_client'), 'latin1').split('\n').length, owners.length + 1)
  })

  it('is opened and closed even if nobody may reclaim: that tells that the list is complete', async () => {
    const s = server(artefact)
    const list = join(s.nfsdDir, 'allow_client')
    writeFileSync(list, '')
    const { calls } = await traced(s, ['start'])
    const onList = calls.map(({ text }) => text).filter((line) => line.includes(`${list}>`) && !line.includes('O_PATH'))
    assert.deepEqual(
      onList
        .map((line) => /^(openat|write|close)\(.* = [0-9]+(?:<.*>)?$/.exec(line)?.[1])
        .filter((name) => name !== undefined),
      ['openat', 'close'],
      onList.join('\n'),
    )
  })
})
