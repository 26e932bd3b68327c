/**
 * Random lives in process, on a machine in memory. Upcalls and commands are killed, fail on the disk, meet others, or
 * are cut off by a power cut. tests/life runs such lives on the built programs, undisturbed.
 *
 * SEED=<number> selects other lives, RUNS=<number> how many.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { disturbed } from '../life/disturbed.ts'
import { inMemory } from '../life/in-memory.ts'
import { livesInMemory } from '../life/life.ts'
import { play } from '../life/play.ts'

/** Each run has the same lives, unless SEED is given. So a failure comes from a change of the program. */
const seed = Number(process.env['SEED'] ?? 4242)
const limits =
  'RUNS' in process.env ? { numRuns: Number(process.env['RUNS']) } : { numRuns: 400, interruptAfterTimeLimit: 8_000 }

describe('in any life of a server and its clients, in memory', () => {
  it('a client may reclaim if and only if the rule of RFC 7530 9.6.3.4 lets it', async () => {
    let upcalls = 0
    const outcome = await fc.check(
      fc.asyncProperty(livesInMemory, async (life) => {
        const place = inMemory()
        upcalls += await play(place, life, disturbed(place))
      }),
      { seed, ...limits },
    )
    console.log(`# ${outcome.numRuns} lives, ${upcalls} upcalls, SEED=${seed}`)
    if (!outcome.failed) return
    const { numRuns, numShrinks, errorInstance, counterexample } = outcome
    assert.fail(
      `the rule was broken in life ${numRuns}; the shortest such life (${numShrinks} times shortened):\n\n` +
        `${errorInstance instanceof Error ? (errorInstance.stack ?? '') : String(errorInstance)}\n\n` +
        `${JSON.stringify(counterexample)}\n\nThe same again: SEED=${seed} RUNS=${numRuns}\n`,
    )
  })
})
