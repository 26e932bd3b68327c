/**
 * Lives that once broke the rule, as the kernel and people tell them. A random life would find them again only now and
 * then.
 */
import { describe, it } from 'node:test'
import { artefacts, type Artefact } from '../support/artefacts.ts'
import { cutShortOn } from './cut-short.ts'
import type { Act, Life, Point } from './life.ts'
import { onThisMachine } from './on-this-machine.ts'
import { owner } from './owners.ts'
import { play } from './play.ts'

const start: Act = { act: 'start', word: 'init', bootTime: true }
const done: Act = { act: 'grace done', word: 'gracedone', of: 'this' }
const later: Act = { act: 'step the clock', by: 60 }
const create = (who: number): Act => ({ act: 'create', who, session: 'Y', spelling: 'kernel' })
const check = (who: number, session: 'Y' | 'N' = 'Y'): Act => ({ act: 'check', who, session })
const failed = (how: 'killed' | 'no place'): Act => ({ act: 'failed start', how, bootTime: true })

const cut = (what: Act, name: Point['name'], nth = 1): Act => ({ act: 'cut short', what, at: { name, nth } })
const remove = (who: number): Act => ({ act: 'remove', who, spelling: 'kernel' })

/** @param instances what happens in each server instance, the next of which begins a minute later */
const life = (legacy: readonly number[], ...instances: readonly (readonly Act[])[]): Life => ({
  owners: ['ada', 'bob', 'cal'].map((name) => owner(name)),
  files: { endGrace: true, allowClient: false },
  legacy,
  acts: instances.flatMap((acts, nth) => (nth === 0 ? acts : [later, ...acts])),
})

const lives: Readonly<Record<string, Life>> = {
  "a client of the kernel's own tracker that never said it was done in a grace period that ended may not reclaim in the next (edge condition 2)":
    life([0], [start, check(0), done], [start, check(0)]),
  "a client of the kernel's own tracker that left may not reclaim any more (edge condition 1)": life(
    [0, 1],
    [start, remove(0), check(0)],
    [start, check(0), check(1)],
  ),
  "a client of the kernel's own tracker alone, taken out by a person, may not reclaim, now or after a crash": life(
    [0, 1],
    [start, { act: 'expire', who: 0 }, check(0), { act: 'expire', who: 2 }],
    [start, check(0), check(1)],
  ),
  "a client of the kernel's own tracker whose check was its record keeps it, over a crash in its first grace period":
    life([0, 1], [start, check(0, 'N')], [start, check(0, 'N'), check(1), done], [start, check(0), check(1)]),
  "after an instance without a tracker nobody may reclaim, also whom the kernel's own tracker knew": life(
    [0],
    [failed('killed')],
    [start, check(0)],
  ),
  'what was recorded in a first grace period that never ended is lost by no crash': life(
    [],
    [start, create(0)],
    [start, create(1)],
    [start, check(0), check(1), create(1), done],
    [start, check(0), check(1)],
  ),
  'after a start that was killed before it was durable, nobody may reclaim': life(
    [],
    [start, create(0), done],
    [failed('killed')],
    [start, check(0), create(1)],
    [start, check(1)],
  ),
  'after a start that found no place to write to, nobody may reclaim, however soon the next one comes': life(
    [],
    [start, create(0), done],
    [failed('no place')],
    [start, check(0)],
  ),
  'after a remove that found no place to write to, nobody may reclaim, but once': life(
    [],
    [start, create(0), create(1), done, { act: 'not done', verb: 'remove', who: 0 }],
    [start, check(0), check(1), create(1), done],
    [start, check(1)],
  ),
  'after a remove that found no place to write to, a person can still take out who came since': life(
    [],
    [
      start,
      { act: 'not done', verb: 'remove', who: 0 },
      create(1),
      { act: 'expire', who: 1 },
      check(1),
      done,
      create(1),
      { act: 'expire', who: 1 },
      check(1),
    ],
  ),
  'after a remove that found no place to write to, in grace, a person can prune whom it waits for': life(
    [],
    [start, create(0), create(1), done],
    [
      start,
      create(0),
      { act: 'not done', verb: 'remove', who: 2 },
      { act: 'prune' },
      check(0),
      check(1),
      { act: 'export' },
    ],
  ),
  'after an end of grace that found no place to write to, nobody may reclaim, also if it is made up for': life(
    [],
    [start, create(0), create(1), done],
    [start, create(1), { act: 'not done', verb: 'gracedone', who: 0 }, create(2)],
    [start, check(0), check(1), check(2)],
  ),
  'after an end of grace that the kernel shows and a check can not record, nobody may reclaim': life(
    [],
    [start, create(0), create(1), done],
    [start, create(1), { act: 'grace ends unheard' }, { act: 'end not recorded', verb: 'check', who: 0 }],
    [start, check(0), check(1)],
  ),
  'nor if it is a create that can not, but once': life(
    [],
    [start, create(0), done],
    [start, { act: 'grace ends unheard' }, { act: 'end not recorded', verb: 'create', who: 1 }],
    [start, check(0), create(0), done],
    [start, check(0)],
  ),
  'if another upcall can record it, nobody is lost who was active': life(
    [],
    [start, create(0), create(1), done],
    [start, create(1), { act: 'grace ends unheard' }, { act: 'end not recorded', verb: 'check', who: 0 }, create(2)],
    [start, check(0), check(1), check(2)],
  ),
  'if another upcall has recorded it, nobody is lost by a start that finds no place, and is asked for again': life(
    [],
    [start, create(0), { act: 'grace ends unheard' }, { act: 'end not recorded', verb: 'create', who: 0 }, check(0)],
    [failed('no place'), start, check(0)],
  ),
  'the kernel asks for one start twice, and the first dies: nobody is lost': life(
    [],
    [start, create(0), done],
    [failed('killed'), start, check(0)],
  ),
  'two instances without a tracker, and then a start that bears the name of the first: nobody may reclaim': life(
    [],
    [start, create(0), done],
    [failed('no place')],
    [failed('no place'), { act: 'step the clock', by: -60 }, start, check(0)],
  ),
  'an import before any grace period has ended loses nobody who was recorded': life(
    [],
    [start, create(0), { act: 'import', who: 1 }],
    [start, check(0), check(1)],
  ),
  'who came back is pruned by nobody, and who was let in by a person misses the end of grace like everybody': life(
    [],
    [start, create(0), create(1), done],
    [start, create(0), { act: 'prune' }, { act: 'allow', who: 2 }, check(0), check(1), check(2), done],
    [start, check(0), check(2)],
  ),
  "who is pruned is taken out wholly: also what the kernel's own tracker has of a client that was recorded since": life(
    [0],
    [start, create(0)],
    [start, { act: 'prune' }],
    [start, check(0)],
  ),
  'in an instance without a tracker nobody is let in, and nobody imported': life(
    [],
    [start, create(0), done],
    [failed('killed'), { act: 'allow', who: 1 }, { act: 'import', who: 1 }, { act: 'expire', who: 0 }],
    [start, check(0), check(1)],
  ),
  'after a remove that was killed before it had removed anything, its client may not reclaim, and nobody is lost': life(
    [],
    [start, create(0), create(1), done, cut(remove(0), 'unlink')],
    [start, check(0), check(1)],
  ),
  'a client that came back after such a remove may reclaim': life(
    [],
    [start, create(0), done, cut(remove(0), 'unlink'), create(0)],
    [start, check(0)],
  ),
  'after an end of grace that was killed before it was recorded, only those may reclaim who were active': life(
    [],
    [start, create(0), create(1), done],
    [start, create(0), cut(done, 'rename')],
    [start, check(0), check(1)],
  ),
  'a new client whose create was killed when it had made its record may not reclaim': life(
    [],
    [start, create(1), done, cut(create(0), 'unlink')],
    [start, check(0), check(1)],
  ),
  'a client whose create was killed when its record had moved may reclaim by the older one, until its grace is over':
    life(
      [],
      [start, create(0), create(1), done],
      [start, cut(create(0), 'unlink'), cut(check(1, 'N'), 'fsync'), cut(create(0), 'unlink', 2)],
      [start, check(0), cut(check(1, 'N'), 'unlink', 2), done],
      [start, check(0), check(1)],
    ),
  'a create that succeeds keeps the record of one that was killed': life(
    [],
    [start, done, cut(create(0), 'unlink'), create(0)],
    [start, check(0)],
  ),
  'a create that is killed after a remove that was killed brings nobody back': life(
    [],
    [start, create(0), done, cut(remove(0), 'unlink'), cut(create(0), 'fsync')],
    [start, check(0)],
  ),
  'the last client to reclaim, whose create was killed when it had ended grace early, is not lost by that': life(
    [],
    [start, create(0), done],
    [start, cut(create(0), 'unlink', 3)],
    [start, check(0)],
  ),
}

/** Both artefacts have the rule from the same modules, so a few lives show that Node carries it out. */
const toldOn = ({ name }: Artefact): readonly (readonly [title: string, life: Life])[] =>
  Object.entries(lives).filter((_, nth) => name === 'executable' || nth % 4 === 0)

for (const artefact of artefacts())
  describe(`a life that once broke the rule (${artefact.name})`, { concurrency: 2 }, () => {
    for (const [title, acts] of toldOn(artefact))
      it(title, async () => {
        const place = onThisMachine(artefact)
        await play(place, acts, cutShortOn(place))
      })
  })
