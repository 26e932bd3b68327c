/**
 * Clocks: whatever the wall clock reads, and however it is stepped, the verdicts are those of the rule, which knows no
 * time. In the same sequences, nfsdcltrack, which compares seconds, loses a client, keeps a stale one, or ends grace
 * while a client still has to reclaim.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { blank, judge, type Event, type Owner } from '../life/oracle.ts'
import { clockAt, inForeground, settings, type Artefact } from '../support/artefacts.ts'
import { inPart, random, report, seconds, seed } from './figures.ts'
import { executableSubject } from './mutants.ts'
import { ann, bob, cal, check, create, dan, graceDone, remove, start, upcallFor } from './scenarios.ts'
import { machineAt, scratch, scrapTree, setGrace } from './verdicts.ts'

const executable = executableSubject()
const now = Math.floor(Date.now() / 1000)

/** An upcall, and how far the clock is off while it runs, in seconds. */
type Timed = readonly [number, Event]
const told = (off: number): string => String(now + off)

const sequences: readonly { readonly name: string; readonly steps: readonly Timed[] }[] = [
  {
    name: 'ahead by an hour at start, set right before the clients reclaim',
    steps: [
      [-300, start(told(-300))],
      [-100, create(ann, 'Y')],
      [-100, create(bob, 'N')],
      [-90, graceDone(told(-300))],
      [3600, start(told(3600))],
      [0, check(ann, 'Y')],
      [0, check(bob, 'N')],
      [0, create(ann, 'Y')],
      [20, graceDone(told(3600))],
      [60, start(told(60))],
      [61, check(ann, 'Y')],
      [61, check(bob, 'N')],
    ],
  },
  {
    name: 'a day behind at start, set right before the clients reclaim',
    steps: [
      [-300, start(told(-300))],
      [-100, create(ann, 'Y')],
      [-100, create(cal, 'Y')],
      [-90, graceDone(told(-300))],
      [-86400, start(told(-86400))],
      [5, check(ann, 'Y')],
      [5, create(ann, 'Y')],
      [20, graceDone(told(-86400))],
      [60, start(told(60))],
      [61, check(cal, 'Y')],
      [61, check(ann, 'Y')],
    ],
  },
  {
    name: 'an hour ahead in the previous life',
    steps: [
      [3000, start(told(3000))],
      [3600, create(ann, 'Y')],
      [3600, create(cal, 'Y')],
      [3601, graceDone(told(3000))],
      [0, start(told(0))],
      [1, check(ann, 'Y')],
      [1, create(ann, 'Y')],
      [20, graceDone(told(0))],
      [60, start(told(60))],
      [61, check(cal, 'Y')],
      [61, check(ann, 'Y')],
    ],
  },
  {
    name: 'no fault at all, and everything in one second',
    steps: [
      [0, start(told(0))],
      [0, create(ann, 'Y')],
      [0, create(cal, 'Y')],
      [0, graceDone(told(0))],
      [0, start(told(0))],
      [0, check(ann, 'Y')],
      [0, create(ann, 'Y')],
      [0, graceDone(told(0))],
      [0, start(told(0))],
      [0, check(cal, 'Y')],
      [0, check(ann, 'Y')],
    ],
  },
  {
    name: 'back by a minute in the middle of grace',
    steps: [
      [-300, start(told(-300))],
      [-200, create(ann, 'Y')],
      [-200, create(bob, 'N')],
      [-190, graceDone(told(-300))],
      [0, start(told(0))],
      [20, create(ann, 'Y')],
      [-38, check(bob, 'N')],
      [-38, create(dan, 'Y')],
      [20, graceDone(told(0))],
      [60, start(told(60))],
      [61, check(ann, 'Y')],
      [61, check(bob, 'N')],
      [61, check(dan, 'Y')],
    ],
  },
  {
    name: 'a new client in grace after the clock was set back',
    steps: [
      [3600, start(told(3600))],
      [5, create(dan, 'Y')],
      [6, graceDone(told(3600))],
      [60, start(told(60))],
      [61, check(dan, 'Y')],
    ],
  },
  ...['abc', '12abc', '-1', '0x10', '010', '99999999999999999999'].map((junk) => ({
    name: `a boot time that is none: '${junk}'`,
    steps: [
      [-300, start(told(-300))],
      [-200, create(ann, 'Y')],
      [-200, create(cal, 'Y')],
      [-190, graceDone(told(-300))],
      [0, start(junk)],
      [1, create(ann, 'Y')],
      [2, { event: 'grace done', bootTime: undefined }],
      [60, start(told(60))],
      [61, check(cal, 'Y')],
      [61, check(ann, 'Y')],
    ] as const satisfies readonly Timed[],
  })),
  {
    name: 'started twice, the second time at an earlier time, while a client still has to reclaim',
    steps: [
      [-300, start(told(-300))],
      [-200, create(ann, 'Y')],
      [-200, create(cal, 'Y')],
      [-190, graceDone(told(-300))],
      [0, start(told(0))],
      [5, create(ann, 'Y')],
      [-2, start(told(-2))],
      [0, create(cal, 'Y')],
      [1, check(ann, 'Y')],
      [1, create(ann, 'Y')],
      [20, graceDone(told(-2))],
      [60, start(told(60))],
      [61, check(ann, 'Y')],
      [61, check(cal, 'Y')],
    ],
  },
]

describe('with a wall clock that is wrong', { skip: executable === undefined }, () => {
  const began = performance.now()
  let violations = 0
  let upcalls = 0
  for (const { name, steps } of sequences)
    it(`${name}: the verdicts are those of the rule`, async () => {
      assert.ok(executable)
      const wrong = await walk(
        executable,
        steps.map(([off, event]) => [now + off, event]),
      )
      upcalls += steps.length
      violations += wrong.length
      assert.deepEqual(wrong, [])
    })
  it('that jumps about between 1970 and 2106: the verdicts are those of the rule', async () => {
    assert.ok(executable)
    const from = seed('clocks')
    const dice = random(from)
    const walks = inPart ? 4 : 40
    const began = performance.now()
    let steps = 0
    const wrong: string[] = []
    for (let number = 0; number < walks; number++) {
      const events = randomLife(dice, 40)
      steps += events.length
      wrong.push(
        ...(await walk(
          executable,
          events.map((event) => [Math.floor(dice() * 2 ** 32), event]),
        )),
      )
    }
    violations += wrong.length
    report({
      technique: 'clocks-walks',
      rows: [{ walks, upcalls: steps, violations: wrong.length, seed: from, seconds: seconds(began) }],
    })
    assert.deepEqual(wrong, [])
  })
  after(() => {
    report({
      technique: 'clocks',
      rows: [{ sequences: sequences.length, upcalls, violations, seconds: seconds(began) }],
    })
  })
})

/** A server's life: restarts, grace periods that end or do not, four clients. */
function randomLife(dice: () => number, length: number): Event[] {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(dice() * list.length)] as T
  let boots = 1
  let bootTime = '1'
  const events: Event[] = [start(bootTime)]
  while (events.length < length) {
    const turn = dice()
    const owner: Owner = pick([ann, bob, cal, dan])
    if (turn < 0.12) events.push(start((bootTime = String(++boots))))
    else if (turn < 0.24) events.push(graceDone(bootTime))
    else
      events.push(pick([create(owner, 'Y'), create(owner, 'N'), check(owner, 'Y'), check(owner, 'N'), remove(owner)]))
  }
  return events
}

/** Runs upcalls, each with its own wall clock, and compares them with the rule. @returns what differs. */
async function walk(artefact: Artefact, steps: readonly (readonly [number, Event])[]): Promise<string[]> {
  const machine = machineAt(scratch())
  const memory = blank()
  const wrong: string[] = []
  try {
    for (const [number, [at, event]] of steps.entries()) {
      setGrace(machine, 'running')
      const verdict = judge(memory, event)
      const { words, env } = upcallFor(event, memory.bootTime)
      const { status, stderr } = await inForeground(artefact, [...settings(machine), ...words], {
        ...env,
        ...clockAt(at),
      })
      const label = `upcall ${number}, ${event.event} at ${at}`
      if (typeof status === 'string' || !verdict.statuses.includes(status))
        wrong.push(`${label}: status ${status}, but ${verdict.because}: ${stderr}`)
      const lifted = readFileSync(join(machine.nfsdDir, 'v4_end_grace'), 'latin1').startsWith('Y')
      if (lifted && verdict.endGrace === 'must not')
        wrong.push(`${label}: grace was ended though somebody may still reclaim`)
      if (!lifted && verdict.endGrace === 'must') wrong.push(`${label}: grace was not ended though nobody is left`)
    }
    return wrong
  } finally {
    scrapTree(machine)
  }
}
