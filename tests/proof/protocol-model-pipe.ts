/**
 * The model of protocol-model.ts at the pipe: the same two clients and one lock, but the kernel asks by messages, one
 * at a time, and a process answers them that may be killed between any two of its steps. What is written is in the
 * cache until a barrier; a crash of the machine loses that, or does not. Storage may fail, once. One instance may ask
 * by the helper, the next one at the pipe.
 *
 * A message is `queued`, `held` (its last byte is still in the pipe), or `read`. If its reader dies, a held one is
 * queued again, and one that was read waits for an answer for ever.
 *
 * A server may be started beside another program, which answers until `serve` takes its place: the records do not have
 * it. A server that comes and goes with the other program alone is what nobody can know.
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
  /** An instance is begun that stands for one whose start is not recorded. */
  | 'stand'
  | 'apply'
  | 'barrier'
  | 'list'
  | 'unmark'
  /** What it asks takes the place of what failed before. */
  | 'settle'
  /** What is left is written down for the next process. */
  | 'keep'
  | 'journal'
  | 'read'
  | 'answer'

export interface PipeRules {
  readonly name: string
  readonly steps: (kind: Kind) => readonly Step[]
  /** A message is read whole when it is taken. */
  readonly withholds: boolean
  /** Whose failure makes the next start let nobody reclaim. */
  readonly marksFailed: readonly Kind[]
  /** A start that is asked for again on the same pipe is the same start. */
  readonly knowsItsStart: boolean
  /** What failed is tried again only in the instance that it was asked in. */
  readonly remembersInstance: boolean
  /** What is asked of a client later takes the place of what failed. */
  readonly settles: boolean
  /** A journal is of its pipe alone, and its answers are said where the message does not come again. */
  readonly replays: 'what does not come again' | 'at once' | 'never' | 'on any pipe'
  /** When the mark of a failure goes. */
  readonly trusts: 'when all is done' | 'when anything is done'
  /** What a process makes of the mark of the one before whose list it does not have. */
  readonly inherits: 'for good' | 'as its own'
  /** Its list loses what is settled. */
  readonly keepsSettled: boolean
  /** It looks whether the records have the server that asks. */
  readonly knowsServer: 'by its pipe' | 'by what it remembers' | 'never'
  /** A server that asks nothing, and whose start is not recorded, is noted. */
  readonly notes: boolean
  /** What GraceStart is answered with when it could not be recorded. */
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

/** docs/pipe.md and lib/serve. */
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

/** A step goes elsewhere. */
const moved = (step: Step, before: Step | 'the end'): PipeRules['steps'] => {
  return (kind) => {
    const rest = serve.steps(kind).filter((each) => each !== step)
    const at = before === 'the end' ? rest.length : rest.indexOf(before)
    return [...rest.slice(0, at), step, ...rest.slice(at)]
  }
}

/** Rules that are wrong in one point each. */
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
  /** The client thinks that it holds the lock, since this instance. */
  readonly holdsSince: number | undefined
  /** Its lock is its own, and its record was acknowledged. */
  readonly valid: boolean
  /** Somebody else has had it. */
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
  /** In the run directory: a start on its way, by its pipe; `serve`, as long as something failed is not done; `ran`. */
  readonly mark: number | 'serve' | 'ran' | undefined
  readonly journal: { readonly pipe: number; readonly xid: number; readonly failed: boolean } | undefined
  /** The kernel's own: who may reclaim, and whose record has been answered. */
  readonly list: readonly Client[]
  readonly stable: readonly Client[]
  /** No rule sees it: whose create was answered, and has failed. */
  readonly unrecorded: readonly Client[]
  readonly xid: number
  readonly message: Message | undefined
  readonly alive: boolean
  readonly work: Work | undefined
  readonly unfinished: readonly Task[]
  /** In the run directory: what is left to do at a pipe. */
  readonly kept: { readonly pipe: number; readonly tasks: readonly Task[] } | undefined
  /** The process knows what the mark stands for. */
  readonly own: boolean
  /** Another program answers. */
  readonly beside: boolean
  /** The records do not have this server. */
  readonly unseen: boolean
  readonly holder: Client | undefined
  readonly leases: readonly Client[]
  readonly A: Belief
  readonly B: Belief
}

export type PipeFault = Fault | 'a thread waits for ever' | 'a message is answered before it is read'

export type PipeOutcome = Found<PipeFault>

/** How much may go wrong. */
export interface Limits {
  readonly stops: number
  readonly kills: number
  readonly failures: number
  /** Instances may ask by the helper. */
  readonly helper?: boolean
  /**
   * The server may start while no `serve` is there, which then comes and sees it; a start may find no reader for 30 s.
   */
  readonly untracked?: boolean
  /** The server may start beside another program, whose place `serve` takes; or, where nobody can know, does not. */
  readonly unseen?: 'noticed' | 'or not'
  /** There is one client. */
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

/** An instance begins: after one without a tracker, an empty full one comes before it. */
const begun = (store: Store, of: number, { nothingProven }: Pick<Work, 'nothingProven'>): Store => ({
  ...store,
  ...(nothingProven ? { full: and(store.full, of - 1), untracked: and(store.untracked, of - 1) } : {}),
  started: and(store.started, of),
  records: Array.from({ length: of + 1 }, (_, at) => store.records[at] ?? []),
})

/** An instance is begun that is full and empty: it stands for one that was not recorded. */
const stood = (store: Store, of: number): Store => ({
  ...store,
  full: and(store.full, of),
  untracked: and(store.untracked, of),
  records: Array.from({ length: of + 1 }, (_, at) => store.records[at] ?? []),
})

/** Its grace ends, and what does not count any more is swept. */
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

/** What the storage refused is done, if it is still to be done. */
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

/** A message has been done: what failed of the same client before no longer matters. */
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

/** What is left is written down. */
const keptNow = (state: State, rules: PipeRules): Pick<State, 'kept'> => {
  const before = state.kept?.pipe === state.starts ? state.kept.tasks : []
  const isThere = (task: Task): boolean =>
    state.unfinished.some(({ kind, client: who }) => kind === task.kind && who === task.client)
  const tasks = rules.keepsSettled
    ? state.unfinished
    : [...before.filter((task) => !isThere(task)), ...state.unfinished]
  return { kept: tasks.length === 0 ? undefined : { pipe: state.starts, tasks } }
}

/** A process comes, with what the one before has left at this pipe. */
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

/** The kernel hears an answer. */
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
        // One that failed has no record to go by.
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

function* successors(state: State, rules: PipeRules, limits: Limits): Generator<Next> {
  const { server, front, tracked, starts, stops, kills, mark, message, alive, work, holder, leases, stable } = state
  yield* ofServe(state, rules, limits)

  if (server === 'down') {
    const next = {
      ...state,
      starts: starts + 1,
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
    if (limits.helper === true) {
      const nothingProven = mark !== undefined
      const of = state.numbers + 2
      const store = begun(state.cache, of, { nothingProven })
      yield {
        action: 'the server starts, and asks by the helper',
        to: {
          ...next,
          ...(nothingProven ? refused(state) : {}),
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
    if (limits.unseen !== undefined && starts > 0)
      yield {
        action: 'the server starts, and another program answers',
        to: { ...next, ...refused(state), front: 'pipe', server: 'grace', beside: true },
      }
    if (limits.untracked === true && starts > 0)
      yield {
        action: 'the server starts, and nobody holds the pipe; serve comes and sees it',
        to: { ...next, ...refused(state), front: 'pipe', server: 'grace', tracked: false, mark: 'ran', alive: true },
      }
    return
  }

  const down = {
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
  } as const
  // Nobody can know of a server that is gone before serve has looked at its pipe for two seconds.
  const isUnknown = state.beside || (state.unseen && !alive && mark === undefined)
  if (stops < limits.stops && (!isUnknown || limits.unseen === 'or not')) {
    // The run directory goes with the machine; what it said of a disk that failed is not covered.
    if (mark !== 'ran' && mark !== 'serve' && !state.unseen && !state.beside)
      for (const store of state.cache === state.disk ? [state.disk] : [state.disk, state.cache])
        yield {
          action: `the machine crashes${store === state.disk ? '' : ', and what was written is there'}`,
          to: {
            ...state,
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
    // A stop waits for what is queued.
    if (message === undefined && server !== 'starting')
      yield {
        action: 'the server stops',
        to: {
          ...state,
          ...down,
          ...(state.beside ? refused(state) : {}),
          mark: state.unseen && alive && rules.notes ? 'ran' : mark,
        },
      }
  }
  if (
    limits.untracked === true &&
    !alive &&
    message?.kind === 'start' &&
    message.at === 'queued' &&
    mark !== undefined &&
    kills <= limits.kills
  )
    yield {
      action: 'nobody reads for 30 s: the server goes on without a tracker',
      to: { ...state, ...refused(state), server: 'grace', tracked: false, message: undefined },
    }

  const ask = (kind: Kind, who: Client | undefined, change: Partial<State> = {}): Next['to'] => {
    if (state.beside)
      return heard({ ...state, ...change }, { kind, client: who, xid: 0, at: 'read' }, { failed: false })
    if (front === 'pipe') {
      const xid = state.xid === 1 ? 2 : 1
      return { ...state, ...change, xid, message: { kind, client: who, xid, at: 'queued' } }
    }
    // The helper has one upcall done before the next: protocol-model.ts looks into these.
    const cache = applied(state.cache, { kind, client: who }, currentOf(state.cache))
    const asked: State = { ...state, ...change, cache, disk: cache }
    return heard(asked, { kind, client: who, xid: 0, at: 'read' }, { failed: false })
  }
  const isFree = message === undefined && (front === 'helper' || state.work === undefined || work === undefined)

  if (state.beside && alive && message === undefined)
    yield {
      action: "serve takes the other program's place",
      // Who was recorded there only has no record.
      to: { ...state, ...refused(state), beside: false, unseen: rules.knowsServer !== 'never', unrecorded: stable },
    }

  if (server === 'grace' && isFree) {
    // Whoever is not recorded by now has no record any more.
    const late = (each: Client): Belief => (stable.includes(each) ? state[each] : { ...state[each], valid: false })
    const change = { A: late('A'), B: late('B') }
    yield {
      action: 'the grace time is up',
      to: tracked
        ? ask('grace done', undefined, { ...change, server: 'ending' })
        : { ...state, ...change, server: 'normal' },
    }
  }
  if (server !== 'grace' && server !== 'normal') return

  for (const each of limits.alone === true ? clients.slice(0, 1) : clients) {
    const { holdsSince, valid, tainted } = state[each]
    const lost = { [each]: nobody }
    if (leases.includes(each) && isFree)
      yield {
        action: `${each}'s lease expires`,
        to:
          tracked && stable.includes(each)
            ? ask('remove', each, { [each]: { ...state[each], valid: false } })
            : gone(state, each),
      }
    // Whoever comes back without its lease has been told so.
    if (tracked && isFree && !stable.includes(each) && (holdsSince === undefined || holder === each))
      yield { action: `${each} is to be recorded`, to: ask('create', each) }
    if (holdsSince === undefined) {
      const isKnown = tracked ? stable.includes(each) && leases.includes(each) : true
      // Its own remove may be on its way.
      if (server === 'normal' && holder === undefined && isKnown && message?.client !== each) {
        const loser = other(each)
        yield {
          action: `${each} locks`,
          to: {
            ...state,
            holder: each,
            leases: withClient(leases, each),
            [each]: { holdsSince: starts, valid: tracked && !state.unrecorded.includes(each), tainted: false },
            ...(state[loser].holdsSince === undefined ? {} : { [loser]: { ...state[loser], tainted: true } }),
          },
        }
      }
    } else if (holdsSince === starts)
      yield holder === each
        ? { action: `${each} unlocks`, to: { ...state, holder: undefined, ...lost } }
        : { action: `${each} learns that its lease has expired`, to: { ...state, ...lost } }
    else if (server === 'normal') yield { action: `${each} comes too late to reclaim`, to: { ...state, ...lost } }
    else if (tracked && state.list.includes(each)) {
      if (tainted || (holder !== undefined && holder !== each))
        yield { action: `${each} reclaims`, to: 'illegal reclaim' }
      else
        yield {
          action: `${each} reclaims`,
          to: {
            ...state,
            holder: each,
            leases: withClient(leases, each),
            [each]: { holdsSince: starts, valid, tainted: false },
          },
        }
    } else
      yield {
        action: `${each} is refused`,
        to: valid && tracked ? 'legal reclaim refused' : { ...state, ...lost },
      }
  }
}

/** What `serve` may do next, and what may be done to it. */
function* ofServe(state: State, rules: PipeRules, limits: Limits): Generator<Next> {
  const { alive, message, work, journal, starts, kills, failures, mark, cache } = state
  if (!alive) {
    const comes: State = { ...state, ...takenOver(state, rules) }
    const { replays } = rules
    const isItsOwn = journal?.pipe === starts || replays === 'on any pipe'
    const hasNoLook = replays === 'at once' || replays === 'on any pipe'
    const isSaid =
      replays !== 'never' && isItsOwn && journal?.xid === message?.xid && (message?.at === 'read' || hasNoLook)
    if (isSaid && journal !== undefined && message !== undefined)
      yield { action: 'serve comes, and says what is in the journal', to: heard(comes, message, journal) }
    else yield { action: 'serve comes', to: message?.at === 'read' ? 'a thread waits for ever' : comes }
    return
  }
  if (kills < limits.kills && (work !== undefined || state.unfinished.length > 0))
    yield {
      action: 'serve is killed',
      to: {
        ...state,
        alive: false,
        kills: kills + 1,
        work: undefined,
        unfinished: [],
        own: false,
        message: message?.at === 'held' ? { ...message, at: 'queued' } : message,
      },
    }
  if (work === undefined) {
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
            at: message.kind === 'start' || state.unseen ? 0 : rules.steps(message.kind).indexOf('apply'),
            failed: false,
            nothingProven: false,
            instance: message.kind === 'start' ? undefined : currentOf(cache),
          },
        },
      }
    if (state.unfinished.length > 0) yield { action: 'serve tries again', to: triedAgain(state, rules) }
    if (isToKeep(state)) yield { action: 'serve writes its list', to: { ...state, ...keptNow(state, rules) } }
    if (state.unseen && mark === undefined && rules.notes)
      yield { action: 'two seconds pass, and nothing is asked', to: { ...state, mark: 'ran' } }
    return
  }

  const steps = rules.steps(work.kind)
  const step = steps[work.at]
  const to = (change: Partial<State>, more: Partial<Work> = {}): State => {
    const next = { ...state, ...change }
    const isIdle = next.unfinished.length === 0 && next.kept === undefined && !next.own
    let at = work.at + 1
    while (isIdle && (steps[at] === 'settle' || steps[at] === 'keep')) at++
    return { ...next, work: at === steps.length ? undefined : { ...work, ...more, at } }
  }
  const action = `serve: ${step ?? 'nothing'}`
  if ((step === 'stand' || step === 'apply' || step === 'barrier') && failures < limits.failures) {
    const isStart = work.kind === 'start'
    const isMarked = rules.marksFailed.includes(work.kind)
    const instance = step === 'stand' ? undefined : work.instance
    const task: Task = { kind: work.kind, client: work.client, instance }
    yield {
      action: `the storage fails: ${step} of ${work.kind}`,
      to: {
        ...state,
        ...(isStart ? refused(state) : {}),
        failures: failures + 1,
        ...(step === 'stand'
          ? { mark: 'ran' as const }
          : {
              mark: !isMarked ? (isStart ? undefined : mark) : isStart ? 'ran' : (mark ?? 'serve'),
              own: state.own || (isMarked && !isStart && (mark ?? 'serve') === 'serve'),
            }),
        unfinished: isStart
          ? []
          : [...state.unfinished.filter(({ client: who }) => who !== work.client || who === undefined), task],
        list:
          isStart && rules.listAfterFailure === 'who was'
            ? clients.filter((each) => ours.mayReclaim(cache, each))
            : isStart
              ? []
              : state.list,
        work: {
          ...work,
          failed: true,
          at: steps.indexOf(steps.indexOf('keep') < steps.indexOf('journal') ? 'keep' : 'journal'),
        },
      },
    }
  }
  switch (step) {
    case 'try again':
      yield { action, to: { ...to({}), ...pick(triedAgain(state, rules)) } }
      return
    case 'mark': {
      const isOther = mark !== undefined && mark !== starts
      const nothingProven = rules.knowsItsStart ? isOther : mark !== undefined
      yield {
        action,
        to: to({ ...(isOther ? refused(state) : {}), mark: nothingProven ? 'ran' : starts }, { nothingProven }),
      }
      return
    }
    case 'stand': {
      const of = state.numbers + 2
      const store = stood(cache, of)
      yield {
        action,
        to: to({ cache: store, disk: store, numbers: of, unseen: false, mark: undefined }, { instance: of }),
      }
      return
    }
    case 'apply': {
      if (work.kind !== 'start') {
        yield { action, to: to({ cache: applied(cache, work, work.instance) }) }
        return
      }
      const of = state.numbers + 2
      // Without a mark that was looked at, what it said is not known.
      yield { action, to: to({ cache: begun(cache, of, work), numbers: of }) }
      return
    }
    case 'barrier':
      yield { action, to: to({ disk: cache }) }
      return
    case 'list':
      yield { action, to: to({ list: clients.filter((each) => ours.mayReclaim(cache, each)) }) }
      return
    case 'unmark':
      yield { action, to: to({ mark: undefined }) }
      return
    case 'settle':
      yield { action, to: { ...to({}), ...settledBy(state, work, rules) } }
      return
    case 'keep':
      yield { action, to: to(isToKeep(state) ? keptNow(state, rules) : {}) }
      return
    case 'journal':
      yield {
        action,
        to: to({ journal: { pipe: starts, xid: work.xid, failed: work.failed && work.kind !== 'start' } }),
      }
      return
    case 'read':
      yield { action, to: to(message === undefined ? {} : { message: { ...message, at: 'read' } }) }
      return
    case 'answer': {
      if (message === undefined) {
        yield { action, to: to({}) }
        return
      }
      const answered = heard(state, message, work)
      yield {
        action,
        to: typeof answered === 'string' ? answered : { ...answered, work: to({}).work },
      }
      return
    }
    case undefined:
      yield { action, to: { ...state, work: undefined } }
  }
}

/** A start settles everything; what is asked of a client, what failed of it before. */
const settledBy = (state: State, work: Work, rules: PipeRules): Pick<State, 'unfinished' | 'mark' | 'own'> =>
  work.kind === 'start'
    ? { unfinished: [], mark: state.mark, own: state.own }
    : (({ unfinished, mark, own }) => ({ unfinished, mark, own }))(settled(state, work, rules))

/** Its list is not what is left. */
const isToKeep = ({ kept, unfinished, starts }: State): boolean =>
  unfinished.length > 0
    ? kept?.pipe !== starts || JSON.stringify(kept.tasks) !== JSON.stringify(unfinished)
    : kept !== undefined

const pick = ({
  cache,
  disk,
  mark,
  unfinished,
  unrecorded,
  own,
}: State): Pick<State, 'cache' | 'disk' | 'mark' | 'unfinished' | 'unrecorded' | 'own'> => ({
  cache,
  disk,
  mark,
  unfinished,
  unrecorded,
  own,
})
