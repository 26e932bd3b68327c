/**
 * verify names everything that is wrong in a state directory. A repair keeps it as evidence, and lets no client
 * reclaim.
 */
import assert from 'node:assert/strict'
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { it } from 'node:test'
import { removeSync } from 'fs-extra/esm'
import { recordLine } from '../../lib/rules/record.ts'
import type { ClientOwner } from '../../lib/upcall/owner.ts'
import { badArgument, done, forPeople, hex, mayNotReclaim, server, type Server } from '../contract/server.ts'
import { named, stoppedBefore, traced } from '../support/strace.ts'

const found = 1
const clients = (s: Server): string => join(s.stateDir, 'v4clients')
const pathOf = (s: Server, owner: string): string => {
  const [name] = readdirSync(clients(s), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith(`/${owner}`))
    .sort()
    .reverse()
  assert.ok(name !== undefined, `${owner} is recorded`)
  return join(clients(s), name)
}
const kept = (s: Server): string[] =>
  readdirSync(join(clients(s), 'damaged'))
    .map((name) => name.replace(/\d{6,}/g, 'T').replace(/\.T\.\d+\.\d+$/, ''))
    .sort()
const replace = (path: string, target: string): void => {
  unlinkSync(path)
  symlinkSync(target, path)
}

interface Verified {
  findings: { kind: string; path: string; wrong: boolean }[]
  repaired: { kind: string; path: string }[]
  records: number | null
}

async function verified(s: Server, ...more: string[]): Promise<Verified & { status: number | string }> {
  const { status, stdout, stderr } = await s.call(['verify', '--json', ...more])
  assert.notEqual(stdout, '', stderr)
  return { ...(JSON.parse(stdout) as Verified), status }
}

forPeople('verify', (artefact) => {
  it('finds nothing wrong with what upcalls leave, also where one was killed', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'x'.repeat(900))
    await s.init()
    await s.create('bob', 'v4.0')
    writeFileSync(join(s.stateDir, 'new_boot_time.1'), '1\n')
    const { status, stdout } = await s.call(['verify'])
    assert.equal(status, done, stdout)
    assert.match(stdout, /note: leftover .*new_boot_time\.1.*\n3 records can be understood; nothing is wrong\n$/s)
    const before = s.snapshot()
    assert.equal((await verified(s, '--repair', '--yes')).status, done)
    assert.equal(s.snapshot(), before, 'there was nothing to mend')
  })

  it('says of a directory without any instance that no server has started with it: its name may be wrong', async () => {
    const s = server(artefact)
    mkdirSync(s.stateDir)
    const { status, stdout } = await s.call(['verify'])
    assert.equal(status, done)
    assert.match(stdout, /; nothing is wrong, but no server has started with this directory yet\n$/)
  })

  it('finds nothing wrong with a new instance after the state directory was wiped under a running server', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    removeSync(clients(s))
    await s.create('bob', 'v4.1')
    assert.ok(readdirSync(clients(s)).includes('rebuilt'), 'the mark of a new beginning')
    const { status, findings } = await verified(s)
    assert.deepEqual([status, findings], [done, []])
  })

  type Make = (s: Server) => void
  const file =
    (name: string): Make =>
    (s) => {
      writeFileSync(join(clients(s), name), '')
    }
  const directory =
    (name: string): Make =>
    (s) => {
      mkdirSync(join(clients(s), name))
    }
  /** Ada's record with other contents. */
  const record =
    (line: string): Make =>
    (s) => {
      replace(pathOf(s, 'ada'), line)
    }
  const inInstance =
    (make: (instance: string, ada: string) => void): Make =>
    (s) => {
      make(dirname(pathOf(s, 'ada')), pathOf(s, 'ada'))
    }

  const faults: readonly (readonly [name: string, kind: string, keeps: readonly string[], make: Make])[] = [
    ['a record whose checksum is wrong', 'damaged', ['T-ada'], record('session=Y,recorded=1,check=00000000')],
    [
      'a record of a year that no calendar has, though its checksum is right',
      'damaged',
      ['T-ada'],
      record(recordLine(Buffer.from('ada') as Uint8Array as ClientOwner, { session: 'has session', recorded: 9.5e15 })),
    ],
    [
      "a record under another owner's name",
      'damaged',
      ['T-eve'],
      inInstance((instance, ada) => {
        renameSync(ada, join(instance, 'eve'))
      }),
    ],
    [
      'a directory among the records',
      'damaged',
      ['T-sub'],
      inInstance((instance) => {
        mkdirSync(join(instance, 'sub'))
      }),
    ],
    ['a file among the instances', 'stray', ['notes.txt'], file('notes.txt')],
    ['a file in the place of an instance', 'stray', ['7'], file('7')],
    ['a file in the place of a mark', 'stray', ['7.partial'], file('7.partial')],
    ['a file in the place of the mark of the format', 'stray', ['format-1'], file('format-1')],
    ['a file in the place of the mark of a new beginning', 'stray', ['rebuilt'], file('rebuilt')],
    ['a file in the place of the evidence', 'stray', [], file('damaged')],
    ['a directory in the place of the lock, which nobody can have then', 'stray', ['lock'], directory('lock')],
    [
      'an old_boot_time that says nothing',
      'damaged',
      ['old_boot_time'],
      (s) => {
        s.writeState('old_boot_time', 'x')
      },
    ],
    [
      'a time told at a start that is none',
      'damaged',
      ['7.grace_start'],
      (s) => {
        symlinkSync('soon', join(clients(s), '7.grace_start'))
      },
    ],
    [
      'evidence that others may write to',
      'open',
      [],
      (s) => {
        directory('damaged')(s)
        chmodSync(join(clients(s), 'damaged'), 0o777)
      },
    ],
    [
      'an instance that others may write to',
      'open',
      [],
      inInstance((instance) => {
        chmodSync(instance, 0o770)
      }),
    ],
    [
      'an instance that belongs to somebody else',
      'open',
      [],
      inInstance((instance) => {
        chownSync(instance, 65534, 65534)
      }),
    ],
  ]
  for (const [name, kind, keeps, make] of faults)
    it(`finds ${name}, and repairs it`, async () => {
      const s = server(artefact)
      await s.fullInstanceWith('ada', 'bob')
      make(s)
      const before = s.snapshot()
      const seen = await verified(s)
      assert.equal(seen.status, found)
      assert.deepEqual(
        seen.findings.filter(({ wrong }) => wrong).map((finding) => finding.kind),
        [kind],
      )
      assert.equal((await verified(s, '--repair', '--dry-run')).status, found)
      assert.equal((await s.call(['verify', '--repair'])).status, badArgument)
      assert.equal(s.snapshot(), before)
      const mended = await verified(s, '--repair', '--yes')
      assert.equal(mended.status, done)
      assert.deepEqual(
        mended.repaired.map((finding) => finding.kind),
        [kind],
      )
      if (keeps.length > 0) assert.deepEqual(kept(s), keeps)
      assert.equal((await verified(s)).status, done)
      await s.init()
      assert.equal((await s.check('bob', 'v4.1')).status, done, 'what was whole stays as it was')
    })

  it('a repair lets no client reclaim: an older record is removed with the damaged one of the same name', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    const old = pathOf(s, 'ada')
    const line = 'session=Y,recorded=1,check=00000000'
    await s.init()
    await s.create('cid', 'v4.1')
    symlinkSync(line, pathOf(s, 'cid').replace(/cid$/, 'ada'))
    assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
    const { repaired, status } = await verified(s, '--repair', '--yes')
    assert.equal(status, done)
    assert.equal(repaired.length, 1)
    assert.deepEqual(kept(s), ['T-ada', 'T-ada'])
    assert.equal(readdirSync(join(old, '..')).includes('ada'), false)
    for (const [owner, verdict] of [
      ['ada', mayNotReclaim],
      ['bob', done],
      ['cid', done],
    ] as const)
      assert.equal((await s.check(owner, 'v4.1')).status, verdict, owner)
  })

  it('in format 1 a damaged time that hides an end of grace is removed together with the time before it: nobody may reclaim', async () => {
    for (const text of ['gibberish', '1\n']) {
      const s = server(artefact)
      await s.fullInstanceWith('ada')
      await s.init()
      unlinkSync(join(clients(s), 'format-2'))
      s.writeState('new_boot_time', text)
      const { status, findings } = await verified(s)
      assert.equal(status, found)
      assert.deepEqual(
        findings.filter(({ wrong }) => wrong).map(({ path }) => path),
        [join(s.stateDir, 'new_boot_time')],
      )
      assert.equal((await verified(s, '--repair', '--yes')).status, done)
      assert.deepEqual(kept(s), ['boot_time', 'new_boot_time'])
      await s.init()
      assert.equal((await s.check('ada', 'v4.1')).status, mayNotReclaim)
    }
  })

  it('puts back a good record that a create made just before: it is never lost', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    replace(pathOf(s, 'ada'), 'session=Y,recorded=1,check=00000000')
    // Between the judgement and the move: a create takes no lock.
    const repair = await stoppedBefore(s, ['verify', '--repair', '--yes'], {}, { name: 'rename', nth: 1 })
    assert.equal((await s.create('ada', 'v4.1')).status, done)
    assert.equal((await repair()).status, done)
    assert.deepEqual(kept(s), ['T-ada'], 'what was damaged')
    await s.init()
    assert.deepEqual([(await s.check('ada', 'v4.1')).status, (await s.check('bob', 'v4.1')).status], [done, done])
  })

  it('reports what a killed process has left, and what a newer program wrote, and changes neither', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    await traced(s, ['remove', hex('cid')], {}, ['-e', `inject=${named('unlink')}:signal=SIGKILL`])
    assert.ok(readdirSync(clients(s)).includes('lock'), 'it was killed with the lock in its hand')
    symlinkSync('v3,session=Y,recorded=1795328617,lease=90,check=00000000', pathOf(s, 'ada').replace(/ada$/, 'bob'))
    symlinkSync('held', join(s.stateDir, 'nfsd-userland-helper.lock'))
    mkdirSync(join(clients(s), 'selftest-Ab12_x'))
    const before = s.snapshot()
    const { status, findings } = await verified(s, '--repair', '--yes')
    assert.equal(status, done)
    assert.deepEqual(findings.map(({ kind, path, wrong }) => `${kind} ${basename(path)} ${String(wrong)}`).sort(), [
      'leftover lock false',
      'leftover nfsd-userland-helper.lock false',
      'leftover selftest-Ab12_x false',
      'newer bob false',
    ])
    assert.equal(s.snapshot(), before)
  })

  it('finds a record whose name is not UTF-8, and repairs it', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    symlinkSync('x', Buffer.concat([Buffer.from(join(pathOf(s, 'ada'), '../')), Buffer.of(0xff, 0xe9)]))
    assert.deepEqual(
      (await verified(s)).findings.map(({ kind, path }) => [kind, path.slice(-8)]),
      [['damaged', '\\377\\351']],
    )
    assert.equal((await verified(s, '--repair', '--yes')).status, done)
    assert.deepEqual(kept(s), ['T-??'])
    assert.equal((await s.check('ada', 'v4.1')).status, done)
  })

  it('waits for no barrier while it holds the lock', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    await s.init()
    await s.create('cid', 'v4.1')
    symlinkSync('session=Y', pathOf(s, 'cid').replace(/cid$/, 'ada'))
    const { calls } = await traced(s, ['verify', '--repair', '--yes'])
    let held = 0
    for (const { text } of calls) {
      if (/^symlink(?:at)?\(.*\/lock"/.test(text) && !text.includes('= -1')) held++
      if (/^unlink(?:at)?\(.*\/lock"/.test(text)) held--
      if (/^f(?:data)?sync\(/.test(text)) assert.equal(held, 0, text)
    }
    assert.ok(
      calls.some(({ text }) => text.includes('/lock"')),
      'the lock was seen',
    )
  })

  it('makes the directory of the current instance again, if that is missing', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    const directory = join(pathOf(s, 'ada'), '..')
    removeSync(directory)
    assert.equal((await verified(s)).status, found)
    assert.equal((await verified(s, '--repair', '--yes')).status, done)
    assert.deepEqual(readdirSync(directory), [])
  })

  it('trusts nothing in a state directory that others may write to, and repairs nothing there', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    chmodSync(clients(s), 0o777)
    const before = s.snapshot()
    const { status, stdout } = await s.call(['verify', '--repair', '--yes'])
    assert.equal(status, found)
    assert.match(stdout, /^wrong: unusable .*is writable by others/)
    assert.equal(s.snapshot(), before)
    assert.equal((await verified(server(artefact))).status, found, 'a state directory that is not there')
  })

  it('keeps moved entries unchanged, and does not report them as wrong', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    writeFileSync(join(clients(s), 'odd\x1b[31m\nname'), 'evidence')
    const { stdout } = await s.call(['verify', '--repair', '--yes'])
    assert.match(stdout, /repaired: stray .*odd\\033\[31m\\012name/)
    const [name = ''] = readdirSync(join(clients(s), 'damaged'))
    assert.equal(readFileSync(join(clients(s), 'damaged', name), 'utf8'), 'evidence')
    assert.match((await s.call(['verify'])).stdout, /note: set-aside/)
  })
})
