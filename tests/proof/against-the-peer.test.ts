/**
 * Comparison with nfsdcltrack: both get the same random upcalls, with the same boot times. A different verdict is a bug
 * of this program, unless all happens in one second.
 *
 * nfsdcltrack compares the seconds of its clock with the boot time. So a shim lets its clock advance by ten seconds for
 * each upcall. Its known faults with clocks, and with events in one second, are tested by tests/proof/clocks.test.ts.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { blank, judge, type Event, type Memory, type Owner } from '../life/oracle.ts'
import { type Artefact } from '../support/artefacts.ts'
import { inPart, random, report, seconds, seed } from './figures.ts'
import { need } from './loop-disks.ts'
import { executableSubject } from './mutants.ts'
import { ann, bob, cal, check, create, dan, graceDone, remove, start, upcallFor } from './scenarios.ts'
import { call, machineAt, scratch, scrapTree } from './verdicts.ts'

const executable = executableSubject()
const peer = '/usr/sbin/nfsdcltrack'

/** A clock that reads PEER_CLOCK: nfsdcltrack takes its records' times from SQLite, which uses gettimeofday(2). */
const shim = `
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static time_t now(void) { return atol(getenv("PEER_CLOCK")); }
time_t time(time_t *at) { if (at) *at = now(); return now(); }
int gettimeofday(struct timeval *restrict at, void *restrict zone) { at->tv_sec = now(); at->tv_usec = 0; return 0; }
`

interface Difference {
  readonly ours: number | string
  readonly theirs: number | string | null
}

describe('random upcalls, run on both', { skip: executable === undefined }, () => {
  it('differ from nfsdcltrack nowhere, and never from the rule', async () => {
    assert.ok(executable)
    need('nfsdcltrack', 'nfs-kernel-server')
    need('gcc', 'gcc')
    const from = seed('against the peer')
    const began = performance.now()
    const dice = random(from)
    const different: string[] = []
    const againstRule: string[] = []
    let upcalls = 0
    for (let life = 0; life < (inPart ? 5 : 30); life++)
      for (const { difference, wrong, label } of await liveTwice(executable, byLot(dice), 40)) {
        upcalls++
        if (wrong !== undefined) againstRule.push(wrong)
        if (difference !== undefined) different.push(label)
      }
    report({ technique: 'against-the-peer', rows: [{ upcalls, 'answered otherwise': different.length }] })
    console.log(`# against the peer: ${upcalls} upcalls in ${seconds(began)} s`)
    assert.deepEqual(againstRule, [])
    assert.deepEqual(different, [])
  })
})

type Choose = (number: number, memory: Memory, now: string, bootTime: string) => Event

const byLot =
  (dice: () => number): Choose =>
  (number, memory, now, bootTime) => {
    const pick = <T>(list: readonly T[]): T => list[Math.floor(dice() * list.length)] as T
    const turn = dice()
    const owner: Owner = pick([ann, bob, cal, dan])
    if (number === 0 || turn < 0.1) return start(now)
    if (turn < 0.22 && !memory.full) return graceDone(bootTime)
    return pick([create(owner, 'Y'), create(owner, 'N'), check(owner, 'Y'), check(owner, 'N'), remove(owner)])
  }

describe('the named difference', { skip: executable === undefined }, () => {
  const last = async (events: readonly Choose[], tick: number): Promise<Difference | undefined> => {
    assert.ok(executable)
    need('gcc', 'gcc')
    const judged = await liveTwice(
      executable,
      (number, ...rest) => (events[number] as Choose)(number, ...rest),
      events.length,
      tick,
    )
    assert.deepEqual(
      judged.map(({ wrong }) => wrong).filter((wrong) => wrong !== undefined),
      [],
    )
    return judged.at(-1)?.difference
  }
  const starts: Choose = (_, __, now) => start(now)
  const ends: Choose = (_, __, ___, bootTime) => graceDone(bootTime)
  it('where all happens in one second, the peer takes the record of a client that never reclaimed for a new one', async () => {
    const difference = await last(
      [starts, () => create(ann, 'Y'), ends, starts, ends, starts, () => check(ann, 'Y')],
      0,
    )
    assert.deepEqual([difference?.ours, difference?.theirs], [255, 0])
  })
})

interface Judged {
  readonly label: string
  readonly difference: Difference | undefined
  readonly wrong: string | undefined
}

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
  try {
    for (let number = 0; number < length; number++) {
      clock += tick
      const event = choose(number, memory, String(clock), bootTime)
      if (event.event === 'start') bootTime = String(clock)
      const verdict = judge(memory, event)
      const { words, env } = upcallFor(event, bootTime)
      const { status: ours, stderr } = await call(artefact, machine, event, bootTime)
      // nfsdcltrack compares a boot time with the clock's seconds, and takes a record of that very second for a new
      // one.
      const theirs = spawnSync(peer, ['-f', '-s', store, ...words], {
        env: { ...env, LD_PRELOAD: library, PEER_CLOCK: String(clock) },
        stdio: 'ignore',
      }).status
      way.push(
        `${event.event}${'owner' in event ? ` ${Buffer.from(event.owner, 'hex').toString()} ${'session' in event ? (event.session ?? '') : ''}` : ''}`,
      )
      judged.push({
        label: `${way.join(', ')}: we say ${ours}, the peer ${String(theirs)}`,
        difference: ours === theirs ? undefined : { ours, theirs },
        wrong:
          typeof ours === 'number' && verdict.statuses.includes(ours)
            ? undefined
            : `${way.join(', ')}: status ${ours}, but ${verdict.because}: ${stderr}`,
      })
    }
    return judged
  } finally {
    scrapTree(machine)
  }
}
