/** What an upcall gives up before it reads the first byte that comes from the network. It can do its work without. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { buildExecutable } from '../../lib/build/executable.ts'
import { engineSources } from '../../lib/build/sources.ts'
import { crc32 } from '../../lib/bytes.ts'
import { artefacts, executable, root } from '../support/artefacts.ts'
import { traced } from '../support/strace.ts'
import { onItsOwnDisk } from './own-disk.ts'
import { done, hex, mayNotReclaim, server } from './server.ts'

const somebody = 65534
const session = { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' }

describe('an upcall of the executable', { skip: !artefacts().includes(executable) }, () => {
  it('has dropped its capabilities for good before it looks into the state directory', async () => {
    const s = server(executable)
    await s.init()
    for (const words of [
      ['create', hex('ada')],
      ['check', hex('ada')],
      ['remove', hex('ada')],
      ['grace_done'],
      ['init'],
    ]) {
      const { calls, status } = await traced(s, words, session)
      assert.equal(status, done)
      const texts = calls.map(({ text }) => text)
      const at = (call: RegExp): number => texts.findIndex((text) => call.test(text))
      const looks = at(/^openat\(.*v4clients"/)
      for (const call of [
        /^prctl\(PR_SET_NO_NEW_PRIVS, 1.* = 0$/,
        /^capset\(.*effective=0, permitted=0, inheritable=0\}\) += 0$/,
        /^seccomp\(SECCOMP_SET_MODE_FILTER.* = 0$/,
      ]) {
        assert.notEqual(at(call), -1, `${words[0] ?? ''}: ${String(call)}`)
        assert.ok(at(call) < looks, `${words[0] ?? ''}: ${String(call)}`)
      }
    }
  })

  it('works in a state directory of another user, with the one capability that this takes', async () => {
    const s = server(executable)
    mkdirSync(s.stateDir)
    chownSync(s.stateDir, somebody, somebody)
    chmodSync(s.stateDir, 0o755)
    assert.equal((await s.init()).stderr.includes('error'), false)
    const { calls } = await traced(s, ['create', hex('ada')], session)
    assert.ok(
      calls.some(({ text }) =>
        /^capset\(.*effective=1<<CAP_DAC_OVERRIDE, permitted=1<<CAP_DAC_OVERRIDE, inheritable=0\}\) += 0$/.test(text),
      ),
    )
    assert.equal((await s.graceDone()).status, done)
    assert.ok(existsSync(join(s.stateDir, 'boot_time')))
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, done)
    assert.equal((await s.check('eve', 'v4.1')).status, mayNotReclaim)
  })

  it('makes missing directories above the state directory', async () => {
    const s = server(executable)
    const deep = join(s.nfsdDir, 'a/b/c')
    assert.equal((await s.call(['-s', deep, 'init'])).status, done)
    assert.equal(statSync(join(deep, 'v4clients')).mode & 0o777, 0o700)
  })

  it('gives an attacker who takes it over nowhere else to write, and no program to run', () => {
    const s = server(executable)
    const [inside, outside] = [join(s.nfsdDir, 'inside'), join(s.nfsdDir, 'outside')]
    for (const directory of [inside, outside]) mkdirSync(directory)
    for (const file of [join(inside, 'file'), join(outside, 'file')]) writeFileSync(file, 'as it was')
    const pipes = join(s.nfsdDir, 'pipes')
    mkdirSync(pipes)
    writeFileSync(join(pipes, 'pipe'), '')
    const script = join(s.nfsdDir, 'script.js')
    const program = join(s.nfsdDir, 'program')
    const written = join(inside, 'answers')
    writeFileSync(
      script,
      `
      const { openat, write, writeAt, fdatasync, fchmod, flock, symlinkat, unlinkat, mkdirat, renameat, linkat, confine, poll, watch, endSignals, connect, exit, flags } = host.calls
      const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT } = flags
      const bytes = (text) => Uint8Array.from(text, (character) => character.charCodeAt(0))
      const answers = openat(-100, ${JSON.stringify(written)}, O_WRONLY | O_CREAT, 0o600)
      if (confine([${JSON.stringify(inside)}], [${JSON.stringify(pipes)}], []) < 0) exit(1)
      const say = (what, answer) => write(answers, bytes(what + ' ' + (answer < 0 ? answer : 'done') + '\\n'))
      for (const [name, at] of [['inside', ${JSON.stringify(inside)}], ['outside', ${JSON.stringify(outside)}]]) {
        say('read ' + name, openat(-100, at + '/file', O_RDONLY, 0))
        say('write ' + name, openat(-100, at + '/file', O_WRONLY, 0))
        say('create ' + name, openat(-100, at + '/new', O_WRONLY | O_CREAT, 0o600))
        say('link ' + name, symlinkat('x', -100, at + '/link'))
        say('directory ' + name, mkdirat(-100, at + '/directory', 0o700))
        say('remove ' + name, unlinkat(-100, at + '/file', 0))
      }
      for (const [what, mode] of [['mine', 0o600], ['for a group', 0o640], ['for all', 0o604], ['with rights', 0o4700]])
        say('a mode ' + what, fchmod(answers, mode))
      say('overwrite', writeAt(answers, 'r', 0))
      say('sync', fdatasync(answers))
      say('lock', flock(answers))
      say('move out', renameat(-100, ${JSON.stringify(join(inside, 'new'))}, -100, ${JSON.stringify(join(outside, 'new'))}))
      say('write a pipe', openat(-100, ${JSON.stringify(join(pipes, 'pipe'))}, O_RDWR, 0))
      say('create a pipe', openat(-100, ${JSON.stringify(join(pipes, 'new'))}, O_RDWR | O_CREAT, 0o600))
      const watched = watch(${JSON.stringify(pipes)})
      say('watch', watched)
      say('wait', poll([watched], [1], 0)[0])
      say('signals', endSignals())
      say('connect', connect('@nobody'))
      say('run', host.handOn('/bin/true', '-', 'true'))
      exit(0)
    `,
    )
    execFileSync(
      process.execPath,
      ['--import', 'tsx', join(root, 'lib/build/main.ts'), `--script=${script}`, `--into=${program}`],
      { cwd: root, stdio: 'pipe' },
    )
    execFileSync(program, [])
    assert.deepEqual(readFileSync(written, 'latin1').trim().split('\n'), [
      'read inside done',
      'write inside done',
      'create inside done',
      'link inside done',
      'directory inside done',
      'remove inside done',
      'read outside done',
      'write outside -13',
      'create outside -13',
      'link outside -13',
      'directory outside -13',
      'remove outside -13',
      'a mode mine done',
      'a mode for a group -1',
      'a mode for all -1',
      'a mode with rights -1',
      'overwrite done',
      'sync done',
      'lock done',
      'move out -13',
      'write a pipe done',
      'create a pipe -13',
      'watch done',
      'wait done',
      'signals -38',
      'connect -38',
      'run -38',
    ])
    assert.equal(readFileSync(join(outside, 'file'), 'latin1'), 'as it was')
  })

  it('can read the time also if only the kernel can read the clock', async () => {
    const program = await programThat(
      'host.calls.exit(host.calls.now() > 1.7e12 && host.calls.monotonic() > 0 ? 0 : 1)',
      [join(root, 'tests/support/kernel-clock.c'), '-Wl,--wrap=clock_gettime'],
    )
    execFileSync(program, [])
  })

  for (const [how, threads] of [
    ['a server', true],
    ['an upcall', false],
  ] as const)
    it(`${threads ? 'has' : 'can not have'} a second thread that reads a large directory ahead, if it is ${how}, and reads the same; ${threads ? 'it writes' : 'nor does it write'} many messages by one call`, async () => {
      const directory = join(server(executable).nfsdDir, 'many')
      mkdirSync(directory)
      for (let number = 0; number < 1000; number++)
        symlinkSync(`text,sum=${number % 2 === 0 ? crc32(`${number}text`) : 'none'}`, join(directory, String(number)))
      const program = await programThat(
        `const { calls } = host
        const descriptor = calls.openat(-100, host.words[0], calls.flags.O_DIRECTORY, 0)
        const found = new Set()
        for (;;) {
          const batch = calls.links(descriptor, 'text', ',sum=')
          if (batch === undefined) break
          if (typeof batch === 'number') calls.exit(1)
          for (const { name } of batch.others) found.add(name)
          for (const name of batch.plain) found.add('plain ' + name)
        }
        let all = found.size === 1000
        for (let at = 0; at < 1000; at++) all &&= found.has(at % 2 === 0 ? 'plain ' + at : String(at))
        const again = calls.openat(descriptor, '.', calls.flags.O_DIRECTORY, 0)
        let [written, left] = [0, 0]
        for (;;) {
          const batch = calls.writeLinks(again, 'text', ',sum=', -1, 1, new Uint8Array(12), 0, 10, ' ', 1e6)
          if (batch === undefined) break
          written += batch.written
          left += batch.plain.length
        }
        calls.exit(!all ? 4 : written === 500 && left === 0 ? 3 : written === 0 && left === 500 ? 5 : 6)`,
        [],
        threads ? "'waits'" : undefined,
      )
      const log = join(directory, '../calls')
      const { status } = spawnSync('/usr/bin/strace', ['-f', '-o', log, '-e', 'trace=clone,clone3', program, directory])
      assert.equal(status, threads ? 3 : 5)
      const made = /CLONE_THREAD.*\) = [0-9]+$/m.test(
        readFileSync(log, 'latin1').replace(/ <unfinished.*\n.*resumed>/g, ''),
      )
      assert.equal(made, threads)
    })

  it('knows where what is overwritten is in its place, if it is a server', async () => {
    const script = `const place = host.calls.openat(-100, host.words[0], host.calls.flags.O_DIRECTORY, 0)
      host.calls.exit(host.calls.isWrittenInPlace(place) ? 3 : 4)`
    const ofServer = await programThat(script, [], "'waits'")
    const ofUpcall = await programThat(script, [])
    const answers = (['ext4', 'xfs', 'btrfs'] as const).map((disk) => {
      const s = server(executable)
      onItsOwnDisk(s, disk)
      return [disk, spawnSync(ofServer, [s.stateDir]).status, spawnSync(ofUpcall, [s.stateDir]).status]
    })
    assert.deepEqual(answers, [
      ['ext4', 3, 4],
      ['xfs', 3, 4],
      ['btrfs', 4, 4],
    ])
  })

  // musl asks by the first, glibc by the second, and since 2.42 by the third.
  for (const question of ['TIOCGWINSZ', 'TCGETS', 'TCGETS2'])
    it(`can tell a terminal, if the C library asks by ${question}`, async () => {
      const program = await programThat('host.calls.exit(host.calls.isTerminal(1) ? 3 : 4)', [
        join(root, 'tests/support/terminal-question.c'),
        '-Wl,--wrap=isatty',
        `-DQUESTION=${question}`,
      ])
      const on = spawnSync('/usr/bin/script', ['-qec', program, '/dev/null'], { stdio: ['ignore', 'pipe', 'inherit'] })
      assert.deepEqual([on.status, spawnSync(program, []).status], [3, 4])
    })
})

/** An executable that runs another script, after it has given up its rights. */
async function programThat(script: string, more: readonly string[], waits = ''): Promise<string> {
  const program = join(server(executable).nfsdDir, 'program')
  const cache = join(root, '.cache/engine')
  await buildExecutable({
    pieces: [`() => { host.calls.confine([], [], [], ${waits}); ${script} }`],
    sources: engineSources(cache, () => undefined),
    cache,
    into: program,
    legible: false,
    sanitized: false,
    more,
    progress: () => undefined,
  })
  return program
}
