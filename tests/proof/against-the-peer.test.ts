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
import { artefacts, type Artefact } from '../artefacts.ts'
import { blank, judge, type Event, type Memory, type Owner } from '../life/oracle.ts'
import { inPart, random, report, seconds, seed } from './figures.ts'
import { need } from './loop-disks.ts'
import { ann, bob, cal, check, create, dan, graceDone, remove, start, upcallFor } from './scenarios.ts'
import { call, machineAt, scratch, scrapTree } from './verdicts.ts'

const executable = artefacts().find(({ name }) => name === 'executable')
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
  'after the end of grace, a client that the kernel still asks about: the peer answers by what it has not yet removed':
    ({ memory, ours, theirs }: Case) => memory.full && ours === 255 && theirs === 0,
} as const satisfies Record<string, (difference: Case) => boolean>

interface Case { readonly memory: Memory; readonly event: Event; readonly ours: number | string; readonly theirs: number | string | null }

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
      for (const { difference, wrong, label } of await liveTwice(executable, dice, 40)) {
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

interface Judged { readonly label: string; readonly difference: Case | undefined; readonly wrong: string | undefined }

/** One server's life on both. */
async function liveTwice(artefact: Artefact, dice: () => number, length: number): Promise<Judged[]> {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(dice() * list.length)] as T
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
  try {
    for (let number = 0; number < length; number++) {
      clock += 10
      const turn = dice()
      const owner: Owner = pick([ann, bob, cal, dan])
      const event = number === 0 || turn < 0.1 ? start(bootTime = String(clock))
        : turn < 0.22 && !memory.full ? graceDone(bootTime)
          : pick([create(owner, 'Y'), create(owner, 'N'), check(owner, 'Y'), check(owner, 'N'), remove(owner)])
      const before: Memory = { ...memory, reclaimable: new Set(memory.reclaimable), active: new Map(memory.active) }
      const verdict = judge(memory, event, false)
      const { words, env } = upcallFor(event, bootTime)
      const { status: ours, stderr } = await call(artefact, machine, event, bootTime)
      // In the peer a boot time is compared with the clock's seconds, and a record of that very second counts as new.
      const theirs = spawnSync(peer, ['-f', '-s', store, ...words], { env: { ...env, LD_PRELOAD: library, PEER_CLOCK: String(clock) }, stdio: 'ignore' }).status
      way.push(`${event.event}${'owner' in event ? ` ${Buffer.from(event.owner, 'hex').toString()} ${event.event === 'remove' ? '' : (event.session ?? '')}` : ''}`)
      judged.push({
        label: `${way.join(', ')}: we say ${ours}, the peer ${String(theirs)}`,
        difference: ours === theirs ? undefined : { memory: before, event, ours, theirs },
        wrong: typeof ours === 'number' && verdict.statuses.includes(ours) ? undefined : `${way.join(', ')}: status ${ours}, but ${verdict.because}: ${stderr}`,
      })
    }
    return judged
  } finally {
    scrapTree(machine)
  }
}
