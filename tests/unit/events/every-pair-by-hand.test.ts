/**
 * Every upcall at once with every command for people, and every two commands, as every-pair.test.ts does for two
 * upcalls. A command that can't get the lock changes nothing. So each pair runs once with the lock held, and once with
 * the lock lost, because another process took its holder for dead.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ann, bob, cal, check, create, dan, graceDone, remove, start } from '../../proof/scenarios.ts'
import { atOnce, upcall, type Act } from './at-once.ts'
import {
  allowByHand,
  expireBesideAllow,
  expireByHand,
  importByHand,
  pruneByHand,
  pruneOfNobody,
  repairByHand,
} from './by-hand.ts'
import { begun, everything, situations, type Begun, type Situation } from './situations.ts'

const clients = [ann, bob, dan]
const commandsOn = ({ memory, judge, cutShort }: Begun): readonly Act[] => [
  expireByHand(ann),
  expireByHand(bob),
  expireByHand(dan),
  // To a person, a client whose create was killed has come back. By the rule the server still waits for it.
  ...(cutShort !== undefined && memory.reclaimable.has(cutShort)
    ? []
    : [memory.untracked === undefined && !memory.endIsUnrecorded ? pruneByHand : pruneOfNobody]),
  allowByHand(dan),
  allowByHand(bob),
  // A repair replaces an instance that can't be understood by a new one. An upcall knows nothing of that.
  ...(judge === undefined ? [repairByHand] : []),
]

const inPairs = (one: Act, other: Act): readonly Act[] => {
  const owner = clients.find((client) => expireByHand(client).name === one.name)
  return [owner !== undefined && other.name.startsWith('allow') ? expireBesideAllow(owner) : one, other]
}

function everyPair(situation: Situation): { stops: number; pairs: number; violations: string[] } {
  const before = begun(situation)
  const commands = commandsOn(before)
  const all = { stops: 0, pairs: 0, violations: [] as string[] }
  const upcalls = situation.upcalls.map((event) => upcall(event))
  const pairs = commands.flatMap((command) => [
    ...upcalls.flatMap((other) => [
      [command, other],
      [other, command],
    ]),
    ...commands.map((other) => inPairs(command, other)),
  ])
  for (const [number, [first, other]] of pairs.entries())
    for (const lockIsLost of [false, true]) {
      if (first === undefined || other === undefined) continue
      if (!everything && (number + Number(lockIsLost)) % 40 !== 0) continue
      const { stops, violations } = atOnce({ before, first, others: [other], clients, lockIsLost })
      all.pairs++
      all.stops += stops
      all.violations.push(
        ...violations.slice(0, 1).map(({ what }) => `${lockIsLost ? 'without the lock, ' : ''}${what}`),
      )
    }
  return all
}

/** If nothing is recorded, a command has no client to work on. */
const met = situations.filter(
  ({ planted, before }) => planted === undefined && before.some(({ event }) => event === 'start'),
)

describe('in memory, an upcall and a command for people at once', () => {
  for (const situation of met)
    it(`${situation.name}: the outcome is that of one order or the other`, () => {
      const began = performance.now()
      const { stops, pairs, violations } = everyPair(situation)
      console.log(`# ${situation.name}: ${pairs} pairs, ${stops} stops, ${Math.round(performance.now() - began)} ms`)
      assert.deepEqual(violations, [])
    })
})

/** Pairs that once went wrong: the command, or the start, had read what a killed upcall has noted. */
const once: readonly (readonly [string, Act, Act])[] = [
  ['in grace, after a remove that was killed', allowByHand(dan), upcall(create(ann, 'Y'))],
  ['out of grace, after a remove that was killed', allowByHand(dan), upcall(create(ann, 'Y'))],
  ['out of grace, after a create that was killed', allowByHand(dan), upcall(start('3000'))],
]

describe('in memory, an upcall and a command at once, after another upcall was killed', () => {
  for (const [name, command, other] of once)
    it(`${name}: ${command.name} and ${other.name}: neither takes out what the other has promised`, () => {
      const situation = situations.find((one) => one.name === name)
      assert.ok(situation !== undefined)
      const before = begun(situation)
      const found = [
        ...atOnce({ before, first: command, others: [other], clients }).violations,
        ...atOnce({ before, first: other, others: [command], clients }).violations,
      ]
      assert.deepEqual(
        found.map(({ what }) => what),
        [],
      )
    })
})

/** What a server that starts does while clients are imported, and what other commands do. */
const lifeBeside: readonly (readonly Act[])[] = [
  [upcall(start('3000'))],
  [upcall(start('3000')), upcall(create(dan, 'Y'))],
  [upcall(start('3000')), upcall(check(dan, 'N'))],
  [upcall(start('3000')), upcall(remove(dan))],
  [upcall(start('3000')), upcall(graceDone('3000'))],
  [upcall(start('3000')), upcall(graceDone('3000')), upcall(start('4000'))],
  [expireByHand(dan)],
  [expireByHand(ann)],
  [importByHand(dan)],
  [importByHand(cal)],
]
const importedInto = [
  'nothing is there',
  'in the first grace',
  'in the first grace, after a crash in it',
  'in grace',
  'out of grace',
  'out of grace, after an end that was killed',
  'in format 1, in the first grace',
  'its records were wiped',
]

const usually = ['nothing is there', 'in the first grace', 'out of grace']

describe('in memory, an import, and a server that starts meanwhile', () => {
  for (const situation of situations.filter(({ name }) => (everything ? importedInto : usually).includes(name)))
    it(`${situation.name}: the outcome is that of one order or the other`, () => {
      // No server runs whose grace could be over.
      const before = { ...begun(situation), grace: undefined }
      const found: string[] = []
      let [meetings, stops] = [0, 0]
      // Before the first start, a check reveals nothing about what is recorded.
      const isStarted = begun(situation).memory.started
      for (const others of lifeBeside.filter(([one]) => isStarted || one?.name.startsWith('start')))
        for (const lockIsLost of everything ? [false, true] : [false])
          for (const [first, rest] of [
            [importByHand(dan), others] as const,
            ...(others.length === 1 && others[0] !== undefined ? [[others[0], [importByHand(dan)]] as const] : []),
          ]) {
            const met = atOnce({ before, first, others: rest, clients: [ann, bob, dan], lockIsLost })
            meetings++
            stops += met.stops
            found.push(...met.violations.slice(0, 1).map(({ what }) => what))
          }
      console.log(`# import, ${situation.name}: ${meetings} meetings, ${stops} stops`)
      assert.deepEqual(found, [])
    })
})
