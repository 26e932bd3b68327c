/** Options, the configuration file, and what people are told. */
import assert from 'node:assert/strict'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { removeSync } from 'fs-extra/esm'
import { bundle, inForeground, settings, settingsBy, type Environment } from '../support/artefacts.ts'
import { traced } from '../support/strace.ts'
import {
  badArgument,
  done,
  eachArtefact,
  hex,
  mayNotReclaim,
  server,
  storageFailed,
  tree,
  unusableAtStart,
  type Server,
} from './server.ts'

eachArtefact('the configuration file', (artefact) => {
  /** The configuration may also set where nfsd's file system is. */
  const plain = (s: Server, words: readonly string[], env: Environment = {}) =>
    inForeground(artefact, ['--config', join(s.nfsdDir, 'nfs.conf'), '--run-dir', s.runDir, ...words], env)

  it('sets the state directory and the nfsd directory; its drop-ins override it, and the command line overrides both', async () => {
    const s = server(artefact)
    const [main, dropIn] = [join(s.nfsdDir, 'main'), join(s.nfsdDir, 'drop-in')]
    writeFileSync(
      join(s.nfsdDir, 'nfs.conf'),
      `[nfsd]\nthreads=8\n[NFSD-Userland-Helper]\n# where\nState-Dir = ${main}\nnfsd-dir=${s.nfsdDir}\n`,
    )
    assert.equal((await plain(s, ['init'])).status, done)
    assert.ok(existsSync(join(main, 'new_boot_time')))
    mkdirSync(join(s.nfsdDir, 'nfs.conf.d'))
    writeFileSync(join(s.nfsdDir, 'nfs.conf.d/10-state.conf'), `[nfsd-userland-helper]\nstate-dir="${dropIn}" # here\n`)
    assert.equal((await plain(s, ['init'])).status, done)
    assert.ok(existsSync(join(dropIn, 'new_boot_time')))
    for (const words of [
      ['-s', s.stateDir],
      ['--state-dir', s.stateDir],
      [`--storagedir=${s.stateDir}`],
      [`-s${s.stateDir}`],
      ['-ds', s.stateDir],
    ])
      assert.equal((await plain(s, [...words, 'init'])).status, done)
    assert.ok(existsSync(join(s.stateDir, 'new_boot_time')))
    writeFileSync(join(s.nfsdDir, 'v4_end_grace'), 'N\n')
    await plain(s, ['-s', join(s.nfsdDir, 'third'), 'init'])
    const { stderr } = await plain(s, ['-s', join(s.nfsdDir, 'third'), 'create', '61'], {
      NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y',
    })
    assert.match(stderr, /the kernel is asked to end grace/, 'the nfsd directory comes from the file')
  })

  it('with a key that can not be understood gets a complaint, and is used unless the key sets a directory', async () => {
    const s = server(artefact)
    writeFileSync(
      join(s.nfsdDir, 'nfs.conf'),
      `[nfsd-userland-helper]\ndebug = maybe\ncolour = red\x1b[31m\nnonsense\n[nfsd-userland-helper\n`,
    )
    const { status, stderr } = await plain(s, ['-s', s.stateDir, 'init'])
    assert.equal(status, done)
    assert.match(stderr, /debug is neither yes nor no: 'maybe': ignored/)
    assert.match(stderr, /unknown key 'colour': ignored/)
    assert.match(stderr, /not an assignment: 'nonsense': ignored/)
    assert.match(stderr, /in no section: '\[nfsd-userland-helper': ignored/)
    assert.doesNotMatch(stderr, /\x1b/)
  })

  const mib = 1 << 20
  const unusable: readonly (readonly [what: string, text: string, says: RegExp])[] = [
    [
      'may be cut off',
      '[nfsd-userland-helper]\nstate-dir = /srv/nf',
      /nfs\.conf' may be cut off: its last line, which sets state-dir, has no newline/,
    ],
    [
      'may be cut off in the name of a key',
      '[nfsd-userland-helper]\nstate-d',
      /nfs\.conf' may be cut off: its last line, 'state-d', has no newline/,
    ],
    [
      'may be cut off in the name of a section',
      '[general]\nx = y\n[nfsd-userl',
      /nfs\.conf' may be cut off: its last line, which begins a section, has no newline/,
    ],
    ['holds a NUL', '[nfsd]\n\0\n', /nfs\.conf' is damaged: it contains a NUL byte/],
    ['is longer than 1 MiB', '#'.repeat(mib) + '\n', /nfs\.conf' is longer than 1 MiB/],
    [
      'has a state directory that is no UTF-8',
      '[nfsd-userland-helper]\nstate-dir = /srv/\xff\n',
      /nfs\.conf' has a state-dir that is not UTF-8/,
    ],
    [
      'has a state directory that is no absolute path',
      '[nfsd-userland-helper]\nstate-dir = relative\n',
      /nfs\.conf' has a state-dir that is not an absolute path: 'relative'/,
    ],
    [
      'has a state directory without the other quote',
      '[nfsd-userland-helper]\nstate-dir = "/srv\n',
      /nfs\.conf' has a state-dir that is not an absolute path: '"\/srv'/,
    ],
    [
      'has an nfsd directory that is no absolute path',
      '[nfsd-userland-helper]\nnfsd-dir =\n',
      /nfs\.conf' has a nfsd-dir that is not an absolute path: ''/,
    ],
    [
      'includes what is not there',
      '[nfsd]\ninclude = missing.conf\n',
      /missing\.conf' does not exist, and is included by/,
    ],
    ['includes itself', '[nfsd]\ninclude = nfs.conf\n', /nfs\.conf' is included too deep/],
  ]
  for (const [what, text, says] of unusable)
    it(`that ${what} fails the upcall in one line, and nothing is recorded anywhere`, async () => {
      const s = server(artefact)
      writeFileSync(join(s.nfsdDir, 'nfs.conf'), text, 'latin1')
      const before = tree(s.nfsdDir)
      for (const [words, status] of [
        [['init'], unusableAtStart],
        [['start'], unusableAtStart],
        [['create', '61'], storageFailed],
        [['check', '61'], storageFailed],
        [['remove', '61'], storageFailed],
        [['grace_done'], storageFailed],
      ] as const) {
        const said = await plain(s, words)
        assert.equal(said.status, status, words[0])
        assert.match(said.stderr, says)
        assert.equal(said.stderr.split('\n').length, 2, said.stderr)
      }
      assert.deepEqual(tree(s.nfsdDir), before)
      assert.equal(s.snapshot(), '(missing)')
    })

  it('that can not be read at a start leaves the server without a tracker, so nobody may reclaim after the next', async () => {
    const s = server(artefact)
    const config = join(s.nfsdDir, 'nfs.conf')
    const upcall = (...words: readonly string[]) =>
      inForeground(artefact, [...settingsBy(config, s.machine), ...words], {
        NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y',
      })
    const good = `[nfsd-userland-helper]\nstate-dir = ${s.stateDir}\n`
    writeFileSync(config, good)
    for (const words of [['init'], ['create', hex('ada')], ['grace_done']])
      assert.equal((await upcall(...words)).status, done)
    writeFileSync(config, '\0')
    assert.equal((await upcall('init')).status, unusableAtStart)
    writeFileSync(config, good)
    assert.equal((await upcall('init')).status, done)
    assert.equal((await upcall('check', hex('ada'))).status, mayNotReclaim)
    await upcall('grace_done')
    assert.equal((await upcall('init')).status, done)
    assert.equal((await upcall('create', hex('ada'))).status, done, 'once')
    writeFileSync(config, '\0')
    removeSync(s.runDir)
    writeFileSync(s.runDir, '')
    assert.match((await upcall('init')).stderr, /critical: .* nor can that be noted/)
  })

  it('that can not be read from the disk fails the upcall, be it the file, a drop-in, or their directory', async () => {
    const s = server(artefact)
    const config = join(s.nfsdDir, 'nfs.conf')
    const dropIn = join(`${config}.d`, '10.conf')
    writeFileSync(config, '[nfsd]\n')
    mkdirSync(`${config}.d`)
    writeFileSync(dropIn, '[nfsd]\n')
    for (const path of [config, dropIn, `${config}.d`])
      for (const injection of [
        '/^open:error=EIO',
        '/^open:error=EACCES',
        ...(path === `${config}.d` ? ['getdents64:error=EIO'] : ['read:error=EIO']),
      ]) {
        const said = await traced(s, ['--config', config, 'create', '61'], {}, [
          '-P',
          path,
          '-e',
          `inject=${injection}`,
        ])
        assert.equal(said.status, storageFailed, injection)
        assert.ok(said.stderr.includes(`configuration '${path}' can't be read: E`), said.stderr)
        assert.equal(said.stderr.split('\n').length, 2, said.stderr)
      }
    assert.equal(s.snapshot(), '(missing)')
  })

  it('may be missing, unless the command line names it; a directory is refused', async () => {
    const s = server(artefact)
    const named = await plain(s, ['-s', s.stateDir, 'init'])
    assert.equal(named.status, unusableAtStart)
    assert.match(named.stderr, /nfs\.conf' does not exist/)
    const other = server(artefact)
    const usual = await inForeground(
      artefact,
      ['-s', other.stateDir, '--nfsd-dir', other.nfsdDir, '--run-dir', other.runDir, 'init'],
      {},
    )
    assert.equal(usual.status, done)
    assert.doesNotMatch(usual.stderr, /warning|error/)
    mkdirSync(join(s.nfsdDir, 'nfs.conf'))
    assert.match((await plain(s, ['-s', s.stateDir, 'init'])).stderr, /error: .*nfs\.conf' is a directory/)
  })

  it('includes others, relative to its own directory, at the place of the include; subsections are ignored', async () => {
    const s = server(artefact)
    const at = (name: string): string => join(s.nfsdDir, name)
    const write = (name: string, ...lines: readonly string[]): void => {
      writeFileSync(at(name), lines.join('\n') + '\n')
    }
    mkdirSync(at('nfs.conf.d'))
    mkdirSync(at('nfs.conf.d/40-a-directory.conf'))
    write(
      'nfs.conf',
      '[nfsd-userland-helper]',
      `state-dir = ${at('one')}`,
      'include = more.conf',
      'include=-no such file',
      '[nfsd-userland-helper "x"]',
      `state-dir = ${at('sub')}`,
    )
    write('more.conf', `state-dir = ${at('two')}`)
    write('nfs.conf.d/9.conf', '[mountd]', 'include = included')
    write('nfs.conf.d/included', 'debug = yes', '[nfsd-userland-helper]', `state-dir = ${at('three')}`)
    assert.equal((await plain(s, ['init'])).status, done)
    assert.ok(existsSync(at('three/v4clients')))
    // As in versionsort(3), 10 comes after 9.
    write('nfs.conf.d/10.conf', '[nfsd-userland-helper]', `state-dir = ${at('four')}`)
    assert.equal((await plain(s, ['init'])).status, done)
    assert.deepEqual(
      ['one', 'two', 'sub', 'four'].map((name) => existsSync(at(name))),
      [false, false, false, true],
    )
    symlinkSync('nowhere', at('nfs.conf.d/20.conf'))
    const said = await plain(s, ['init'])
    assert.equal(said.status, unusableAtStart)
    assert.match(said.stderr, /20\.conf' is a link to a file that does not exist/)
  })

  it('can ask for more detail, as -d does', async () => {
    const s = server(artefact)
    await s.init()
    assert.match((await s.call(['-d', 'create', '61'])).stderr, /debug: "a" recorded in instance/)
    assert.doesNotMatch((await s.call(['create', '61'])).stderr, /debug/)
    writeFileSync(join(s.nfsdDir, 'nfs.conf'), '[nfsd-userland-helper]\ndebug=yes\n')
    assert.match((await plain(s, ['-s', s.stateDir, 'create', '61'])).stderr, /debug: /)
  })
})

eachArtefact('a configuration that changes under a running server', (artefact) => {
  const running = async () => {
    const s = server(artefact)
    const config = join(s.nfsdDir, 'nfs.conf')
    const configure = (text: string): void => {
      writeFileSync(config, text)
    }
    const upcall = (...words: readonly string[]) =>
      inForeground(artefact, [...settingsBy(config, s.machine), ...words], {
        NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y',
      })
    const first = join(s.nfsdDir, 'first')
    configure(of(first))
    assert.equal((await upcall('init')).status, done)
    return { s, config, configure, upcall, first }
  }
  const of = (directory: string): string => `[nfsd-userland-helper]\nstate-dir = ${directory}\n`

  it('sends no upcall to another directory before the next start, and each upcall says so', async () => {
    const { s, configure, upcall, first } = await running()
    const second = join(s.nfsdDir, 'second')
    for (const [text, says] of [
      [
        '',
        /is empty or missing now, and was not when the server started: the state directory would be '\/var\/lib\/nfs', but until the next start it is '.*first'/,
      ],
      [
        of(second),
        /has changed since the server started: the state directory would be '.*second', but until the next start it is '.*first'/,
      ],
    ] as const) {
      configure(text)
      const said = await upcall('create', hex('ada'))
      assert.equal(said.status, done)
      assert.match(said.stderr, /^nfsd-userland-helper: error: /)
      assert.match(said.stderr, says)
    }
    assert.ok(!existsSync(second))
    assert.equal((await upcall('grace_done')).status, done)
    assert.equal((await upcall('init')).status, done, 'the next start is in the second')
    assert.equal((await upcall('check', hex('ada'))).status, mayNotReclaim)
    configure(of(first))
    assert.equal((await upcall('init')).status, done)
    const { status, stderr } = await upcall('check', hex('ada'))
    assert.deepEqual({ status, stderr }, { status: done, stderr: '' })
  })

  it('is ignored if the command line names the directory', async () => {
    const { s, configure, upcall } = await running()
    configure('')
    assert.equal((await upcall('-s', s.stateDir, 'init')).status, done)
    const { status, stderr } = await upcall('-s', s.stateDir, 'create', hex('ada'))
    assert.deepEqual({ status, stderr }, { status: done, stderr: '' })
  })

  it('is not noticed if the start could not note its directory, which is logged; but no start begins if the note is about another directory', async () => {
    const { s, config, configure, upcall } = await running()
    const second = join(s.nfsdDir, 'second')
    configure(of(second))
    mkdirSync(join(s.runDir, `start-${encodeURIComponent(config)}.new`))
    const refused = await upcall('init')
    assert.equal(refused.status, unusableAtStart)
    assert.match(refused.stderr, /error: init: unlink .* failed: EISDIR/)
    assert.ok(!existsSync(second))
    assert.equal(
      readdirSync(s.runDir).filter((name) => !name.startsWith('start-')).length,
      1,
      'that the server runs without a tracker is noted',
    )
    removeSync(s.runDir)
    writeFileSync(s.runDir, '')
    const said = await upcall('init')
    assert.equal(said.status, done)
    assert.match(said.stderr, /error: the state directory of this start can't be noted/)
    // Nothing of the configuration: only that its own note has no place either.
    assert.match(
      (await upcall('create', hex('ada'))).stderr,
      /^[^\n]*: what this upcall begins can't be noted in [^\n]*\n$/,
    )
    assert.ok(existsSync(second))
  })
})

eachArtefact('for people', (artefact) => {
  it('--help lists every verb, option and exit status', async () => {
    const s = server(artefact)
    for (const words of [['--help'], ['-h']]) {
      const { status, stdout } = await s.call(words)
      assert.equal(status, done)
      for (const word of [
        'init',
        'start',
        'create_client',
        'create',
        'expire_client',
        'remove',
        'check',
        'grace_done',
        'gracedone',
        '--state-dir',
        '--storagedir',
        '--foreground',
        '--debug',
        '--nfsd-dir',
        '--config',
        '255',
        '140',
        '234',
        '218',
        '151',
        '135',
        '243',
        '146',
      ])
        assert.ok(stdout.includes(word), word)
    }
  })

  it('--version prints the version', async () => {
    const s = server(artefact)
    assert.match((await s.call(['--version'])).stdout, /^[0-9]+\.[0-9]+\.[0-9]+\n$/)
  })

  it('words that look like options reach a verb untouched', async () => {
    const s = server(artefact)
    await s.init()
    for (const word of ['-rf', '--help', '--', '__proto__', '0x10', '1e3', '-'])
      assert.equal((await s.call(['create_client', word])).status, done, word)
    assert.equal((await s.call(['--', 'create_client', '--version'])).status, done)
    assert.match(s.snapshot(), /\/0x10 /)
    assert.equal((await s.call(['init', '--help'])).status, badArgument)
  })
})

describe('the bundle', () => {
  it('loads yargs for people, and not for an upcall', async () => {
    const s = server(bundle)
    const file = join(s.nfsdDir, 'alone.cjs')
    copyFileSync(bundle.command.at(-1) ?? '', file)
    writeFileSync(join(s.nfsdDir, 'people.cjs'), 'throw new Error("yargs was loaded")')
    assert.doesNotMatch(readFileSync(file, 'utf8'), /yargs/)
    const call = (words: readonly string[]) =>
      inForeground({ ...bundle, command: [process.execPath, file] }, [...settings(s.machine), ...words], {})
    assert.equal((await call(['init'])).status, done)
    assert.equal((await call(['create', '61'])).status, done)
    assert.match((await call(['--help'])).stderr, /yargs was loaded/)
  })
})
