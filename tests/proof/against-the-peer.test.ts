/**
 * Against nfsdcltrack: the same random upcalls for both, each told the same boot times, and every verdict that differs
 * explained by a named difference; one that is not is a bug of ours.
 *
 * The peer compares the seconds of its clock with the boot time, so its clock goes forward by ten seconds an upcall, by a
 * shim: its known faults with clocks and with events in one second are tests/proof/clocks.test.ts's business.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { type Artefact } from '../artefacts.ts'
import { blank, judge, type Event, type Memory, type Owner } from '../life/oracle.ts'
import { inPart, random, report, seconds, seed } from './figures.ts'
import { need } from './loop-disks.ts'
import { executableSubject } from './mutants.ts'
import { ann, bob, cal, check, create, dan, graceDone, remove, start, upcallFor } from './scenarios.ts'
import { call, machineAt, scratch, scrapTree } from './verdicts.ts'

const executable = executableSubject()
const peer = '/usr/sbin/nfsdcltrack'

/** A clock that says what PEER_CLOCK says: nfsdcltrack stamps its records by SQLite's, which is gettimeofday(2). */
const shim = `
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static time_t now(void) { return atol(getenv("PEER_CLOCK")); }
time_t time(time_t *at) { if (at) *at = now(); return now(); }
int gettimeofday(struct timeval *restrict at, void *restrict zone) { at->tv_sec = now(); at->tv_usec = 0; return 0; }
`

/**
 * Why the two may differ. Each is a state of the server in which the peer's one number a client cannot say what the rule
 * needs to know.
 */
const differences = {
  'before any grace period has ended, nobody is known to have been safe; the peer allows every record that it finds':
    ({ memory, ours, theirs }: Case) => !memory.everFull && ours === 255 && theirs === 0,
  'a client that the peer has let in so, it goes on letting in: its check without a session has made the record a new one':
    ({ event, ours, theirs, letInBefore }: Case) => 'owner' in event && letInBefore.has(event.owner) && ours === 255 && theirs === 0,
} as const satisfies Record<string, (difference: Case) => boolean>

interface Case {
  readonly memory: Memory
  readonly event: Event
  readonly ours: number | string
  readonly theirs: number | string | null
  /** Whom the peer alone has let in, and who has not been recorded or removed since. */
  readonly letInBefore: ReadonlySet<Owner>
}

describe('upcalls by lot, run on both', { skip: executable === undefined }, () => {
  it('differ from nfsdcltrack only where the list says so, and never from the rule', async () => {
    assert.ok(executable)
    need('nfsdcltrack', 'nfs-kernel-server')
    need('gcc', 'gcc')
    const from = seed('against the peer')
    const began = performance.now()
    const dice = random(from)
    const counts = new Map<string, number>()
    const unexplained: string[] = []
    const againstRule: string[] = []
    let upcalls = 0
    for (let life = 0; life < (inPart ? 5 : 30); life++)
      for (const { difference, wrong, label } of await liveTwice(executable, byLot(dice), 40)) {
        upcalls++
        if (wrong !== undefined) againstRule.push(wrong)
        if (difference === undefined) continue
        const name = Object.entries(differences).find(([, explains]) => explains(difference))?.[0]
        if (name === undefined) unexplained.push(label)
        else counts.set(name, (counts.get(name) ?? 0) + 1)
      }
    report({
      technique: 'against-the-peer',
      rows: [
        { difference: 'none', upcalls: upcalls - unexplained.length - [...counts.values()].reduce((a, b) => a + b, 0) },
        ...[...counts].map(([difference, count]) => ({ difference, upcalls: count })),
        { difference: 'not explained', upcalls: unexplained.length },
      ],
    })
    console.log(`# against the peer: ${upcalls} upcalls in ${seconds(began)} s`)
    assert.deepEqual(againstRule, [])
    assert.deepEqual(unexplained, [])
  })
})

type Choose = (number: number, memory: Memory, now: string, bootTime: string) => Event

const byLot = (dice: () => number): Choose => (number, memory, now, bootTime) => {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(dice() * list.length)] as T
  const turn = dice()
  const owner: Owner = pick([ann, bob, cal, dan])
  if (number === 0 || turn < 0.1) return start(now)
  if (turn < 0.22 && !memory.full) return graceDone(bootTime)
  return pick([create(owner, 'Y'), create(owner, 'N'), check(owner, 'Y'), check(owner, 'N'), remove(owner)])
}

describe('the named differences', { skip: executable === undefined }, () => {
  const last = async (events: readonly Choose[], tick: number): Promise<Case | undefined> => {
    assert.ok(executable)
    need('gcc', 'gcc')
    const judged = await liveTwice(executable, (number, ...rest) => (events[number] as Choose)(number, ...rest), events.length, tick)
    assert.deepEqual(judged.map(({ wrong }) => wrong).filter((wrong) => wrong !== undefined), [])
    return judged.at(-1)?.difference
  }
  const starts: Choose = (_, __, now) => start(now)
  const ends: Choose = (_, __, ___, bootTime) => graceDone(bootTime)
  it('before any grace period has ended, we know of nobody, and the peer allows every record', async () => {
    const difference = await last([starts, () => create(ann, 'Y'), starts, () => check(ann, 'Y')], 10)
    assert.deepEqual([difference?.ours, difference?.theirs], [255, 0])
  })
  it('and a client of v4.0 that it has let in so, it lets in again after the next grace period', async () => {
    const ofNobody = () => check(ann, 'N')
    const difference = await last([starts, () => create(ann, 'N'), starts, ofNobody, ends, () => check(ann, 'Y')], 10)
    assert.deepEqual([difference?.ours, difference?.theirs], [255, 0])
  })
  it('where all happens in one second, the peer takes the record of a client that never reclaimed for a new one', async () => {
    const difference = await last([starts, () => create(ann, 'Y'), ends, starts, ends, starts, () => check(ann, 'Y')], 0)
    assert.deepEqual([difference?.ours, difference?.theirs], [255, 0])
  })
})

interface Judged { readonly label: string; readonly difference: Case | undefined; readonly wrong: string | undefined }

/** One server's life on both. */
async function liveTwice(artefact: Artefact, choose: Choose, length: number, tick = 10): Promise<Judged[]> {
  const machine = machineAt(scratch())
  const store = join(machine.dir, 'peer')
  mkdirSync(store)
  writeFileSync(join(machine.dir, 'clock.c'), shim)
  const library = join(machine.dir, 'clock.so')
  execFileSync('gcc', ['-shared', '-fPIC', '-o', library, join(machine.dir, 'clock.c')])
  const memory = blank()
  const judged: Judged[] = []
  let clock = 1_700_000_000
  let bootTime = String(clock)
  const way: string[] = []
  const letIn = new Set<Owner>()
  try {
    for (let number = 0; number < length; number++) {
      clock += tick
      const event = choose(number, memory, String(clock), bootTime)
      if (event.event === 'start') bootTime = String(clock)
      const before: Memory = { ...memory, reclaimable: new Set(memory.reclaimable), active: new Map(memory.active) }
      const verdict = judge(memory, event, false)
      const { words, env } = upcallFor(event, bootTime)
      const { status: ours, stderr } = await call(artefact, machine, event, bootTime)
      // In the peer a boot time is compared with the clock's seconds, and a record of that very second counts as new.
      const theirs = spawnSync(peer, ['-f', '-s', store, ...words], { env: { ...env, LD_PRELOAD: library, PEER_CLOCK: String(clock) }, stdio: 'ignore' }).status
      way.push(`${event.event}${'owner' in event ? ` ${Buffer.from(event.owner, 'hex').toString()} ${event.event === 'remove' ? '' : (event.session ?? '')}` : ''}`)
      judged.push({
        label: `${way.join(', ')}: we say ${ours}, the peer ${String(theirs)}`,
        difference: ours === theirs ? undefined : { memory: before, event, ours, theirs, letInBefore: new Set(letIn) },
        wrong: typeof ours === 'number' && verdict.statuses.includes(ours) ? undefined : `${way.join(', ')}: status ${ours}, but ${verdict.because}: ${stderr}`,
      })
      if (event.event === 'check' && event.session !== 'Y' && !before.everFull && ours === 255 && theirs === 0) letIn.add(event.owner)
      if (event.event === 'create' || event.event === 'remove') letIn.delete(event.owner)
    }
    return judged
  } finally {
    scrapTree(machine)
  }
}
