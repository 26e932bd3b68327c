/**
 * The executable's host in C, under AddressSanitizer and UndefinedBehaviorSanitizer: `npm run test:host`. What is
 * promised of the calls is also tested for Node's way, because the two must do the same.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { removeSync } from 'fs-extra/esm'
import { nodeCalls } from '../../lib/syscalls/node.ts'
import { root } from '../support/artefacts.ts'
import { promises } from './calls.ts'

const room = mkdtempSync(join(tmpdir(), 'nfsd-userland-helper-host-'))
after(() => {
  removeSync(room)
})

interface Ended {
  readonly status: number | string | null
  readonly stdout: string
  readonly stderr: string
}

const built = new Map<string, string>()

/** An executable with the host and another script: its text, or the path of a TypeScript file. */
function program(script: string): string {
  const known = built.get(script)
  if (known !== undefined) return known
  const into = join(room, `program-${built.size}`)
  const file = script.endsWith('.ts') ? script : `${into}.js`
  if (file !== script) writeFileSync(file, script)
  execFileSync(
    process.execPath,
    ['--import', 'tsx', join(root, 'lib/build/main.ts'), `--script=${file}`, `--into=${into}`, '--sanitized'],
    { cwd: root, stdio: ['ignore', 'ignore', 'pipe'] },
  )
  built.set(script, into)
  return into
}

/** Longer than anything takes that .ci/run starts with the lowest priority beside the laboratory's guests. */
const patienceMs = 900_000

/** Words and variables may have any bytes, so they are given in the shell's form `$'…'`. */
function run(script: string, words = '', { variables = '', redirections = '' } = {}): Ended {
  const { status, signal, stdout, stderr } = spawnSync(
    '/bin/bash',
    ['-c', `exec env -i ASAN_OPTIONS=detect_leaks=0 ${variables} ${program(script)} ${words} ${redirections}`],
    { encoding: 'latin1', maxBuffer: 1 << 26, timeout: patienceMs, killSignal: 'SIGKILL' },
  )
  return { status: status ?? signal, stdout, stderr }
}

const print =
  'const say = (text) => { const bytes = new Uint8Array(text.length); for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i); host.calls.write(1, bytes) };'

describe("the host's table of calls", () => {
  let found: readonly string[] = []
  before(() => {
    const { status, stdout, stderr } = run(join(root, 'tests/host/program.ts'), room)
    assert.deepEqual([status, stderr], [42, ''])
    found = stdout.trim().split('\n')
  })
  for (const { sentence } of promises(nodeCalls(), '/nowhere', 'host'))
    it(sentence, () => {
      assert.deepEqual(
        found.filter((line) => line.includes(sentence)),
        [`ok ${sentence}`],
      )
    })
})

describe("Node's way of calling", () => {
  const ofNode = mkdtempSync(join(tmpdir(), 'nfsd-userland-helper-node-'))
  after(() => {
    removeSync(ofNode)
  })
  for (const { sentence, hold } of promises(nodeCalls(), ofNode, 'Node')) it(sentence, hold)
})

describe("the host's malloc(3)", () => {
  it('gives blocks that are aligned, do not overlap and keep their contents, and refuses impossible sizes', () => {
    const test = join(room, 'memory')
    const flags = [
      '-O1',
      '-g',
      '-Wall',
      '-Wextra',
      '-Werror',
      '-fsanitize=address,undefined',
      '-fno-sanitize-recover=all',
    ]
    execFileSync('cc', [...flags, '-D_GNU_SOURCE', '-o', test, join(root, 'tests/host/memory.c')])
    const { status, stdout, stderr } = spawnSync(test, { encoding: 'utf8' })
    assert.deepEqual([status, stdout, stderr], [0, '', ''])
  })
})

describe('the host', () => {
  it('passes words and variables on as unchanged bytes', () => {
    const { status, stdout } = run(
      `${print} say(host.words.join('|') + '|' + host.environment['A'] + '|' + host.environment['\\xff'] + '|' + host.environment['__proto__'] + '|' + host.environment['none']); host.calls.exit(3)`,
      String.raw`'' $'\x01\x7f\x80\xbf\xc0\xff' plain $'\xc3\xa9'`,
      { variables: String.raw`A=$'\xe9=\xff' $'\xff=b' __proto__=c` },
    )
    assert.equal(stdout, '|\x01\x7f\x80\xbf\xc0\xff|plain|\xc3\xa9|\xe9=\xff|b|c|undefined')
    assert.equal(status, 3)
  })

  it('passes on as many words as the kernel does, each as long as it may be', () => {
    const { status, stdout } = run(
      `${print} say(host.words.map((word) => word.length).join()); host.calls.exit(3)`,
      `$(printf '%0131071d ' 0 0 0 0 0 0 0 0)`,
    )
    assert.deepEqual([status, stdout], [3, Array.from({ length: 8 }, () => '131071').join()])
  })

  for (const [what, script, status, line] of [
    [
      'an exception that leaves the program',
      "throw new Error('broken \\u{1f512}\\n\\x07')",
      135,
      /^nfsd-userland-helper: a bug: Error: broken \?+ /,
    ],
    ['something else that leaves it', 'throw 7', 135, /^nfsd-userland-helper: a bug: 7 /],
    [
      'a program that ends without a status',
      '1',
      135,
      /^nfsd-userland-helper: a bug: the program ended without a status/,
    ],
    ['a recursion without end', 'const f = () => 1 + f(); f()', 135, /stack/],
    ['a hunger without end', 'const a = []; for (;;) a.push(new Uint8Array(1 << 20))', 244, /out of memory/],
    ['a text without end', "let a = 'x'; for (;;) a += a", 135, /string too long/],
  ] as const)
    it(`${what}: one line, and a status that is not 0`, () => {
      const ended = run(script, '-f')
      assert.equal(ended.status, status)
      assert.match(ended.stderr, line)
      assert.match(ended.stderr, /^[ -~]+\n$/)
    })

  it('has no call that takes other values for a text or for bytes', () => {
    const { status, stderr } = run("host.calls.write(1, 'text')", '-f')
    assert.equal(status, 135)
    assert.match(stderr, /TypeError/)
  })

  it('reports its own failures to stderr if the words ask for it, in any spelling', () => {
    for (const words of ['-f', '--foreground', '-df', '-d -f', '-s x -fd'])
      assert.match(run("throw 'up'", words).stderr, /^nfsd-userland-helper: a bug: up/, words)
  })

  it('opens no file as a standard descriptor, so that no line goes into a file', () => {
    const script = `${print} const { calls } = host; const opened = calls.openat(-100, host.words[0], 1 | 64, 0o600); say('lost'); calls.write(2, new Uint8Array([65])); calls.exit(opened)`
    for (const [redirections, descriptor] of [
      ['0<&- 1>&- 2>&-', 4],
      ['2>&-', 4],
      ['0<&-', 4],
      ['', 4],
    ] as const) {
      const file = join(room, `not-written-${redirections.length}`)
      assert.equal(run(script, file, { redirections }).status, descriptor, redirections)
      assert.equal(execFileSync('/bin/cat', [file], { encoding: 'utf8' }), '', redirections)
    }
  })

  it('executes another program with given words, and returns an error if it can not', () => {
    assert.equal(run("host.calls.exit(-host.handOn('/no such program', 'script', 'name'))").status, 2)
    const { stdout } = run(
      "host.handOn('/bin/sh', '/proc/self/fd/0', 'our name'); host.calls.exit(1)",
      String.raw`a $'\xff' 'b c'`,
      { redirections: `<<< 'printf "%s|" "$@"; tr "\\0" "|" < /proc/$$/cmdline'` },
    )
    assert.equal(stdout, 'a|\xff|b c|our name|/proc/self/fd/0|a|\xff|b c|')
  })

  it('knows the version of its engine', () => {
    assert.match(run(`${print} say(host.engine); host.calls.exit(0)`).stdout, /^\d+\.\d+\.\d+/)
  })
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
    it(`gets ${signal} if it asks for it, and goes on`, async () => {
      const started = spawn(
        program(`${print} const { calls } = host
          const signals = calls.endSignals()
          say('waits')
          const found = calls.poll([signals], [1], -1)
          const into = new Uint8Array(1000)
          calls.exit(found[0] === 1 && calls.read(signals, into) === 128 && calls.read(signals, into) === -11 ? 3 : 4)`),
        [],
        { env: { ASAN_OPTIONS: 'detect_leaks=0' }, stdio: ['ignore', 'pipe', 'inherit'] },
      )
      await line(started, 'waits')
      started.kill(signal)
      assert.deepEqual(await once(started, 'exit'), [3, null])
    })

  for (const name of [join(room, 'socket'), `@nfsd-userland-helper-test-${process.pid}`])
    it(`sends a message for each write to ${name.startsWith('@') ? 'a name without a file' : 'a socket'}`, async () => {
      const receiver = join(room, 'datagrams')
      execFileSync('cc', ['-o', receiver, join(root, 'tests/host/datagrams.c')])
      const listening = spawn(receiver, [name], { stdio: ['ignore', 'pipe', 'inherit'] })
      try {
        await line(listening, 'listens')
        const heard = line(listening, 'READY=1\nSTATUS=serves')
        const { status } = run(
          `const { calls } = host
            const bytes = (text) => Uint8Array.from(text, (character) => character.charCodeAt(0))
            const socket = calls.connect(host.words[0])
            calls.exit(calls.write(socket, bytes('READY=1')) === 7 && calls.write(socket, bytes('STATUS=serves')) === 13 ? 3 : 4)`,
          name,
        )
        assert.equal(status, 3)
        await heard
      } finally {
        listening.kill()
      }
    })

  it('does not wait for a receiver of messages that does not read them', async () => {
    const receiver = join(room, 'datagrams')
    execFileSync('cc', ['-o', receiver, join(root, 'tests/host/datagrams.c')])
    const name = join(room, 'unread')
    const listening = spawn(receiver, [name], { stdio: ['ignore', 'pipe', 'inherit'] })
    try {
      await line(listening, 'listens')
      listening.kill('SIGSTOP')
      const { status } = run(
        `const { calls } = host
          const socket = calls.connect(host.words[0])
          calls.alarm(60)
          let answer = 0
          while ((answer = calls.write(socket, Uint8Array.of(65))) === 1);
          calls.exit(answer === -11 ? 3 : 4)`,
        name,
      )
      assert.equal(status, 3)
    } finally {
      listening.kill('SIGKILL')
    }
  })
})

/** Waits until a program has printed these lines. @throws if it ends before. */
async function line({ stdout }: ChildProcess, wanted: string): Promise<void> {
  let said = ''
  for await (const chunk of stdout?.iterator({ destroyOnReturn: false }) ?? []) {
    said += String(chunk)
    if (said.startsWith(wanted)) return
  }
  throw new Error(`it ended, and had said '${said}'`)
}
