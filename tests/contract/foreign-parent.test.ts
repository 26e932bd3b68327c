/** The state directory may belong to another service. Its owner can remove the records, and nothing more. */
import assert from 'node:assert/strict'
import { chownSync, readdirSync, renameSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { ensureDirSync } from 'fs-extra/esm'
import { stoppedBefore } from '../support/strace.ts'
import { done, eachArtefact, hex, mayNotReclaim, server, storageFailed, tree, type Server } from './server.ts'

/** Like a directory of root's that has nothing to do with this program. */
function precious(s: Server): string {
  const directory = join(s.nfsdDir, 'precious')
  for (const name of ['100', '100/ada', '1795328616']) ensureDirSync(join(directory, name))
  symlinkSync('-', join(directory, '100.partial'))
  return directory
}

const exchange = (s: Server, directory: string): void => {
  renameSync(join(s.stateDir, 'v4clients'), join(s.stateDir, 'taken'))
  symlinkSync(directory, join(s.stateDir, 'v4clients'))
}

eachArtefact('whoever owns the directory above the records', (artefact) => {
  it('can replace nothing while an upcall works: it goes on in the directory where it began', async () => {
    const session = { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' }
    for (const [words, call] of [
      [['create', hex('new')], 'symlink'],
      [['create', hex('ada')], 'symlink'],
      [['remove', hex('ada')], 'unlink'],
      [['grace_done'], 'rename'],
    ] as const) {
      const s = server(artefact)
      const directory = precious(s)
      await s.fullInstanceWith('ada')
      chownSync(s.stateDir, 12345, 12345)
      await s.init()
      const before = tree(directory)
      const wake = await stoppedBefore(s, words, session, { name: call, nth: 1 })
      exchange(s, directory)
      assert.equal((await wake()).status, done, words[0])
      assert.deepEqual(tree(directory), before, words[0])
      assert.ok(readdirSync(join(s.stateDir, 'taken')).includes('format-2'))
    }
  })

  it('can redirect no upcall: a link in the place of v4clients is refused', async () => {
    const s = server(artefact)
    const directory = precious(s)
    await s.fullInstanceWith('ada')
    exchange(s, directory)
    const before = tree(directory)
    for (const said of [
      await s.create('new', 'v4.1'),
      await s.remove('ada'),
      await s.graceDone(),
      await s.check('ada', 'v4.0'),
    ]) {
      assert.equal(said.status, storageFailed)
      assert.match(said.stderr, /v4clients' is not a directory/)
    }
    assert.deepEqual(tree(directory), before)
  })

  it('can make no record, and end no grace: the files that it may write are for people only', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init()
    const start = Number(s.readState('new_boot_time'))
    for (const text of ['0\n', `${start}\n`, `${start + 5}\n`, 'junk'])
      for (const file of ['boot_time', 'new_boot_time']) {
        s.writeState(file, text)
        chownSync(join(s.stateDir, file), 12345, 12345)
        assert.equal((await s.check('ada', 'v4.1')).status, done, `${file} ${text}`)
        assert.equal((await s.check('eve', 'v4.1')).status, mayNotReclaim, `${file} ${text}`)
      }
    assert.equal((await s.graceDone()).status, done)
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
  })
})
