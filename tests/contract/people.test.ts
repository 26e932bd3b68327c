/**
 * The words that a person types have one meaning. A result that can't be written is a failure, with one line and its
 * status.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { settingsBy } from '../support/artefacts.ts'
import { badArgument, done, eachArtefact, server, storageFailed, type Server } from './server.ts'

eachArtefact('for people', (artefact) => {
  /** Through a shell, which can do to a process what a person can. */
  const shell = (
    s: Server,
    script: string,
    ...words: readonly string[]
  ): { status: number | null; stdout: string; stderr: string } =>
    spawnSync('sh', ['-c', script, 'sh', ...artefact.command, '-f', ...settingsBy('/dev/null', s.machine), ...words], {
      encoding: 'utf8',
      cwd: s.nfsdDir,
    })

  it('a result that can not be written is a failure', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    for (const words of [
      ['export'],
      ['list'],
      ['list', '--json'],
      ['status'],
      ['show', 'ada'],
      ['verify'],
      ['--help'],
      ['--version'],
      ['list', '--help'],
      ['completion', 'bash'],
    ]) {
      const { status, stderr } = shell(s, '"$@" >/dev/full', '-s', s.stateDir, ...words)
      assert.equal(status, storageFailed, words.join(' '))
      assert.equal(stderr, "nfsd-userland-helper: error: standard output can't be written: ENOSPC\n")
    }
  })

  it('remarks that can not be written stop nothing', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    const { status, stdout } = shell(
      s,
      '"$@" 2>/dev/full',
      '-s',
      s.stateDir,
      'import',
      '--dry-run',
      s.stateDir.replace('state', 'nowhere'),
    )
    assert.deepEqual([status, stdout], [badArgument, ''])
    assert.equal(shell(s, '"$@" 2>/dev/full', '-s', s.stateDir, 'list').status, done)
  })

  it('a working directory that has been removed makes no command fail, and no relative path lead elsewhere', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    mkdirSync(join(s.nfsdDir, 'gone'))
    const script = 'mkdir -p gone && cd gone && rmdir ../gone && exec "$@"'
    for (const words of [['list'], ['status'], ['verify'], ['check', '616461'], ['--help'], ['export']]) {
      const { status, stderr } = shell(s, script, '-s', s.stateDir, ...words)
      assert.equal(status, done, `${words.join(' ')}: ${stderr}`)
      assert.equal(stderr, '')
    }
    for (const words of [['init'], ['check', '616461'], ['list'], ['import', '--yes', s.stateDir]]) {
      const { status, stderr } = shell(s, script, '-s', 'relative', ...words)
      assert.equal(status, badArgument, `${words.join(' ')}: ${stderr}`)
      assert.match(
        stderr,
        /^nfsd-userland-helper: error: (?:[a-z]+: )?not an absolute path, and the working directory is not known: 'relative'\n$/,
      )
    }
    assert.ok(!existsSync('/relative'))
  })

  it("a short option's value is the next word: '=' would be ambiguous, and is refused", async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    for (const words of [
      [`-s=${s.stateDir}`, 'list'],
      ['list', `-s=${s.stateDir}`],
      [`-s=${s.stateDir}`, 'init'],
      ['export', '-o=clients.json'],
      ['-fs=x', 'init'],
    ]) {
      const { status, stderr } = await s.call(words)
      assert.equal(status, badArgument, words.join(' '))
      assert.match(stderr, /error: a short option takes its value without '=': '-/)
    }
  })

  it('an option after a command works as before a verb: the last one of a name counts, and none is without its value', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    const elsewhere = join(s.nfsdDir, 'elsewhere')
    for (const words of [
      ['list', '-s', elsewhere, '-s', s.stateDir],
      ['list', '--state-dir', elsewhere, '--storagedir', s.stateDir],
    ])
      assert.match((await s.call(words)).stdout, / "ada"\n$/, words.join(' '))
    assert.match((await s.call(['export', '--dry-run', '-o', elsewhere, '-o', elsewhere])).stdout, /^1 client /)
    for (const words of [
      ['list', '-s', ''],
      ['list', '-s'],
      ['list', '--state-dir='],
      ['list', '--state-dir.x=/'],
      ['list', '-s', s.stateDir, '-s', ''],
    ])
      assert.equal((await s.call(words)).status, badArgument, words.join(' '))
  })

  it('a wrong word after a command is one plain line, which names it escaped', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    for (const [words, says] of [
      [['list', '--fo\x1b[31m'], String.raw`unknown argument: 'fo\033[31m'; see --help`],
      [['list', 'a', 'b'], 'unknown arguments: a, b; see --help'],
      [['show'], '0 arguments given, at least 1 needed; see --help'],
      [['expire', '--yes'], '0 arguments given, at least 1 needed; see --help'],
      [['prune'], 'option --unseen is missing'],
      [['prune', '--unseen'], 'option --unseen needs a value'],
      [['prune', '--unseen', 'x\x1b'], String.raw`not a number of instances: 'x\033'`],
      [['prune', '--unseen', '0'], `not a number of instances: '0'`],
      [['selftest', '--clients', 'many'], `not a number of clients: 'many'`],
      [['export', '--to', 'x\n'], String.raw`wrong value for to: "x\n"; it takes "json", "nfsdcltrack", "nfsdcld"`],
      [['export', '--output', ''], 'option --output needs a value'],
      [['install', '--dry-run', '--root', ''], 'option --root needs a value'],
      [['install', '--dry-run', '--tracker'], 'option --tracker needs a value'],
      [['completion', 'fish'], `wrong value for SHELL: "fish"; it takes "bash", "zsh"`],
      [['list', '--current', '--waiting'], 'options --current and --waiting exclude each other'],
    ] as const) {
      const { status, stderr } = await s.call(words)
      assert.deepEqual([status, stderr], [badArgument, `nfsd-userland-helper: error: ${says}\n`], words.join(' '))
    }
  })
})
