/** Bad input gets one line that quotes the value, and the documented status. It changes nothing. */
import assert from 'node:assert/strict'
import { chownSync, chmodSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { ensureDirSync } from 'fs-extra/esm'
import {
  badArgument,
  done,
  eachArtefact,
  mayNotReclaim,
  ownerTooLong,
  server,
  storageFailed,
  unknownVerb,
  unusableAtStart,
  type Server,
} from './server.ts'

/** Printable ASCII in lines, and nothing else: no terminal escape, no forged line. */
const harmless = /^(?:[\x20-\x7e]+\n)*$/

async function refuses(s: Server, words: readonly string[], status: number, naming: RegExp | string): Promise<void> {
  const before = s.snapshot()
  const said = await s.call(words)
  assert.equal(said.status, status, words.join(' ').slice(0, 100))
  assert.equal(said.stdout, '')
  assert.match(said.stderr, harmless)
  assert.equal(said.stderr.split('\n').length, 2, `one line: ${said.stderr}`)
  assert.ok(said.stderr.length < 300)
  assert.ok(typeof naming === 'string' ? said.stderr.includes(naming) : naming.test(said.stderr), said.stderr)
  assert.equal(s.snapshot(), before)
}

eachArtefact('bad words', (artefact) => {
  it('a client id that is no hex, or has an odd digit, is refused', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    for (const verb of ['create', 'remove', 'check'])
      for (const word of ['6', '616', 'xyzz', '0x10', '61 62', '61\n', '../..', '-rf', '1e3', 'é', '6g'])
        await refuses(s, [verb, word], badArgument, /client id/)
  })

  it('an owner of 1024 bytes is taken, of 1025 refused with ENOBUFS', async () => {
    const s = server(artefact)
    await s.init()
    assert.equal((await s.create('x'.repeat(1024), 'v4.1')).status, done)
    assert.equal((await s.check('x'.repeat(1024), 'v4.1')).status, done)
    for (const words of [
      ['create', '61'.repeat(1025)],
      ['check', '00'.repeat(4096)],
      ['expire_client', 'y'.repeat(1025)],
      ['create_client', `\\x${'ff'.repeat(1025)}`],
    ])
      await refuses(s, words, ownerTooLong, /longer than 1024 bytes: '.{80,}'\.\.\. \([0-9]+ bytes\)/)
  })

  it('a missing or surplus argument is refused', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    for (const verb of ['create', 'remove', 'check', 'create_client', 'expire_client', 'gracedone'])
      await refuses(s, [verb], badArgument, 'missing argument')
    for (const words of [
      ['init', 'x'],
      ['start', '--'],
      ['grace_done', '5'],
      ['create', '61', '62'],
      ['gracedone', '5', '6'],
      ['create', '61', '-d'],
    ])
      await refuses(s, words, badArgument, `surplus argument of ${words[0] ?? ''}: '${words.at(-1) ?? ''}'`)
  })

  it('an unknown verb is refused with ENOSYS, so that a newer kernel can tell', async () => {
    const s = server(artefact)
    for (const verb of ['frobnicate', 'CREATE', 'creat', '__proto__', 'constructor', '', 'init\n', '\x1b[31minit'])
      await refuses(s, [verb, '61'], unknownVerb, 'unknown verb')
  })

  it('no verb, and an option that does not exist, are refused', async () => {
    const s = server(artefact)
    await refuses(s, [], badArgument, 'no verb')
    await refuses(s, ['--frobnicate', 'init'], badArgument, "unknown option: '--frobnicate'")
    await refuses(s, ['-s'], badArgument, 'needs a value')
    await refuses(s, ['-s', '', 'init'], badArgument, 'needs a value')
    await refuses(s, ['--debug=yes', 'init'], badArgument, 'takes no value')
  })

  it('a bad escape is refused', async () => {
    const s = server(artefact)
    await s.init()
    for (const word of [
      '\\9',
      '\\x1',
      '\\777',
      '\\x6g',
      '\\1',
      '\\',
      'a\\',
      'a b',
      'a\tb',
      'a\\x61',
      '',
      '\\400',
      'é',
      '\x01',
      '\\X61',
    ])
      for (const verb of ['create_client', 'expire_client'])
        await refuses(s, [verb, word], badArgument, word === '' ? 'empty client owner' : 'badly escaped client owner')
  })

  it('a junk boot time never ends grace', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await s.init('100')
    for (const word of [
      '',
      ' 5',
      '12abc',
      '1.5',
      '1e12',
      '-1',
      '+5',
      '0x64',
      '0144',
      '9223372036854775808',
      '99999999999999999999999',
      'NaN',
      '1\n',
      '١',
    ])
      await refuses(s, ['gracedone', word], badArgument, 'boot time is not a number of seconds')
  })

  it('a junk boot time at the start is reported, but the start is not refused', async () => {
    const s = server(artefact)
    for (const told of ['abc', '-5', '0x10', '1e3', '9'.repeat(40), '\x1b[2J']) {
      const said = await s.init(told)
      assert.equal(said.status, done)
      assert.match(said.stderr, /NFSDCLTRACK_GRACE_START can't be understood/)
      assert.match(said.stderr, harmless)
    }
    assert.equal((await s.graceDone('1')).status, done, 'so none was told')
  })
})

eachArtefact('a state directory that can not be used', (artefact) => {
  const verbs: readonly (readonly string[])[] = [
    ['create', '61'],
    ['remove', '61'],
    ['check', '61'],
    ['gracedone', '5'],
  ]

  async function refusesAll(s: Server, naming: RegExp): Promise<void> {
    await refuses(s, ['init'], unusableAtStart, naming)
    for (const words of verbs) await refuses(s, words, storageFailed, naming)
  }

  it('because it is a file', async () => {
    const s = server(artefact)
    writeFileSync(s.stateDir, 'precious')
    await refusesAll(s, /state'/)
  })

  it('because it is a link to nothing', async () => {
    const s = server(artefact)
    symlinkSync(join(s.nfsdDir, 'nowhere'), s.stateDir)
    await refusesAll(s, /state'.* (?:missing|a link that leads nowhere)/)
  })

  it('because v4clients belongs to somebody else, or others may write to it', async () => {
    const s = server(artefact)
    ensureDirSync(join(s.stateDir, 'v4clients'))
    chownSync(join(s.stateDir, 'v4clients'), 12345, 12345)
    await refusesAll(s, /belongs to another user \(12345\), so nothing in it counts/)
    chmodSync(join(s.stateDir, 'v4clients'), 0o700)
    await refusesAll(s, /belongs to another user|failed: EACCES, perhaps by its owner or mode; see nfsd-u.* doctor/)
    chownSync(join(s.stateDir, 'v4clients'), 0, 0)
    chmodSync(join(s.stateDir, 'v4clients'), 0o777)
    await refusesAll(s, /writable by others/)
  })

  it('because v4clients is a link or a file', async () => {
    const s = server(artefact)
    mkdirSync(s.stateDir)
    symlinkSync('/', join(s.stateDir, 'v4clients'))
    await refusesAll(s, /v4clients' is not a directory/)
    rmSync(join(s.stateDir, 'v4clients'))
    writeFileSync(join(s.stateDir, 'v4clients'), '')
    await refusesAll(s, /v4clients' is not a directory/)
  })

  it("because an instance's directory is a link: nothing is read or written through it, and a start repairs it", async () => {
    for (const file of ['boot_time', 'new_boot_time']) {
      const s = server(artefact)
      await s.fullInstanceWith('ada')
      if (file === 'new_boot_time') {
        await s.init()
        await s.create('ada', 'v4.1')
      }
      const directory = join(s.stateDir, 'v4clients', (s.readState(file) ?? '').trim())
      const elsewhere = join(s.nfsdDir, 'elsewhere')
      renameSync(directory, elsewhere)
      symlinkSync(elsewhere, directory)
      assert.equal((await s.create('new', 'v4.1')).status, storageFailed)
      assert.equal((await s.check('ada', 'v4.1')).status, storageFailed)
      await s.remove('ada')
      await s.init()
      await s.create('new', 'v4.1')
      await s.graceDone()
      await s.init()
      assert.equal((await s.check('new', 'v4.1')).status, done)
      assert.deepEqual(readdirSync(elsewhere), ['ada'])
    }
  })

  it('because of something in the place of a mark: it is moved aside or reported, and the next instance is sound', async () => {
    const damages: readonly (readonly [mark: string, damage: (path: string) => void])[] = [
      ...['unconfirmed', 'may_end_early', 'legacy', 'unasked'].map(
        (mark) =>
          [
            mark,
            (path: string) => {
              ensureDirSync(join(path, 'x'))
            },
          ] as const,
      ),
      [
        'legacy',
        (path) => {
          symlinkSync('x'.repeat(4000), path)
        },
      ],
      [
        'legacy',
        (path) => {
          symlinkSync('no/absolute/path', path)
        },
      ],
    ]
    for (const [mark, damage] of damages) {
      const s = server(artefact)
      await s.init()
      const path = join(s.stateDir, 'v4clients', `${(s.readState('new_boot_time') ?? '').trim()}.${mark}`)
      rmSync(path, { force: true })
      damage(path)
      assert.equal((await s.create('ada', 'v4.1')).status, done, mark)
      assert.equal((await s.graceDone()).status, done, mark)
      assert.equal((await s.init()).status, done, mark)
      assert.equal((await s.check('ada', 'v4.1')).status, done, mark)
      assert.equal((await s.check('eve', 'v4.1')).status, mayNotReclaim, mark)
    }
  })

  it('a link to a directory is as good as the directory', async () => {
    const s = server(artefact)
    mkdirSync(join(s.nfsdDir, 'real'))
    symlinkSync(join(s.nfsdDir, 'real'), s.stateDir)
    await s.fullInstanceWith('ada')
    assert.equal((await s.check('ada', 'v4.1')).status, done)
  })
})
