/**
 * What an admin sees of upcalls that were killed, until the next start completes them or takes them back: `status`,
 * `doctor`, `list`, `show`, `export`.
 */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { done, forPeople, hex, server, type Server } from '../contract/server.ts'
import { traced } from '../support/strace.ts'

/** Runs an upcall that is killed at its first barrier, before it has promised anything. */
async function cutShort(s: Server, verb: 'create' | 'remove', owner: string): Promise<void> {
  const { status } = await traced(s, [verb, hex(owner)], { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' }, [
    '-e',
    'inject=fsync:signal=SIGKILL:when=1',
  ])
  assert.equal(status, 'SIGKILL')
}

/** A remove that is killed before it has removed anything. */
async function removeCutShort(s: Server, owner: string): Promise<void> {
  const { status } = await traced(s, ['remove', hex(owner)], {}, ['-e', 'inject=unlink,unlinkat:signal=SIGKILL:when=1'])
  assert.equal(status, 'SIGKILL')
  assert.match(s.snapshot(), new RegExp(`/${owner} -> `), 'its record is still there')
}

async function told(s: Server, ...words: string[]): Promise<string> {
  const { status, stdout, stderr } = await s.call(words)
  assert.equal(status, done, stderr)
  return stdout
}

const json = async <T>(s: Server, ...words: string[]): Promise<T> => JSON.parse(await told(s, ...words, '--json')) as T

interface Told {
  readonly owner: string
  readonly standing: string
  readonly may_reclaim: boolean
}

/** What `list` and `show` say of each client. */
async function seen(s: Server, ...owners: string[]): Promise<Record<string, string>> {
  const { clients } = await json<{ clients: Told[] }>(s, 'list')
  for (const owner of owners) {
    const shown = await json<{ may_reclaim: boolean; records: Told[] }>(s, 'show', owner)
    const listed = clients.filter((client) => client.owner === owner)
    assert.deepEqual(
      shown.records.map(({ standing }) => standing),
      listed.map(({ standing }) => standing),
    )
    assert.equal(
      shown.may_reclaim,
      listed.some(({ may_reclaim }) => may_reclaim),
    )
  }
  return Object.fromEntries(clients.map(({ owner, standing }) => [owner, standing]))
}

const exported = async (s: Server): Promise<string[]> =>
  (JSON.parse(await told(s, 'export')) as { clients: { owner_hex: string }[] }).clients
    .map(({ owner_hex }) => Buffer.from(owner_hex, 'hex').toString())
    .sort()

const mayReclaim = async (s: Server, ...owners: string[]): Promise<string[]> => {
  const may: string[] = []
  for (const owner of owners) if ((await s.check(owner, 'v4.1')).status === done) may.push(owner)
  return may
}

interface Finding {
  readonly check: string
  readonly verdict: string
  readonly what: string
  readonly why: string | null
}

/** What `doctor` says of the server instance. Other checks look at this machine. */
async function instanceCheck(s: Server): Promise<Finding> {
  const { stdout } = await s.call(['doctor', '--json'])
  const { findings } = JSON.parse(stdout) as { findings: Finding[] }
  const found = findings.find(({ check }) => check === 'instance')
  assert.ok(found)
  return found
}

forPeople('an upcall that was cut short', (artefact) => {
  it('is named by status, until a start has completed it', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    assert.deepEqual((await json<{ cut_short: unknown }>(s, 'status')).cut_short, [])
    assert.doesNotMatch(await told(s, 'status'), /cut short/)
    await cutShort(s, 'remove', 'ada')
    const removed = { upcall: 'remove', owner: 'ada', owner_hex: hex('ada') }
    assert.deepEqual((await json<{ cut_short: unknown }>(s, 'status')).cut_short, [removed])
    assert.match(await told(s, 'status'), /^1 upcall was cut short: remove "ada"\. The next start removes that client/m)

    for (const owner of ['new1', 'new2', 'new3']) await cutShort(s, 'create', owner)
    const { cut_short: all } = await json<{ cut_short: { upcall: string; owner: string }[] }>(s, 'status')
    assert.deepEqual(all.map(({ upcall, owner }) => `${upcall} ${owner}`).sort(), [
      'create new1',
      'create new2',
      'create new3',
      'remove ada',
    ])
    assert.match(
      await told(s, 'status'),
      /^4 upcalls were cut short: (?:(?:create "new[123]"|remove "ada"), ){3}1 more\. The next start\s+removes these/m,
    )

    await s.init()
    assert.deepEqual((await json<{ cut_short: unknown }>(s, 'status')).cut_short, [])
  })

  it('is doubtful to doctor, which says what may have killed it', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob')
    assert.doesNotMatch((await instanceCheck(s)).what, /cut short/)
    await cutShort(s, 'create', 'eve')
    const { verdict, what, why } = await instanceCheck(s)
    assert.deepEqual([verdict, what], ['doubtful', '1 upcall was cut short'])
    assert.match(why ?? '', /create "eve".*The next start removes.*45 seconds.*disk of the state directory hangs/s)
    await s.init()
    assert.doesNotMatch((await instanceCheck(s)).what, /cut short/)
  })

  it('leaves no client that list, show and export let reclaim after the next start, if that start removes it', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob', 'cleo')
    await removeCutShort(s, 'ada')
    await cutShort(s, 'remove', 'bob')
    await cutShort(s, 'create', 'eve')
    assert.deepEqual(await seen(s, 'ada', 'eve', 'cleo'), { ada: 'void', cleo: 'recorded', eve: 'void' })
    assert.deepEqual(await exported(s), ['cleo'])
    await s.init()
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob', 'cleo', 'eve'), ['cleo'])
  })

  it('in grace, leaves a client that may still reclaim as it is, and none that was to be removed', async () => {
    const s = server(artefact)
    await s.fullInstanceWith('ada', 'bob', 'cleo')
    await s.init()
    s.kernelGrace('N\n')
    await removeCutShort(s, 'ada')
    await cutShort(s, 'create', 'bob')
    await cutShort(s, 'create', 'eve')
    const { ada, bob, cleo } = await seen(s, 'ada', 'bob', 'cleo')
    assert.deepEqual({ ada, cleo }, { ada: 'void', cleo: 'waiting' })
    assert.notEqual(bob, 'void')
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob', 'cleo'), ['bob', 'cleo'])
    assert.deepEqual(await exported(s), ['bob', 'cleo'])
    await s.init()
    assert.deepEqual(await mayReclaim(s, 'ada', 'bob', 'cleo', 'eve'), ['bob', 'cleo'])
  })
})
