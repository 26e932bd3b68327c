/**
 * The model of protocol-model.ts at the pipe. There are two clients and one lock again, but the kernel asks by
 * messages, one at a time. A process answers them. It may be killed between any two of its steps. What it writes is in
 * the cache until a barrier, and a crash of the machine may lose what is only there. The storage may fail. One instance
 * may ask by the helper, and the next one at the pipe.
 *
 * A message is `queued`, `held` (its last byte is still in the pipe), or `read`. If the reader dies, a held message is
 * queued again. The thread of one that was read waits for an answer for ever.
 *
 * A server may start while another program answers, until `serve` takes over the pipe. Then that start is not recorded.
 * If a server starts and stops while only the other program answers, `serve` can't know of it.
 */
import { and, blank, but, clients, known, other, ours, type Client, type Fault, type Store } from './protocol-model.ts'
import { search, type Found, type Successor } from './search.ts'

type Kind = 'start' | 'create' | 'remove' | 'grace done'

interface Message {
  readonly kind: Kind
  readonly client: Client | undefined
  readonly xid: number
  readonly at: 'queued' | 'held' | 'read'
}

/** What `serve` does for a message, in its order. */
export type Step =
  | 'try again'
  | 'mark'
  /** Begins an instance that stands for one whose start is not recorded. */
  | 'stand'
  | 'apply'
  | 'barrier'
  | 'list'
  | 'unmark'
  /** What the message asks replaces what failed before. */
  | 'settle'
  /** Writes down, for the next process, what is left to do. */
  | 'keep'
  | 'journal'
  | 'read'
  | 'answer'

export interface PipeRules {
  readonly name: string
  readonly steps: (kind: Kind) => readonly Step[]
  /** Whether the last byte of a message stays in the pipe when the message is taken. */
  readonly withholds: boolean
  /** If one of these fails, there is a mark, and the next start lets nobody reclaim. */
  readonly marksFailed: readonly Kind[]
  /** Whether a start that is asked for again on the same pipe counts as the same start. */
  readonly knowsItsStart: boolean
  /** Whether what failed is tried again only in the instance in which it was asked. */
  readonly remembersInstance: boolean
  /** Whether a later message about a client replaces what failed of that client before. */
  readonly settles: boolean
  /** Which answers of the journal are given: those of this pipe whose message does not come again, or others. */
  readonly replays: 'what does not come again' | 'at once' | 'never' | 'on any pipe'
  /** When the mark of a failure is removed. */
  readonly trusts: 'when all is done' | 'when anything is done'
  /** What a process does with a mark of the last process, if it does not have the list that belongs to it. */
  readonly inherits: 'for good' | 'as its own'
  /** Whether what is settled is removed from the list. */
  readonly keepsSettled: boolean
  /** How it finds out whether the start of the server that asks is recorded. */
  readonly knowsServer: 'by its pipe' | 'by what it remembers' | 'never'
  /** Whether it makes a mark for a server that asks nothing and whose start is not recorded. */
  readonly notes: boolean
  /** Whom the answer to GraceStart names, if the start could not be recorded. */
  readonly listAfterFailure: 'nobody' | 'who was'
}

const client: readonly Step[] = ['stand', 'apply', 'barrier', 'settle', 'keep', 'journal', 'read', 'answer']
const begins: readonly Step[] = [
  'try again',
  'mark',
  'apply',
  'barrier',
  'list',
  'unmark',
  'settle',
  'keep',
  'journal',
  'read',
  'answer',
]

/** The rules of docs/pipe.md and lib/serve. */
export const serve: PipeRules = {
  name: 'serve',
  steps: (kind) => (kind === 'start' ? begins : client),
  withholds: true,
  marksFailed: ['remove', 'grace done', 'start'],
  knowsItsStart: true,
  remembersInstance: true,
  settles: true,
  replays: 'what does not come again',
  trusts: 'when all is done',
  inherits: 'for good',
  keepsSettled: true,
  knowsServer: 'by its pipe',
  notes: true,
  listAfterFailure: 'nobody',
}

/** The steps of `serve`, with one of them moved. */
const moved = (step: Step, before: Step | 'the end'): PipeRules['steps'] => {
  return (kind) => {
    const rest = serve.steps(kind).filter((each) => each !== step)
    const at = before === 'the end' ? rest.length : rest.indexOf(before)
    return [...rest.slice(0, at), step, ...rest.slice(at)]
  }
}

/** Rules each of which is wrong in one point. */
export const wrongAtThePipe = {
  'it answers before the barrier': { steps: moved('barrier', 'the end') },
  'it reads the last byte before the journal': { steps: moved('journal', 'answer') },
  'it answers before it reads the last byte': { steps: moved('read', 'the end') },
  'it reads a message whole, as nfsdcld does': { withholds: false },
  'it makes no mark when a remove fails': { marksFailed: ['grace done', 'start'] },
  'it makes no mark when an end of grace fails': { marksFailed: ['remove', 'start'] },
  'it makes no mark when a start fails': { marksFailed: ['remove', 'grace done'] },
  'it takes a start that is asked for again after a kill for one that ran without it': { knowsItsStart: false },
  'it tries again in whatever instance is the current one': { remembersInstance: false },
  'it tries again what a later message of the same client has settled': { settles: false },
  'it says the answers of the journal at once': { replays: 'at once' },
  'it says no answer of the journal': { replays: 'never' },
  "it says another pipe's answers": { replays: 'on any pipe' },
  'it takes its mark away when anything has been done': { trusts: 'when anything is done' },
  'it takes the mark of the process before for its own': { inherits: 'as its own' },
  'its list keeps what a later message has settled': { keepsSettled: false },
  'it writes its list when it has answered': { steps: moved('keep', 'the end') },
  'it goes on in the records that it finds, whoever has started the server': { knowsServer: 'never' },
  'it takes a server for another one after a kill': { knowsServer: 'by what it remembers' },
  'it does not note a server that asks nothing': { notes: false },
  'it names whom it knew where a start could not be recorded': {
    listAfterFailure: 'who was',
    marksFailed: ['remove', 'grace done'],
  },
  'it makes no mark before a start': {
    steps: (kind) => serve.steps(kind).filter((step) => step !== 'mark'),
  },
} as const satisfies Record<string, Partial<PipeRules>>

interface Belief {
  /** The instance in which the client got the lock that it believes to hold. */
  readonly holdsSince: number | undefined
  /** Whether the lock is still its own, and its record was acknowledged. */
  readonly valid: boolean
  /** Whether another client has had the lock since. */
  readonly tainted: boolean
}

interface Task {
  readonly kind: Kind
  readonly client: Client | undefined
  readonly instance: number | undefined
}

interface Work {
  readonly kind: Kind
  readonly client: Client | undefined
  readonly xid: number
  readonly at: number
  readonly failed: boolean
  readonly nothingProven: boolean
  readonly instance: number | undefined
}

interface State {
  readonly server: 'down' | 'starting' | 'grace' | 'ending' | 'normal'
  readonly front: 'helper' | 'pipe'
  readonly tracked: boolean
  /** How many servers have started. */
  readonly starts: number
  readonly stops: number
  readonly kills: number
  readonly failures: number
  readonly numbers: number
  readonly cache: Store
  readonly disk: Store
  /**
   * In the run directory. A number: the start at this pipe is not durable yet. 'serve': something has failed and is not
   * done yet. 'ran': an instance ran of which something is not recorded.
   */
  readonly mark: number | 'serve' | 'ran' | undefined
  readonly journal: { readonly pipe: number; readonly xid: number; readonly failed: boolean } | undefined
  /** What the kernel knows: who may reclaim, and whose create was answered. */
  readonly list: readonly Client[]
  readonly stable: readonly Client[]
  /** The clients whose create failed, although it was answered. No rule can see this. */
  readonly unrecorded: readonly Client[]
  readonly xid: number
  readonly message: Message | undefined
  readonly alive: boolean
  readonly work: Work | undefined
  readonly unfinished: readonly Task[]
  /** In the run directory: what is left to do, and at which pipe. */
  readonly kept: { readonly pipe: number; readonly tasks: readonly Task[] } | undefined
  /** Whether the process knows what the mark stands for. */
  readonly own: boolean
  /** Whether another program answers. */
  readonly beside: boolean
  /** Whether the start of this server is not recorded. */
  readonly unseen: boolean
  readonly holder: Client | undefined
  readonly leases: readonly Client[]
  readonly A: Belief
  readonly B: Belief
}

export type PipeFault = Fault | 'a thread waits for ever' | 'a message is answered before it is read'

export type PipeOutcome = Found<PipeFault>

/** What may go wrong, and how often. */
export interface Limits {
  readonly stops: number
  readonly kills: number
  readonly failures: number
  /** Whether instances may ask by the helper. */
  readonly helper?: boolean
  /**
   * Whether the server may start while no `serve` runs. Then `serve` comes later and sees it, or the kernel's message
   * finds no reader for 30 s.
   */
  readonly untracked?: boolean
  /** The server may start while another program answers, and `serve` then takes over; or perhaps it never does. */
  readonly unseen?: 'noticed' | 'or not'
  /** Whether there is only one client. */
  readonly alone?: boolean
}

const nobody: Belief = { holdsSince: undefined, valid: false, tainted: false }

export function explorePipe(rules: PipeRules, limits: Limits): PipeOutcome {
  const first: State = {
    server: 'down',
    front: 'pipe',
    tracked: true,
    starts: 0,
    stops: 0,
    kills: 0,
    failures: 0,
    numbers: 0,
    cache: blank,
    disk: blank,
    mark: undefined,
    journal: undefined,
    list: [],
    stable: [],
    unrecorded: [],
    xid: 0,
    message: undefined,
    alive: true,
    work: undefined,
    unfinished: [],
    kept: undefined,
    own: false,
    beside: false,
    unseen: false,
    holder: undefined,
    leases: [],
    A: nobody,
    B: nobody,
  }
  return search(first, (state) => successors(state, rules, limits))
}

type Next = Successor<State, PipeFault>

const isDangerous = ({ kind }: Task): boolean => kind !== 'create'
const withClient = (all: readonly Client[], one: Client): readonly Client[] => [...new Set([...all, one])].sort()
const without = (all: readonly Client[], one: Client): readonly Client[] => all.filter((each) => each !== one)
const refused = (state: State): Pick<State, 'A' | 'B'> => ({
  A: { ...state.A, valid: false },
  B: { ...state.B, valid: false },
})

/** An instance begins. If nobody may reclaim, an empty full instance comes before it. */
const begun = (store: Store, of: number, { nothingProven }: Pick<Work, 'nothingProven'>): Store => ({
  ...store,
  ...(nothingProven ? { full: and(store.full, of - 1), untracked: and(store.untracked, of - 1) } : {}),
  started: and(store.started, of),
  records: Array.from({ length: of + 1 }, (_, at) => store.records[at] ?? []),
})

/** Begins an instance that is full and empty. It stands for one that was not recorded. */
const stood = (store: Store, of: number): Store => ({
  ...store,
  full: and(store.full, of),
  untracked: and(store.untracked, of),
  records: Array.from({ length: of + 1 }, (_, at) => store.records[at] ?? []),
})

/** The instance's grace ends, and records that nothing reads any more are removed. */
function completed(store: Store, of: number | undefined): Store {
  if (of === undefined || !store.started.includes(of)) return store
  const done = { ...store, started: but(store.started, of), full: and(store.full, of) }
  const { lastFull } = known(done)
  return { ...done, records: done.records.map((each, at) => (at < (lastFull ?? 0) ? [] : each)) }
}

const currentOf = (store: Store): number | undefined => known(store).current

/** What a message does to the store. */
function applied(
  store: Store,
  { kind, client: who }: Pick<Task, 'kind' | 'client'>,
  instance: number | undefined,
): Store {
  switch (kind) {
    case 'create':
      return who === undefined ? store : ours.create(store, who)
    case 'remove':
      return who === undefined ? store : ours.remove(store, who)
    case 'grace done':
      return completed(store, instance)
    case 'start':
      return store
  }
}

/** Does what failed before, if it still has to be done. */
function triedAgain(state: State, rules: PipeRules): State {
  const isOwed = state.unseen && state.unfinished.length > 0
  const numbers = isOwed ? state.numbers + 2 : state.numbers
  let cache = isOwed ? stood(state.cache, numbers) : state.cache
  const current = currentOf(cache)
  const isStill = ({ instance }: Task): boolean =>
    !rules.remembersInstance || instance === undefined || instance === current
  for (const task of state.unfinished) if (isStill(task)) cache = applied(cache, task, current)
  return {
    ...state,
    cache,
    disk: cache,
    numbers,
    unseen: isOwed ? false : state.unseen,
    unfinished: [],
    unrecorded: state.unrecorded.filter(
      (each) => !state.unfinished.some((task) => task.kind === 'create' && task.client === each),
    ),
    own: false,
    mark: isOwed || (state.mark === 'serve' && state.own && state.unfinished.every(isStill)) ? undefined : state.mark,
  }
}

/** A message has been carried out. What failed of the same client before no longer matters. */
function settled(state: State, work: Work, rules: PipeRules): State {
  const unfinished = rules.settles
    ? state.unfinished.filter(
        ({ kind, client: who }) => who !== work.client || (who === undefined && kind !== work.kind),
      )
    : state.unfinished
  const isTrusted = rules.trusts === 'when anything is done' || !unfinished.some(isDangerous)
  const isOver = state.mark === 'serve' && state.own && isTrusted
  return { ...state, unfinished, ...(isOver ? { mark: undefined, own: false } : {}) }
}

/** Writes down what is left to do. */
const keptNow = (state: State, rules: PipeRules): Pick<State, 'kept'> => {
  const before = state.kept?.pipe === state.starts ? state.kept.tasks : []
  const isThere = (task: Task): boolean =>
    state.unfinished.some(({ kind, client: who }) => kind === task.kind && who === task.client)
  const tasks = rules.keepsSettled
    ? state.unfinished
    : [...before.filter((task) => !isThere(task)), ...state.unfinished]
  return { kept: tasks.length === 0 ? undefined : { pipe: state.starts, tasks } }
}

/** A process starts, with what the last one has left to do at this pipe. */
function takenOver(state: State, rules: PipeRules): Partial<State> {
  const listed = state.kept?.pipe === state.starts ? state.kept.tasks : []
  const tasks = listed.every(({ instance }) => instance !== undefined) ? listed : []
  const isUnknown = state.mark === 'serve' && !tasks.some(isDangerous)
  return {
    alive: true,
    unfinished: tasks,
    own: tasks.some(isDangerous) || (isUnknown && rules.inherits === 'as its own'),
    ...(isUnknown && rules.inherits === 'for good' ? { mark: 'ran' } : {}),
    ...(rules.knowsServer === 'by what it remembers' && state.server !== 'down' && state.server !== 'starting'
      ? { unseen: true }
      : {}),
  }
}

/** The kernel gets an answer. */
function heard(state: State, message: Message, { failed }: Pick<Work, 'failed'>): State | PipeFault {
  if (message.at !== 'read') return 'a message is answered before it is read'
  const next: State = { ...state, message: undefined }
  const { client: who } = message
  switch (message.kind) {
    case 'start':
      return { ...next, server: 'grace' }
    case 'grace done':
      return { ...next, server: 'normal' }
    case 'create': {
      if (who === undefined) return next
      const belief = failed && state[who].holdsSince === state.starts ? { [who]: { ...state[who], valid: false } } : {}
      return {
        ...next,
        ...belief,
        stable: withClient(state.stable, who),
        unrecorded: failed ? withClient(state.unrecorded, who) : without(state.unrecorded, who),
        leases: withClient(state.leases, who),
        // If the create failed, there is no record.
        list: failed ? without(state.list, who) : state.list,
      }
    }
    case 'remove':
      return who === undefined ? next : gone(next, who)
  }
}

const gone = (state: State, who: Client): State => ({
  ...state,
  leases: without(state.leases, who),
  stable: without(state.stable, who),
  unrecorded: without(state.unrecorded, who),
  holder: state.holder === who ? undefined : state.holder,
  [who]: { ...state[who], valid: false },
})

/** A state, the rules of `serve`, and what may go wrong how often. */
interface Situation {
  readonly state: State
  readonly rules: PipeRules
  readonly limits: Limits
}

function* successors(state: State, rules: PipeRules, limits: Limits): Generator<Next> {
  const at: Situation = { state, rules, limits }
  yield* ofServe(at)
  if (state.server === 'down') {
    yield* serverStarts(at)
    return
  }
  yield* serverStops(at)
  yield* nobodyReads(at)
  yield* placeIsTaken(at)
  if (state.server === 'grace' && isFree(state)) yield graceTimeIsUp(state)
  if (state.server !== 'grace' && state.server !== 'normal') return
  for (const each of limits.alone === true ? clients.slice(0, 1) : clients) {
    yield* leaseExpires(state, each)
    yield* isToBeRecorded(state, each)
    const { holdsSince } = state[each]
    if (holdsSince === undefined) yield* locks(state, each)
    else if (holdsSince === state.starts) yield givesUpLock(state, each)
    else yield reclaims(state, each)
  }
}

function* serverStarts({ state, limits }: Situation): Generator<Next> {
  const next: State = {
    ...state,
    starts: state.starts + 1,
    list: [],
    stable: [],
    leases: [],
    holder: undefined,
    tracked: true,
    beside: false,
    unseen: false,
  }
  yield {
    action: 'the server starts, and asks at the pipe',
    to: {
      ...next,
      front: 'pipe',
      server: 'starting',
      xid: 0,
      message: { kind: 'start', client: undefined, xid: 0, at: 'queued' },
    },
  }
  if (limits.helper === true) yield startsByTheHelper(next)
  const inGrace = { ...next, ...refused(state), front: 'pipe', server: 'grace' } as const
  if (limits.unseen !== undefined && state.starts > 0)
    yield { action: 'the server starts, and another program answers', to: { ...inGrace, beside: true } }
  if (limits.untracked === true && state.starts > 0)
    yield {
      action: 'the server starts, and nobody holds the pipe; serve comes and sees it',
      to: { ...inGrace, tracked: false, mark: 'ran', alive: true },
    }
}

function startsByTheHelper(next: State): Next {
  const nothingProven = next.mark !== undefined
  const of = next.numbers + 2
  const store = begun(next.cache, of, { nothingProven })
  return {
    action: 'the server starts, and asks by the helper',
    to: {
      ...next,
      ...(nothingProven ? refused(next) : {}),
      front: 'helper',
      server: 'grace',
      numbers: of,
      cache: store,
      disk: store,
      mark: undefined,
      list: clients.filter((each) => ours.mayReclaim(store, each)),
    },
  }
}

function* serverStops({ state, rules, limits }: Situation): Generator<Next> {
  const { server, stops, mark, message, alive } = state
  // If a server stops before serve has watched its pipe for two seconds, serve can't know of it.
  const isUnknown = state.beside || (state.unseen && !alive && mark === undefined)
  if (stops >= limits.stops || (isUnknown && limits.unseen !== 'or not')) return
  const down: State = {
    ...state,
    server: 'down',
    tracked: true,
    message: undefined,
    holder: undefined,
    leases: [],
    stable: [],
    unrecorded: [],
    list: [],
    stops: stops + 1,
    beside: false,
    unseen: false,
  }
  // A crash loses the run directory. The model leaves out crashes that lose the mark of a failed disk.
  if (mark !== 'ran' && mark !== 'serve' && !state.unseen && !state.beside) yield* machineCrashes(down)
  // The server stops only when no message is queued.
  if (message === undefined && server !== 'starting')
    yield {
      action: 'the server stops',
      to: {
        ...down,
        ...(state.beside ? refused(state) : {}),
        mark: state.unseen && alive && rules.notes ? 'ran' : mark,
      },
    }
}

/** What is in the cache may be on the disk then, or not. */
function* machineCrashes(down: State): Generator<Next> {
  for (const store of down.cache === down.disk ? [down.disk] : [down.disk, down.cache])
    yield {
      action: `the machine crashes${store === down.disk ? '' : ', and what was written is there'}`,
      to: {
        ...down,
        cache: store,
        disk: store,
        mark: undefined,
        journal: undefined,
        alive: true,
        work: undefined,
        unfinished: [],
        kept: undefined,
        own: false,
      },
    }
}

function* nobodyReads({ state, limits }: Situation): Generator<Next> {
  const { message, alive, mark, kills } = state
  if (limits.untracked !== true || alive || mark === undefined || kills > limits.kills) return
  if (message?.kind === 'start' && message.at === 'queued')
    yield {
      action: 'nobody reads for 30 s: the server goes on without a tracker',
      to: { ...state, ...refused(state), server: 'grace', tracked: false, message: undefined },
    }
}

function* placeIsTaken({ state, rules }: Situation): Generator<Next> {
  if (!state.beside || !state.alive || state.message !== undefined) return
  yield {
    action: "serve takes the other program's place",
    to: {
      ...state,
      ...refused(state),
      beside: false,
      unseen: rules.knowsServer !== 'never',
      // Clients that only the other program has recorded have no record.
      unrecorded: state.stable,
    },
  }
}

/** The kernel asks one question at a time. */
const isFree = ({ message, front, work }: State): boolean =>
  message === undefined && (front === 'helper' || work === undefined)

function ask(state: State, kind: Kind, who: Client | undefined): State | PipeFault {
  if (!state.beside && state.front === 'pipe') {
    const xid = state.xid === 1 ? 2 : 1
    return { ...state, xid, message: { kind, client: who, xid, at: 'queued' } }
  }
  // The helper completes each upcall before the next one. protocol-model.ts examines what happens within one.
  const cache = applied(state.cache, { kind, client: who }, currentOf(state.cache))
  const asked = state.beside ? state : { ...state, cache, disk: cache }
  return heard(asked, { kind, client: who, xid: 0, at: 'read' }, { failed: false })
}

/** A client that is not recorded in this instance by now can't reclaim its lock any more. */
function graceTimeIsUp(state: State): Next {
  const late = (each: Client): Belief => (state.stable.includes(each) ? state[each] : { ...state[each], valid: false })
  const next: State = { ...state, A: late('A'), B: late('B') }
  return {
    action: 'the grace time is up',
    to: state.tracked ? ask({ ...next, server: 'ending' }, 'grace done', undefined) : { ...next, server: 'normal' },
  }
}

function* leaseExpires(state: State, who: Client): Generator<Next> {
  if (!state.leases.includes(who) || !isFree(state)) return
  const isAsked = state.tracked && state.stable.includes(who)
  yield {
    action: `${who}'s lease expires`,
    to: isAsked ? ask({ ...state, [who]: { ...state[who], valid: false } }, 'remove', who) : gone(state, who),
  }
}

/** A client may be recorded if it has no lock, or has just got one. One whose lease has expired learns that first. */
function* isToBeRecorded(state: State, who: Client): Generator<Next> {
  const { tracked, stable, holder } = state
  if (tracked && isFree(state) && !stable.includes(who) && (state[who].holdsSince === undefined || holder === who))
    yield { action: `${who} is to be recorded`, to: ask(state, 'create', who) }
}

function* locks(state: State, who: Client): Generator<Next> {
  const { server, tracked, starts, holder, leases, stable, unrecorded, message } = state
  const isKnown = tracked ? stable.includes(who) && leases.includes(who) : true
  // The kernel may be waiting for the answer to this client's remove.
  if (server !== 'normal' || holder !== undefined || !isKnown || message?.client === who) return
  const loser = other(who)
  yield {
    action: `${who} locks`,
    to: {
      ...state,
      holder: who,
      leases: withClient(leases, who),
      [who]: { holdsSince: starts, valid: tracked && !unrecorded.includes(who), tainted: false },
      ...(state[loser].holdsSince === undefined ? {} : { [loser]: { ...state[loser], tainted: true } }),
    },
  }
}

function givesUpLock(state: State, who: Client): Next {
  return state.holder === who
    ? { action: `${who} unlocks`, to: { ...state, holder: undefined, [who]: nobody } }
    : { action: `${who} learns that its lease has expired`, to: { ...state, [who]: nobody } }
}

/** The client reclaims a lock of an earlier instance. */
function reclaims(state: State, who: Client): Next {
  const { server, tracked, starts, list, leases, holder } = state
  const { valid, tainted } = state[who]
  const lost: State = { ...state, [who]: nobody }
  if (server === 'normal') return { action: `${who} comes too late to reclaim`, to: lost }
  if (!tracked || !list.includes(who))
    return { action: `${who} is refused`, to: valid && tracked ? 'legal reclaim refused' : lost }
  const reclaimed: State = {
    ...state,
    holder: who,
    leases: withClient(leases, who),
    [who]: { holdsSince: starts, valid, tainted: false },
  }
  const isIllegal = tainted || (holder !== undefined && holder !== who)
  return { action: `${who} reclaims`, to: isIllegal ? 'illegal reclaim' : reclaimed }
}

/** What `serve` may do next, and what may be done to it. */
function* ofServe(at: Situation): Generator<Next> {
  const { state, limits } = at
  const { alive, work, kills, unfinished } = state
  if (!alive) {
    yield serveComes(at)
    return
  }
  if (kills < limits.kills && (work !== undefined || unfinished.length > 0)) yield serveIsKilled(state)
  if (work === undefined) {
    yield* serveWaits(at)
    return
  }
  const step = at.rules.steps(work.kind)[work.at]
  if (step === undefined) return
  if ((step === 'stand' || step === 'apply' || step === 'barrier') && state.failures < limits.failures)
    yield { action: `the storage fails: ${step} of ${work.kind}`, to: failed(at, work, step) }
  yield { action: `serve: ${step}`, to: done(at, work, step) }
}

function serveComes({ state, rules }: Situation): Next {
  const { journal, message, starts } = state
  const { replays } = rules
  const comes: State = { ...state, ...takenOver(state, rules) }
  const isItsOwn = journal?.pipe === starts || replays === 'on any pipe'
  const hasNoLook = replays === 'at once' || replays === 'on any pipe'
  const isSaid =
    replays !== 'never' && isItsOwn && journal?.xid === message?.xid && (message?.at === 'read' || hasNoLook)
  if (isSaid && journal !== undefined && message !== undefined)
    return { action: 'serve comes, and says what is in the journal', to: heard(comes, message, journal) }
  return { action: 'serve comes', to: message?.at === 'read' ? 'a thread waits for ever' : comes }
}

const serveIsKilled = (state: State): Next => ({
  action: 'serve is killed',
  to: {
    ...state,
    alive: false,
    kills: state.kills + 1,
    work: undefined,
    unfinished: [],
    own: false,
    message: state.message?.at === 'held' ? { ...state.message, at: 'queued' } : state.message,
  },
})

/** `serve` works on no message. */
function* serveWaits({ state, rules }: Situation): Generator<Next> {
  const { message, unfinished, unseen, mark } = state
  if (message?.at === 'queued')
    yield {
      action: `serve takes: ${message.kind}${message.client === undefined ? '' : ` of ${message.client}`}`,
      to: {
        ...state,
        message: { ...message, at: rules.withholds ? 'held' : 'read' },
        work: {
          kind: message.kind,
          client: message.client,
          xid: message.xid,
          at: message.kind === 'start' || unseen ? 0 : rules.steps(message.kind).indexOf('apply'),
          failed: false,
          nothingProven: false,
          instance: message.kind === 'start' ? undefined : currentOf(state.cache),
        },
      },
    }
  if (unfinished.length > 0) yield { action: 'serve tries again', to: triedAgain(state, rules) }
  if (isToKeep(state)) yield { action: 'serve writes its list', to: { ...state, ...keptNow(state, rules) } }
  if (unseen && mark === undefined && rules.notes)
    yield { action: 'two seconds pass, and nothing is asked', to: { ...state, mark: 'ran' } }
}

/** The storage fails at a step. `serve` writes down that this is left to do, and answers. */
function failed({ state, rules }: Situation, work: Work, step: Step): State {
  const steps = rules.steps(work.kind)
  const next: State = {
    ...state,
    failures: state.failures + 1,
    work: {
      ...work,
      failed: true,
      at: steps.indexOf(steps.indexOf('keep') < steps.indexOf('journal') ? 'keep' : 'journal'),
    },
  }
  const isMarked = rules.marksFailed.includes(work.kind)
  if (work.kind === 'start')
    return {
      ...next,
      ...refused(state),
      mark: isMarked ? 'ran' : undefined,
      unfinished: [],
      list: rules.listAfterFailure === 'nobody' ? [] : clients.filter((each) => ours.mayReclaim(state.cache, each)),
    }
  const others = state.unfinished.filter(({ client: who }) => who !== work.client || who === undefined)
  const left = (instance: number | undefined): readonly Task[] => [
    ...others,
    { kind: work.kind, client: work.client, instance },
  ]
  if (step === 'stand') return { ...next, mark: 'ran', unfinished: left(undefined) }
  const mark = isMarked ? (state.mark ?? 'serve') : state.mark
  return { ...next, mark, own: state.own || (isMarked && mark === 'serve'), unfinished: left(work.instance) }
}

/** A step is done. */
function done(at: Situation, work: Work, step: Step): State | PipeFault {
  const { state, rules } = at
  const { cache, starts, message } = state
  switch (step) {
    case 'try again':
      return passed(at, work, triedAgain(state, rules))
    case 'mark': {
      const isOther = state.mark !== undefined && state.mark !== starts
      const nothingProven = rules.knowsItsStart ? isOther : state.mark !== undefined
      const change = { ...(isOther ? refused(state) : {}), mark: nothingProven ? ('ran' as const) : starts }
      return passed(at, { ...work, nothingProven }, change)
    }
    case 'stand': {
      const of = state.numbers + 2
      const store = stood(cache, of)
      const change = { cache: store, disk: store, numbers: of, unseen: false, mark: undefined }
      return passed(at, { ...work, instance: of }, change)
    }
    case 'apply': {
      if (work.kind !== 'start') return passed(at, work, { cache: applied(cache, work, work.instance) })
      const of = state.numbers + 2
      // A `serve` that makes no mark has not looked for an earlier one either. So `nothingProven` is false then.
      return passed(at, work, { cache: begun(cache, of, work), numbers: of })
    }
    case 'barrier':
      return passed(at, work, { disk: cache })
    case 'list':
      return passed(at, work, { list: clients.filter((each) => ours.mayReclaim(cache, each)) })
    case 'unmark':
      return passed(at, work, { mark: undefined })
    case 'settle':
      // A start replaces everything that failed. A message about a client replaces only what failed of that client.
      return passed(at, work, work.kind === 'start' ? { unfinished: [] } : settled(state, work, rules))
    case 'keep':
      return passed(at, work, isToKeep(state) ? keptNow(state, rules) : {})
    case 'journal': {
      const isFailed = work.failed && work.kind !== 'start'
      return passed(at, work, { journal: { pipe: starts, xid: work.xid, failed: isFailed } })
    }
    case 'read':
      return passed(at, work, message === undefined ? {} : { message: { ...message, at: 'read' } })
    case 'answer': {
      const answered = message === undefined ? state : heard(state, message, work)
      return typeof answered === 'string' ? answered : passed(at, work, answered)
    }
  }
}

/** `serve` goes on to its next step. If nothing is left to do, there is nothing to settle and nothing to keep. */
function passed({ state, rules }: Situation, work: Work, change: Partial<State>): State {
  const steps = rules.steps(work.kind)
  const isClear = state.unfinished.length === 0 && state.kept === undefined && !state.own
  let at = work.at + 1
  while (isClear && (steps[at] === 'settle' || steps[at] === 'keep')) at++
  return { ...state, ...change, work: at === steps.length ? undefined : { ...work, at } }
}

/** Whether its list differs from what is left to do. */
const isToKeep = ({ kept, unfinished, starts }: State): boolean =>
  unfinished.length > 0
    ? kept?.pipe !== starts || JSON.stringify(kept.tasks) !== JSON.stringify(unfinished)
    : kept !== undefined
