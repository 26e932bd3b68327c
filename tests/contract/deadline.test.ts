/** An upcall limits its own time, because the kernel waits for it without a limit. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { lutimesSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { named, traced } from '../support/strace.ts'
import { done, eachArtefact, hex, server } from './server.ts'

/** Takes half a minute of waiting, so both run at once. */
describe('the time limit of an upcall', { concurrency: true }, () => {
  eachArtefact('an upcall that gets nowhere', (artefact) => {
    it('ends after 30 seconds with ETIMEDOUT and a line', async () => {
      const s = server(artefact)
      await s.init()
      // A fresh lock of another machine, and a disk whose fsync takes 31 seconds.
      const lock = join(s.stateDir, 'v4clients/lock')
      symlinkSync('1.1.x.somebody-else.0', lock)
      lutimesSync(lock, Date.now() / 1000 + 60, Date.now() / 1000 + 60)
      const said = await traced(s, ['create', hex('ada')], {}, [
        '-e',
        `trace=${named('symlink')}`,
        '-e',
        `inject=${named('symlink')}:delay_enter=31000000:when=1`,
      ])
      assert.equal(said.status, 146)
      assert.match(said.stderr, /error: create: out of time while waiting for the lock/)
    })

    it('does not wait for a FIFO, wherever there is one', async () => {
      const s = server(artefact)
      await s.init()
      const config = join(s.nfsdDir, 'nfs.conf')
      execFileSync('mkfifo', [config])
      for (const path of ['../nfsd/v4_end_grace', '../nfsd/allow_client', 'v4clients/lock', 'old_boot_time'])
        execFileSync('mkfifo', [join(s.stateDir, path)])
      assert.equal(
        (await s.call(['--config', config, 'create', hex('ada')], { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' })).status,
        done,
      )
      assert.equal((await s.check('ada', 'v4.0')).status, done)
      assert.equal((await s.graceDone()).status, done)
    })
  })
})
