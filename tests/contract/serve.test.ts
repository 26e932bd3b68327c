/**
 * `serve` at a fake pipe (tests/support/pipe): how it answers, and what a kernel, an admin and other daemons may do to
 * it. Kills are tested by tests/proof/pipe-kill-points.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { describe, it } from 'node:test'
import { ensureDirSync, removeSync } from 'fs-extra/esm'
import { random } from '../proof/figures.ts'
import { bundle, inForeground, newMachine, scrap, settings, type Machine } from '../support/artefacts.ts'
import { apart, nfsdcldWords, running, runServe, serveWords, type Daemon, type Serve } from '../support/pipe/daemons.ts'
import { message, sizes, statusOf, type Body } from '../support/pipe/messages.ts'
import { answerOf, startNfsd, type Nfsd } from '../support/pipe/nfsd.ts'
import type { PipeEnd } from '../support/pipe/pipe-end.ts'
import {
  type Site,
  at,
  newPipes,
  hex,
  client,
  named,
  started,
  startedWith,
  namedAfterRestart,
  allDone,
  onSmallDisk,
  eventually,
} from './at-a-pipe.ts'

describe('a server that starts', () => {
  it('is told version 2, and an empty list if nobody is recorded', () =>
    at(async ({ end, serve }) => {
      await serve()
      const nfsd = await started(end)
      assert.equal(nfsd.version, 2)
      assert.deepEqual(named(nfsd), [])
    }))

  it('that already waits when serve starts is answered', () =>
    at(async ({ end, serve }) => {
      const starts = startNfsd(end)
      await serve()
      assert.ok(await starts)
    }))

  it('is told each recorded client once, and none that left', () =>
    at(async ({ end, serve }) => {
      await serve()
      const first = await startedWith(end, 'ann', 'bob', 'cal')
      assert.equal(await first.tell('create', client('ann')), 0)
      assert.equal(await first.tell('remove', client('bob')), 0)
      await first.stop()
      const second = await started(end)
      assert.deepEqual(named(second), ['ann', 'cal'])
      await allDone(second.send('create', client('cal')))
      assert.equal(await second.tell('graceDone'), 0)
      assert.deepEqual(await namedAfterRestart(end, second), ['cal'])
    }))

  it('again within grace is told the clients that had reclaimed and those that had not', () =>
    at(async ({ end, serve }) => {
      await serve()
      const first = await startedWith(end, 'ann', 'bob')
      await first.stop()
      const second = await startedWith(end, 'ann')
      assert.deepEqual(await namedAfterRestart(end, second), ['ann', 'bob'])
    }))

  it("is told each client's principal, which a later create without one does not remove", () =>
    at(async ({ end, serve }) => {
      await serve()
      const principal = Buffer.from(Array.from({ length: 32 }, (_, at) => at + 1))
      const first = await started(end)
      await allDone(first.send('create', { ...client('ann'), principal }, client('bob')))
      await allDone(first.send('create', client('ann')))
      await first.stop()
      const second = await started(end)
      const told = second.list.find(({ owner }) => owner.toString() === 'ann')?.principal
      // The kernel compares as many bytes as it is given.
      assert.ok(told !== undefined && told.length >= 31)
      assert.deepEqual(told, principal.subarray(0, told.length))
      assert.equal(second.list.find(({ owner }) => owner.toString() === 'bob')?.principal, undefined)
    }))

  it('of the newest kernels, which take no name before the whole message is read, is told the same list', () =>
    at(
      async ({ end, serve }) => {
        await serve()
        const first = await startedWith(end, 'ann', 'bob')
        assert.deepEqual(await namedAfterRestart(end, first), ['ann', 'bob'])
      },
      { orphans: 'release' },
    ))

  it('is not told a name that would mean another client to it', () =>
    at(async ({ end, serve }) => {
      const daemon = await serve()
      const first = await startedWith(end, 'hash:0123', 'ann')
      assert.deepEqual(await namedAfterRestart(end, first), ['ann'])
      await daemon.says(/hash:0123/)
    }))

  it('of a kernel with version 1 is told the same list', () =>
    at(async ({ end, serve }) => {
      await serve(['--max-version', '1'])
      const first = await started(end)
      assert.equal(first.version, 1)
      await allDone(first.send('create', client('ann'), client('L'.repeat(1024))))
      assert.deepEqual(await namedAfterRestart(end, first), ['L'.repeat(1024), 'ann'])
    }))

  it('in version 0 has a Check for each client that comes', () =>
    at(async ({ end, serve }) => {
      await serve()
      const first = await startedWith(end, 'ann', 'bob')
      await first.stop()
      // The kernel goes on like this after an error for its list: see nfsd4_cld_tracking_init.
      const second = await started(end)
      end.remove()
      end.make()
      const ask = async (command: 'check' | 'create' | 'graceDone', body: Body): Promise<number> =>
        statusOf(await answerOf(end.ask(message(1, command, body))[0]))
      assert.equal(await ask('check', client('ann')), 0)
      assert.ok((await ask('check', client('zoe'))) < 0)
      assert.equal(await ask('create', client('dan')), 0)
      assert.equal(await ask('graceDone', { bootTime: 1_700_000_000n }), 0)
      assert.ok((await ask('check', client('bob'))) < 0, 'it came too late')
      end.remove()
      assert.equal(second.version, 2)
      assert.deepEqual(named(await started(end)), ['ann', 'dan'])
    }))

  it("on a machine that had a helper is told the helper's clients, and the other way round", () =>
    at(async ({ end, serve, upcall }) => {
      const grace = { NFSDCLTRACK_GRACE_START: '1700000000' }
      const session = { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' }
      assert.equal(await upcall(['init'], grace), 0)
      assert.equal(await upcall(['create', hex('ann')], session), 0)
      const daemon = await serve()
      const nfsd = await started(end)
      assert.deepEqual(named(nfsd), ['ann'])
      await allDone(nfsd.send('create', client('bob')))
      await nfsd.stop()
      assert.equal(await daemon.stop(), 0)
      assert.equal(await upcall(['init'], { NFSDCLTRACK_GRACE_START: '1700001000' }), 0)
      for (const name of ['ann', 'bob']) assert.equal(await upcall(['check', hex(name)], session), 0)
      assert.equal(await upcall(['check', hex('zoe')], session), 255)
    }))

  it('that refuses some of many names is told all others once, and the log says which it refuses', () =>
    at(
      async ({ end, serve }) => {
        const daemon = await serve()
        const taken = Array.from({ length: 400 }, (_, nth) => `client ${nth}`).sort()
        const refused = Array.from({ length: 9 }, (_, nth) => `refused ${nth}`)
        const first = await startedWith(end, ...taken, ...refused)
        assert.deepEqual(await namedAfterRestart(end, first), taken)
        for (const name of refused) await daemon.says(new RegExp(`the kernel refuses "${name}"`))
      },
      { refused: 'refused' },
    ))

  it('is not told a damaged record, a name that means another client or a wrong principal, among many that are told once', () =>
    at(async ({ end, serve, machine }) => {
      const daemon = await serve()
      const first = await started(end)
      const crowd = Array.from({ length: 800 }, (_, nth) => `client ${nth}`)
      const some = crowd.filter((_, nth) => nth % 50 === 7)
      const kerberos = crowd.filter((_, nth) => nth % 50 === 8)
      const principal = Buffer.alloc(32, 7)
      await allDone(
        first.send(
          'create',
          ...crowd.map((name) => (kerberos.includes(name) ? { ...client(name), principal } : client(name))),
        ),
      )
      await allDone(first.send('create', client('hash:0123')))
      await first.stop()
      for (const instance of readdirSync(join(machine.stateDir, 'v4clients')).filter((name) => /^\d+$/.test(name)))
        for (const name of readdirSync(join(machine.stateDir, 'v4clients', instance))) {
          const record = join(machine.stateDir, 'v4clients', instance, name)
          if (!some.includes(name.replace('%20', ' '))) continue
          const line = readlinkSync(record)
          rmSync(record)
          symlinkSync(
            line.replace(/.$/, (last) => (last === '0' ? '1' : '0')),
            record,
          )
        }
      const second = await started(end)
      assert.deepEqual(named(second), crowd.filter((name) => !some.includes(name)).sort())
      for (const { owner, principal } of second.list)
        assert.equal(principal !== undefined, kerberos.includes(owner.toString()), owner.toString())
      await daemon.says(/hash:0123/)
      for (const name of some) await daemon.says(new RegExp(`record '${name.replace(' ', '%20')}' of instance`))
    }))

  it('is not told clients with a damaged record, and the log says so', () =>
    at(async ({ end, serve, machine }) => {
      const daemon = await serve()
      const first = await startedWith(end, 'ann', 'bob')
      await first.stop()
      for (const instance of readdirSync(join(machine.stateDir, 'v4clients'))) {
        const record = join(machine.stateDir, 'v4clients', instance, 'ann')
        if (!/^\d+$/.test(instance) || !readdirSync(join(record, '..')).includes('ann')) continue
        rmSync(record)
        symlinkSync('2 nonsense', record)
      }
      assert.deepEqual(named(await started(end)), ['bob'])
      await daemon.says(/ann/)
    }))
})

describe('a message', () => {
  for (const version of [1, 2] as const)
    it(`with an owner of any length is carried out, or refused if the length is not allowed (version ${version})`, () =>
      at(async ({ end, serve }) => {
        await serve(['--max-version', String(version)])
        const nfsd = await started(end)
        assert.equal(nfsd.version, version)
        const possible = [1, 2, 7, 8, 23, 100, 255, 256, 1000, 1022, 1023, 1024]
        for (const length of [...possible, 1025, 1056, 1057, 4096, 32_768, 65_535])
          for (const command of ['create', 'remove'] as const) {
            const status = await nfsd.tell(command, { owner: Buffer.alloc(Math.min(length, 1024), 'x'), length })
            assert.equal(status === 0, possible.includes(length), `${command} of ${length} bytes: ${status}`)
          }
        assert.equal(await nfsd.tell('create', client('ann')), 0)
        assert.deepEqual(await namedAfterRestart(end, nfsd), ['ann'])
      }))

  it('of any command and version is answered, and only known ones have an effect', () =>
    at(async ({ end, serve, machine }) => {
      await serve()
      const nfsd = await startedWith(end, 'ann')
      // An intent log is made and emptied as time goes by.
      const recorded = (): readonly string[] => tree(machine).filter((name) => !/intent/.test(name))
      const known = recorded()
      for (let command = 6; command < 256; command += command < 16 ? 1 : 17)
        assert.notEqual(statusOf(await answerOf(end.ask(message(2, command, client('bob')))[0])), 0)
      for (const version of [0, 3, 4, 127, 255]) {
        const bytes = message(2, 'create', client('bob'))
        bytes[0] = version
        assert.notEqual(statusOf(await answerOf(end.ask(bytes)[0])), 0)
      }
      assert.deepEqual(recorded(), known)
      assert.equal(await nfsd.tell('create', client('cal')), 0)
    }))

  it('of any garbage is answered, and so is the next one', () =>
    at(async ({ end, serve }) => {
      await serve()
      const next = random(4)
      const byte = (): number => Math.floor(next() * 256)
      const nfsd = await started(end)
      for (let round = 0; round < 20; round++) {
        const garbage = Array.from({ length: 10 }, () => {
          const bytes = Buffer.from(Array.from({ length: sizes[2] }, byte))
          // Most of them begin like a message.
          if (next() < 0.8) bytes[0] = next() < 0.8 ? 2 : 1
          // Neither starts nor ends of grace, which other tests ask for.
          bytes[1] = next() < 0.7 ? Math.floor(next() * 3) : 6 + Math.floor(next() * 250)
          return bytes
        })
        for (const thread of end.ask(...garbage)) await answerOf(thread)
        assert.equal(await nfsd.tell('create', client(`after ${round}`)), 0)
      }
      await nfsd.stop()
      const list = named(await started(end))
      for (let round = 0; round < 20; round++) assert.ok(list.includes(`after ${round}`))
    }))

  it('that comes with fifteen others is carried out in the order of the xids', () =>
    at(async ({ end, serve }) => {
      await serve()
      const nfsd = await startedWith(end, 'ann', 'bob')
      await allDone(
        nfsd.sendAll([
          ['remove', client('ann')],
          ['create', client('cal')],
          ['remove', client('cal')],
          ['create', client('dan')],
          ['remove', client('bob')],
          ['create', client('bob')],
          ...Array.from({ length: 10 }, (_, at) => ['create', client(`x${at}`)] as const),
        ]),
      )
      const list = await namedAfterRestart(end, nfsd)
      assert.deepEqual(
        list.filter((name) => !name.startsWith('x')),
        ['bob', 'dan'],
      )
      assert.equal(list.length, 12)
    }))

  it('waits for a slow disk, and messages that come meanwhile share a barrier', () =>
    onSlowDisk(async ({ end }, nfsd, _, barriers) => {
      const first = nfsd.send('create', client('ann'))
      await end.until(({ held, queued }) => held.length > 0 || queued.length === 0)
      const rest = nfsd.send('create', ...Array.from({ length: 15 }, (_, at) => client(`client ${at}`)))
      const began = barriers()
      await allDone([...first, ...rest])
      // One for the first message, which may not have begun, and one for all others.
      assert.ok(barriers() - began <= 4, `${barriers() - began} barriers`)
    }))
})

describe('serve', () => {
  it('goes on when the server stops and starts, and says so', () =>
    at(async ({ end, serve }) => {
      const daemon = await serve()
      for (let time = 0; time < 3; time++) {
        const nfsd = await startedWith(end, `client ${time}`)
        await nfsd.stop()
      }
      assert.equal(named(await started(end)).length, 3)
      assert.equal(await daemon.stop(), 0)
    }))

  it('takes no more memory after many servers than after a few', () =>
    at(async ({ end, serve }) => {
      const { pid } = await serve()
      const kilobytes = (): number =>
        Number(/^Anonymous:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'))?.[1])
      const servers = async (count: number): Promise<number> => {
        for (let time = 0; time < count; time++) {
          const nfsd = await startedWith(end, 'ann')
          await nfsd.stop()
        }
        return kilobytes()
      }
      const [few, many] = [await servers(5), await servers(30)]
      // What one server leaves would be 26 kB, or more.
      assert.ok(many - few < 200, `${few} kB after 5, ${many} kB after 35`)
    }))

  it('answers also if nothing can be written to the run directory, and says so once, not for each message', () =>
    onSmallRunDirectory(async ({ end, serve }, fill) => {
      const daemon = await serve()
      const nfsd = await started(end)
      const room = fill()
      const lines = (): number => daemon.said().split('journal').length - 1
      // A journal of 64 KB is replaced by a new one.
      for (let count = 0; lines() === 0; count++) {
        assert.ok(count < 10_000)
        assert.equal(await nfsd.tell('create', client(String(count % 10))), 0)
      }
      for (let count = 0; count < 50; count++) assert.equal(await nfsd.tell('create', client(String(count))), 0)
      await daemon.says(/can't write answers to the journal \(ENOSPC\)/)
      assert.equal(lines(), 1)
      room()
      assert.equal(await nfsd.tell('create', client('last')), 0)
      await daemon.says(/answers can be written to the journal again/)
    }))

  it('answers also if there is no room for its lock in the run directory, and says so', () =>
    onSmallRunDirectory(async ({ end, serve }, fill) => {
      fill()
      const daemon = await serve()
      const nfsd = await started(end)
      assert.equal(await nfsd.tell('create', client('ann')), 0)
      await daemon.says(/no lock can be had in '.*\/run' \(ENOSPC\)/)
    }))

  it('survives the removal of a pipe with messages in it, and opens the next', () =>
    onSlowDisk(async ({ end }, nfsd) => {
      let server = nfsd
      // On a busy machine the half second of a barrier may be over before the pipe is removed: then once more.
      for (let attempt = 1; ; attempt++) {
        const threads = server.send('create', client('ann'), client('bob'))
        await end.until(({ held, queued }) => held.length > 0 || queued.length === 0)
        end.remove()
        const how = await Promise.all(threads.map(async ({ ended }) => ended))
        server = await started(end)
        if (how.every((each) => 'failed' in each && each.failed === 'EPIPE')) break
        assert.ok(attempt < 20, `answered before the pipe was removed, ${attempt} times: ${JSON.stringify(how)}`)
      }
      assert.equal(await server.tell('create', client('cal')), 0)
      assert.ok((await namedAfterRestart(end, server)).includes('cal'))
    }))

  it('finishes what it has read when it is told to end, and leaves no trace in the run directory', () =>
    onSlowDisk(async ({ end, machine }, nfsd, daemon) => {
      const threads = nfsd.send('create', client('ann'), client('bob'))
      await end.until(({ held, queued }) => held.length > 0 || queued.length === 0)
      daemon.signal('SIGTERM')
      await allDone(threads)
      assert.equal(await daemon.ended, 0)
      assert.deepEqual(
        readdirSync(machine.runDir).filter((name) => /^serve-.*\.json$/.test(name)),
        [],
      )
    }))

  it('that was stopped while messages came continues where it was', () =>
    at(async ({ end, serve }) => {
      const daemon = await serve()
      const nfsd = await started(end)
      daemon.signal('SIGSTOP')
      const threads = nfsd.send('create', ...Array.from({ length: 16 }, (_, at) => client(`client ${at}`)))
      await end.until(({ queued }) => queued.length === 16)
      daemon.signal('SIGCONT')
      await allDone(threads)
      assert.equal((await namedAfterRestart(end, nfsd)).length, 16)
    }))

  for (const when of ['is there', 'is still to come'])
    it(`with --until-gone, where the pipe ${when}, ends with status 0 when the pipe is removed, and not before`, () =>
      at(async ({ end, serve }) => {
        const early = when === 'is there' ? startNfsd(end) : undefined
        const daemon = await serve(['--until-gone'])
        const nfsd = await (early ?? startNfsd(end))
        assert.ok(nfsd)
        await allDone(nfsd.send('create', client('ann')))
        await nfsd.stop()
        assert.equal(await daemon.ended, 0)
      }))

  it('with --until-gone continues at the pipe of version 0 that follows if its list took too long, and ends with that pipe', () =>
    at(async ({ end, serve, machine }) => {
      const daemon = await serve()
      const first = await started(end)
      // One call writes 16 names, and the time of that is read. After a second each is written alone, and the time is
      // read at one of 64.
      await allDone(first.send('create', ...Array.from({ length: 200 }, (_, at) => client(`client ${at}`))))
      await first.stop()
      assert.equal(await daemon.stop(), 0)
      const slowly = [
        ...['-e', 'trace=write,writev', '-P', join(end.path, 'nfsd/cld')],
        ...['-e', 'inject=write:delay_enter=50000', '-e', 'inject=writev:delay_enter=800000'],
      ]
      const strace = ['/usr/bin/strace', '-D', '-f', '-o', '/dev/null', ...slowly]
      const starts = startNfsd(end, () => slow)
      const slow: Serve = running([...strace, ...serveWords(machine, end.path, ['--until-gone', '--ready-fd', '3'])])
      try {
        const second = await starts
        assert.ok(second)
        assert.equal(second.version, 0)
        const ask = async (command: 'check' | 'graceDone', body: Body): Promise<number> =>
          statusOf(await answerOf(end.ask(message(1, command, body))[0]))
        assert.equal(await ask('check', client('client 7')), 0)
        assert.ok((await ask('check', client('nobody'))) < 0)
        assert.equal(await ask('graceDone', { bootTime: 1_700_000_000n }), 0)
        await second.stop()
        assert.equal(await slow.ended, 0, slow.said())
      } finally {
        await slow.kill()
      }
      await serve()
      assert.deepEqual(named(await started(end)), ['client 7'])
    }))

  it('with --until-gone on a disk of its own for each of its two directories, and killed in between, renames and links nothing across them', () =>
    onSmallDisk(async ({ end, serve, machine }, disk) => {
      const run = machine.runDir
      ensureDirSync(run)
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=755', 'run', run])
      const log = join(machine.dir, 'strace')
      const moves = 'trace=rename,renameat,renameat2,link,linkat'
      const strace = ['/usr/bin/strace', '-D', '-f', '-o', log, '-A', '-e', moves]
      const traced = (): Serve =>
        running([...strace, ...serveWords(machine, end.path, ['--until-gone', '--ready-fd', '3'])])
      const daemons: Serve[] = []
      try {
        const starts = startNfsd(end)
        daemons.push(traced())
        const nfsd = await starts
        assert.ok(nfsd)
        await allDone(nfsd.send('create', client('ann'), client('bob')))
        disk.fill()
        assert.equal(await nfsd.tell('remove', client('bob')), 0)
        // What the remove has freed. From the failure to the kill there must be no room: the create is tried again.
        disk.fill()
        assert.notEqual(await nfsd.tell('create', client('cal')), 0)
        await daemons[0]?.kill()
        disk.empty()
        daemons.push(traced())
        await daemons[1]?.says(/create, which had failed, is done/)
        await nfsd.stop()
        assert.equal(await daemons[1]?.ended, 0)
        await serve()
        const next = await started(end)
        assert.deepEqual(named(next), ['ann', 'cal'])
        await next.stop()
        const made = readFileSync(log, 'latin1')
        assert.match(made, /rename/)
        assert.doesNotMatch(made, /EXDEV/)
      } finally {
        for (const daemon of daemons) await daemon.kill()
        execFileSync('umount', ['--lazy', run])
      }
    }))

  it('answers more messages at once than it has files for, in several rounds', () =>
    at(async ({ end, serve, machine }) => {
      await serve()
      const nfsd = await started(end)
      await allDone(nfsd.send('create', ...Array.from({ length: 1100 }, (_, at) => client(`client ${at}`))))
      // Counted on the disk: the list of so many has a time limit, which a busy machine may exceed.
      assert.equal(tree(machine).filter((name) => /\/client[^/]*\d+$/.test(name)).length, 1100)
    }))

  for (const descriptors of [80, 24])
    it(`that may open ${descriptors} files answers sixteen messages at once, also if it is killed and started again`, () =>
      at(async ({ end, machine }) => {
        const few = (): Serve =>
          running(serveWords(machine, end.path, ['--ready-fd', '3']), {}, [
            ...apart,
            '/usr/bin/prlimit',
            `--nofile=${descriptors}`,
          ])
        const daemon = few()
        let next: Serve | undefined
        try {
          assert.ok(await daemon.ready, daemon.said())
          const nfsd = await started(end)
          const names = Array.from({ length: 16 }, (_, at) => `client ${at}`)
          await allDone(nfsd.send('create', ...names.map(client)))
          const threads = nfsd.send('remove', ...names.slice(4).map(client))
          await daemon.kill()
          next = few()
          await allDone(threads)
          await nfsd.stop()
          const second = await started(end)
          assert.deepEqual(named(second), names.slice(0, 4))
          await second.stop()
        } finally {
          await daemon.kill()
          await next?.kill()
        }
      }))

  it('refuses to run beside another one on the same state directory, and names it; the first goes on', () =>
    at(async ({ end, serve, machine }) => {
      await serve()
      const nfsd = await started(end)
      const { status, said } = await refused(serveWords(machine, end.path))
      assert.notEqual(status, 0)
      assert.match(said, /already|another serve/)
      assert.equal(await nfsd.tell('create', client('ann')), 0)
    }))

  it('refuses to run beside another one on the same state directory that has another pipe, another run directory and another spelling', () =>
    at(async ({ end, serve, machine }) => {
      await serve()
      const nfsd = await started(end)
      const other = newMachine()
      const spelled = join(other.dir, 'link')
      symlinkSync(machine.stateDir, spelled)
      const pipes = join(other.dir, 'pipes')
      mkdirSync(pipes)
      try {
        for (const stateDir of [machine.stateDir, spelled]) {
          const { status, said } = await refused(serveWords({ ...other, stateDir }, pipes))
          assert.notEqual(status, 0)
          assert.match(said, /another serve has the state directory/)
        }
        assert.equal(await nfsd.tell('create', client('ann')), 0)
      } finally {
        scrap(other)
      }
    }))

  it('that was killed does not keep the next one out, and without a pipe the state directory is free', () =>
    at(async ({ end, serve, machine }) => {
      const daemon = await serve()
      const nfsd = await started(end)
      await daemon.kill()
      const next = await serve()
      const holds = (): boolean =>
        readdirSync(`/proc/${next.pid}/fd`).some((fd) => {
          try {
            return readlinkSync(`/proc/${next.pid}/fd/${fd}`) === machine.stateDir
          } catch {
            return false
          }
        })
      assert.ok(holds())
      await nfsd.stop()
      await eventually(() => !holds())
      assert.ok(await startNfsd(end))
      await eventually(holds)
    }))

  it('ends if its state directory is in use when its server starts, and the kernel goes on without it', () =>
    at(async ({ end, serve, machine }) => {
      const other = newMachine()
      const second = await newPipes()
      const late = runServe({ ...other, stateDir: machine.stateDir }, second.path)
      try {
        assert.ok(await late.ready)
        await serve()
        const nfsd = await started(end)
        second.make()
        assert.notEqual(await late.ended, 0)
        await late.says(/another serve has the state directory/)
        assert.equal(await nfsd.tell('create', client('ann')), 0)
      } finally {
        await late.kill()
        await second.scrap()
        scrap(other)
      }
    }))

  it('refuses to run beside another one on the same pipe with another state directory, and names its process', () =>
    at(async ({ end, serve }) => {
      const daemon = await serve()
      const nfsd = await started(end)
      const other = newMachine()
      try {
        const { status, said } = await refused(serveWords(other, end.path))
        assert.notEqual(status, 0)
        assert.match(said, new RegExp(`\\b${daemon.pid}\\b`))
        assert.equal(await nfsd.tell('create', client('ann')), 0)
      } finally {
        scrap(other)
      }
    }))

  it('refuses to run beside another one that waits for the same pipe with another state directory', () =>
    at(async ({ end, serve }) => {
      const daemon = await serve()
      const other = newMachine()
      try {
        const { status, said } = await refused(serveWords(other, end.path))
        assert.notEqual(status, 0)
        assert.match(said, new RegExp(`\\b${daemon.pid}\\b`))
        const nfsd = await started(end)
        assert.equal(await nfsd.tell('create', client('ann')), 0)
      } finally {
        scrap(other)
      }
    }))

  const isRefusedBesideNfsdcld = (waits: (end: PipeEnd, nfsdcld: Daemon) => Promise<unknown>): Promise<void> =>
    at(async ({ end, machine }) => {
      const storage = join(machine.dir, 'nfsdcld')
      mkdirSync(storage)
      const nfsdcld = running(nfsdcldWords(end.path, storage))
      try {
        await waits(end, nfsdcld)
        const { status, said } = await refused(serveWords(machine, end.path))
        assert.notEqual(status, 0)
        assert.match(said, new RegExp(`nfsdcld.*\\b${nfsdcld.pid}\\b`))
        assert.ok(!existsSync(machine.stateDir), 'nothing was made')
      } finally {
        await nfsdcld.kill()
      }
    })

  it('refuses to run beside nfsdcld on the same pipe, and names its process', () =>
    isRefusedBesideNfsdcld((end) => started(end)))

  it('refuses to run beside an nfsdcld that waits for a pipe, and names its process', () =>
    isRefusedBesideNfsdcld((_, { pid }) => {
      const of = `/proc/${pid}/fdinfo`
      return eventually(() =>
        readdirSync(of).some((name) => readFileSync(join(of, name), 'latin1').includes('inotify')),
      )
    }))

  it('that replaces nfsdcld under a running server names no earlier client at the next start, and logs that', () =>
    at(async ({ end, serve, machine }) => {
      const daemon = await serve()
      const first = await startedWith(end, 'ann')
      await first.stop()
      assert.equal(await daemon.stop(), 0)
      const storage = join(machine.dir, 'nfsdcld')
      mkdirSync(storage)
      const nfsdcld = running(nfsdcldWords(end.path, storage))
      const second = await started(end)
      await nfsdcld.kill()
      const again = await serve()
      await allDone(second.send('create', client('bob')))
      await again.says(/was started without this program/)
      assert.deepEqual(await namedAfterRestart(end, second), ['bob'])
    }))

  it('notes that the start of a server is not recorded, also if that asks nothing, and the next start takes this into account', () =>
    at(async ({ end, serve, machine }) => {
      const daemon = await serve()
      end.make()
      const mark = (): boolean => readdirSync(machine.runDir).some((name) => /^[0-9a-f]{64}$/.test(name))
      await eventually(mark)
      await daemon.says(/is not recorded/)
      end.remove()
      assert.deepEqual(named(await started(end)), [])
      assert.ok(!mark())
    }))

  it('goes on when the reader of its log is gone', () =>
    at(async ({ end, machine }) => {
      const [program = '', ...words] = [...apart, ...serveWords(machine, end.path, ['--ready-fd', '3'])]
      const daemon = spawn(program, words, { stdio: ['ignore', 'ignore', 'pipe', 'pipe'] })
      const ended = once(daemon, 'exit')
      try {
        const [, , log, ready] = daemon.stdio
        assert.ok(ready instanceof Readable && log !== null)
        await once(ready, 'data')
        log.destroy()
        const died = ended.then((how) => assert.fail(`it ended: ${String(how)}`))
        died.catch(() => undefined)
        const nfsd = await Promise.race([started(end), died])
        await allDone(end.ask(message(2, 'create', client('ada'))))
        assert.deepEqual(await namedAfterRestart(end, nfsd), ['ada'])
      } finally {
        daemon.kill('SIGTERM')
      }
      assert.deepEqual(await ended, [0, null])
    }))

  it('is ready before there is a pipe or a state directory', () =>
    at(async ({ end, serve, machine }) => {
      await serve()
      assert.ok(!existsSync(machine.stateDir))
      await started(end)
    }))

  it('refuses words that it does not know, in one line, with the status of a bad argument', () =>
    at(async ({ end, machine }) => {
      for (const words of [
        ['--frobnicate'],
        ['--max-version', '3'],
        ['--ready-fd', 'x'],
        ['--ready-fd', '1000'],
        ['--pipefs-dir'],
        ['surplus'],
      ]) {
        const { status, said } = await refused(serveWords(machine, end.path, words))
        assert.equal(status, 234, said)
        assert.equal(said.trim().split('\n').length, 1, said)
      }
    }))

  it('refuses a --ready-fd that is its own, or that it can only read', () =>
    at(async ({ end, machine }) => {
      for (const fourth of ['4>&-', '4< /dev/null']) {
        const words = serveWords(machine, end.path, ['--ready-fd', '4'])
        const { status, said } = await refused(['/bin/sh', '-c', `exec "$@" ${fourth}`, 'sh', ...words])
        assert.equal(status, 234, `${fourth}: ${said}`)
        assert.match(said, /^[^\n]*--ready-fd[^\n]*open[^\n]*\n$/)
      }
    }))

  it('of the Node bundle says in one line that it can not run', async () => {
    const machine = newMachine()
    const { status, stderr } = await inForeground(bundle, [...settings(machine), 'serve'], {})
    assert.notEqual(status, 0)
    assert.match(stderr, /executable/)
    assert.equal(stderr.trim().split('\n').length, 1)
    scrap(machine)
  })
})

/** A run directory on a small file system in memory. @param fill fills it. @returns what makes room again */
async function onSmallRunDirectory(work: (site: Site, fill: () => () => void) => Promise<void>): Promise<void> {
  await at(async (site) => {
    const { runDir } = site.machine
    mkdirSync(runDir)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=755,size=200k,nr_inodes=10', 'run', runDir])
    try {
      await work(site, () => {
        const made: string[] = []
        assert.throws(
          () => {
            for (let number = 0; ; number++) {
              made.push(join(runDir, `filler ${number}`))
              writeFileSync(made.at(-1) ?? '', Buffer.alloc(1 << 14))
            }
          },
          { code: 'ENOSPC' },
        )
        return () => {
          for (const file of made) removeSync(file)
        }
      })
    } finally {
      execFileSync('umount', ['--lazy', runDir])
    }
  })
}

/** A server and a `serve` whose every barrier takes half a second. `barriers` counts those that have begun. */
async function onSlowDisk(
  work: (site: Site, nfsd: Nfsd, daemon: Serve, barriers: () => number) => Promise<void>,
): Promise<void> {
  await at(async (site) => {
    const { machine, end } = site
    const log = join(machine.dir, 'strace')
    const barriers = ['fsync', 'fdatasync']
    const strace = ['/usr/bin/strace', '-D', '-f', '-o', log, '-e', `trace=${barriers.join()}`]
    for (const call of barriers) strace.push('-e', `inject=${call}:delay_exit=500000`)
    const daemon = running([...strace, ...serveWords(machine, end.path, ['--ready-fd', '3'])])
    try {
      assert.ok(await daemon.ready, daemon.said())
      const nfsd = await started(end)
      await work(site, nfsd, daemon, () => readFileSync(log, 'latin1').match(/sync\(/g)?.length ?? 0)
    } finally {
      await daemon.kill()
    }
  })
}

/** A `serve` that must refuse to run. */
async function refused(
  words: readonly string[],
  wrapper = apart,
): Promise<{ status: number | NodeJS.Signals; said: string }> {
  const daemon = running(words, {}, wrapper)
  const late = setTimeout(() => void daemon.kill(), 120_000)
  const status = await daemon.ended
  clearTimeout(late)
  return { status, said: daemon.said() }
}

/** Every name in the state directory. */
const tree = ({ stateDir }: Machine): string[] => readdirSync(stateDir, { recursive: true, encoding: 'utf8' }).sort()
