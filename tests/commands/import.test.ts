/** What other trackers have recorded counts from the next start on, for those clients and no others. */
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { promisify } from 'node:util'
import { ensureDirSync } from 'fs-extra/esm'
import {
  badArgument,
  done,
  forPeople,
  hex,
  mayNotReclaim,
  server,
  storageFailed,
  type Server,
} from '../contract/server.ts'
import { settings, type Said } from '../support/artefacts.ts'
import { beside, exportOf, mayReclaimNext, onTerminal } from '../support/people.ts'
import { barriers, traced } from '../support/strace.ts'
import { nfsdcldOpens, nfsdcltrack, sql } from './peers.ts'

const imported = async (s: Server, source: string, ...more: string[]): Promise<Said> =>
  s.call(['import', '--yes', source, ...more])
const run = promisify(execFile)
const md5 = (owner: string): string => createHash('md5').update(owner).digest('hex')

/** A database of the real nfsdcltrack. */
function tracked(s: Server, ...owners: string[]): string {
  const storage = beside(s, 'nfsdcltrack')
  assert.equal(nfsdcltrack(storage, ['init']), done)
  for (const owner of owners)
    assert.equal(nfsdcltrack(storage, ['create', hex(owner)], { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' }), done)
  return join(storage, 'main.sqlite')
}

forPeople("import from nfsdcltrack's database", (artefact) => {
  it('lets its clients reclaim at the next start, and nobody else; the database stays as it is', async () => {
    const s = server(artefact)
    const database = tracked(s, 'ada', 'bob', 'two words\0\xff')
    const asItIs = (): unknown[] => [
      readFileSync(database, 'latin1'),
      statSync(database).mtimeMs,
      readdirSync(join(database, '..')),
      // Such a file would show a lock, or a journal.
      statSync(join(database, '..')).mtimeMs,
    ]
    const before = asItIs()
    const said = await imported(s, database)
    assert.equal(said.status, done, said.stderr)
    assert.match(said.stdout, /^3 clients imported/)
    assert.deepEqual(asItIs(), before)
    assert.deepEqual(await mayReclaimNext(s, 'ada', 'bob', 'two words\0\xff', 'eve'), ['ada', 'bob', 'two words\0\xff'])
  })

  it('reads schema 1, which knew no sessions', async () => {
    const s = server(artefact)
    const database = beside(s, 'main.sqlite')
    sql(
      database,
      `CREATE TABLE parameters (key TEXT PRIMARY KEY, value TEXT); INSERT INTO parameters VALUES ('version', '1');
      CREATE TABLE clients (id BLOB PRIMARY KEY, time INTEGER); INSERT INTO clients VALUES (x'${hex('ada')}', 1400000000);`,
    )
    assert.equal((await imported(s, database)).status, done)
    assert.match(s.snapshot(), /ada -> v2,session=N,recorded=1400000000/)
    assert.match((await s.call(['status'])).stdout, /^clients +1 may reclaim after the next start$/m)
    assert.deepEqual(await mayReclaimNext(s, 'ada', 'eve'), ['ada'])
  })

  it('says what rows it left out, and refuses a schema that it does not know', async () => {
    const s = server(artefact)
    const database = tracked(s, 'ada')
    sql(database, `INSERT INTO clients VALUES (NULL, 1, 1), (zeroblob(1025), 1, 1);`)
    const { notes, imported: count } = JSON.parse((await imported(s, database, '--json')).stdout) as {
      notes: string[]
      imported: number
    }
    assert.equal(count, 1)
    assert.deepEqual(notes, [
      '1 record without an owner left out',
      '1 record with an owner longer than 1024 bytes left out',
    ])
    sql(database, `UPDATE parameters SET value = '3' WHERE key = 'version';`)
    const refused = await imported(s, database)
    assert.equal(refused.status, storageFailed)
    assert.match(refused.stderr, /schema 3 is not known/)
  })

  it('reads one on a read-only disk, and one in WAL mode whose log has been checkpointed', async () => {
    const s = server(artefact)
    const database = tracked(s, 'ada')
    sql(database, 'PRAGMA journal_mode = WAL; UPDATE clients SET has_session = 0;')
    assert.deepEqual(readFileSync(database).subarray(18, 20), Buffer.of(2, 2), 'it is in WAL mode')
    const storage = join(database, '..')
    execFileSync('mount', ['--bind', storage, storage])
    s.atEnd(() => execFileSync('umount', [storage]))
    execFileSync('mount', ['-o', 'remount,bind,ro', storage])
    const said = await imported(s, storage)
    assert.equal(said.status, done, said.stderr)
    assert.deepEqual(await mayReclaimNext(s, 'ada', 'eve'), ['ada'])
  })

  it('imports nothing that was written to it after it was checked', async () => {
    const s = server(artefact)
    const database = tracked(s, 'ada', 'bob')
    const { status, said } = await onTerminal(s, ['import', database], () =>
      sql(database, `DELETE FROM clients WHERE id = x'${hex('bob')}'`),
    )
    assert.equal(status, storageFailed, said)
    assert.match(said, /is being written to: stop its server first/)
    assert.deepEqual(await mayReclaimNext(s, 'ada', 'bob'), [])
  })

  it('refuses a database with an unfinished transaction, and one that is damaged', async () => {
    const s = server(artefact)
    const database = tracked(s, 'ada')
    // As SQLite leaves it when its process is killed: the header of a journal that was not finished.
    writeFileSync(`${database}-journal`, Buffer.from('d9d505f920a163d700000000', 'hex'))
    assert.match((await imported(s, database)).stderr, /unfinished transaction beside it \(-journal\)/)
    // Finished by its writer, but kept: journal_mode=persist.
    writeFileSync(`${database}-journal`, Buffer.alloc(512))
    const dry = await s.call(['import', '--dry-run', database])
    assert.equal(dry.status, done, dry.stderr)
    unlinkSync(`${database}-journal`)
    writeFileSync(`${database}-wal`, Buffer.alloc(32, 1))
    assert.match((await imported(s, database)).stderr, /unfinished transaction beside it \(-wal\).*wal_checkpoint/)
    unlinkSync(`${database}-wal`)
    const bytes = readFileSync(database)
    writeFileSync(database, bytes.fill(0x55, 100, 900))
    const damaged = await imported(s, database)
    assert.equal(damaged.status, storageFailed)
    assert.match(damaged.stderr, /is damaged/)
    assert.equal(s.snapshot(), '(missing)')
  })
})

forPeople("import from nfsdcld's database", (artefact) => {
  const made = async (s: Server, statements: string): Promise<string> => {
    const storage = beside(s, 'nfsdcld')
    await nfsdcldOpens(storage)
    sql(join(storage, 'main.sqlite'), statements)
    return storage
  }
  const row = (epoch: number, owner: string, principal = 'NULL'): string =>
    `INSERT INTO "rec-${epoch.toString(16).padStart(16, '0')}" VALUES (x'${hex(owner)}', ${principal});`

  it("takes the current epoch's clients outside of grace, each with the principal that it needs", async () => {
    const s = server(artefact)
    const digest = 'ab'.repeat(32)
    const storage = await made(
      s,
      row(1, 'ada') + row(1, 'bob', `x'${digest}'`) + row(1, 'cut', `x'${'ab'.repeat(31)}'`) + row(1, 'mal', "x'ab'"),
    )
    const said = await imported(s, storage)
    assert.equal(said.status, done, said.stderr)
    assert.match(said.stderr, /1 record with a principal's digest of another length left out/)
    const { clients } = JSON.parse((await s.call(['list', '--json'])).stdout) as { clients: readonly object[] }
    const recorded = clients.map((client) => {
      const { owner, session, principal } = client as { owner: string; session: unknown; principal: unknown }
      return [owner, session, principal]
    })
    assert.deepEqual(recorded, [
      ['ada', null, null],
      ['bob', null, digest],
      ['cut', null, 'ab'.repeat(31)],
    ])
    assert.match(
      (await s.call(['list'])).stdout,
      new RegExp(` "bob"  \\(needs the Kerberos principal with SHA-256 ${digest}\\)\n`),
    )
    assert.match(
      (await s.call(['show', 'bob'])).stdout,
      new RegExp(`to reclaim +it needs the Kerberos principal with SHA-256 ${digest}\n`),
    )

    const [json, back] = [beside(s, 'clients.json'), beside(s, 'back.sqlite')]
    assert.equal((await s.call(['export', '-o', json])).status, done)
    const other = server(artefact)
    assert.equal((await imported(other, json)).status, done)
    assert.equal((await other.call(['export', '--to', 'nfsdcld', '-o', back])).status, done)
    assert.equal(
      sql(back, 'SELECT id, lower(hex(princhash)) FROM "rec-0000000000000001" ORDER BY id'),
      `ada|\nbob|${digest}\ncut|${'ab'.repeat(31)}\n`,
      'what nfsdcld told comes back to it, over two of our records',
    )
    assert.deepEqual(await mayReclaimNext(s, 'ada', 'bob', 'eve'), ['ada', 'bob'])
  })

  it('takes only the clients that a grace period still waited for, as nfsdcld does when it starts again', async () => {
    const s = server(artefact)
    const storage = await made(
      s,
      `${row(1, 'ada')} UPDATE grace SET current = 2, recovery = 1;
      CREATE TABLE "rec-0000000000000002" (id BLOB PRIMARY KEY, princhash BLOB); ${row(2, 'new')}`,
    )
    assert.equal((await imported(s, storage)).status, done)
    assert.deepEqual(await mayReclaimNext(s, 'ada', 'new'), ['ada'])
  })

  it('finds the table of an epoch whose number lost its zeros, and refuses when it finds none', async () => {
    const s = server(artefact)
    const storage = await made(
      s,
      `${row(1, 'ada')} ALTER TABLE "rec-0000000000000001" RENAME TO "rec-               1";`,
    )
    assert.equal((await imported(s, storage, '--dry-run')).status, done)
    sql(join(storage, 'main.sqlite'), 'UPDATE grace SET current = 7;')
    const refused = await imported(s, storage)
    assert.equal(refused.status, storageFailed)
    assert.match(refused.stderr, /0 tables for epoch 7/)
  })

  it("keeps clients that nfsdcld took over from the kernel's own tracker as they are: known by MD5", async () => {
    const s = server(artefact)
    const storage = await made(
      s,
      `INSERT INTO "rec-0000000000000001" (id) VALUES (CAST('hash:${md5('ada')}' || char(0) AS BLOB));`,
    )
    writeFileSync(join(s.nfsdDir, 'nfsv4recoverydir'), `${join(s.stateDir, 'v4recovery')}\n`)
    assert.match((await imported(s, storage)).stdout, /1 of 1 clients known only by MD5 placed/)
    await s.init()
    assert.equal((await s.check('ada', 'v4.0', join(s.stateDir, 'v4recovery', md5('ada')))).status, done)
  })
})

forPeople("import from a directory of the kernel's own tracker", (artefact) => {
  const recovered = (s: Server, ...owners: string[]): string => {
    const top = beside(s, 'old-v4recovery')
    for (const owner of owners) ensureDirSync(join(top, md5(owner)))
    return top
  }
  const legacyRecord = (s: Server, owner: string): string => join(s.stateDir, 'v4recovery', md5(owner))
  const kernelLooksThere = (s: Server): void => {
    writeFileSync(join(s.nfsdDir, 'nfsv4recoverydir'), `${join(s.stateDir, 'v4recovery')}\n`)
  }

  it('lets a client reclaim by the MD5 of its owner, until grace is over', async () => {
    const s = server(artefact)
    kernelLooksThere(s)
    const top = recovered(s, 'ada', 'bob')
    writeFileSync(join(top, 'README'), '')
    const said = await imported(s, top)
    assert.equal(said.status, done, said.stderr)
    assert.match(said.stderr, /1 entry that is no client's directory left out/)
    assert.equal((await imported(s, top)).status, done)
    await s.init('7')
    assert.equal((await s.check('ada', 'v4.0', legacyRecord(s, 'ada'))).status, done)
    assert.equal((await s.check('eve', 'v4.0', legacyRecord(s, 'eve'))).status, mayNotReclaim)
    await s.graceDone('7', join(s.stateDir, 'v4recovery'))
    await s.init('8')
    assert.equal((await s.check('ada', 'v4.0', legacyRecord(s, 'ada'))).status, done, 'it reclaimed, so it is recorded')
    assert.equal(
      (await s.check('bob', 'v4.0', legacyRecord(s, 'bob'))).status,
      mayNotReclaim,
      'it did not come in time',
    )
    assert.deepEqual(readdirSync(top).sort(), ['README', md5('ada'), md5('bob')].sort())
  })

  it('refuses directories that the kernel would not use, or the helper would not clear', async () => {
    const s = server(artefact)
    writeFileSync(join(s.nfsdDir, 'nfsv4recoverydir'), `${beside(s, 'elsewhere')}\n`)
    const { status, stderr } = await imported(s, recovered(s, 'ada'))
    assert.equal(status, storageFailed)
    assert.match(stderr, /the kernel looks for them in/)
    assert.equal(s.snapshot(), '(missing)')
  })
})

forPeople('import from a state directory of another machine', (artefact) => {
  it('takes the clients that may reclaim there, each with its newest record', async () => {
    const [s, other] = [server(artefact), server(artefact)]
    await other.fullInstanceWith('ada', 'bob')
    await other.init()
    await other.create('bob', 'v4.1')
    await other.create('new', 'v4.1')
    const before = other.snapshot()
    const said = await imported(s, other.stateDir)
    assert.equal(said.status, done, said.stderr)
    assert.equal(other.snapshot(), before)
    assert.deepEqual(await mayReclaimNext(s, 'ada', 'bob', 'new', 'eve'), ['ada', 'bob', 'new'])
  })

  it('takes clients also from a server that never completed a grace period', async () => {
    const [s, other] = [server(artefact), server(artefact)]
    await other.init()
    await other.create('ada', 'v4.1')
    await other.init()
    await other.create('bob', 'v4.1')
    assert.equal((await imported(s, other.stateDir)).status, done)
    assert.deepEqual(await mayReclaimNext(s, 'ada', 'bob', 'eve'), ['ada', 'bob'])
  })

  it('refuses one in format 1 whose times are damaged, and the state directory itself', async () => {
    const [s, other] = [server(artefact), server(artefact)]
    ensureDirSync(join(other.stateDir, 'v4clients'), 0o700)
    other.writeState('new_boot_time', 'yesterday\n')
    assert.equal((await imported(s, other.stateDir)).status, storageFailed)
    assert.equal((await imported(s, s.stateDir)).status, badArgument)
  })
})

forPeople('import', (artefact) => {
  const given = (s: Server, ...owners: string[]): string => {
    writeFileSync(beside(s, 'clients.json'), exportOf(...owners))
    return beside(s, 'clients.json')
  }

  it('keeps recorded clients, imports none twice, and needs two barriers for a thousand clients', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'old')
    const many = Array.from({ length: 1000 }, (_, i) => `client ${i}`)
    const source = given(s, 'ada', ...many)
    const { status, calls } = await traced(s, ['import', '--yes', source])
    assert.equal(status, done)
    assert.equal(barriers(s, calls).length, 2)
    const after = s.snapshot()
    const repeated = await traced(s, ['import', '--yes', source, '--json'])
    assert.deepEqual(
      barriers(s, repeated.calls).map((path) => path.replace(/\d{6,}/, 'T')),
      ['/v4clients/T', '/v4clients'],
      'the first may have been killed before its barrier',
    )
    const { stdout } = repeated
    const { imported: again, already_there: alreadyThere } = JSON.parse(stdout) as {
      imported: number
      already_there: number
    }
    assert.deepEqual({ again, alreadyThere }, { again: 0, alreadyThere: 1001 })
    assert.equal(s.snapshot(), after)
    assert.deepEqual(await mayReclaimNext(s, 'ada', 'old', 'client 0', 'client 999', 'eve'), [
      'ada',
      'old',
      'client 0',
      'client 999',
    ])
  })

  it('into a server that stopped in grace: a client that does not reclaim before grace ends may not any more', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('old')
    await s.init()
    await s.create('old', 'v4.1')
    assert.equal((await imported(s, given(s, 'ada', 'bob'))).status, done)
    assert.deepEqual(await mayReclaimNext(s, 'ada', 'bob', 'old'), ['ada', 'bob', 'old'])
    await s.create('ada', 'v4.1')
    await s.graceDone()
    assert.deepEqual(await mayReclaimNext(s, 'ada', 'bob', 'old'), ['ada'])
  })

  it('into a server in grace that ran after all: its end of grace counts for the imported clients too', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('old')
    await s.init()
    assert.equal((await imported(s, given(s, 'ada', 'bob'))).status, done)
    await s.create('ada', 'v4.1')
    await s.graceDone()
    assert.deepEqual(await mayReclaimNext(s, 'ada', 'bob', 'old'), ['ada'])
  })

  it('into a first instance whose grace never ended: no client is lost that was recorded in it', async () => {
    const s = server(artefact)
    await s.init()
    await s.create('first', 'v4.1')
    assert.equal((await imported(s, given(s, 'ada', 'bob'))).status, done)
    assert.deepEqual(await mayReclaimNext(s, 'ada', 'bob', 'first'), ['ada', 'bob', 'first'])
    await s.create('ada', 'v4.1')
    await s.graceDone()
    assert.deepEqual(
      await mayReclaimNext(s, 'ada', 'bob', 'first'),
      ['ada'],
      'who did not reclaim before grace ended may not any more',
    )
  })

  it('is refused for a client whose newer record here can not be understood: that decides, and allows nothing', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('old')
    await s.init()
    await s.create('ada', 'v4.1')
    const [link = ''] = readdirSync(join(s.stateDir, 'v4clients'), { recursive: true, encoding: 'utf8' }).filter(
      (name) => name.endsWith('/ada'),
    )
    unlinkSync(join(s.stateDir, 'v4clients', link))
    symlinkSync('session=Y', join(s.stateDir, 'v4clients', link))
    const before = s.snapshot()
    const refused = await imported(s, given(s, 'ada', 'bob'))
    assert.equal(refused.status, storageFailed)
    assert.match(refused.stderr, /1 of these clients have a newer record here that can't be understood/)
    assert.equal(s.snapshot(), before)
  })

  it('is refused while nfsd runs, and if after a failed start nobody may reclaim', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('old')
    const before = s.snapshot()
    const source = given(s, 'ada')
    writeFileSync(join(s.nfsdDir, 'threads'), '8\n')
    const running = await imported(s, source)
    assert.equal(running.status, storageFailed)
    assert.match(running.stderr, /nfsd is running \(8 threads\)/)
    writeFileSync(join(s.nfsdDir, 'threads'), '0\n')

    const marks = s.runDir
    ensureDirSync(marks)
    symlinkSync('a start that died', join(marks, 'unknown-directory'))
    assert.match((await imported(s, source)).stderr, /a server instance ran that could not be recorded/)
    assert.equal(s.snapshot(), before)
  })

  it('reads standard input to its end, also from a pipe that has only a few bytes at a time', async () => {
    const s = server(artefact)
    const document = beside(s, 'clients.json')
    writeFileSync(document, exportOf('ada', 'bob', 'cal'))
    // FIONREAD tells how much of it has not been read.
    const fewBytes = `
      open(my $document, '<', shift) or die;
      while (sysread($document, my $bytes, 7)) {
        syswrite(STDOUT, $bytes);
        do { ioctl(STDOUT, 0x541b, my $unread = pack('i', 0)) or die; $_ = unpack('i', $unread); select(undef, undef, undef, 0.001) } while $_;
      }`
    const { stdout } = await run('/bin/sh', [
      '-c',
      'script=$1 document=$2; shift 2; timeout 100 perl -e "$script" "$document" | "$@"',
      'sh',
      fewBytes,
      document,
      ...[...artefact.command, ...settings(s.machine), 'import', '--yes', '-'],
    ])
    assert.match(stdout, /^3 clients imported/)
    assert.deepEqual(await mayReclaimNext(s, 'ada', 'bob', 'cal', 'eve'), ['ada', 'bob', 'cal'])
  })

  it('asks a person, and changes nothing unless the answer is yes', async () => {
    const s = server(artefact)
    const source = given(s, 'ada')
    const unasked = await s.call(['import', source])
    assert.equal(unasked.status, badArgument)
    assert.match(unasked.stderr, /there is no terminal to ask on; use --yes/)
    assert.equal(
      (await s.call(['import', '--dry-run', source])).stdout.split('\n')[0]?.startsWith('1 client would be imported'),
      true,
    )
    for (const [answer, expected] of [
      ['n', badArgument],
      ['', badArgument],
      ['y', done],
    ] as const) {
      assert.equal(s.snapshot(), '(missing)')
      const { status, said } = await onTerminal(s, ['import', source], undefined, answer)
      assert.equal(status, expected, `answered '${answer}': ${said}`)
    }
    assert.deepEqual(await mayReclaimNext(s, 'ada'), ['ada'])
  })

  it('refuses files of another kind, and an export that was edited into nonsense', async () => {
    const s = server(artefact)
    const file = beside(s, 'source')
    for (const [text, why] of [
      ['', 'is empty'],
      ['hello', 'no JSON document'],
      ['[]', 'no JSON document'],
      [exportOf('ada').slice(0, -2), 'no JSON document'],
      [`${exportOf('ada')}{}`, 'no JSON document'],
      [exportOf('ada').replace('"format":', '"form":'), 'format is not'],
      [exportOf('ada').replace('"clients":[', '"clients":5,"more":['), 'clients is no list'],
      [exportOf('ada').replace('"version":1', '"version":2'), 'version'],
      [exportOf('ada').replace(hex('ada'), 'xyz'), 'client 1 has an owner_hex'],
      [exportOf('ada').replace('"session":true', '"session":"Y"'), 'client 1 lacks'],
      [exportOf('ada').replace('{"owner_hex"', '{"owner":"bob","owner_hex"'), 'named differently'],
    ] as const) {
      writeFileSync(file, text)
      const { status, stderr } = await imported(s, file)
      assert.equal(status, storageFailed, text)
      assert.ok(stderr.includes(why), stderr)
    }
    assert.equal((await imported(s, beside(s, 'absent'))).status, badArgument)
    assert.equal((await imported(s, s.nfsdDir)).status, storageFailed)
    assert.equal((await s.call(['import'])).status, badArgument)
    assert.equal((await s.call(['import', file, '--force'])).status, badArgument)
    assert.equal(s.snapshot(), '(missing)')
  })
})
