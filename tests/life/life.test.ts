/**
 * Random lives of a server and its clients, compared with the rule for reclaims.
 *
 * SEED=<number> repeats a run, RUNS=<number> sets how many lives each artefact has, ARTEFACT limits it to one.
 */
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import fc from 'fast-check'
import { artefacts, type Artefact } from '../support/artefacts.ts'
import { cutShortOn } from './cut-short.ts'
import { lives, type Life } from './life.ts'
import { onThisMachine } from './on-this-machine.ts'
import { play } from './play.ts'

/** Each run has the same lives, unless SEED is given. So a failure comes from a change of the program. */
const seed = Number(process.env['SEED'] ?? 4242)

/**
 * As many as fit into half a minute on a small machine. A busy machine reaches the time limit first; RUNS removes that
 * limit. Both artefacts have the rule from the same modules. So a few lives show that Node carries it out, where each
 * takes as long as ten on the executable.
 */
const limits = ({ name }: Artefact): { numRuns: number; interruptAfterTimeLimit?: number } =>
  'RUNS' in process.env
    ? { numRuns: Number(process.env['RUNS']) }
    : { numRuns: { executable: 200, bundle: 20 }[name], interruptAfterTimeLimit: 50_000 }

describe('in any life of a server and its clients', { concurrency: true }, () => {
  for (const artefact of artefacts())
    it(`a client may reclaim if and only if the rule of RFC 7530 9.6.3.4 lets it (${artefact.name})`, async () => {
      let upcalls = 0
      const outcome = await fc.check(
        fc.asyncProperty(lives, async (life) => {
          const place = onThisMachine(artefact)
          upcalls += await play(place, life, cutShortOn(place))
        }),
        { seed, ...limits(artefact) },
      )
      after(() => {
        console.log(`${artefact.name}: ${outcome.numRuns} lives, ${upcalls} upcalls, SEED=${seed}`)
      })
      if (outcome.failed) assert.fail(shortest(artefact, outcome))
    })
})

/** The counterexample as a list of upcalls, which a person can repeat by hand. */
function shortest(artefact: Artefact, { numRuns, numShrinks, errorInstance }: fc.RunDetails<[Life]>): string {
  const told = errorInstance instanceof Error ? errorInstance.message : String(errorInstance)
  return (
    `the ${artefact.name} broke the rule in life ${numRuns}; the shortest such life (${numShrinks} times shortened):\n\n` +
    `${told}\n\nThe same again: SEED=${seed} RUNS=${numRuns} ARTEFACT=${artefact.name}\n`
  )
}
