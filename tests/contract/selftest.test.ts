/** selftest measures, on the disk of the state directory, how many clients can recover in time. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { removeSync } from 'fs-extra/esm'
import { settings } from '../support/artefacts.ts'
import { until } from '../support/until.ts'
import { badArgument, done, eachArtefact, server, storageFailed } from './server.ts'

/** The processes with this text among their words. */
const processesWith = (text: string): readonly string[] =>
  readdirSync('/proc').filter((name) => /^\d+$/.test(name) && wordsOf(name).includes(text))

function wordsOf(id: string): string {
  try {
    return readFileSync(`/proc/${id}/cmdline`, 'latin1')
  } catch {
    return ''
  }
}

eachArtefact('selftest', (artefact) => {
  it('plays clients on the disk of the state directory, and does not touch the real state', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    s.kernelGrace('N\n')
    writeFileSync(join(s.nfsdDir, 'nfsv4gracetime'), '24\n')
    const before = s.snapshot()
    const { status, stdout } = await s.call(['selftest', '--clients', '12', '--json'])
    assert.equal(status, done)
    const measured = JSON.parse(stdout) as Record<string, unknown>
    assert.deepEqual(Object.keys(measured), [
      'state_directory',
      'barrier',
      'single',
      'parallel',
      'grace_seconds',
      'recoverable',
      'clients',
    ])
    assert.equal(measured['grace_seconds'], 24)
    assert.equal(measured['state_directory'], s.stateDir)
    assert.ok(Object.values(measured['recoverable'] as Record<string, number>).every((count) => count > 0))
    assert.equal(s.snapshot(), before)
    assert.equal(s.kernelWasAskedToEndGrace(), false)
  })

  it('removes what a killed run has left, and nothing of a run that is alive', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    const before = s.snapshot()
    const room = join(s.stateDir, 'v4clients')
    const killed = spawn(
      artefact.command[0] ?? '',
      [
        ...artefact.command.slice(1),
        ...settings(s.machine),
        'selftest',
        // So many that it is killed before it has finished.
        '--clients',
        '100000',
      ],
      { stdio: 'ignore' },
    )
    const left = (): string[] =>
      readdirSync(room).filter((name) => name.startsWith('selftest-') && existsSync(join(room, name, 'state')))
    await until('it has a directory of its own', () => left().length > 0)
    killed.kill('SIGKILL')
    await new Promise((resolve) => killed.once('exit', resolve))
    // Its last upcalls outlive it, and write there.
    await until('its upcalls have ended', () => processesWith(s.stateDir).length === 0)
    assert.match((await s.call(['verify'])).stdout, /note: leftover .*selftest-.* of a selftest\n/)
    const [name = ''] = left()
    const alive = join(room, 'selftest-alive1')
    mkdirSync(alive)
    symlinkSync(
      readlinkSync(join(room, name, 'holder')).replace(
        /^[0-9]+\.[0-9]+/,
        `${process.pid}.${
          readFileSync('/proc/self/stat', 'latin1')
            .replace(/^.*\) /s, '')
            .split(' ')[19] ?? ''
        }`,
      ),
      join(alive, 'holder'),
    )
    assert.equal((await s.call(['selftest', '--clients', '1'])).status, done)
    assert.deepEqual(
      readdirSync(room).filter((entry) => entry.startsWith('selftest-')),
      ['selftest-alive1'],
    )
    removeSync(alive)
    assert.equal(s.snapshot(), before)
  })

  it('tells people how many clients can come back in time', async () => {
    const s = server(artefact)
    mkdirSync(s.stateDir)
    const { stdout } = await s.call(['selftest', '--clients', '3'])
    assert.match(stdout, /Within 90 s of grace this server can recover about [0-9]+ clients with sessions/)
    assert.deepEqual(readdirSync(s.stateDir), [])
  })

  it('refuses words that it does not know, and a state directory that it can not use', async () => {
    const s = server(artefact)
    for (const words of [['--frob'], ['--clients', '0'], ['--clients', 'x'], ['--clients', '1.5'], ['surplus']]) {
      const { status, stderr } = await s.call(['selftest', ...words])
      assert.equal(status, badArgument, words.join(' '))
      assert.equal(stderr.split('\n').length, 2, stderr)
    }
    const { status, stderr } = await s.call(['selftest', '--clients', '1'])
    assert.equal(status, storageFailed)
    assert.match(stderr, /: error: state directory '[^']*' is missing: is its disk mounted\?\n$/)
    assert.equal(existsSync(s.stateDir), false, 'what it would measure is another disk')
    writeFileSync(s.stateDir, '')
    assert.equal((await s.call(['selftest', '--clients', '1'])).status, storageFailed)
  })
})
