/** What an admin sees of the records: `list`, `show`, `status`. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { copySync, ensureDirSync } from 'fs-extra/esm'
import { latestRecorded, recordLine, recordName } from '../../lib/rules/record.ts'
import type { ClientOwner } from '../../lib/upcall/owner.ts'
import { badArgument, done, forPeople, hex, server, storageFailed, type Server } from '../contract/server.ts'
import { inForeground, settings, settingsBy } from '../support/artefacts.ts'
import { until } from '../support/until.ts'

interface Client {
  owner: string
  owner_hex: string
  standing: string
  may_reclaim: boolean
  instance: number
  instances_unseen: number
  session: boolean
  recorded: number
}

const asked = async (s: Server, ...words: string[]): Promise<string> => {
  const said = await s.call(words)
  assert.equal(said.status, done, said.stderr)
  assert.equal(said.stderr, '')
  return said.stdout
}
const listed = async (s: Server, ...words: string[]): Promise<Client[]> =>
  (JSON.parse(await asked(s, 'list', '--json', ...words)) as { clients: Client[] }).clients
const standings = async (s: Server, ...words: string[]): Promise<Record<string, string>> =>
  Object.fromEntries((await listed(s, ...words)).map(({ owner, standing }) => [owner, standing]))
interface Status {
  instance: { kind: string; kernel_boot_time: number | null }
  since: Record<string, unknown>
  grace: {
    kernel: string
    grace_seconds: number | null
    seconds_left: number | null
    held_by: { because: string; client?: Client }[]
  }
  counts: Record<string, number>
  live: { owner_hex: string; recorded: string | null }[] | null
}
const status = async (s: Server): Promise<Status> => JSON.parse(await asked(s, 'status', '--json')) as Status
const instanceIn = (s: Server, file: string): string => s.readState(file)?.trim() ?? ''

/** Waits for the next second of the clock, so that later records are newer than the current instance. */
const nextSecond = (): Promise<void> => pause(1010 - (Date.now() % 1000))

/** Ada, Bob and a client of v4.0 in a full instance; then grace again, in which Ada comes back and Eve is new. */
async function inGrace(s: Server): Promise<void> {
  await s.init()
  await s.create('ada', 'v4.1')
  await s.create('bob', 'v4.1')
  await s.create('old', 'v4.0')
  await s.graceDone()
  await nextSecond()
  await s.init()
  s.kernelGrace('N\n')
  await s.create('ada', 'v4.1')
  await s.create('eve', 'v4.1')
}

/** A client as the kernel describes it (fs/nfsd/nfs4state.c, client_info_show). seq_quote_mem escapes `name`. */
function liveInKernel(s: Server, number: number, name: string): void {
  ensureDirSync(join(s.nfsdDir, 'clients', String(number)))
  writeFileSync(
    join(s.nfsdDir, 'clients', String(number), 'info'),
    [
      'clientid: 0x4f9a2b3c6a3cbe21',
      'address: "10.0.0.7:912"',
      'status: courtesy',
      'seconds from last renew: 131',
      `name: "${name}"`,
      'minor version: 2',
      'Implementation domain: "kernel.org"',
      'Implementation name: "Linux 6.1.0"',
      'Implementation time: [0, 0]',
      'callback state: UP',
      'callback address: "10.0.0.7:0"',
      'admin-revoked states: 0',
      '',
    ].join('\n'),
  )
}

forPeople('list', (artefact) => {
  it('shows the state of every client in grace', async () => {
    const s = server(artefact)
    await inGrace(s)
    assert.deepEqual(await standings(s), { ada: 'reclaimed', eve: 'new', bob: 'waiting', old: 'waiting' })
    assert.deepEqual(Object.keys(await standings(s, '--waiting')), ['bob', 'old'])
    assert.deepEqual(Object.keys(await standings(s, '--current')), ['ada', 'eve'])
    assert.deepEqual(Object.keys(await standings(s, '--reclaimable')), ['ada', 'eve', 'bob', 'old'])
    assert.match(
      await asked(s, 'list'),
      /^STANDING {3}INSTANCE {4}FIRST RECORDED {8}NFS {3}CLIENT\nreclaimed  [0-9]{10}  20[^ ]+Z  4\.1\+  "ada"\n/,
    )
  })

  it('shows after grace that all may reclaim at the next start', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    assert.deepEqual(await standings(s, '--reclaimable'), { ada: 'recorded' })
  })

  it('has a stable shape for programs, and names owners by their bytes', async () => {
    const s = server(artefact)
    const owner = Uint8Array.of(0x41, 0x20, 0x0a, 0x5c, 0xff, 0x00, 0x2f)
    await s.fullInstanceWith(owner)
    const [client] = await listed(s)
    assert.ok(client)
    assert.deepEqual(Object.keys(client), [
      'owner',
      'owner_hex',
      'standing',
      'may_reclaim',
      'instance',
      'instances_unseen',
      'session',
      'recorded',
      'principal',
    ])
    assert.equal(client.owner_hex, hex(owner))
    assert.equal(client.owner, '\\x41200a5cff002f')
    assert.deepEqual(
      [client.may_reclaim, client.session, client.instance],
      [true, true, Number(instanceIn(s, 'boot_time'))],
    )
    const text = await asked(s, 'list')
    assert.match(text, /^[\x20-\x7e\n]+$/)
  })

  it('lists no damaged records: show reports that of a whole owner, and status says which command lists them', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    symlinkSync('nonsense', join(s.stateDir, 'v4clients', instanceIn(s, 'boot_time'), 'bob'))
    assert.match(
      await asked(s, 'show', 'bob'),
      /^may reclaim +no: its record can't be understood; .* verify lists it$/m,
    )
    assert.match(await asked(s, 'status'), /; 1 that can't be understood \(verify\)$/m)
    assert.equal((await s.call(['show', 'bo'])).status, badArgument)
  })

  it('shows that an older record does not count beside a newer one that can not be understood, as check does', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    await s.init()
    const [old, now] = [instanceIn(s, 'boot_time'), instanceIn(s, 'new_boot_time')].map((start) =>
      join(s.stateDir, 'v4clients', start),
    )
    assert.ok(old !== undefined && now !== undefined)
    symlinkSync('nonsense', join(now, 'ada'))
    // As a power cut leaves a moved record on btrfs: it is in both.
    copySync(join(old, 'bob'), join(now, 'bob'))
    const lines = (await listed(s)).map(({ owner, may_reclaim, instance }) =>
      [owner, may_reclaim, String(instance)].join(' '),
    )
    const [before, after] = [instanceIn(s, 'boot_time'), instanceIn(s, 'new_boot_time')]
    assert.deepEqual(lines, [`bob true ${after}`, `ada false ${before}`, `bob false ${before}`])
    assert.notEqual((await s.check('ada', 'v4.1')).status, done)
    assert.equal((await s.check('bob', 'v4.1')).status, done)
  })

  it('misses no client that reclaims while it looks', async () => {
    const s = server(artefact)
    await s.fullInstanceWith()
    await s.init()
    const [old, now] = ['boot_time', 'new_boot_time'].map((file) => join(s.stateDir, 'v4clients', instanceIn(s, file)))
    assert.ok(old !== undefined && now !== undefined)
    const owners = Array.from({ length: 1000 }, (_, i) => Buffer.from(`client-${i}`) as Uint8Array as ClientOwner)
    for (const owner of owners)
      symlinkSync(recordLine(owner, { session: 'no session', recorded: 1 }), join(old, recordName(owner)))
    // Looking at a directory takes a while. Meanwhile records move between two looks, by one rename each, as an upcall
    // does it.
    const log = join(s.stateDir, '../looks')
    const slow = [
      'strace',
      '-f',
      '-y',
      '-o',
      log,
      '-e',
      'trace=getdents64',
      '-e',
      'inject=getdents64:delay_exit=200000',
    ]
    let looking = true as boolean
    const look = inForeground(
      { ...artefact, command: [...slow, ...artefact.command] },
      [...settings(s.machine), 'list', '--reclaimable', '--json'],
      {},
    ).finally(() => {
      looking = false
    })
    await until('it looks', () => !looking || (existsSync(log) && readFileSync(log, 'latin1').includes(old)))
    for (const owner of owners) {
      await pause(looking ? 5 : 0)
      renameSync(join(old, recordName(owner)), join(now, recordName(owner)))
    }
    const said = await look
    assert.equal(said.status, done, said.stderr)
    const { clients } = JSON.parse(said.stdout) as { clients: Client[] }
    assert.equal(clients.length, owners.length)
    assert.ok(
      clients.some(({ instance }) => join(s.stateDir, 'v4clients', String(instance)) === now),
      'some had moved',
    )
  })

  it('lists no client in an empty state directory, and fails if there is none', async () => {
    const s = server(artefact)
    const missing = await s.call(['list'])
    assert.equal(missing.status, storageFailed)
    assert.match(missing.stderr, /error: state directory '.*' is missing: is its disk mounted\?\n$/)
    mkdirSync(s.stateDir)
    assert.equal(await asked(s, 'list'), '')
    assert.deepEqual(await listed(s), [])
  })

  it('refuses words that it does not understand', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    for (const words of [['--frob'], ['ada'], ['--current', '--waiting'], ['--reclaimable', '--current']])
      assert.equal((await s.call(['list', ...words])).status, badArgument, words.join(' '))
  })

  it('ends without an error if its reader closes the pipe', async () => {
    const s = server(artefact)
    await s.fullInstanceWith(...Array.from({ length: 12 }, (_, i) => new Uint8Array(1024).fill(i)))
    const words = [...artefact.command, ...settings(s.machine), 'list', '--json']
    const ended = spawnSync('bash', ['-c', '"$@" | true; echo ${PIPESTATUS[0]}', 'bash', ...words], {
      encoding: 'utf8',
    })
    assert.deepEqual([ended.stdout, ended.stderr], ['0\n', ''])
  })
})

forPeople('show', (artefact) => {
  it('shows everything about a client that is given by a prefix of its name', async () => {
    const s = server(artefact)
    await s.init()
    await s.create('Linux NFSv4.1 ada', 'v4.1')
    await s.create('Linux NFSv4.0 bob/10.0.0.7', 'v4.0')
    await s.graceDone()
    liveInKernel(s, 4, 'Linux NFSv4.1 ada')
    const ada = await asked(s, 'show', 'Linux NFSv4.1')
    assert.match(ada, /^client +"Linux NFSv4\.1 ada"\nhex +4c696e7578204e465376342e3120616461\nmay reclaim +yes\n/)
    assert.match(ada, /\nstanding +recorded: active/)
    assert.match(
      ada,
      /\nin the kernel +client 4, courtesy\naddress +10\.0\.0\.7:912\nlast renewal +131 s ago\nNFS version +4\.2\nimplementation +Linux 6\.1\.0\n$/,
    )
    const bob = await asked(s, 'show', '--hex', hex('Linux NFSv4.0 bob/10.0.0.7'))
    assert.match(bob, /\nNFS version +4\.0: it never says that it has reclaimed everything\n/)
    assert.match(bob, /\nThe kernel does not have this client at the moment\.\n$/)
    const ambiguous = await s.call(['show', 'Linux'])
    assert.equal(ambiguous.status, badArgument)
    assert.match(
      ambiguous.stderr,
      /error: 2 clients begin like this \(.*ada.*bob.*\): 'Linux'\n$|error: 2 clients begin like this \(.*bob.*ada.*\): 'Linux'\n$/,
    )
  })

  it('shows a client that only the kernel has, and that it may not reclaim', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    liveInKernel(s, 9, 'a\\x22b\\x5cc\\x0a\\xff')
    const shown = JSON.parse(await asked(s, 'show', '--hex', '6122625c630aff', '--json')) as Record<string, unknown>
    assert.deepEqual(Object.keys(shown), [
      'owner',
      'owner_hex',
      'may_reclaim',
      'instance',
      'ran_untracked',
      'records',
      'legacy',
      'live',
      'live_silent',
    ])
    assert.equal(shown['may_reclaim'], false)
    assert.deepEqual(shown['records'], [])
    assert.match(await asked(s, 'show', 'a"'), /\nmay reclaim +no: it is not recorded\n/)
  })

  it('escapes what a client says about itself, such as address and implementation', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada')
    liveInKernel(s, 4, 'ada')
    writeFileSync(
      join(s.nfsdDir, 'clients/4/info'),
      Buffer.from(
        'name: "ada"\naddress: "\x1b]0;gone\x07\x9b31m"\nstatus: \x9bconfirmed\nImplementation name: "a\\x1b[2J\\x5cz\x1b"\n',
        'latin1',
      ),
    )
    for (const words of [['show', 'ada'], ['status'], ['show', 'ada', '--json'], ['status', '--json']])
      assert.match(await asked(s, ...words), /^[\x20-\x7e\n]+$/, words.join(' '))
    assert.match(await asked(s, 'show', 'ada'), /\nimplementation +"?a\\\\x1b\[2J.*z\\033"?\n|\nimplementation +a\\/)
    liveInKernel(s, 4, 'ada')
    writeFileSync(join(s.nfsdDir, 'clients/4/info'), 'name: "ada"\nImplementation name: "a\\x1b[2J\\x5cz"\n')
    assert.match(await asked(s, 'show', 'ada'), /\nimplementation +a\\033\[2J\\134z\n/)
  })

  it('writes JSON in ASCII alone, so that a name of a directory can not be a control character of the terminal', async () => {
    const s = server(artefact)
    const odd = join(s.nfsdDir, '\x9b31m\xe9\u20ac')
    const words = ['-f', '-s', odd, ...settingsBy('/dev/null', s.machine)]
    const call = (...more: string[]) => inForeground(artefact, [...words, ...more], {})
    assert.equal((await call('init')).status, done)
    const { stdout } = await call('status', '--json')
    assert.match(stdout, /^[\x20-\x7e\n]+$/)
    assert.equal((JSON.parse(stdout) as { state_directory: string }).state_directory, odd)
    assert.match((await call('status')).stdout, /^[\x20-\x7e\n]+$/)
  })

  it('shows the meaning and the time of each record of a client', async () => {
    const s = server(artefact)
    await inGrace(s)
    for (const [owner, may, standing] of [
      ['ada', 'yes', 'reclaimed: it has reclaimed in this grace period, and may reclaim again after the next start'],
      ['eve', 'yes', 'new: it came in this grace period, and may reclaim after the next start'],
      ['bob', 'yes', 'waiting: it may reclaim, and has not yet'],
    ] as const) {
      const shown = await asked(s, 'show', owner)
      assert.match(shown, new RegExp(`\\nmay reclaim +${may}\\n`), owner)
      assert.ok(shown.includes(`standing        ${standing}\n`), shown)
    }
    assert.match(await asked(s, 'show', 'bob'), /\ninstance +[0-9]+; at least 1 instance has started since\n/)
    const now = join(s.stateDir, 'v4clients', instanceIn(s, 'new_boot_time'))
    symlinkSync('nonsense', join(now, 'bob'))
    const shadowed = await asked(s, 'show', 'bob')
    assert.match(shadowed, /\nmay reclaim +no: its record can't be understood; /, 'what is damaged is the newest')
    assert.match(shadowed, /\nstanding +void: this record has no effect any more/)
  })

  it('takes an impossible year for damage, as verify does, and shows the latest possible one', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    const directory = join(s.stateDir, 'v4clients', instanceIn(s, 'boot_time'))
    for (const [name, recorded] of [
      ['ada', latestRecorded],
      ['bob', latestRecorded + 1],
    ] as const) {
      unlinkSync(join(directory, name))
      const owner = Buffer.from(name) as Uint8Array as ClientOwner
      symlinkSync(recordLine(owner, { session: 'has session', recorded }), join(directory, name))
    }
    assert.match(
      await asked(s, 'show', 'ada'),
      /\nfirst recorded +\+033658-09-27T01:46:39Z \([0-9]+ days ahead of the clock\)\n/,
    )
    assert.match(await asked(s, 'show', 'bob'), /\nmay reclaim +no: its record can't be understood; /)
    const { stdout } = await s.call(['verify'])
    assert.match(stdout, /wrong: damaged .*\/bob: .*\n1 record can be understood; 1 thing is wrong\n$/)
  })

  it('takes a word that looks like a number unchanged, and one that looks like an option if it is escaped', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('0x10', '-rf')
    assert.match(await asked(s, 'show', '0x10'), /^client +"0x10"\n/)
    assert.match(await asked(s, 'show', '\\055rf'), /^client +"\\055rf"\n/)
    assert.match(await asked(s, 'show', '--hex', '2d7266'), /^client +"\\055rf"\n/)
    assert.equal((await s.call(['show', '16'])).status, badArgument)
    assert.equal((await s.call(['show'])).status, badArgument)
  })
})

forPeople('status', (artefact) => {
  it('shows which clients have reclaimed, which have not, and which are new', async () => {
    const s = server(artefact)
    await inGrace(s)
    assert.deepEqual((await status(s)).counts, {
      recorded: 0,
      reclaimed: 1,
      new: 1,
      waiting: 2,
      void: 0,
      legacy: 0,
      damaged: 0,
    })
    assert.match(await asked(s, 'status'), /\nclients +4 may reclaim: 1 reclaimed, 2 waiting, 1 new\n/)
  })

  it('names what keeps grace open: clients that have not come back, and clients of v4.0, which never report that they are done', async () => {
    const s = server(artefact)
    await inGrace(s)
    const holders = async (): Promise<string[]> =>
      (await status(s)).grace.held_by.map(({ because, client }) => `${client?.owner ?? ''} ${because}`).sort()
    assert.deepEqual(await holders(), ['bob waiting', 'old waiting-without-session'])
    assert.match(
      await asked(s, 'status'),
      /\n"old" has not reclaimed; as an NFSv4\.0 client it never reports that it is done\n/,
    )
    await s.check('old', 'v4.0')
    await s.create('bob', 'v4.1')
    assert.deepEqual(await holders(), ['old without-session'])
    await s.remove('old')
    assert.deepEqual(await holders(), [' whole-time'])
    await s.graceDone()
    assert.deepEqual(await holders(), [])
  })

  it('shows for how many instances a client has not been seen', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob', 'eve')
    for (const here of ['bob', 'eve', undefined]) {
      await s.init()
      s.kernelGrace('N\n')
      if (here !== undefined) await s.create(here, 'v4.1')
    }
    const unseen = (await listed(s)).map(({ owner, instances_unseen }) => `${owner} ${instances_unseen}`)
    assert.deepEqual(unseen, ['eve 1', 'bob 2', 'ada 3'])
    assert.match(await asked(s, 'status'), /\n"ada" has not reclaimed; not seen for 3 instances\n/)
  })

  it("computes the rest of grace from the kernel's own start time", async () => {
    const s = server(artefact)
    const told = Math.floor(Date.now() / 1000) - 30
    await s.init(String(told))
    s.kernelGrace('N\n')
    writeFileSync(join(s.nfsdDir, 'nfsv4gracetime'), '90\n')
    writeFileSync(join(s.nfsdDir, 'nfsv4leasetime'), '45\n')
    const { instance, since, grace } = await status(s)
    assert.equal(instance.kernel_boot_time, told)
    assert.equal(since['wall_clock'], told)
    assert.equal(since['counted_by'], 'wall-clock')
    assert.ok(
      grace.seconds_left !== null && grace.seconds_left <= 60 && grace.seconds_left > 40,
      String(grace.seconds_left),
    )
    assert.match(await asked(s, 'status'), /\ngrace +running; about (?:60|[45][0-9]) s of 90 s left/)
    writeFileSync(join(s.nfsdDir, 'nfsv4gracetime'), '10\n')
    assert.match(await asked(s, 'status'), /\ngrace +running, though its time of 10 s was over [2-9][0-9] s ago/)
  })

  it('does not use a start time that is ahead of the clock', async () => {
    const s = server(artefact)
    await s.init(String(Math.floor(Date.now() / 1000) + 3600))
    s.kernelGrace('N\n')
    writeFileSync(join(s.nfsdDir, 'nfsv4gracetime'), '90\n')
    const { since, grace } = await status(s)
    assert.deepEqual([since['seconds'], since['clock_was_set'], grace.seconds_left], [null, true, null])
    assert.match(await asked(s, 'status'), /the clocks disagree/)
  })

  it('answers also if the kernel does not, because nfsd is just starting', async () => {
    const s = server(artefact)
    await s.init()
    s.kernelGrace('N\n')
    // Opening a FIFO without a writer waits for ever, as reading these files does while nfsd_mutex is held.
    for (const file of ['nfsv4gracetime', 'nfsv4leasetime']) execFileSync('mkfifo', [join(s.nfsdDir, file)])
    const said = await s.call(['status'])
    assert.equal(said.status, done)
    assert.match(said.stdout, /its length can not be read while nfsd starts or stops/)
  })

  it('answers also if the kernel does not describe one of its clients', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    liveInKernel(s, 1, 'ada')
    mkdirSync(join(s.nfsdDir, 'clients/2'))
    execFileSync('mkfifo', [join(s.nfsdDir, 'clients/2/info')])
    liveInKernel(s, 3, 'bob')
    const said = await s.call(['status'])
    assert.equal(said.status, done)
    assert.match(said.stdout, / "ada"\n.* "bob"\n1 more that the kernel does not describe at the moment\.\n$/)
    assert.match((await s.call(['show', 'bob'])).stdout, /client 3/)
    const { expired } = JSON.parse((await s.call(['expire', '--yes', '--dry-run', '--json', 'ada'])).stdout) as {
      expired: { live: boolean | null }[]
    }
    assert.deepEqual(
      expired.map(({ live }) => live),
      [true],
    )
  })

  it("reports a start with an impossible time, and one that can't be understood", async () => {
    const s = server(artefact)
    assert.equal((await s.init('9223372036854775807')).status, done)
    assert.match(await asked(s, 'status'), /\nsince +20/)
    assert.equal((await status(s)).instance.kernel_boot_time, null)
    const marks = readdirSync(join(s.stateDir, 'v4clients')).filter((name) => name.endsWith('.grace_start'))
    for (const name of marks) {
      unlinkSync(join(s.stateDir, 'v4clients', name))
      symlinkSync('\x1b[2Jgibberish', join(s.stateDir, 'v4clients', name))
    }
    assert.equal(marks.length, 1)
    assert.match(await asked(s, 'status'), /\nsince +20/)
    assert.equal((await status(s)).instance.kernel_boot_time, null)
  })

  it('shows that the kernel has left grace without a gracedone', async () => {
    const s = server(artefact)
    await inGrace(s)
    s.kernelGrace('Y\n')
    assert.match(await asked(s, 'status'), /\ngrace +over in the kernel, but no upcall has said so/)
    assert.deepEqual((await status(s)).grace.held_by, [])
  })

  it("matches the kernel's clients with records by their bytes", async () => {
    const s = server(artefact)
    await s.fullInstanceWith('plain', Uint8Array.of(0x22, 0x0a, 0x5c, 0x78, 0x34, 0x31, 0xe9))
    assert.equal((await status(s)).live, null, 'a kernel before 5.3')
    liveInKernel(s, 1, 'plain')
    liveInKernel(s, 2, '\\x22\\x0a\\x5cx41\\xe9')
    liveInKernel(s, 3, 'stranger')
    const { live } = await status(s)
    assert.deepEqual(
      live?.map(({ owner_hex, recorded }) => [owner_hex, recorded]),
      [
        [hex('plain'), 'recorded'],
        ['220a5c783431e9', 'recorded'],
        [hex('stranger'), null],
      ],
    )
    assert.match(await asked(s, 'status'), /\nno +courtesy +131 s +4\.2 +10\.0\.0\.7:912 +"stranger"\n/)
  })

  it('shows what is damaged in a directory of format 1, and that nobody may reclaim', async () => {
    const s = server(artefact)
    await inGrace(s)
    unlinkSync(join(s.stateDir, 'v4clients/format-2'))
    s.writeState('new_boot_time', 'soon\n')
    assert.match(
      await asked(s, 'status'),
      /\nserver instance +unknown, and no client may reclaim until the next start: new_boot_time can't be understood/,
    )
    assert.deepEqual(new Set(Object.values(await standings(s))), new Set(['void']))
  })

  it('shortens long lists for people, never for programs', async () => {
    const s = server(artefact)
    await s.fullInstanceWith(...Array.from({ length: 12 }, (_, i) => `client${i}`))
    await s.init()
    s.kernelGrace('N\n')
    assert.match(await asked(s, 'status'), /\n\.\.\. and 2 more: list --waiting\n/)
    assert.doesNotMatch(await asked(s, 'status', '--all'), /more:/)
    assert.equal((await status(s)).grace.held_by.length, 12)
  })

  it('changes nothing, and takes no lock', async () => {
    const s = server(artefact)
    await inGrace(s)
    symlinkSync('held', join(s.stateDir, 'nfsd-userland-helper.lock'))
    const before = s.snapshot()
    for (const words of [['status'], ['list'], ['show', 'ada']]) await asked(s, ...words)
    assert.equal(s.snapshot(), before)
    assert.equal(s.kernelWasAskedToEndGrace(), false)
  })

  it('is coloured on a terminal only, and not if colour is switched off', async () => {
    const s = server(artefact)
    await inGrace(s)
    const words = [...artefact.command, ...settings(s.machine), 'status']
    const onTerminal = (env: Record<string, string>): string =>
      execFileSync('script', ['-qec', words.join(' '), '/dev/null'], {
        env: { PATH: process.env['PATH'] ?? '', TERM: 'xterm', ...env },
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      })
    assert.match(onTerminal({}), /\x1b\[1m/)
    for (const plain of [onTerminal({ NO_COLOR: '1' }), onTerminal({ TERM: 'dumb' }), await asked(s, 'status')])
      assert.doesNotMatch(plain, /\x1b/)
  })
})
