/** What `serve` believes unread of its records, at the fake pipe and with real files (lib/serve/known-records.ts). */
import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { inForeground, executable, settings } from '../support/artefacts.ts'
import { apart, running, serveWords } from '../support/pipe/daemons.ts'
import { statusOf } from '../support/pipe/messages.ts'
import { answerOf, type Nfsd } from '../support/pipe/nfsd.ts'
import { until } from '../support/until.ts'
import { at, allDone, client, hex, named, started, startedWith, type Site } from './at-a-pipe.ts'

/** The directory with records: of the last full instance, as long as nobody has reclaimed. */
function recordsOf({ machine: { stateDir } }: Site): string {
  const clients = join(stateDir, 'v4clients')
  const filled = readdirSync(clients)
    .map((name) => join(clients, name))
    .filter((path) => /\/[0-9]+$/.test(path) && lstatSync(path).isDirectory() && readdirSync(path).length > 0)
  assert.equal(filled.length, 1, filled.join())
  return filled[0] ?? ''
}

const threadsOf = (pid: number): number => readdirSync(`/proc/${pid}/task`).length

const childOf = (pid: number): number => Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1'))

/** The directories that a process watches: their inodes. */
const watchedBy = (pid: number): string[] =>
  readdirSync(`/proc/${pid}/fdinfo`).flatMap(
    (name) => /^inotify wd:\w+ ino:(\w+)/m.exec(readFileSync(`/proc/${pid}/fdinfo/${name}`, 'latin1'))?.[1] ?? [],
  )

/** Calls of a running process, as strace(1) shows them. @param more options of strace. */
async function traced(
  site: Site,
  pid: number,
  more: readonly string[],
  work: (log: () => string) => Promise<void>,
): Promise<void> {
  const file = join(site.machine.stateDir, '../calls')
  const strace = spawn('strace', ['-f', '-o', file, ...more, '-p', String(pid)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  await once(strace.stderr, 'data')
  try {
    await work(() => readFileSync(file, 'latin1'))
  } finally {
    const ended = once(strace, 'close')
    strace.kill('SIGTERM')
    await ended
  }
}

/** A server with more clients than the host reads at once. */
async function startedWithMany({ end }: Site): Promise<{ readonly first: Nfsd; readonly names: string[] }> {
  const first = await started(end)
  const names = Array.from({ length: 700 }, (_, at) => `client ${at}`).sort()
  for (let at = 0; at < names.length; at += 10)
    await allDone(first.send('create', ...names.slice(at, at + 10).map(client)))
  return { first, names }
}

describe('a serve that has run for long', () => {
  it('reads no record at a restart of the server, and tells the kernel all', () =>
    at(async (site) => {
      const daemon = await site.serve()
      const { first, names } = await startedWithMany(site)
      assert.equal(await first.tell('remove', client(names.pop() ?? '')), 0)
      assert.equal(await first.tell('graceDone'), 0)
      await first.stop()
      await traced(site, daemon.pid, ['-e', 'trace=readlinkat,writev'], async (log) => {
        assert.deepEqual(named(await started(site.end)), names)
        assert.match(log(), /writev/)
        assert.doesNotMatch(log(), /readlinkat\(\d+, "client/)
      })
    }))

  it('reads the records of the next start while it waits for a server, and then none', () =>
    at(async (site) => {
      const before = await site.serve()
      const { first, names } = await startedWithMany(site)
      assert.equal(await first.tell('graceDone'), 0)
      await first.stop()
      await before.kill()
      const daemon = await site.serve()
      await until('it has read them', () => threadsOf(daemon.pid) === 1)
      await traced(site, daemon.pid, ['-e', 'trace=readlinkat,writev'], async (log) => {
        const second = await started(site.end)
        assert.deepEqual(named(second), names)
        assert.match(log(), /writev/)
        assert.doesNotMatch(log(), /readlinkat\(\d+, "client/)
        await second.stop()
      })
      await before.kill()
      await daemon.kill()
      // The next has read it, or not yet: what is damaged then is not told.
      const last = await site.serve()
      const directory = recordsOf(site)
      unlinkSync(join(directory, encodeURIComponent('client 1')))
      symlinkSync('damaged', join(directory, encodeURIComponent('client 1')))
      assert.deepEqual(
        named(await started(site.end)),
        names.filter((name) => name !== 'client 1'),
      )
      await last.kill()
    }))

  it('does not tell of a damaged record that it has read while it waited, whatever record is beside it', () =>
    at(async (site) => {
      const before = await site.serve()
      const first = await started(site.end)
      // The name of such a record is a digest, which can't be decoded.
      const long = ['x', 'y'].map((letter) => letter.repeat(300))
      await allDone(first.send('create', client(long[0] ?? '')))
      assert.equal(await first.tell('graceDone'), 0)
      symlinkSync('damaged', join(recordsOf(site), 'bob'))
      await allDone(first.send('create', client(long[1] ?? '')))
      await first.stop()
      await before.kill()
      const daemon = await site.serve()
      await until('it has read them', () => threadsOf(daemon.pid) === 1)
      const second = await started(site.end)
      assert.deepEqual(named(second), long)
      await second.stop()
    }))

  it('holds the pipe while the disk does not answer what it reads before a server starts', () =>
    at(async (site) => {
      const { machine, end } = site
      const before = await site.serve()
      const first = await startedWith(end, 'ann', 'bob')
      assert.equal(await first.tell('graceDone'), 0)
      await first.stop()
      await before.kill()
      const slow = ['-e', 'trace=readlinkat', '-P', recordsOf(site), '-e', 'inject=readlinkat:delay_enter=3000000']
      const daemon = running(serveWords(machine, end.path, ['--ready-fd', '3']), {}, [
        ...['/usr/bin/strace', '-f', '-o', join(machine.stateDir, '../calls'), ...slow],
        ...apart,
      ])
      try {
        assert.ok(await daemon.ready)
        await until('a thread reads', () => threadsOf(childOf(daemon.pid)) === 2)
        const second = await started(end)
        assert.deepEqual(named(second), ['ann', 'bob'])
        await second.stop()
      } finally {
        process.kill(childOf(daemon.pid), 'SIGKILL')
        await daemon.ended
      }
    }))

  const changes: Readonly<Record<string, (site: Site, directory: string) => unknown>> = {
    'a record that was damaged by hand': (_, directory) => {
      unlinkSync(join(directory, 'bob'))
      symlinkSync('damaged', join(directory, 'bob'))
    },
    'a record that was replaced by one of a newer version, in one step': (_, directory) => {
      symlinkSync('v9,newer', join(directory, '../aside'))
      renameSync(join(directory, '../aside'), join(directory, 'bob'))
    },
    '17 000 changes, of which the kernel has no more reports': (_, directory) => {
      for (let nth = 0; nth < 8_500; nth++) {
        symlinkSync('x', join(directory, 'x'))
        unlinkSync(join(directory, 'x'))
      }
      unlinkSync(join(directory, 'bob'))
      symlinkSync('damaged', join(directory, 'bob'))
    },
  }
  for (const [what, change] of Object.entries(changes))
    it(`tells the kernel what a new one tells of ${what}`, () =>
      at(async (site) => {
        await site.serve()
        const first = await startedWith(site.end, 'ann', 'bob')
        assert.equal(await first.tell('graceDone'), 0)
        await first.stop()
        const second = await started(site.end)
        assert.deepEqual(named(second), ['ann', 'bob'])
        await second.stop()
        await change(site, recordsOf(site))
        const third = await started(site.end)
        assert.deepEqual(named(third), ['ann'])
        await third.stop()
      }))

  it('tells the kernel of a client that an upcall has added, and of one with a principal that `import` has added', () =>
    at(async (site) => {
      await site.serve()
      const first = await startedWith(site.end, 'ann', 'bob')
      assert.equal(await first.tell('graceDone'), 0)
      assert.equal(await site.upcall(['create', hex('cal')]), 0)
      const principal = 'ab'.repeat(32)
      await imports(site, 'dan', principal)
      await first.stop()
      const second = await started(site.end)
      assert.deepEqual(named(second), ['ann', 'bob', 'cal', 'dan'])
      assert.equal(principalOf(second, 'dan'), principal)
      assert.equal(principalOf(second, 'bob'), undefined)
      await second.stop()
    }))

  it('gives up the watches of its records if its user has none left for the directory of the pipe', () =>
    at(async ({ end, machine }) => {
      const daemon = running(serveWords(machine, end.path, ['--ready-fd', '3']), {}, [
        ...['/usr/bin/unshare', '--net', '--user', '--map-root-user'],
      ])
      const { ino } = statSync(join(end.path, 'nfsd'))
      const mounted = join(machine.dir, 'mounted')
      try {
        assert.ok(await daemon.ready, daemon.said())
        const first = await startedWith(end, 'ann', 'bob')
        assert.equal(await first.tell('graceDone'), 0)
        await first.stop()
        await until('it watches its records too', () => watchedBy(daemon.pid).length === 2)
        const most = 'echo 1 > /proc/sys/user/max_inotify_instances'
        execFileSync('nsenter', ['--user', '-t', String(daemon.pid), 'sh', '-c', most])
        mkdirSync(mounted)
        // After each mount it watches the directory anew.
        execFileSync('mount', ['-t', 'tmpfs', 'another', mounted])
        await until('it watches nothing else', () => watchedBy(daemon.pid).join() === ino.toString(16))
        const second = await started(end)
        assert.deepEqual(named(second), ['ann', 'bob'])
        await second.stop()
      } finally {
        await daemon.kill()
        spawnSync('umount', ['--lazy', mounted])
      }
    }))

  it('tells the kernel what a new one tells of what was damaged while it was stopped in a Create', () =>
    at(async (site) => {
      const daemon = await site.serve()
      const first = await startedWith(site.end, 'ann', 'bob')
      const directory = recordsOf(site)
      await traced(
        site,
        daemon.pid,
        ['-e', 'trace=symlinkat', '-e', 'inject=symlinkat:signal=SIGSTOP:when=1'],
        async (log) => {
          const [thread] = first.send('create', client('cal'))
          assert.ok(thread)
          await until('it is stopped', () => log().includes('stopped by SIGSTOP'))
          unlinkSync(join(directory, 'bob'))
          symlinkSync('damaged', join(directory, 'bob'))
          daemon.signal('SIGCONT')
          assert.equal(statusOf(await answerOf(thread)), 0)
        },
      )
      await first.stop()
      const second = await started(site.end)
      assert.deepEqual(named(second), ['ann', 'cal'])
      await second.stop()
    }))
})

const principalOf = ({ list }: Nfsd, name: string): string | undefined =>
  list.find(({ owner }) => owner.toString() === name)?.principal?.toString('hex')

/** Imports a client that has a principal. */
async function imports({ machine }: Site, name: string, principal: string): Promise<void> {
  const file = join(machine.stateDir, '../clients.json')
  const clients = [{ owner_hex: hex(name), session: null, recorded: 1, principal }]
  const exported = { format: 'nfsd-userland-helper clients', version: 1, exported: '2020-01-01T00:00:00Z', clients }
  writeFileSync(file, JSON.stringify(exported))
  const { status, stderr } = await inForeground(executable, [...settings(machine), 'import', '--yes', file], {})
  assert.equal(status, 0, stderr)
}
