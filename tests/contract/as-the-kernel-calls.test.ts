/**
 * Upcalls as the kernel makes them: no descriptors, no environment except its own variables, `/` as working directory,
 * any umask.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { ensureDirSync, removeSync } from 'fs-extra/esm'
import { asKernel, inForeground, settings, settingsBy, type Environment } from '../support/artefacts.ts'
import { isCall, traced } from '../support/strace.ts'
import {
  badArgument,
  done,
  eachArtefact,
  hex,
  mayNotReclaim,
  otherInstance,
  server,
  storageFailed,
  tree,
  unknownVerb,
  unusableAtStart,
  type Server,
} from './server.ts'

eachArtefact('without descriptors and environment', (artefact) => {
  it('the whole life of a server succeeds, and no file of the state directory gets anything but state', async () => {
    const s = server(artefact)
    const call = async (words: readonly string[], env?: Environment) =>
      (await asKernel(artefact, [...settings(s.machine), ...words], env ?? {})).status
    const session = { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y', NFSDCLTRACK_GRACE_START: '1795328616' }
    assert.equal(await call(['init'], { NFSDCLTRACK_GRACE_START: '1795328616' }), done)
    assert.equal(await call(['create', hex('ada')], session), done)
    assert.equal(
      await call(['create', 'zz'], session),
      234,
      'a complaint that must not be written anywhere but to the log',
    )
    assert.equal(await call(['gracedone', '1795328616'], { NFSDCLTRACK_LEGACY_TOPDIR: '/nowhere' }), done)
    assert.equal(await call(['init']), done)
    assert.equal(await call(['check', hex('ada')]), done)
    assert.equal(await call(['check', hex('eve')]), mayNotReclaim)
    assert.equal(await call(['remove', hex('ada')]), done)
    assert.equal(await call(['frobnicate']), unknownVerb)
    for (const line of tree(s.stateDir))
      assert.match(
        line,
        /^(?:\/\w*boot_time 600 "[0-9]+\\n"|\/v4clients 700|\/v4clients\/format-2 -> -|\/v4clients\/[0-9]+ 700|\/v4clients\/[0-9]+\.\w+ -> (?:-|[0-9]+)|\/v4clients\/[0-9]+\/ada -> v2,session=.*)$/,
      )
  })

  it('files are 0600 and directories 0700, whatever the umask', async () => {
    for (const umask of ['0000', '0777', '0022']) {
      const s = server(artefact)
      for (const words of [['init'], ['create', hex('ada')], ['gracedone', '1'], ['init']]) {
        const status = await new Promise((resolve) => {
          const script = `umask ${umask}; exec "$@" 0<&- 1>&- 2>&-`
          spawn('/bin/sh', ['-c', script, 'sh', ...artefact.command, ...settings(s.machine), ...words], {
            cwd: '/',
            env: {},
          }).once('exit', resolve)
        })
        assert.equal(status, done, `umask ${umask} ${words[0] ?? ''}`)
      }
      const modes = tree(s.stateDir).filter((line) => !line.includes(' -> '))
      for (const line of modes) assert.match(line, / (?:600 "|700$)/, `umask ${umask}`)
    }
  })

  // What is written to the kernel's log: tests/unit/kernel/log.test.ts.
  it('an upcall fails with the right status, also without a log to write to', async () => {
    const s = server(artefact)
    const { calls } = await traced(s, ['create', 'zz'])
    assert.ok(calls.some(({ text }) => text.includes('client id is not hexadecimal')))
    const status = (await asKernel(artefact, [...settings(s.machine), 'create', 'zz'], {})).status
    assert.equal(status, 234)
  })
})

eachArtefact('the legacy tracker of the kernel', (artefact) => {
  const name = '3a7fa264b46821594e7ddb323157823b'

  const nameOfAda = createHash('md5').update('ada').digest('hex')

  const withLegacy = (s: Server, ...names: readonly string[]): string => withLegacyIn(s, s.nfsdDir, ...names)

  function withLegacyIn(_: Server, where: string, ...names: readonly string[]): string {
    const top = join(where, 'v4recovery')
    for (const each of names) ensureDirSync(join(top, each))
    return top
  }

  it('a client that only it knows may reclaim until grace is over, and has done so when it is recorded here', async () => {
    for (const version of ['v4.0', 'v4.1'] as const) {
      const s = server(artefact)
      const top = withLegacy(s, name)
      await s.init()
      assert.equal((await s.check('ada', version, join(top, name))).status, done)
      if (version === 'v4.1') await s.create('ada', version)
      assert.ok(existsSync(join(top, name)), 'its directory counts as long as older records do')
      await s.graceDone(undefined, top)
      assert.ok(!existsSync(join(top, name)))
      await s.init()
      assert.equal((await s.check('ada', version)).status, done)
    }
  })

  it('a client with sessions that it knows, and that never says that it has reclaimed, may not reclaim in the next grace (edge condition 2)', async () => {
    const s = server(artefact)
    const top = withLegacy(s, name)
    await s.init()
    const before = s.snapshot()
    assert.equal((await s.check('ada', 'v4.1', join(top, name))).status, done)
    assert.equal(s.snapshot(), before, 'a check with a session changes nothing')
    await s.graceDone('5', top)
    await s.init()
    assert.equal((await s.check('ada', 'v4.1', join(top, name))).status, mayNotReclaim)
  })

  it('a place that was named to the kernel with a slash at its end is cleared like any other (edge condition 2)', async () => {
    const s = server(artefact)
    const top = withLegacyIn(s, s.nfsdDir, name)
    await s.init()
    assert.equal((await s.check('ada', 'v4.1', `${top}//${name}`)).status, done)
    assert.equal((await s.graceDone('5', `${top}/`)).status, done)
    assert.ok(!existsSync(join(top, name)))
    await s.init()
    assert.equal((await s.check('ada', 'v4.1', `${top}//${name}`)).status, mayNotReclaim)
  })

  it('a client that it knows may reclaim again, if the first grace is interrupted', async () => {
    for (const version of ['v4.0', 'v4.1'] as const) {
      const s = server(artefact)
      const top = withLegacy(s, name)
      for (let start = 0; start < 3; start++) {
        await s.init()
        assert.equal((await s.check('ada', version, join(top, name))).status, done)
      }
    }
  })

  it('a client that it knows is removed from its records too, when the client is gone', async () => {
    for (const version of ['v4.0', 'v4.1'] as const) {
      const s = server(artefact)
      const top = withLegacyIn(s, s.stateDir, nameOfAda)
      await s.init()
      assert.equal((await s.check('ada', version, join(top, nameOfAda))).status, done)
      assert.equal((await s.remove('ada')).status, done)
      assert.ok(!existsSync(join(top, nameOfAda)))
      await s.init()
      assert.equal((await s.check('ada', version, join(top, nameOfAda))).status, mayNotReclaim)
    }
  })

  it('its directories mean nothing if other users could have made them', async () => {
    for (const meddle of [
      (top: string) => {
        chownSync(top, 12345, 12345)
      },
      (top: string) => {
        chmodSync(top, 0o777)
      },
      (top: string) => {
        renameSync(top, `${top}.real`)
        symlinkSync(`${top}.real`, top)
      },
    ]) {
      const s = server(artefact)
      const top = withLegacy(s, name)
      meddle(top)
      await s.init()
      assert.equal((await s.check('ada', 'v4.1', join(top, name))).status, mayNotReclaim)
    }
  })

  it('if an end of grace was killed before it had removed its directories, a later start does not go by them', async () => {
    const nexts = [
      ['a start', (s: Server) => s.init()],
      ['a create', (s: Server) => s.create('new', 'v4.1')],
    ] as const
    for (const [title, next, where] of nexts.flatMap(
      ([title, next]) =>
        [
          [title, next, (s: Server) => s.stateDir],
          [`${title}, elsewhere`, next, (s: Server) => s.nfsdDir],
        ] as const,
    )) {
      const s = server(artefact)
      const top = withLegacyIn(s, where(s), name)
      await s.init()
      await traced(s, ['grace_done'], { NFSDCLTRACK_LEGACY_TOPDIR: top }, ['-e', 'inject=fsync:signal=SIGKILL:when=2'])
      assert.ok(existsSync(join(top, name)), 'it was killed')
      assert.equal((await next(s)).status, done, title)
      assert.ok(!existsSync(join(top, name)), title)
    }
  })

  it('only a path of the shape <dir>/<32 hex digits> is one, and only a directory', async () => {
    const s = server(artefact)
    const top = withLegacy(s, name, 'etc', name.toUpperCase(), `${name}0`)
    writeFileSync(join(top, '0'.repeat(32)), '')
    await s.init()
    const before = tree(top)
    for (const path of [
      join(top, 'etc'),
      join(top, name.toUpperCase()),
      join(top, `${name}0`),
      join(top, '0'.repeat(32)),
      `${top}/../v4recovery/${name}`,
      `v4recovery/${name}`,
      `${top}/${name}/`,
      '',
    ])
      assert.equal((await s.check('ada', 'v4.1', path)).status, mayNotReclaim, path)
    assert.deepEqual(tree(top), before)
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
    assert.match(said.stderr, /critical: 1 entry of .* could not be removed/)
  })

  it('a client that only it has recorded is shown to people, who can remove it', async () => {
    const s = server(artefact)
    const other = '0'.repeat(32)
    const top = withLegacyIn(s, s.stateDir, nameOfAda, other)
    await s.init()
    const shown = await s.call(['show', 'ada', '--json'])
    assert.deepEqual(
      { ...(JSON.parse(shown.stdout) as object), instance: undefined },
      {
        owner: 'ada',
        owner_hex: '616461',
        may_reclaim: true,
        instance: undefined,
        ran_untracked: false,
        records: [],
        legacy: [join(top, nameOfAda)],
        live: null,
        live_silent: null,
      },
    )
    assert.match((await s.call(['list'])).stdout, new RegExp(`only the MD5 .*:\n${other}\n${nameOfAda}\n$`))
    assert.match(
      (await s.call(['status'])).stdout,
      /0 may reclaim: .*; 2 clients more recorded by the kernel's own tracker/,
    )
    assert.equal((await s.call(['prune', '--yes', '--unseen', '1'])).status, done)
    assert.equal((await s.check('ada', 'v4.1', join(top, nameOfAda))).status, done, 'only its MD5 is known to prune')

    assert.equal((await s.call(['expire', '--dry-run', 'ada'])).status, done)
    assert.ok(existsSync(join(top, nameOfAda)), 'it was not meant')
    const { calls } = await traced(s, ['expire', '--yes', 'ada'], { PATH: process.env['PATH'] ?? '' })
    const removed = calls.findIndex(
      ({ text }) => isCall(text, 'rmdir', nameOfAda) || text.includes(`"${nameOfAda}", AT_REMOVEDIR`),
    )
    assert.ok(removed >= 0 && calls.slice(removed).some(({ text }) => text.startsWith('fsync')), 'durable')
    assert.equal((await s.check('ada', 'v4.1', join(top, nameOfAda))).status, mayNotReclaim)

    const before = s.snapshot()
    for (const nobody of ['ada', 'bob'])
      assert.equal((await s.call(['expire', '--yes', nobody])).status, badArgument, nobody)
    assert.equal(s.snapshot(), before, 'whom nobody has recorded can not be taken out')
    assert.ok(existsSync(join(top, other)))
  })

  it('a directory of it that is left over after grace would let its client reclaim later: it can be removed', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('bob')
    const top = withLegacyIn(s, s.stateDir, nameOfAda)
    const said = await s.call(['expire', '--yes', 'ada'])
    assert.equal(said.status, done, said.stderr)
    assert.match(said.stdout, /^expired "ada"\n {2}Also removed what the kernel's own tracker had of it: /)
    await s.init()
    assert.equal((await s.check('ada', 'v4.1', join(top, nameOfAda))).status, mayNotReclaim)
  })

  it('while it may hold clients that are not in our records, nobody asks for an early end of grace', async () => {
    const s = server(artefact)
    s.writeState(`v4recovery/${name}/x`, '')
    s.kernelGrace('N\n')
    await s.init()
    await s.create('new', 'v4.1')
    assert.equal(s.kernelWasAskedToEndGrace(), false)
  })

  it('is not asked for its directory: a start holds the mutex that the answer needs', async () => {
    const s = server(artefact)
    s.kernelGrace('N\n')
    for (const words of [
      ['init'],
      ['create', hex('ada')],
      ['check', hex('ada')],
      ['remove', hex('ada')],
      ['gracedone', '1'],
    ]) {
      const { calls } = await traced(s, words, { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' })
      const asked = new Set(
        calls
          .filter(({ text }) => !/^p?read/.test(text))
          .map(({ text }) => /"[^"]*\/nfsd\/([^"/]+)"/.exec(text)?.[1])
          .filter((file) => file !== undefined),
      )
      asked.delete(words[0] === 'init' ? 'allow_client' : 'v4_end_grace')
      assert.deepEqual([...asked], [], words[0])
    }
  })
})

eachArtefact('a remove or an end of grace that fails on the disk', (artefact) => {
  const refused = async (s: Server, words: readonly string[], injection = 'fsync:error=EIO:when=1') => {
    const said = await traced(s, words, {}, ['-e', `inject=${injection}`])
    assert.equal(said.status, storageFailed, said.stderr)
    assert.match(
      said.stderr,
      /error: .*failed: E.*; the server goes on all the same, so nobody may reclaim after its next start/,
    )
  }

  it('is done for the kernel, so nobody may reclaim after the next start, and the instance after that is sound', async () => {
    for (const error of ['EIO', 'EROFS'])
      for (const words of [['remove', hex('ada')], ['gracedone', '77'], ['grace_done'], ['expire_client', 'ada']]) {
        const s = server(artefact)
        await s.fullInstanceWith('ada', 'bob')
        await s.init('77')
        await s.create('bob', 'v4.1')
        await refused(s, words, `fsync:error=${error}:when=1`)
        assert.equal((await s.check('bob', 'v4.1')).status, done, 'in this instance nothing has changed')
        assert.match((await s.call(['status'])).stdout, /after the next start no client may reclaim/)
        assert.match((await s.init('78')).stderr, /error: .*nobody may reclaim in this instance/)
        for (const owner of ['ada', 'bob'])
          assert.equal((await s.check(owner, 'v4.1')).status, mayNotReclaim, `${owner} after ${words.join(' ')}`)
        await s.create('bob', 'v4.1')
        await s.graceDone('78')
        await s.init('79')
        assert.equal((await s.check('bob', 'v4.1')).status, done)
      }
  })

  it('keeps this effect, also if it is made up for later', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    await refused(s, ['remove', hex('ada')])
    assert.equal((await s.remove('ada')).status, done)
    await s.init()
    assert.equal((await s.check('bob', 'v4.1')).status, mayNotReclaim)
  })

  it('has this effect also if its state directory does not exist, or its configuration can not be read', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    const away = `${s.stateDir}-away`
    renameSync(s.stateDir, away)
    assert.equal((await s.remove('ada')).status, storageFailed)
    renameSync(away, s.stateDir)
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)

    await s.create('ada', 'v4.1')
    const config = join(s.nfsdDir, 'nfs.conf')
    mkdirSync(config)
    const words = [...settingsBy(config, s.machine), 'remove', hex('ada')]
    assert.equal((await inForeground(artefact, words, {})).status, storageFailed)
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
  })

  it('has no effect if its words are wrong, and neither has a create or a check that fails', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init('77')
    const failing = ['-e', 'inject=fsync:error=EIO:when=1']
    assert.equal((await s.call(['remove', 'not hex'])).status, badArgument)
    assert.equal((await s.graceDone('76')).status, otherInstance)
    for (const words of [
      ['create', hex('new')],
      ['check', hex('ada')],
    ])
      assert.equal((await traced(s, words, {}, failing)).status, storageFailed)
    await s.init('78')
    assert.equal((await s.check('ada', 'v4.1')).status, done)
  })
})

eachArtefact('an end of grace that an upcall finds, and that can not be recorded', (artefact) => {
  const noRename = ['-e', 'inject=rename,renameat,renameat2:error=EIO']
  const found = async (s: Server, ...words: readonly string[]): ReturnType<typeof traced> => {
    await s.fullInstanceWith('ada', 'bob')
    await s.init('77')
    await s.create('bob', 'v4.1')
    s.kernelGrace('Y\n')
    const said = await traced(s, words, { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' }, noRename)
    assert.match(
      said.stderr,
      /critical: the end of grace could not be recorded \(.*EIO.*the next start, that start does it first/,
    )
    return said
  }

  it('answers a check as if it were recorded, and the next start records it', async () => {
    const s = server(artefact)
    assert.equal((await found(s, 'check', hex('bob'))).status, done)
    assert.equal((await traced(s, ['check', hex('ada')], {}, noRename)).status, mayNotReclaim)
    assert.match((await s.call(['status'])).stdout, /full: its grace period is over/)
    s.kernelGrace('N\n')
    await s.init('78')
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
    assert.equal((await s.check('bob', 'v4.1')).status, done)
  })

  it('is recorded by the next start also if a create found it; that client may not reclaim', async () => {
    const s = server(artefact)
    assert.equal((await found(s, 'create', hex('new'))).status, storageFailed)
    s.kernelGrace('N\n')
    await s.init('78')
    for (const owner of ['ada', 'new']) assert.equal((await s.check(owner, 'v4.1')).status, mayNotReclaim)
    assert.equal((await s.check('bob', 'v4.1')).status, done)
  })

  it('lets nobody reclaim if the next start can not record it either, but the server has a tracker', async () => {
    const s = server(artefact)
    await found(s, 'check', hex('bob'))
    s.kernelGrace('N\n')
    const said = await traced(s, ['init'], {}, noRename)
    assert.equal(said.status, done)
    assert.match(said.stderr, /error: what earlier upcalls have begun can't be completed: .*EIO/)
    for (const owner of ['ada', 'bob']) assert.equal((await s.check(owner, 'v4.1')).status, mayNotReclaim)
    await s.create('bob', 'v4.1')
    await s.graceDone('77')
    s.kernelGrace('N\n')
    await s.init('79')
    assert.equal((await s.check('bob', 'v4.1')).status, done)
  })

  it('keeps no start from its work if its instance has no directory any more', async () => {
    const s = server(artefact)
    await found(s, 'check', hex('bob'))
    s.kernelGrace('N\n')
    const instance = join(s.stateDir, 'v4clients', s.readState('new_boot_time')?.trim() ?? '')
    removeSync(instance)
    writeFileSync(instance, '')
    assert.equal((await s.init('78')).status, done)
    for (const owner of ['ada', 'bob']) assert.equal((await s.check(owner, 'v4.1')).status, mayNotReclaim)
  })

  it('loses no client that was active, if any upcall can record it before that', async () => {
    for (const words of [
      ['gracedone', '77'],
      ['create', hex('new')],
      ['remove', hex('eve')],
      ['check', hex('bob')],
    ]) {
      const s = server(artefact)
      await found(s, 'check', hex('bob'))
      assert.equal((await s.call(words, { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' })).status, done, words.join(' '))
      assert.doesNotMatch((await s.call(['status'])).stdout, /after the next start no client may reclaim/)
      s.kernelGrace('N\n')
      await s.init('78')
      assert.equal((await s.check('bob', 'v4.1')).status, done, words.join(' '))
      assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim, words.join(' '))
    }
  })
})

eachArtefact('a server instance that could not be recorded', (artefact) => {
  const marks = (s: Server): string[] =>
    existsSync(s.runDir) ? readdirSync(s.runDir).filter((name) => /^[0-9a-f]{64}$/.test(name)) : []
  const fail = (s: Server, env: Environment = {}) => traced(s, ['init'], env, ['-e', 'inject=fsync:error=EIO:when=1'])
  const kill = (s: Server) => traced(s, ['init'], {}, ['-e', 'inject=fsync:signal=SIGKILL:when=1'])

  it('may have granted locks, so nobody may reclaim in the next, and the instance after that is sound', async () => {
    for (const [title, end] of [
      ['it failed', fail],
      ['it was killed', kill],
    ] as const) {
      const s = server(artefact)
      await s.fullInstanceWith('ada')
      await end(s)
      assert.equal(marks(s).length, 1, title)
      const said = await s.init()
      assert.equal(said.status, done)
      assert.match(said.stderr, /error: a server instance ran that could not be recorded/)
      assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim, title)
      await s.create('bob', 'v4.1')
      await s.graceDone()
      await s.init()
      assert.equal((await s.check('bob', 'v4.1')).status, done)
    }
  })

  it('is marked before anything else of its start, so it may be killed at any call', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    const { calls } = await traced(s, ['init'])
    const marked = calls.findIndex(
      ({ text }) => isCall(text, 'symlink', '[0-9a-f]{64}') || isCall(text, 'rename', '[0-9a-f]{64}'),
    )
    const first = calls.findIndex(
      ({ text }) => text.includes(s.stateDir) && /^(?:mkdir|symlink|rename|unlink)(?:at)?\(/.test(text),
    )
    assert.ok(marked > 0 && marked < first)
    assert.deepEqual(marks(s), [], 'and the mark goes when it is durable')
  })

  it('includes one whose start was killed while it tidied up: for the kernel it has failed', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init()
    // The empty instance before it is removed, and is synced before that.
    const said = await traced(s, ['init'], {}, ['-e', 'inject=fsync:signal=SIGKILL:when=2'])
    assert.equal(said.status, 'SIGKILL')
    assert.match(said.stderr, /started, in grace/)
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
  })

  it('includes one whose start could not even note its state directory', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    const config = join(s.nfsdDir, 'nfs.conf')
    const call = (...words: readonly string[]) =>
      inForeground(artefact, [...settingsBy(config, s.machine), ...words], {
        NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y',
      })
    writeFileSync(config, `[nfsd-userland-helper]\nstate-dir=${s.stateDir}-before\n`)
    assert.equal((await call('init')).status, done)
    writeFileSync(config, `[nfsd-userland-helper]\nstate-dir=${s.stateDir}\n`)
    const inTheWay = join(s.runDir, `start-${encodeURIComponent(config)}.new`)
    mkdirSync(inTheWay)
    assert.equal((await call('init')).status, unusableAtStart)
    removeSync(inTheWay)
    assert.equal((await call('init')).status, done)
    assert.equal((await call('check', hex('ada'))).status, mayNotReclaim)
  })

  it('loses no client if the kernel starts it a second time, with the same boot time', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await fail(s, { NFSDCLTRACK_GRACE_START: '77' })
    assert.equal((await s.init('77')).status, done)
    assert.equal((await s.check('ada', 'v4.1')).status, done)
    assert.deepEqual(marks(s), [])
  })

  it('is not forgotten for another one that could not be recorded either', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await fail(s, { NFSDCLTRACK_GRACE_START: '77' })
    await fail(s, { NFSDCLTRACK_GRACE_START: '78' })
    await s.init('78')
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
  })

  it('is noted for its own state directory, by whatever path, and for no other', async () => {
    const s = server(artefact)
    const deep = 'd'.repeat(120)
    const [one, other] = [join(s.nfsdDir, 'one', deep, deep), join(s.nfsdDir, 'other', deep, deep)]
    for (const each of [one, other])
      for (const words of [['init'], ['create', hex('ada')], ['grace_done']])
        assert.equal((await s.call(['-s', each, ...words])).status, done)
    const alias = join(s.nfsdDir, 'alias')
    symlinkSync(one, alias)
    await traced(s, ['-s', alias, 'init'], {}, ['-e', 'inject=fsync:error=EIO:when=1'])
    for (const each of [one, other]) assert.equal((await s.call(['-s', each, 'init'])).status, done)
    assert.equal((await s.call(['-s', one, 'check', hex('ada')])).status, mayNotReclaim)
    assert.equal((await s.call(['-s', other, 'check', hex('ada')])).status, done)
  })

  it('is noted also if the configuration that names the state directory could not be read', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    assert.equal((await s.call(['--config', join(s.nfsdDir, 'none.conf'), 'init'])).status, unusableAtStart)
    await s.init()
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
  })

  it('is not forgotten for another one, if neither could read the configuration that names the state directory', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    for (const bootTime of ['77', '78'])
      await s.call(['--config', join(s.nfsdDir, 'none.conf'), 'init'], { NFSDCLTRACK_GRACE_START: bootTime })
    await s.init('78')
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
    await s.create('ada', 'v4.1')
    await s.graceDone('78')
    await s.init('79')
    assert.equal((await s.check('ada', 'v4.1')).status, done)
  })

  it('does not include a start that is on the disk, whatever happens to its mark', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    removeSync(s.runDir)
    writeFileSync(s.runDir, 'not a directory')
    const said = await s.init()
    assert.equal(said.status, done)
    assert.match(said.stderr, /warning: no mark of this start could be made/)
    assert.equal((await s.check('ada', 'v4.1')).status, done)
  })

  it('may have been one, where nobody can say: if the marks can not be read, the start goes on, and nobody may reclaim', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    removeSync(s.runDir)
    symlinkSync('run', s.runDir)
    const said = await s.init()
    assert.equal(said.status, done)
    assert.match(said.stderr, /warning: no mark of this start could be made .* is not a directory/)
    assert.match(said.stderr, /error: the mark of this start .* can't be removed \(ELOOP\): nobody may reclaim/)
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
  })

  it('leaves nothing on a read-only file system: no mark is said to stay that was never made', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'ro,mode=755', 'none', s.runDir])
    s.atEnd(() => {
      execFileSync('umount', [s.runDir])
    })
    const said = await s.init()
    assert.equal(said.status, done)
    assert.match(said.stderr, /warning: no mark of this start could be made .*\(EROFS\)/)
    assert.doesNotMatch(said.stderr, /nobody may reclaim/)
    assert.equal((await s.check('ada', 'v4.1')).status, done)
  })
})
