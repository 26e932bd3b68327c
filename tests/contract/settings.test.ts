/** Options, the configuration file, and what people are told. */
import assert from 'node:assert/strict'
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { bundle, inForeground } from '../artefacts.ts'
import { badArgument, done, eachArtefact, server, type Server } from './server.ts'
import { traced } from './strace.ts'

eachArtefact('the configuration file', (artefact) => {
  const plain = (s: Server, words: readonly string[]) => inForeground(artefact, ['--config', join(s.nfsdDir, 'nfs.conf'), ...words], {})

  it('sets the state directory and the nfsd directory; its drop-ins come after it, the command line before', async () => {
    const s = server(artefact)
    const [main, dropIn] = [join(s.nfsdDir, 'main'), join(s.nfsdDir, 'drop-in')]
    writeFileSync(join(s.nfsdDir, 'nfs.conf'), `[nfsd]\nthreads=8\n[NFSD-Userland-Helper]\n# where\nState-Dir = ${main}\nnfsd-dir=${s.nfsdDir}\n`)
    assert.equal((await plain(s, ['init'])).status, done)
    assert.ok(existsSync(join(main, 'new_boot_time')))
    mkdirSync(join(s.nfsdDir, 'nfs.conf.d'))
    writeFileSync(join(s.nfsdDir, 'nfs.conf.d/10-state.conf'), `[nfsd-userland-helper]\nstate-dir="${dropIn}" # here\n`)
    assert.equal((await plain(s, ['init'])).status, done)
    assert.ok(existsSync(join(dropIn, 'new_boot_time')))
    for (const words of [['-s', s.stateDir], ['--state-dir', s.stateDir], [`--storagedir=${s.stateDir}`], [`-s${s.stateDir}`], ['-ds', s.stateDir]])
      assert.equal((await plain(s, [...words, 'init'])).status, done)
    assert.ok(existsSync(join(s.stateDir, 'new_boot_time')))
    writeFileSync(join(s.nfsdDir, 'v4_end_grace'), 'N\n')
    await plain(s, ['-s', join(s.nfsdDir, 'third'), 'init'])
    const { stderr } = await inForeground(artefact, ['--config', join(s.nfsdDir, 'nfs.conf'), '-s', join(s.nfsdDir, 'third'), 'create', '61'], { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' })
    assert.match(stderr, /asked the kernel to end grace \(asked\)/, 'the nfsd directory comes from the file')
  })

  it('with a key that can not be understood is complained of, and never fatal', async () => {
    const s = server(artefact)
    writeFileSync(join(s.nfsdDir, 'nfs.conf'), `[nfsd-userland-helper]\nstate-dir = relative\ndebug = maybe\ncolour = red\x1b[31m\n`)
    const { status, stderr } = await plain(s, ['-s', s.stateDir, 'init'])
    assert.equal(status, done)
    assert.match(stderr, /state-dir is not an absolute path: 'relative': ignored/)
    assert.match(stderr, /debug is neither yes nor no: 'maybe': ignored/)
    assert.match(stderr, /unknown key 'colour': ignored/)
    assert.doesNotMatch(stderr, /\x1b/)
  })

  it('that is missing is normal; one that is a directory is complained of', async () => {
    const s = server(artefact)
    assert.doesNotMatch((await plain(s, ['-s', s.stateDir, 'init'])).stderr, /warning/)
    mkdirSync(join(s.nfsdDir, 'nfs.conf'))
    const { status, stderr } = await plain(s, ['-s', s.stateDir, 'init'])
    assert.equal(status, done)
    assert.match(stderr, /warning: .*nfs\.conf': can't be read: EISDIR/)
  })

  it('can ask for more detail, as -d does', async () => {
    const s = server(artefact)
    await s.init()
    assert.match((await s.call(['-d', 'create', '61'])).stderr, /debug: a recorded in instance/)
    assert.doesNotMatch((await s.call(['create', '61'])).stderr, /debug/)
    writeFileSync(join(s.nfsdDir, 'nfs.conf'), '[nfsd-userland-helper]\ndebug=yes\n')
    assert.match((await plain(s, ['-s', s.stateDir, 'create', '61'])).stderr, /debug: /)
  })
})

eachArtefact('for people', (artefact) => {
  it('--help tells every verb, option and exit status', async () => {
    const s = server(artefact)
    for (const words of [['--help'], ['-h']]) {
      const { status, stdout } = await s.call(words)
      assert.equal(status, done)
      for (const word of ['init', 'start', 'create_client', 'create', 'expire_client', 'remove', 'check', 'grace_done', 'gracedone', '--state-dir', '--storagedir', '--foreground', '--debug', '--nfsd-dir', '--config', '255', '140', '234', '218', '151', '135', '243', '146'])
        assert.ok(stdout.includes(word), word)
    }
  })

  it('--version tells the version', async () => {
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

eachArtefact('an upcall', (artefact) => {
  it('loads nothing that it does not need: no file but its own, the configuration and the state', async () => {
    const s = server(artefact)
    await s.init()
    const { calls } = await traced(s, ['create', '61'])
    const opened = calls.map(({ text }) => /^open(?:at)?\((?:AT_FDCWD[^,]*, )?"([^"]+)"/.exec(text)?.[1]).filter((path) => path !== undefined)
    assert.deepEqual(opened.filter((path) => path.includes('node_modules') || path.endsWith('.json') || path.includes('/locales/')), [])
  })
})

describe('the bundle', () => {
  it('loads yargs for people, and not for an upcall', async () => {
    const s = server(bundle)
    const file = join(s.nfsdDir, 'alone.cjs')
    copyFileSync(bundle.command.at(-1) ?? '', file)
    writeFileSync(join(s.nfsdDir, 'people.cjs'), 'throw new Error("yargs was loaded")')
    assert.doesNotMatch(readFileSync(file, 'utf8'), /yargs/)
    const call = (words: readonly string[]) => inForeground({ ...bundle, command: [process.execPath, file] }, ['-s', s.stateDir, ...words], {})
    assert.equal((await call(['init'])).status, done)
    assert.equal((await call(['create', '61'])).status, done)
    assert.match((await call(['--help'])).stderr, /yargs was loaded/)
  })
})
