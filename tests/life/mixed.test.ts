/**
 * Random lives of a server that asks by upcalls in one instance and at the pipe in the next, on one state directory,
 * compared with the rule for reclaims. Each takes a few hundred milliseconds, so a run has few. SEED=<number> repeats a
 * run, RUNS=<number> sets how many.
 */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import { executable } from '../support/artefacts.ts'
import { compilePipeEnd, pipeEndRefused, startPipeEnd, type PipeEnd } from '../support/pipe/pipe-end.ts'
import { atThePipe } from './at-the-pipe.ts'
import { mixedLives, type Act, type Life } from './life.ts'
import { onThisMachine } from './on-this-machine.ts'
import { owner } from './owners.ts'
import { play } from './play.ts'

/** Each run has the same lives, unless SEED is given. So a failure comes from a change of the program. */
const seed = Number(process.env['SEED'] ?? 4242)
const limits =
  'RUNS' in process.env ? { numRuns: Number(process.env['RUNS']) } : { numRuns: 12, interruptAfterTimeLimit: 40_000 }

describe('in any life of a server that asks by upcalls and at the pipe', () => {
  const room = mkdtempSync(join(tmpdir(), 'nfsd-userland-helper-mixed-'))
  let end: PipeEnd | undefined
  before(async () => {
    const refused = pipeEndRefused()
    if (refused !== undefined) throw new Error(`no pipe can be acted here: ${refused}`)
    end = await startPipeEnd(compilePipeEnd(room), join(room, 'pipes'))
  })
  after(async () => {
    await end?.scrap()
    rmSync(room, { recursive: true })
  })

  const playMixed = (life: Life): Promise<number> => {
    const place = onThisMachine(executable)
    return play(place, life, atThePipe(end as PipeEnd, place.machine))
  }

  it('a server in version 0 that asks nothing is not known to have its start recorded', async () => {
    const startAt = (version: 0 | 2): Act => ({ act: 'start at the pipe', version, killed: undefined })
    const life = {
      owners: [owner('ada')],
      files: { endGrace: true, allowClient: false },
      legacy: [],
      acts: [startAt(0), { act: 'allow' as const, who: 0 }, startAt(2)],
    }
    await playMixed(life)
  })

  it('a client may reclaim if and only if the rule of RFC 7530 9.6.3.4 lets it', async () => {
    let asked = 0
    const outcome = await fc.check(
      fc.asyncProperty(mixedLives, async (life) => {
        asked += await playMixed(life)
      }),
      { seed, ...limits },
    )
    console.log(`${outcome.numRuns} mixed lives, ${asked} upcalls and messages, SEED=${seed}`)
    if (!outcome.failed) return
    const { numRuns, numShrinks, errorInstance } = outcome
    assert.fail(
      `the rule was broken in life ${numRuns}; the shortest such life (${numShrinks} times shortened):\n\n` +
        `${errorInstance instanceof Error ? errorInstance.message : String(errorInstance)}\n\n` +
        `The same again: SEED=${seed} RUNS=${numRuns}\n`,
    )
  })
})
