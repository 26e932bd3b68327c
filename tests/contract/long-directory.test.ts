/** A state directory that needs more than one call to read is still seen as of one moment. */
import assert from 'node:assert/strict'
import { symlinkSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { traced } from '../support/strace.ts'
import { done, eachArtefact, hex, mayNotReclaim, server } from './server.ts'

eachArtefact('a state directory with hundreds of interrupted starts', (artefact) => {
  it('is read until it reads the same twice, and gives the verdicts of a short one', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init()
    const looks = async (): Promise<number> => {
      const said = await traced(s, ['check', hex('ada')], { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' })
      assert.equal(said.status, done)
      return said.calls.filter(({ text }) => /^getdents64\(\d+<[^>]*\/v4clients>.* = 0$/.test(text)).length
    }
    const short = await looks()
    const start = Number(s.readState('new_boot_time'))
    for (let i = 1; i <= 400; i++) {
      mkdirSync(join(s.stateDir, 'v4clients', String(start - 100_000 + i)))
      symlinkSync('-', join(s.stateDir, 'v4clients', `${start - 100_000 + i}.partial`))
    }
    assert.ok((await looks()) >= 2 * short, 'twice as often')
    assert.equal((await s.check('eve', 'v4.1')).status, mayNotReclaim)
    assert.equal((await s.create('ada', 'v4.1')).status, done)
    assert.equal((await s.graceDone()).status, done)
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, done)
  })
})
