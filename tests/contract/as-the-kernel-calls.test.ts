/** As the kernel calls: no descriptors, no environment but its own variables, `/` to work in, any umask. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { asKernel, settings, type Environment } from '../artefacts.ts'
import { done, eachArtefact, hex, mayNotReclaim, server, tree, unknownVerb, type Server } from './server.ts'
import { traced } from './strace.ts'

const machineOf = (s: Server) => ({ dir: join(s.stateDir, '..'), stateDir: s.stateDir, nfsdDir: s.nfsdDir })

eachArtefact('without descriptors and environment', (artefact) => {
  it('the whole life of a server goes well, and nothing lands in a state file that is not state', async () => {
    const s = server(artefact)
    const call = async (words: readonly string[], env?: Environment) => (await asKernel(artefact, [...settings(machineOf(s)), ...words], env ?? {})).status
    const session = { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y', NFSDCLTRACK_GRACE_START: '1795328616' }
    assert.equal(await call(['init'], { NFSDCLTRACK_GRACE_START: '1795328616' }), done)
    assert.equal(await call(['create', hex('ada')], session), done)
    assert.equal(await call(['create', 'zz'], session), 234, 'a complaint that must not be written anywhere but to the log')
    assert.equal(await call(['gracedone', '1795328616'], { NFSDCLTRACK_LEGACY_TOPDIR: '/nowhere' }), done)
    assert.equal(await call(['init']), done)
    assert.equal(await call(['check', hex('ada')]), done)
    assert.equal(await call(['check', hex('eve')]), mayNotReclaim)
    assert.equal(await call(['remove', hex('ada')]), done)
    assert.equal(await call(['frobnicate']), unknownVerb)
    for (const line of tree(s.stateDir))
      assert.match(line, /^(?:\/\w*boot_time 600 "[0-9]+\\n"|\/v4clients 700|\/v4clients\/[0-9]+ 700|\/v4clients\/[0-9]+\.\w+ -> (?:-|[0-9]+)|\/v4clients\/[0-9]+\/ada -> session=.*)$/)
  })

  it('files are 0600 and directories 0700, whatever the umask', async () => {
    for (const umask of ['0000', '0777', '0022']) {
      const s = server(artefact)
      for (const words of [['init'], ['create', hex('ada')], ['gracedone', '1'], ['init']]) {
        const status = await new Promise((resolve) => {
          const script = `umask ${umask}; exec "$@" 0<&- 1>&- 2>&-`
          spawn('/bin/sh', ['-c', script, 'sh', ...artefact.command, ...settings(machineOf(s)), ...words], { cwd: '/', env: {} }).once('exit', resolve)
        })
        assert.equal(status, done, `umask ${umask} ${words[0] ?? ''}`)
      }
      const modes = tree(s.stateDir).filter((line) => !line.includes(' -> '))
      for (const line of modes) assert.match(line, / (?:600 "|700$)/, `umask ${umask}`)
    }
  })

  it('a .env or a bunfig.toml where it is called plays no part', async () => {
    const s = server(artefact)
    writeFileSync(join(s.nfsdDir, '.env'), 'NFSDCLTRACK_GRACE_START=77\n')
    writeFileSync(join(s.nfsdDir, 'bunfig.toml'), 'preload = ["./evil.js"]\n')
    writeFileSync(join(s.nfsdDir, 'evil.js'), `require('fs').writeFileSync('${join(s.nfsdDir, 'ran')}', '')`)
    const [program, ...rest] = [...artefact.command, ...settings(machineOf(s)), 'init']
    const status = await new Promise((resolve) => spawn(program, rest, { cwd: s.nfsdDir, env: {} }).once('exit', resolve))
    assert.equal(status, done)
    assert.ok(!existsSync(join(s.nfsdDir, 'ran')))
    assert.ok(!readdirSync(join(s.stateDir, 'v4clients')).some((name) => name.endsWith('.grace_start')))
  })

  it('it speaks to the kernel log, one line a write with its priority, and to stderr only where there is none', async () => {
    const s = server(artefact)
    const machine = machineOf(s)
    const { calls } = await traced({ ...s, artefact: { ...artefact, command: artefact.command } }, ['create', 'zz'])
    assert.ok(calls.some(({ text }) => text.includes('client id is not hexadecimal')))
    const status = (await asKernel(artefact, [...settings(machine), 'create', 'zz'], {})).status
    assert.equal(status, 234)
  })
})

eachArtefact('the legacy tracker of the kernel', (artefact) => {
  const name = '3a7fa264b46821594e7ddb323157823b'

  function withLegacy(s: Server, ...names: readonly string[]): string {
    const top = join(s.nfsdDir, 'v4recovery')
    for (const each of names) s.writeState(`../nfsd/v4recovery/${each}/x`, '')
    for (const each of names) rmSync(join(top, each, 'x'))
    return top
  }

  it('a check that finds no record takes the directory over, and removes it', async () => {
    for (const version of ['v4.0', 'v4.1'] as const) {
      const s = server(artefact)
      const top = withLegacy(s, name)
      await s.init()
      assert.equal((await s.check('ada', version, join(top, name))).status, done)
      assert.ok(!existsSync(join(top, name)))
      assert.equal((await s.check('ada', version, join(top, name))).status, done, 'now it is recorded')
      await s.graceDone()
      await s.init()
      assert.equal((await s.check('ada', version)).status, done)
    }
  })

  it('only a path of the shape <dir>/<32 hex digits> is one, and only a directory', async () => {
    const s = server(artefact)
    const top = withLegacy(s, name, 'etc', name.toUpperCase(), `${name}0`)
    writeFileSync(join(top, '0'.repeat(32)), '')
    await s.init()
    const before = tree(top)
    for (const path of [join(top, 'etc'), join(top, name.toUpperCase()), join(top, `${name}0`), join(top, '0'.repeat(32)), `${top}/../v4recovery/${name}`, `v4recovery/${name}`, `${top}/${name}/`, ''])
      assert.equal((await s.check('ada', 'v4.1', path)).status, mayNotReclaim, path)
    assert.deepEqual(tree(top), before)
  })

  it('a directory that does not go would allow a reclaim later, so its client is refused now', async () => {
    const s = server(artefact)
    const top = withLegacy(s, name)
    writeFileSync(join(top, name, 'stuck'), '')
    await s.init()
    const said = await s.check('ada', 'v4.1', join(top, name))
    assert.equal(said.status, mayNotReclaim)
    assert.match(said.stderr, /does not go: it is not empty/)
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
  })

  it('gracedone removes every such directory, and nothing else', async () => {
    const s = server(artefact)
    const top = withLegacy(s, name, 'etc', '0'.repeat(31))
    writeFileSync(join(top, 'file'), '')
    await s.init('5')
    assert.equal((await s.graceDone('6', top)).status, 140)
    assert.ok(existsSync(join(top, name)), 'not for the grace end of another instance')
    assert.equal((await s.graceDone('5', top)).status, done)
    assert.deepEqual(readdirSync(top).sort(), ['0'.repeat(31), 'etc', 'file'])
  })

  it('gracedone fails loudly if one is left', async () => {
    const s = server(artefact)
    const top = withLegacy(s, name)
    writeFileSync(join(top, name, 'stuck'), '')
    await s.init()
    const said = await s.graceDone('5', top)
    assert.equal(said.status, 135)
    assert.match(said.stderr, /critical: 1 entries of .* could not be removed/)
  })

  it('while it may hold clients that are not in our records, nobody asks for an early end of grace', async () => {
    const s = server(artefact)
    s.writeState(`v4recovery/${name}/x`, '')
    s.kernelGrace('N\n')
    await s.init()
    await s.create('new', 'v4.1')
    assert.equal(s.kernelWasAskedToEndGrace(), false)
  })

  it('is not asked where it is: a start holds what that answer waits for', async () => {
    const s = server(artefact)
    s.kernelGrace('N\n')
    for (const words of [['init'], ['create', hex('ada')], ['check', hex('ada')], ['remove', hex('ada')], ['gracedone', '1']]) {
      const { calls } = await traced(s, words, { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' })
      const asked = new Set(calls.map(({ text }) => /"[^"]*\/nfsd\/([^"/]+)"/.exec(text)?.[1]).filter((file) => file !== undefined))
      asked.delete(words[0] === 'init' ? 'allow_client' : 'v4_end_grace')
      assert.deepEqual([...asked], [], words[0])
    }
  })
})

eachArtefact('a server instance that could not be recorded', (artefact) => {
  /** Its mark, in /run since the state directory is what fails; taken away when the test is over. */
  const markOf = (s: Server): string => {
    const mark = join('/run/nfsd-userland-helper', encodeURIComponent(s.stateDir))
    s.atEnd(() => { rmSync(mark, { force: true }) })
    return mark
  }
  const fail = (s: Server) => traced(s, ['init'], {}, ['-e', 'inject=fsync:error=EIO:when=1'])
  const since = (mark: string, seconds: number): void => {
    rmSync(mark)
    symlinkSync(String(Number.parseFloat(readFileSync('/proc/uptime', 'latin1')) - seconds), mark)
  }

  it('may have granted locks, so nobody may reclaim in the next', async () => {
    const s = server(artefact)
    const mark = markOf(s)
    await s.fullInstanceWith('ada')
    assert.equal((await fail(s)).status, 243)
    since(mark, 11)
    const said = await s.init()
    assert.equal(said.status, done)
    assert.match(said.stderr, /error: a server instance ran that could not be recorded/)
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
    await s.create('bob', 'v4.1')
    await s.graceDone()
    await s.init()
    assert.equal((await s.check('bob', 'v4.1')).status, done, 'and the one after is sound')
  })

  it('shorter than any grace period has granted none, and costs nobody anything', async () => {
    const s = server(artefact)
    const mark = markOf(s)
    await s.fullInstanceWith('ada')
    await fail(s)
    assert.equal((await s.init()).status, done)
    assert.equal((await s.check('ada', 'v4.1')).status, done)
    assert.throws(() => readlinkSync(mark), { code: 'ENOENT' }, 'nor does it later: a start that was recorded settles it')
  })

  it('is not forgotten for another one that could not be recorded either', async () => {
    const s = server(artefact)
    const mark = markOf(s)
    await s.fullInstanceWith('ada')
    await fail(s)
    since(mark, 11)
    await fail(s)
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
  })
})
