/**
 * Lives that once broke the rule, told as the kernel and people tell them: what a random life finds again only now and
 * then.
 */
import { describe, it } from 'node:test'
import { artefacts } from '../support/artefacts.ts'
import type { Act, Life } from './life.ts'
import { owner } from './owners.ts'
import { play } from './play.ts'

const start: Act = { act: 'start', word: 'init', bootTime: true }
const done: Act = { act: 'grace done', word: 'gracedone', of: 'this' }
const later: Act = { act: 'step the clock', by: 60 }
const create = (who: number): Act => ({ act: 'create', who, session: 'Y', spelling: 'kernel' })
const check = (who: number, session: 'Y' | 'N' = 'Y'): Act => ({ act: 'check', who, session })
const failed = (how: 'killed' | 'no place'): Act => ({ act: 'failed start', how, bootTime: true })

const life = (legacy: readonly number[], ...acts: readonly Act[]): Life => ({
  owners: ['ada', 'bob', 'cal'].map((name) => owner(name)),
  files: { endGrace: true, allowClient: false },
  legacy,
  acts,
})

const lives: Readonly<Record<string, Life>> = {
  "a client of the kernel's own tracker that never said it was done in a grace period that ended may not reclaim in the next (edge condition 2)":
    life([0], start, check(0), done, later, start, check(0)),
  "a client of the kernel's own tracker that left may not reclaim any more (edge condition 1)": life(
    [0, 1],
    start,
    { act: 'remove', who: 0, spelling: 'kernel' },
    check(0),
    later,
    start,
    check(0),
    check(1),
  ),
  "a client of the kernel's own tracker alone, taken out by a person, may not reclaim, now or after a crash": life(
    [0, 1],
    start,
    { act: 'expire', who: 0 },
    check(0),
    { act: 'expire', who: 2 },
    later,
    start,
    check(0),
    check(1),
  ),
  "a client of the kernel's own tracker whose check was its record keeps it, over a crash in its first grace period":
    life([0, 1], start, check(0, 'N'), later, start, check(0, 'N'), check(1), done, later, start, check(0), check(1)),
  "after an instance without a tracker nobody may reclaim, also whom the kernel's own tracker knew": life(
    [0],
    failed('killed'),
    later,
    start,
    check(0),
  ),
  'what was recorded in a first grace period that never ended is lost by no crash': life(
    [],
    start,
    create(0),
    later,
    start,
    create(1),
    later,
    start,
    check(0),
    check(1),
    create(1),
    done,
    later,
    start,
    check(0),
    check(1),
  ),
  'after a start that was killed before it was durable, nobody may reclaim': life(
    [],
    start,
    create(0),
    done,
    later,
    failed('killed'),
    later,
    start,
    check(0),
    create(1),
    later,
    start,
    check(1),
  ),
  'after a start that found no place to write to, nobody may reclaim, however soon the next one comes': life(
    [],
    start,
    create(0),
    done,
    later,
    failed('no place'),
    later,
    start,
    check(0),
  ),
  'after a remove that found no place to write to, nobody may reclaim, but once': life(
    [],
    start,
    create(0),
    create(1),
    done,
    { act: 'not done', verb: 'remove', who: 0 },
    later,
    start,
    check(0),
    check(1),
    create(1),
    done,
    later,
    start,
    check(1),
  ),
  'after an end of grace that found no place to write to, nobody may reclaim, also if it is made up for': life(
    [],
    start,
    create(0),
    create(1),
    done,
    later,
    start,
    create(1),
    { act: 'not done', verb: 'gracedone', who: 0 },
    create(2),
    later,
    start,
    check(0),
    check(1),
    check(2),
  ),
  'the kernel asks for one start twice, and the first dies: nobody is lost': life(
    [],
    start,
    create(0),
    done,
    later,
    failed('killed'),
    start,
    check(0),
  ),
  'two instances without a tracker, and then a start that bears the name of the first: nobody may reclaim': life(
    [],
    start,
    create(0),
    done,
    later,
    failed('no place'),
    later,
    failed('no place'),
    { act: 'step the clock', by: -60 },
    start,
    check(0),
  ),
  'an import before any grace period has ended loses nobody who was recorded': life(
    [],
    start,
    create(0),
    { act: 'import', who: 1 },
    later,
    start,
    check(0),
    check(1),
  ),
  'who came back is pruned by nobody, and who was let in by a person misses the end of grace like everybody': life(
    [],
    start,
    create(0),
    create(1),
    done,
    later,
    start,
    create(0),
    { act: 'prune' },
    { act: 'allow', who: 2 },
    check(0),
    check(1),
    check(2),
    done,
    later,
    start,
    check(0),
    check(2),
  ),
  "who is pruned is taken out wholly: also what the kernel's own tracker has of a client that was recorded since": life(
    [0],
    start,
    create(0),
    later,
    start,
    { act: 'prune' },
    later,
    start,
    check(0),
  ),
  'in an instance without a tracker nobody is let in, and nobody imported': life(
    [],
    start,
    create(0),
    done,
    later,
    failed('killed'),
    { act: 'allow', who: 1 },
    { act: 'import', who: 1 },
    { act: 'expire', who: 0 },
    later,
    start,
    check(0),
    check(1),
  ),
}

for (const artefact of artefacts())
  describe(`a life that once broke the rule (${artefact.name})`, { concurrency: 2 }, () => {
    for (const [title, acts] of Object.entries(lives))
      it(title, async () => {
        await play(artefact, acts)
      })
  })
