/** Plays a life, and compares every upcall's status and every downcall with the oracle's verdict. */
import type { Ending, Environment, Said } from '../support/artefacts.ts'
import type { Act, Life } from './life.ts'
import {
  blank,
  judge,
  keyOf,
  reclaimableAtNextStart,
  remember,
  storageFailed,
  type Event,
  type Memory,
  type Owner,
  type Session,
  type Verdict,
} from './oracle.ts'
import { escaped, readable, unescaped, type Spelling } from './owners.ts'

/** A verdict of the oracle's from which the helper differs, with the life up to it, for people. */
export class Broken extends Error {}

/** Acts that not every life has: at-the-pipe.ts, disturbed.ts. */
export interface OtherFront {
  /** @returns how many messages it took; undefined, if it does not know this act. */
  readonly perform: (world: World, act: Act) => Promise<number | undefined>
  /** What is done last, before one more start of the helper's. */
  readonly last: readonly Act[]
  /** What the programs have logged, for people. */
  readonly end: (world: World) => Promise<void>
}

/** A command that a person gives. */
export type Command =
  | { readonly verb: 'expire' | 'allow' | 'import'; readonly owner: Owner }
  | { readonly verb: 'prune' | 'verify' | 'export' }

export type KernelFile = 'v4_end_grace' | 'allow_client'

/** What prevents an upcall from doing its work. */
export type Hindrance = 'killed in its first barrier' | 'no place for records' | 'no rename works'

/** The place of a life: a directory of this machine, with a built program, or a machine in memory, in process. */
export interface Place {
  /** @param clock what the wall clock reads, in seconds. */
  readonly upcall: (words: readonly string[], env: Environment, clock: number) => Promise<Ending>
  readonly hindered: (
    how: Hindrance,
    words: readonly string[],
    env: Environment,
    clock: number,
  ) => Promise<Ending['status']>
  readonly command: (command: Command) => Promise<Said>
  /** The contents of a file of nfsd's; undefined: it does not exist. */
  readonly readKernel: (file: KernelFile) => string | undefined
  readonly writeKernel: (file: KernelFile, text: string) => void
  /** The directory in which the kernel's own tracker keeps a client. */
  readonly legacyRecord: (owner: Owner) => string
  readonly legacyTop: string
  readonly makeLegacyRecord: (path: string) => void
  /** A word, without the paths of this place. */
  readonly shown: (word: string) => string
  readonly scrap: () => void
}

export interface World {
  readonly place: Place
  readonly other: OtherFront | undefined
  /** The first of {@link memories}. */
  readonly memory: Memory
  /**
   * What may have happened until now. There are several memories as long as it is not known what a stopped upcall has
   * done.
   */
  memories: readonly Memory[]
  /**
   * What a power cut may leave of the records: what was never answered may be lost. Kept only if the power may be cut.
   */
  durable: readonly Memory[]
  /** Whether an upcall was stopped that may have left a sign that keeps grace from ending early. */
  mayLinger: boolean
  readonly life: Life
  readonly told: string[]
  wallClock: number
  /** The kernel's boot time of the instance before this one. */
  lastBootTime: string
  bootTime: string
}

/** @returns how many upcalls the life took. @throws Broken at the first verdict from which the helper differs. */
export async function play(place: Place, life: Life, other?: OtherFront): Promise<number> {
  const world: World = {
    place,
    other,
    life,
    memories: [blank()],
    durable: [blank()],
    get memory() {
      return this.memories[0] ?? blank()
    },
    mayLinger: false,
    told: [],
    wallClock: 1795328616,
    lastBootTime: '7',
    bootTime: '7',
  }
  let upcalls = 0
  try {
    for (const who of life.legacy) {
      const owner = whom(life, who)
      place.makeLegacyRecord(place.legacyRecord(owner))
      judgeAll(world, { event: 'legacy', owner })
      world.told.push(`       the kernel's own tracker has recorded ${readable(owner)}`)
    }
    // However a life ends, it is asked who is recorded at its end, and who may reclaim after one more start.
    const everyone: Act = { act: 'everyone', verb: 'check', session: 'Y' }
    const last: Act = { act: 'start', word: 'start', bootTime: true }
    for (const act of [...life.acts, everyone, ...(other?.last ?? []), last, everyone])
      upcalls += await perform(world, act)
  } finally {
    await other?.end(world)
    place.scrap()
  }
  return upcalls
}

/** What an event changes in each of the memories. */
export type Verdicts = ReadonlyMap<Memory, Verdict>

export function judgeAll(world: World, event: Event, graceOver = endGraceReads(world) === 'Y'): Verdicts {
  for (const memory of world.durable) judge(memory, event, { graceOver })
  return new Map(world.memories.map((memory) => [memory, judge(memory, event, { graceOver })]))
}

/** Removes duplicates. */
export const distinct = (memories: readonly Memory[]): readonly Memory[] => [
  ...new Map(memories.map((memory) => [keyOf(memory), memory])).values(),
]

/** Continues with those memories that agree with an observation. @param how what is wrong, if none does. */
export function keep(world: World, agrees: (memory: Memory) => boolean, how: () => string): void {
  const kept = world.memories.filter(agrees)
  if (kept.length === 0) broken(world, how())
  world.memories = kept
}

export async function perform(world: World, act: Act): Promise<number> {
  const { life, told, place } = world
  const elsewhere = await world.other?.perform(world, act)
  if (elsewhere !== undefined) return elsewhere
  // A kernel that goes on without a tracker asks it nothing until the next start.
  if (
    world.memory.untracked !== undefined &&
    !['start', 'failed start', 'expire', 'allow', 'import', 'set the clock', 'step the clock'].includes(act.act)
  )
    return 0
  const asked = askedBy(world, act)
  if (asked !== undefined) {
    const tellsAll = act.act === 'start' && act.word === 'start' && life.files.allowClient
    if (tellsAll) place.writeKernel('allow_client', '')
    await upcall(world, asked.words, asked.env, asked.event)
    if (tellsAll) heldAgainst(world, place.readKernel('allow_client') ?? '')
    return 1
  }
  const command = commandOf(world, act)
  if (command !== undefined) {
    if (command.verb !== 'prune' || world.memory.started) await byHand(world, command)
    return 0
  }
  switch (act.act) {
    case 'set the clock':
    case 'step the clock': {
      const to = act.act === 'set the clock' ? act.to : world.wallClock + act.by
      world.wallClock = Math.min(Math.max(to, 0), 2 ** 32 - 1)
      told.push(`       the wall clock now reads ${new Date(world.wallClock * 1000).toISOString()}`)
      return 0
    }
    case 'grace ends unheard':
      if (!life.files.endGrace) return 0
      place.writeKernel('v4_end_grace', 'Y\n')
      told.push('       the kernel ends grace; its gracedone never runs')
      return 0
    case 'failed start': {
      serverStarts(world)
      const bootTime = act.bootTime ? world.bootTime : undefined
      await failedStart(world, act.how, bootTime)
      return 1
    }
    case 'everyone':
      return together(world, act.verb, act.session)
    case 'not done':
      await notDone(world, act.verb, whom(life, act.who))
      return 1
    case 'end not recorded':
      if (endGraceReads(world) !== 'Y' || !world.memories.every(({ started, full }) => started && !full)) return 0
      await endNotRecorded(world, act.verb, whom(life, act.who))
      return 1
    case 'verify':
    case 'export':
      if (world.memory.started) await look(world, act.act)
      return 0
    default:
      return 0
  }
}

/** What the kernel asks: the words, the variables, and what they mean. */
export interface Asked {
  readonly words: readonly string[]
  readonly env: Environment
  readonly event: Event
}

/** An act that is one upcall. @returns undefined, if it is not. */
export function askedBy(world: World, act: Act): Asked | undefined {
  const { life, place } = world
  switch (act.act) {
    case 'start': {
      serverStarts(world)
      const bootTime = act.bootTime ? world.bootTime : undefined
      return { words: [act.word], env: graceStart(bootTime), event: { event: 'start', bootTime } }
    }
    case 'create': {
      const owner = whom(life, act.who)
      return {
        words: spelled('create', owner, act.spelling),
        env: { ...hasSession(act.session), ...graceStart(world.memory.bootTime) },
        event: { event: 'create', owner, session: act.session },
      }
    }
    case 'check': {
      const owner = whom(life, act.who)
      return {
        words: ['check', owner],
        env: { ...hasSession(act.session), ...legacyOf(world, owner) },
        event: { event: 'check', owner, session: act.session },
      }
    }
    case 'remove': {
      const owner = whom(life, act.who)
      return { words: spelled('remove', owner, act.spelling), env: {}, event: { event: 'remove', owner } }
    }
    case 'grace done': {
      const { bootTime: now, lastBootTime } = world
      const names = { this: now, 'the last': lastBootTime, another: String(Number(now) + 1) }
      const bootTime = act.word === 'grace_done' ? undefined : names[act.of]
      return {
        words: bootTime === undefined ? [act.word] : [act.word, bootTime],
        env: life.legacy.length > 0 && bootTime !== undefined ? { NFSDCLTRACK_LEGACY_TOPDIR: place.legacyTop } : {},
        event: { event: 'grace done', bootTime },
      }
    }
    default:
      return undefined
  }
}

/** An act in which a person's command changes something. @returns undefined, if it is not. */
export function commandOf({ life }: World, act: Act): (Command & Event) | undefined {
  switch (act.act) {
    case 'expire':
    case 'allow':
    case 'import':
      return { verb: act.act, event: act.act, owner: whom(life, act.who) }
    case 'prune':
      return { verb: act.act, event: act.act }
    default:
      return undefined
  }
}

/** The kernel begins a new instance of its server. */
export function serverStarts(world: World): void {
  if (world.life.files.endGrace) world.place.writeKernel('v4_end_grace', 'N\n')
  world.lastBootTime = world.bootTime
  world.bootTime = String(world.wallClock)
}

/** The kernel is out of grace before it runs `gracedone`. A person's `grace_done` changes nothing there. */
export function kernelEndsGrace({ life, place }: World, { words: [word, bootTime] }: Asked): void {
  if (word === 'gracedone' && bootTime !== undefined && life.files.endGrace) place.writeKernel('v4_end_grace', 'Y\n')
}

/** The kernel names the directory that its own tracker would have for a client, whether or not it exists. */
export const legacyOf = ({ life, place }: World, owner: Owner): Environment =>
  life.legacy.length > 0 ? { NFSDCLTRACK_LEGACY_RECDIR: place.legacyRecord(owner) } : {}

/**
 * A start that can't succeed: it is killed when it first waits for the disk, or a file stands in place of the state
 * directory.
 */
async function failedStart(world: World, how: 'killed' | 'no place', bootTime: string | undefined): Promise<void> {
  const { place, told, wallClock } = world
  judgeAll(world, { event: 'failed start', bootTime }, false)
  const status = await place.hindered(
    how === 'killed' ? 'killed in its first barrier' : 'no place for records',
    ['init'],
    graceStart(bootTime),
    wallClock,
  )
  told.push(
    `${String(status).padStart(5)}  init${bootTime === undefined ? '' : ` GRACE_START=${bootTime}`}   (${how}: the server runs without a tracker)`,
  )
  if (status === 0) broken(world, 'a start that could not be recorded was acknowledged')
}

/** An upcall that fails, after which the kernel goes on as if it were done. */
async function notDone(world: World, verb: 'remove' | 'gracedone', owner: Owner): Promise<void> {
  const { place, life, told, wallClock } = world
  if (verb === 'gracedone' && life.files.endGrace) place.writeKernel('v4_end_grace', 'Y\n')
  judgeAll(world, { event: 'not done' }, false)
  const words = verb === 'remove' ? ['remove', owner] : ['gracedone', world.bootTime]
  const status = await place.hindered('no place for records', words, {}, wallClock)
  told.push(
    `${String(status).padStart(5)}  ${words.map(short).join(' ')}   (no place: the server goes on as if it were done)`,
  )
  if (status === 0) broken(world, 'what could not be done was acknowledged')
}

/** A check is answered as if the end of grace had been recorded; a create fails. */
async function endNotRecorded(world: World, verb: 'create' | 'check', owner: Owner): Promise<void> {
  const { place, told, wallClock } = world
  const dues = new Map(
    world.memories.map((memory) => {
      const { statuses } = judge(remember(memory), { event: 'check', owner, session: 'Y' }, { graceOver: true })
      return [memory, verb === 'check' ? statuses : [storageFailed]]
    }),
  )
  judgeAll(world, { event: 'end not recorded' }, true)
  const status = await place.hindered('no rename works', [verb, owner], hasSession('Y'), wallClock)
  told.push(`${String(status).padStart(5)}  ${verb} ${short(owner)}   (grace is over, and no rename works)`)
  keep(
    world,
    (memory) => typeof status === 'number' && dues.get(memory)?.includes(status) === true,
    () => `status ${[...dues.values()][0]?.join(' or ') ?? ''} was due`,
  )
}

/** A command that a person gives. */
async function byHand(world: World, command: Command & Event): Promise<void> {
  const before = endGraceReads(world)
  const verdicts = judgeAll(world, command)
  const said = await world.place.command(command)
  tell(world, command, { words: wordsOf(command), env: {}, status: said.status })
  if (said.status !== 0 && said.stderr !== '') world.told.push(`       ${said.stderr.trim()}`)
  hold(world, verdicts, said)
  downcall(world, before, verdicts)
}

export const wordsOf = (command: Command): readonly string[] =>
  'owner' in command ? [command.verb, readable(command.owner)] : [command.verb]

/** Commands that change nothing. What they report is compared too. */
async function look(world: World, what: 'verify' | 'export'): Promise<void> {
  const { status, stdout, stderr } = await world.place.command({ verb: what })
  world.told.push(`${String(status).padStart(5)}  ${what}`)
  if (what === 'verify') return
  if (status !== 0) broken(world, `export ended with ${status}: ${stderr}`)
  const { clients } = JSON.parse(stdout) as { clients: readonly { owner_hex: Owner }[] }
  const named = listed(clients.map(({ owner_hex }) => owner_hex))
  keep(
    world,
    (memory) => named === listed(reclaimableAtNextStart(memory)),
    () => `export names ${named}, but at the next start ${listed(reclaimableAtNextStart(world.memory))} may reclaim`,
  )
}

const listed = (owners: readonly Owner[]): string => owners.map(readable).sort().join(', ') || 'nobody'

export const whom = ({ owners }: Life, who: number): Owner => owners[who % owners.length] ?? ''

const spelled = (verb: 'create' | 'remove', it: Owner, spelling: Spelling | 'kernel'): readonly [string, string] =>
  spelling === 'kernel' ? [verb, it] : [verb === 'create' ? 'create_client' : 'expire_client', escaped(it, spelling)]

export const hasSession = (session: Session): Environment =>
  session === undefined ? {} : { NFSDCLTRACK_CLIENT_HAS_SESSION: session }

const graceStart = (bootTime: string | undefined): Environment =>
  bootTime === undefined ? {} : { NFSDCLTRACK_GRACE_START: bootTime }

const run = ({ place, wallClock }: World, words: readonly string[], env: Environment): Promise<Ending> =>
  place.upcall(words, env, wallClock)

/**
 * One upcall. What the kernel's file reads before decides whether an end of grace must be made up for. What it reads
 * afterwards is compared too.
 */
export async function upcall(world: World, words: readonly string[], env: Environment, event: Event): Promise<void> {
  const before = endGraceReads(world)
  const verdicts = judgeAll(world, event)
  const ending = await run(world, words, env)
  tell(world, event, { words, env, status: ending.status })
  hold(world, verdicts, ending)
  downcall(world, before, verdicts)
}

/**
 * The same verb for every client at the same moment. Their statuses don't depend on each other, so the oracle is asked
 * in any order. Whether grace may end early, it knows after the last one.
 */
async function together(world: World, verb: 'create' | 'check' | 'remove', session: Session): Promise<number> {
  const { owners } = world.life
  const before = endGraceReads(world)
  const env = (owner: Owner): Environment => ({
    ...(verb === 'remove' ? {} : hasSession(session)),
    ...(verb === 'create' ? graceStart(world.memory.bootTime) : {}),
    ...(verb === 'check' ? legacyOf(world, owner) : {}),
  })
  const asked = owners.map((owner) => {
    const event: Event = verb === 'remove' ? { event: verb, owner } : { event: verb, owner, session }
    return { event, words: [verb, owner], env: env(owner), verdicts: judgeAll(world, event) }
  })
  if (owners.length > 1) world.told.push('       at the same moment:')
  const endings = await Promise.all(asked.map(({ words, env }) => run(world, words, env)))
  for (const [nth, { event, words, env, verdicts }] of asked.entries()) {
    const ending = endings[nth]
    if (ending === undefined) continue
    tell(world, event, { words, env, status: ending.status })
    hold(world, verdicts, ending)
  }
  if (!downcall(world, before, asked.at(-1)?.verdicts)) return owners.length
  // Upcalls after the downcall found grace over, but perhaps there were none. One more upcall decides which it was.
  await perform(world, { act: 'check', who: 0, session: 'Y' })
  return owners.length + 1
}

/** Compares the write to `v4_end_grace` with the verdict. @returns whether there was one. */
export function downcall(world: World, before: string | undefined, verdicts: Verdicts | undefined): boolean {
  const after = endGraceReads(world)
  const due = (memory: Memory): Verdict['endGrace'] => verdicts?.get(memory)?.endGrace ?? 'must not'
  if (after === before) {
    if (before === 'N' && !world.mayLinger)
      keep(
        world,
        (memory) => due(memory) !== 'must',
        () => 'nobody is left to wait for, and the kernel was not told (no Y in v4_end_grace)',
      )
    return false
  }
  if (before !== 'N' || after !== 'Y')
    broken(world, `v4_end_grace read ${before ?? 'nothing'} before it and ${after ?? 'nothing'} after it`)
  keep(
    world,
    (memory) => due(memory) !== 'must not',
    () =>
      'it told the kernel that grace may end, which only a create of a client with a session may, in grace, ' +
      `when nobody else is left; still to reclaim: ${listed([...world.memory.reclaimable])}`,
  )
  world.told.push('       it told the kernel that grace may end')
  return true
}

export function endGraceReads({ place, life }: World): string | undefined {
  const text = place.readKernel('v4_end_grace')
  return (text !== undefined) === life.files.endGrace ? text?.trim() : 'nothing: it came or went'
}

function hold(world: World, verdicts: Verdicts, { status }: Ending): void {
  keep(
    world,
    (memory) => typeof status === 'number' && verdicts.get(memory)?.statuses.includes(status) === true,
    () => {
      const due = verdicts.get(world.memory)
      return `status ${status}, but ${due?.statuses.join(' or ') ?? ''} was due: ${due?.because ?? ''}`
    },
  )
}

/**
 * The downcall of the 2010 thread names all clients that may reclaim at once: nobody too many, nobody missing, nobody
 * twice.
 */
function heldAgainst(world: World, text: string): void {
  const lines = text.split('\n')
  if (lines.at(-1) === '') lines.pop()
  const named = lines.map(
    (line) => unescaped(line) ?? broken(world, `allow_client got a line that is no escaped owner: ${line}`),
  )
  keep(
    world,
    ({ reclaimable }) => [...reclaimable].sort().join() === [...named].sort().join(),
    () => `allow_client was told ${listed(named)}, but ${listed([...world.memory.reclaimable])} was due`,
  )
}

/** How an upcall ended, with the kernel's words for it. */
type Told = { readonly words: readonly string[]; readonly env: Environment } & Pick<Ending, 'status'>

/** One line of the transcript, with what is then recorded. */
function tell(world: World, event: Event, ended: Told): void {
  world.told.push(`${lineOf(world, event, ended)}   (then ${world.memory.full ? 'full' : 'partial'})`)
}

export function lineOf({ place }: World, event: Event, { words, env, status }: Told): string {
  const variables = Object.entries(env).map(
    ([name, value]) => `${name.replace(/^NFSDCLTRACK_(CLIENT_)?/, '')}=${place.shown(value)}`,
  )
  const said = 'owner' in event ? [words[0] ?? '', short(words.at(-1) ?? '')] : words
  const whose = 'owner' in event && words.at(-1) !== readable(event.owner) ? `   ${readable(event.owner)}` : ''
  return `${String(status).padStart(5)}  ${[...said, ...variables].join(' ')}${whose}`
}

const short = (word: string): string =>
  word === '' ? "''" : word.length <= 48 ? word : `${word.slice(0, 24)}...${word.slice(-8)}`

export function broken({ told }: World, how: string): never {
  throw new Broken(['status', ...told, `       ^ ${how}`].join('\n'))
}
