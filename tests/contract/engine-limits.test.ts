/**
 * The limits of the engine: memory, stack, descriptors, and the largest words, files and directories.
 *
 * Whatever is too small or too large: no false status 0, no hang, and a line whenever one can be written.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import {
  artefacts,
  executable,
  inForeground,
  settings,
  settingsBy,
  type Artefact,
  type Environment,
  type Said,
} from '../support/artefacts.ts'
import {
  badArgument,
  done,
  eachArtefact,
  hex,
  mayNotReclaim,
  ownerTooLong,
  server,
  storageFailed,
  unknownVerb,
  unusableAtStart,
  type Server,
} from './server.ts'
import { inGrace, starve, starvedProgram, starvedUpcalls } from './starved.ts'

const session: Environment = { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' }

describe(
  'an upcall of the executable that gets no more memory',
  { skip: !artefacts().includes(executable), concurrency: 2 },
  () => {
    const directory = starvedProgram()
    for (const upcall of starvedUpcalls)
      it(`ends with ENOMEM and a line, and is carried out by the next: ${upcall.title}`, async () => {
        const s = server(executable, '/dev/shm')
        await inGrace(s)
        // At each allocation: tests/proof/no-memory.test.ts.
        assert.ok((await starve(s, directory, upcall, 4)) > 12)
      })
  },
)

/** A directory that needs no disk. */
function inMemory(s: Server): string {
  const directory = mkdtempSync('/dev/shm/nfsd-userland-helper-')
  s.atEnd(() => {
    execFileSync('rm', ['-rf', directory])
  })
  return directory
}

/** The artefact, run by a shell that has set a limit first. */
const limited = (artefact: Artefact, limit: string): Artefact => ({
  ...artefact,
  command: ['/bin/bash', '-c', `${limit} && exec "$@"`, 'bash', ...artefact.command],
})

describe(
  'an upcall of the executable under a tight limit',
  { skip: !artefacts().includes(executable), concurrency: 2 },
  () => {
    const underLimits = (title: string, limits: readonly string[], signals: readonly string[]): void =>
      void it(`${title}: a status 0 is true, and any other status promises nothing`, async () => {
        const s = server(executable, '/dev/shm')
        await inGrace(s)
        for (const limit of limits) {
          const run = (words: readonly string[]): Promise<Said> =>
            inForeground(limited(executable, limit), [...settings(s.machine), ...words], session)
          const stranger = await run(['check', hex('eve')])
          assert.notEqual(stranger.status, done, limit)
          const known = await run(['check', hex('ada')])
          const created = await run(['create', hex(`new-${limit}`)])
          assert.equal(
            (await s.check(`new-${limit}`, 'v4.1')).status,
            created.status === done ? done : mayNotReclaim,
            limit,
          )
          for (const { status, stderr } of [stranger, known, created])
            if (typeof status === 'string') assert.ok(signals.includes(status), `${limit}: ${status}`)
            // If there is too little to begin at all, the shell or the C library reports it.
            else if (status !== done) assert.match(stderr, /nfsd-userland-helper: |^$|bash|glibc/, limit)
        }
        assert.equal((await s.check('ada', 'v4.1')).status, done)
      })
    underLimits(
      'of its stack',
      [16, 24, 32, 40, 48, 64, 128, 512].map((size) => `ulimit -s ${size}`),
      ['SIGSEGV', 'SIGKILL', 'SIGBUS'],
    )
    underLimits(
      'of its memory',
      [1800, 1900, 2000, 2100, 2200, 2300, 2400, 2500, 2600, 2800, 3000, 4000].map((size) => `ulimit -v ${size}`),
      ['SIGSEGV', 'SIGKILL'],
    )
    underLimits(
      'of its descriptors',
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12].map((size) => `ulimit -n ${size}`),
      [],
    )
    underLimits('of the size of files', ['ulimit -f 0'], ['SIGXFSZ'])

    it('of its descriptors: a start that fails for want of them lets nobody reclaim after the next one', async () => {
      for (const size of [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]) {
        const s = server(executable)
        await s.fullInstanceWith('ada')
        const starved = limited(executable, `ulimit -n ${size}`)
        const { status, stderr } = await inForeground(starved, [...settings(s.machine), 'init'], {})
        assert.ok(status === done || status === unusableAtStart, `${size}: ${status} ${stderr}`)
        await s.init()
        const said = await s.check('ada', 'v4.1')
        assert.equal(said.status, status === done ? done : mayNotReclaim, `${size}: ${stderr}`)
      }
    })

    it('of file size: a start that can write no file is recorded as usual, or fails', async () => {
      const s = server(executable)
      await s.fullInstanceWith('ada')
      const { status } = await inForeground(limited(executable, 'ulimit -f 0'), [...settings(s.machine), 'init'], {})
      await s.init()
      assert.equal((await s.check('ada', 'v4.1')).status, status === done ? done : mayNotReclaim)
    })
  },
)

eachArtefact('words as long as the kernel lets them be', (artefact) => {
  const longest = 128 * 1024 - 1
  it('are refused, each with a message of its own', async () => {
    const s = server(artefact)
    await s.init()
    const before = s.snapshot()
    const cases: readonly (readonly [words: readonly string[], status: number])[] = [
      [['create', 'a'.repeat(longest - 1)], ownerTooLong],
      [['create', 'a'.repeat(longest)], badArgument],
      [['check', '~'.repeat(longest)], badArgument],
      [['create_client', 'a'.repeat(longest)], ownerTooLong],
      [['create_client', '\\101'.repeat(longest / 4)], ownerTooLong],
      [['create_client', '\\'.repeat(longest)], badArgument],
      [['create_client', `\\x${'a'.repeat(longest - 3)}`], ownerTooLong],
      [['create_client', 'a b'.repeat(longest / 3)], badArgument],
      [['gracedone', '0'.repeat(longest)], badArgument],
      [['check', ...Array.from({ length: 50_000 }, () => 'x')], badArgument],
      [['x'.repeat(longest)], unknownVerb],
      [[`--${'x'.repeat(longest - 2)}`], badArgument],
    ]
    for (const [words, status] of cases) {
      const said = await s.call(words, session)
      assert.equal(said.status, status, `${words[0] ?? ''} ${said.stderr}`)
      assert.match(said.stderr, /^nfsd-userland-helper: error: [ -~]{1,900}\n$/)
    }
    assert.equal(s.snapshot(), before)
  })

  it('and as many variables as fit beside them do not change a verdict', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    const others = Object.fromEntries(Array.from({ length: 1500 }, (_, index) => [`V${index}`, 'x'.repeat(1000)]))
    assert.equal((await s.call(['init'], { NFSDCLTRACK_GRACE_START: '9'.repeat(100_000) })).status, done)
    assert.equal((await s.call(['check', hex('ada')], { ...others, ...session })).status, done)
    const deep = await s.call(['check', hex('eve')], {
      NFSDCLTRACK_LEGACY_RECDIR: `/${'a/'.repeat(50_000)}${'0'.repeat(32)}`,
    })
    assert.equal(deep.status, storageFailed)
    assert.match(deep.stderr, /ENAMETOOLONG/)
  })

  it('of 1024 bytes of every kind, make a record each, and no two the same', async () => {
    const s = server(artefact)
    await s.init()
    const owners = [0x00, 0x2e, 0x2f, 0x25, 0x41, 0x0a, 0x7f, 0xff].map((byte) => new Uint8Array(1024).fill(byte))
    for (const owner of owners) assert.equal((await s.create(owner, 'v4.1')).status, done)
    await s.graceDone()
    await s.init()
    for (const owner of owners) assert.equal((await s.check(owner, 'v4.1')).status, done)
    assert.equal((await s.check(new Uint8Array(1024).fill(0x42), 'v4.1')).status, mayNotReclaim)
    assert.equal((await s.call(['create', 'aa'.repeat(1025)], session)).status, ownerTooLong)
  })
})

eachArtefact('a configuration of a megabyte', (artefact) => {
  const size = 2 ** 20
  const ours = (s: Server): string => `[nfsd-userland-helper]\nstate-dir=${s.stateDir}\n`
  const call = (s: Server, config: string, ...words: readonly string[]) =>
    inForeground(artefact, [...settingsBy(config, s.machine), ...words], session)

  it('is understood, whatever is in it', async () => {
    const room = size - 1000
    // Short enough to be read in a hundredth of an upcall's time limit, because the machine may be that busy.
    const lines = (line: string): string => `${line.padEnd(31)}\n`.repeat(room / 32)
    const texts: readonly ((s: Server) => string)[] = [
      (s) => `[x]\na${' '.repeat(room)}b=1\n${ours(s)}`,
      (s) => `[a${' '.repeat(room)}b\n${ours(s)}`,
      (s) => `[x]\n${'='.repeat(room)}\n${ours(s)}`,
      (s) => `[x]\na=${'='.repeat(room)}\n${ours(s)}`,
      (s) => `[x]\n${lines('a=')}${ours(s)}`,
      (s) => `${ours(s)}${lines('debug')}`,
      (s) => `[a "${'"'.repeat(room)}\n${ours(s)}`,
      (s) => `[x]\n${'\\\n'.repeat(room / 2)}\n${ours(s)}`,
      (s) => `[x]\n${'\xff'.repeat(room / 2)}\n${ours(s)}`,
    ]
    for (const [index, text] of texts.entries()) {
      const s = server(artefact)
      const config = join(s.nfsdDir, 'nfs.conf')
      writeFileSync(config, Buffer.from(text(s), 'latin1'))
      const said = await call(s, config, 'init')
      assert.equal(said.status, done, `${index}: ${said.stderr}`)
      assert.ok(existsSync(s.stateDir), String(index))
      // An alarm ends a hang, and a flooded log would hide what matters.
      assert.ok(said.stderr.split('\n').length < 30, String(index))
    }
  })

  it('and a byte is refused', async () => {
    const s = server(artefact)
    const config = join(s.nfsdDir, 'nfs.conf')
    writeFileSync(config, ours(s).padEnd(size + 1, '\n'))
    const said = await call(s, config, 'init')
    assert.equal(said.status, unusableAtStart)
    assert.match(said.stderr, /longer than 1 MiB/)
  })

  it('can not be exceeded by files that include each other for ever, or again and again', async () => {
    const s = server(artefact)
    const file = (level: number): string => join(s.nfsdDir, `${level}.conf`)
    for (let level = 0; level < 8; level++)
      writeFileSync(file(level), `[nfsd-userland-helper]\n${`include=${file(level + 1)}\n`.repeat(12)}`)
    writeFileSync(file(8), '')
    writeFileSync(join(s.nfsdDir, 'itself.conf'), `[nfsd-userland-helper]\ninclude=itself.conf\n`)
    for (const [config, why] of [
      [file(1), /includes too much: at most 1000 files/],
      [join(s.nfsdDir, 'itself.conf'), /too deep/],
    ] as const) {
      const said = await call(s, config, 'init')
      assert.equal(said.status, unusableAtStart)
      assert.match(said.stderr, why)
    }
  })
})

eachArtefact('a directory', (artefact) => {
  it('two thousand levels deep is made, and used', async () => {
    const s = server(artefact)
    const there = ['-s', join(inMemory(s), 'd/'.repeat(1900))]
    assert.equal((await s.call([...there, 'init'])).status, done)
    assert.equal((await s.call([...there, 'create', hex('ada')], session)).status, done)
    assert.equal((await s.call([...there, 'check', hex('ada')], session)).status, done)
  })

  it('with 150 000 names that are not ours gives the same answers as without them', async () => {
    const s = server(artefact)
    const state = inMemory(s)
    const call = async (...words: readonly string[]) => (await s.call(['-s', state, ...words], session)).status
    for (const words of [['init'], ['create', hex('ada')], ['grace_done'], ['init']])
      assert.equal(await call(...words), done)
    for (let index = 0; index < 150_000; index++) symlinkSync('-', join(state, 'v4clients', `somebody-else-${index}`))
    assert.equal(await call('check', hex('ada')), done)
    assert.equal(await call('check', hex('eve')), mayNotReclaim)
    for (const words of [['create', hex('new')], ['grace_done'], ['init'], ['check', hex('new')]])
      assert.equal(await call(...words), done)
  })
})
