/**
 * `serve` and an upcall, or a command for people, at once on one state directory. One stops before each of its calls,
 * and the other runs there from beginning to end. They are right if some order explains what was answered, whom a start
 * named, and who may reclaim afterwards, as for two upcalls (tests/unit/events/at-once.ts). If the power is cut as soon
 * as one is answered, what it has promised must still hold.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { answerQueued } from '../../../lib/serve/round.ts'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import {
  blank,
  judge,
  mayNotReclaim,
  namedAtStart,
  remember,
  type Event,
  type Memory,
  type Owner,
} from '../../life/oracle.ts'
import { disagreement, futuresByRule, readable, type Futures } from '../../proof/futures.ts'
import { inTurn } from '../../proof/linear.ts'
import { diskAt, type Disk } from '../../proof/power-loss.ts'
import { ann, bob, cal, check, create, dan, remove } from '../../proof/scenarios.ts'
import type { Tree } from '../../proof/trees.ts'
import { callShown } from '../../support/memory/files.ts'
import {
  machineWith,
  runDirectory,
  stateDirectory,
  Stopped,
  type Ending,
  type Machine,
  type Processes,
} from '../../support/memory/machine.ts'
import { kernelEnd, type AskedMessage, type KernelEnd } from '../../support/memory/pipe.ts'
import { live, pipePath } from '../../support/memory/serving.ts'
import { entryOf, message, statusOf } from '../../support/pipe/messages.ts'
import { upcall, type Act } from '../events/at-once.ts'
import { allowByHand, expireByHand, pruneByHand, repairByHand } from '../events/by-hand.ts'
import { everything } from '../events/situations.ts'
import { observer, type Standing } from '../events/states.ts'
import { eventOf, type Asked } from './with-a-log.ts'

const clients: readonly Owner[] = [ann, bob, dan]
const states = observer()
const disk = '/var/lib'

interface Case {
  readonly title: string
  /**
   * What the same `serve` has answered before; 'restart': the kernel makes a new pipe; 'rest': no message comes for a
   * while, so `serve` makes its intent log, or empties it.
   */
  readonly before: readonly (Asked | 'restart' | 'rest')[]
  /** An upcall that is then killed before it removes anything; it counts as done. */
  readonly killed?: Event
  readonly asked: readonly Asked[]
  readonly grace: 'running' | 'over'
}

const start: readonly Asked[] = [['getVersion'], ['graceStart']]
const creates = (...owners: readonly Owner[]): readonly Asked[] => owners.map((owner) => ['create', owner])
const full: readonly (Asked | 'restart')[] = [...start, ...creates(ann, bob, cal), ['graceDone']]
const inGrace: readonly (Asked | 'restart')[] = [...full, 'restart', ...start]

const cases: readonly Case[] = [
  { title: 'a start', before: [...full, 'restart', ['getVersion']], asked: [['graceStart']], grace: 'running' },
  {
    title: 'a start after one in whose grace the server ended',
    before: [...inGrace, ['create', ann], 'restart', ['getVersion']],
    asked: [['graceStart']],
    grace: 'running',
  },
  { title: 'clients that reclaim', before: inGrace, asked: creates(ann, dan), grace: 'running' },
  {
    title: 'a client that goes in grace',
    before: [...inGrace, ['create', ann]],
    asked: [['remove', ann]],
    grace: 'running',
  },
  {
    title: 'the last client that reclaims, and the end of grace',
    before: [...inGrace, ['create', ann]],
    asked: [['create', bob], ['graceDone']],
    grace: 'running',
  },
  { title: 'the end of grace', before: [...inGrace, ['create', ann]], asked: [['graceDone']], grace: 'over' },
  {
    title: 'a client that comes, where the end of grace was not heard',
    before: inGrace,
    asked: creates(dan),
    grace: 'over',
  },
  { title: 'clients that come', before: full, asked: creates(dan, ann), grace: 'over' },
  {
    title: 'clients that come, of which an upcall should have removed one, and was killed',
    before: full,
    killed: remove(ann),
    asked: creates(dan, ann),
    grace: 'over',
  },
  {
    title: 'a start after a remove that was killed',
    before: [...full, 'restart', ['getVersion']],
    killed: remove(ann),
    asked: [['graceStart']],
    grace: 'running',
  },
  {
    title: 'clients that come and go',
    before: full,
    asked: [
      ['remove', ann],
      ['create', dan],
      ['remove', bob],
    ],
    grace: 'over',
  },
  {
    title: 'clients that come and go, with an intent log',
    before: [...full, 'rest', ['create', dan], ['remove', ann]],
    asked: [
      ['create', ann],
      ['remove', dan],
      ['remove', bob],
    ],
    grace: 'over',
  },
  {
    title: 'a client that comes, with an empty intent log',
    before: [...full, 'rest', ['remove', ann], 'rest'],
    asked: creates(ann),
    grace: 'over',
  },
  {
    title: 'a client that comes, with an intent log that is full',
    before: [...full, 'rest', ['remove', ann], ['create', ann], ['remove', bob]],
    asked: creates(dan),
    grace: 'over',
  },
  {
    title: 'a start, with an intent log',
    before: [...full, 'rest', ['create', dan], ['remove', ann], ...start.slice(0, 1)],
    asked: [['graceStart']],
    grace: 'running',
  },
  {
    title: 'clients that are asked about',
    before: inGrace,
    asked: [
      ['check', bob],
      ['check', dan],
    ],
    grace: 'running',
  },
]

const acts: readonly Act[] = [
  upcall(create(dan, 'Y')),
  upcall(create(ann, 'N')),
  upcall(create(bob, 'Y')),
  upcall(check(ann, 'Y')),
  upcall(check(bob, 'N')),
  upcall(check(dan, 'N')),
  upcall(remove(ann)),
  upcall(remove(bob)),
  upcall({ event: 'grace done', bootTime: undefined }),
  expireByHand(ann),
  expireByHand(dan),
  pruneByHand,
  allowByHand(dan),
  repairByHand,
]

const eventsOf = (asked: readonly (Asked | 'restart' | 'rest')[]): readonly Event[] =>
  asked.flatMap((one) => (typeof one === 'string' ? [] : [eventOf(one)])).filter((event) => event !== undefined)

/** A `serve` that has answered what came before, and its machine. */
interface Living {
  readonly machine: Machine
  readonly kernel: KernelEnd
  readonly disk: Disk
  readonly answer: () => void
}

/** One of so many calls is stopped before; in tests/proof/pairs-in-memory.test.ts every call. */
const sample = 23

const serveId = 5_000_000

function lived({ before, killed, grace }: Case): Living {
  const machine = machineWith(undefined, () => ({ sleep: passBy }))
  const { files } = machine
  function passBy(): void {
    files.process.monotonic += 501
  }
  const kernel = kernelEnd(files.calls, pipePath)
  const inServe = files.another()
  const model = diskAt(disk)
  files.hooks.changed = (made) => {
    if (made.paths.some((path) => `${path}/`.startsWith(`${disk}/`))) model.apply(made)
  }
  files.plant(
    new Map([['', { kind: 'file', bytes: `${serveId} (serve) R ${'1 '.repeat(18)}${serveId} 1 1\n` }]]),
    `/proc/${serveId}/stat`,
  )
  files.plant(new Map([['', { kind: 'directory' }]]), `${runDirectory}/nfsd-userland-helper`)
  const ask = (one: Asked): AskedMessage => askAt(kernel, one)
  machine.kernel.grace = 'running'
  machine.meanwhile.program(() => 0)
  // The process that has stopped does not see the clock advance.
  const change = (): Partial<Calls> => ({ sleep: passBy })
  let isFirst = true
  let answer = (): void => undefined
  let rest = (): void => undefined
  for (const one of before) {
    if (one === 'rest') {
      inServe(rest)
      continue
    }
    if (one === 'restart') {
      inServe(() => {
        kernel.remove('again')
        answer()
      })
      isFirst = true
      files.process.now += 100_000
      continue
    }
    ask(one)
    if (isFirst) {
      inServe(() => {
        kernel.die()
        const { server, held } = live({ kernel, files, lives: 0 }, change, `${runDirectory}/nfsd-userland-helper`)
        assert.ok(held !== 'gone')
        server.intents.blocks = 4
        rest = () => {
          server.intents.answered(0)
          server.settleIntents(Infinity)
        }
        answer = () => {
          answerQueued(server, held.pipe, held.journal)
        }
      })
      isFirst = false
    } else inServe(answer)
  }
  machine.kernel.grace = grace
  machine.meanwhile.program(() => 0)
  if (killed !== undefined) {
    files.hooks.before = ({ name, paths: [path = ''] }) => {
      if (name === 'unlinkat' && path.startsWith(disk)) throw new Stopped()
      return undefined
    }
    assert.equal(upcall(killed).play(machine, undefined), 'stopped')
    files.hooks.before = () => undefined
  }
  files.process.now += 100_000
  return {
    machine,
    kernel,
    disk: model,
    answer: () => {
      inServe(answer)
    },
  }
}

const askAt = (kernel: KernelEnd, [command, owner]: Asked): AskedMessage =>
  kernel.ask(
    message(command === 'getVersion' ? 1 : 2, command, owner === undefined ? {} : { owner: Buffer.from(owner, 'hex') }),
  )

/** A server that starts waits for the answer and asks nothing else. People may run commands meanwhile. */
const besideStart = acts.filter(({ name }) => /^(?:expire|allow|verify) /.test(name))

interface Outcome {
  readonly act: readonly number[]
  /** Of each message. */
  readonly messages: readonly (readonly number[])[]
  readonly named: string | undefined
  readonly futures: Futures
}

const toUpcall = (status: number): number => (status === -13 ? 255 : status)

/**
 * What may have come of it by the rule. @param given the messages that have happened: all, unless the power was cut.
 */
function outcomes({ before, killed, asked, grace }: Case, act: Act | undefined, given = asked): readonly Outcome[] {
  const memory = remember(blank())
  for (const event of eventsOf(before)) judge(memory, event)
  if (killed !== undefined) judge(memory, killed)
  const messages = eventsOf(given)
  const ended = remember(memory)
  judge(ended, { event: 'grace done', bootTime: undefined })
  const from = grace === 'over' && !memory.full ? [memory, ended] : [memory]
  const meanings = act?.meanings ?? [{ event: undefined, statuses: [0] }]
  return from.flatMap((begun) =>
    meanings.flatMap((meaning) =>
      [...Array(messages.length + 1).keys()].flatMap((place) =>
        ordered(begun, grace, messages, meaning.event, place).map(({ statuses, memory: after, named }) => {
          const ofMessages = meaning.event === undefined ? statuses : statuses.toSpliced(place, 1)
          return {
            act: meaning.statuses ?? statuses[place] ?? [],
            messages: ofMessages,
            named,
            futures: futuresByRule(after, clients),
          }
        }),
      ),
    ),
  )
}

interface Ordered {
  readonly statuses: readonly (readonly number[])[]
  readonly memory: Memory
  readonly named: string | undefined
}

function ordered(
  memory: Memory,
  grace: Case['grace'],
  messages: readonly Event[],
  act: Event | undefined,
  place: number,
): readonly Ordered[] {
  const events = act === undefined ? messages : messages.toSpliced(place, 0, act)
  const starts = events.findIndex(({ event }) => event === 'start')
  if (starts < 0) return inTurn(memory, grace, events).map((one) => ({ ...one, named: undefined }))
  return inTurn(memory, grace, events.slice(0, starts + 1)).flatMap((begun) =>
    inTurn(begun.memory, 'running', events.slice(starts + 1), begun.statuses).map((one) => ({
      ...one,
      named: readable(namedAtStart(begun.memory).sort()),
    })),
  )
}

const below = (tree: Tree): Tree =>
  new Map(
    [...tree]
      .filter(([path]) => `${path}/`.startsWith('nfs/'))
      .map(([path, node]) => [path.slice('nfs/'.length), node]),
  )

interface Met {
  readonly stoodBefore: string
  readonly wrong: string | undefined
}

/** One stops before its call number `at`, and the other runs there from beginning to end. */
function meet(one: Case, act: Act, first: 'serve' | 'act', at: number, isCut: boolean): Met | undefined {
  const { machine, kernel, disk: model, answer } = lived(one)
  const { files } = machine
  const messages = one.asked.map((asked) => askAt(kernel, asked))
  const statuses = (): readonly (number | undefined)[] =>
    messages.map(({ answer: said }) => (said === undefined ? undefined : toUpcall(statusOf(said))))
  const play = (by: Processes): Ending => act.play(by, undefined)
  let calls = 0
  let stoodBefore: string | undefined
  let actSaid: Ending | undefined
  let answered: readonly (number | undefined)[] = []
  const left = new Set<Standing>()
  files.hooks.before = (made) => {
    if (calls++ !== at) return undefined
    stoodBefore = callShown(made)
    const { before } = files.hooks
    files.hooks.before = () => undefined
    if (first === 'serve') actSaid = play(machine.meanwhile)
    else answer()
    files.hooks.before = before
    answered = statuses()
    if (isCut) for (const whole of model.afterCut(() => undefined)) left.add(states.standing(below(whole)))
    return undefined
  }
  const later = first === 'serve' ? (answer(), actSaid) : play(machine)
  files.hooks.before = () => undefined
  if (stoodBefore === undefined) return undefined
  const [start] = messages.filter(({ entries }, nth) => one.asked[nth]?.[0] === 'graceStart' && entries.length >= 0)
  const named = start === undefined ? undefined : namesIn(start)
  const said = `${act.name} said ${String(later)}, serve ${statuses().join(', ')}${named === undefined ? '' : `, named ${named}`}`
  const fits = (allowed: Outcome): boolean =>
    allowed.act.includes(later as number) &&
    statuses().every((status, nth) => allowed.messages[nth]?.includes(status as number)) &&
    allowed.named === named
  const fitting = outcomes(one, act).filter(fits)
  if (fitting.length === 0)
    // docs/locking.md, "Three at once": a record on which serve has relied is taken back.
    return { stoodBefore, wrong: takesBack(act.name, one, later) ? undefined : said }
  const standing = states.standing(files.tree(stateDirectory), files.tree(runDirectory))
  const wrong = disagreement(
    states.futures(standing, clients, 'kill'),
    fitting.map(({ futures }) => futures),
    'kill',
  )
  if (wrong !== undefined) return { stoodBefore, wrong: `${said}: ${wrong}` }
  // What was not answered has promised nothing. A command, and a check that records nobody, do not promise that an end
  // of grace that they found is durable.
  const mends = mustMend(act, later)
  const done = first === 'serve' && mends ? [act] : [act, undefined]
  const heard = mends ? [one] : [one, { ...one, grace: 'running' as const }]
  const allowed = done.flatMap((each) =>
    heard.flatMap((as) =>
      subsets(one.asked, answered).flatMap((given) => outcomes(as, each, given).map(({ futures }) => futures)),
    ),
  )
  for (const cut of left) {
    const lost = disagreement(states.futures(cut, clients, 'power cut'), allowed, 'power cut')
    if (lost !== undefined) return { stoodBefore, wrong: `${said}, and the power is cut: ${lost}` }
  }
  return { stoodBefore, wrong: undefined }
}

/**
 * An upcall is killed before its call number `at`. Then `serve` answers. What it answers with 0 must hold after the
 * next start, whatever the killed one had begun.
 */
function afterKilled(one: Case, act: Act, at: number): Met | undefined {
  const { machine, kernel, answer } = lived(one)
  const { files } = machine
  let calls = 0
  let stoodBefore: string | undefined
  files.hooks.before = (made) => {
    if (calls++ !== at) return undefined
    stoodBefore = callShown(made)
    throw new Stopped()
  }
  act.play(machine, undefined)
  files.hooks.before = () => undefined
  if (stoodBefore === undefined) return undefined
  const messages = one.asked.map((asked) => askAt(kernel, asked))
  answer()
  const statuses = messages.map(({ answer: said }) => (said === undefined ? undefined : toUpcall(statusOf(said))))
  const fitting = [...outcomes(one, act), ...outcomes(one, undefined)].filter((allowed) =>
    statuses.every((status, nth) => allowed.messages[nth]?.includes(status as number)),
  )
  const wrong = disagreement(
    states.futures(states.standing(files.tree(stateDirectory), files.tree(runDirectory)), clients, 'kill'),
    fitting.map(({ futures }) => futures),
    'kill',
  )
  return { stoodBefore, wrong: wrong === undefined ? undefined : `serve ${statuses.join(', ')}: ${wrong}` }
}

const takesBack = (name: string, { asked }: Case, status: unknown): boolean =>
  name === 'check bob N' &&
  status === mayNotReclaim &&
  asked.some(([command, owner]) => command === 'create' && owner === bob) &&
  asked.some(([command]) => command === 'graceDone')

/** Whether its answer depends on the end of grace that it found, if no message had reported that. */
const mustMend = ({ meanings: [meant] }: Act, status: unknown): boolean =>
  status === 0 && ['create', 'remove', 'grace done'].includes(meant?.event?.event ?? '')

const namesIn = ({ entries }: AskedMessage): string =>
  readable(entries.map((entry) => entryOf(entry).owner.toString('hex')).sort())

/** Each message that was not answered may have happened. */
const subsets = (asked: readonly Asked[], answered: readonly (number | undefined)[]): readonly (readonly Asked[])[] =>
  asked.reduce<readonly (readonly Asked[])[]>(
    (all, one, nth) => all.flatMap((some) => [[...some, one], ...(answered[nth] === undefined ? [some] : [])]),
    [[]],
  )

describe('in memory, serve and an upcall or a command at once', () => {
  for (const one of cases)
    for (const first of ['serve', 'act'] as const)
      it(`${one.title}, while ${first === 'serve' ? 'serve' : 'the other'} stands still: the outcome is that of some order`, () => {
        const began = performance.now()
        const violations: string[] = []
        let stops = 0
        const others = one.asked[0]?.[0] === 'graceStart' ? besideStart : acts
        for (const [number, act] of others.entries())
          for (let at = everything ? 0 : number % sample; ; at += everything ? 1 : sample) {
            // A prune that was not answered may have removed only some of its clients. A power cut loses what a killed
            // upcall has noted.
            const isCut = at % 3 === 0 && !(first === 'act' && act === pruneByHand) && one.killed === undefined
            const met = meet(one, act, first, at, isCut)
            if (met === undefined) break
            stops++
            if (met.wrong === undefined) continue
            violations.push(`${first} stands before ${met.stoodBefore}, ${act.name}: ${met.wrong}`)
            break
          }
        console.log(`# ${one.title}, ${first}: ${stops} stops, ${Math.round(performance.now() - began)} ms`)
        assert.deepEqual(violations, [])
      })
})

/** Where clients are asked about only: a start does what was begun. */
const killedBefore = cases.filter(({ asked }) =>
  asked.every(([command]) => command === 'create' || command === 'check' || command === 'remove'),
)
/** One of so many calls is killed before; in tests/proof/pairs-in-memory.test.ts every call. */
const killSample = everything ? 1 : 3
const upcalls = acts.filter(({ meanings }) => ['create', 'check', 'remove'].includes(meanings[0]?.event?.event ?? ''))

describe('in memory, serve answers after an upcall beside it was killed', () => {
  for (const one of killedBefore)
    it(`${one.title}: what it has answered holds after the next start`, () => {
      const violations: string[] = []
      let kills = 0
      for (const [number, act] of upcalls.entries())
        for (let at = number % killSample; ; at += killSample) {
          const met = afterKilled(one, act, at)
          if (met === undefined) break
          kills++
          if (met.wrong === undefined) continue
          violations.push(`${act.name}, killed before ${met.stoodBefore}: ${met.wrong}`)
          break
        }
      console.log(`# ${one.title}: ${kills} kills`)
      assert.deepEqual(violations, [])
    })
})
