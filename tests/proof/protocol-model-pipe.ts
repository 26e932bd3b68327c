/**
 * The model of protocol-model.ts at the pipe: the same two clients and one lock, but the kernel asks by messages, one
 * at a time, and a process answers them that may be killed between any two of its steps. What is written is in the
 * cache until a barrier; a crash of the machine loses that, or does not. Storage may fail, once. One instance may ask
 * by the helper, the next one at the pipe.
 *
 * A message is `queued`, `held` (its last byte is still in the pipe), or `read`. If its reader dies, a held one is
 * queued again, and one that was read waits for an answer for ever.
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
export type Step = 'try again' | 'mark' | 'apply' | 'barrier' | 'list' | 'unmark' | 'journal' | 'read' | 'answer'

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
  /** What GraceStart is answered with when it could not be recorded. */
  readonly listAfterFailure: 'nobody' | 'who was'
}

const client: readonly Step[] = ['apply', 'barrier', 'journal', 'read', 'answer']
const begins: readonly Step[] = ['try again', 'mark', 'apply', 'barrier', 'list', 'unmark', 'journal', 'read', 'answer']

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
const begun = (store: Store, of: number, nothingProven: boolean): Store => ({
  ...store,
  ...(nothingProven ? { full: and(store.full, of - 1), untracked: and(store.untracked, of - 1) } : {}),
  started: and(store.started, of),
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
  let { cache } = state
  for (const task of state.unfinished)
    if (!rules.remembersInstance || task.instance === currentOf(cache))
      cache = applied(cache, task, rules.remembersInstance ? task.instance : currentOf(cache))
  return {
    ...state,
    cache,
    disk: cache,
    unfinished: [],
    unrecorded: state.unrecorded.filter(
      (each) => !state.unfinished.some((task) => task.kind === 'create' && task.client === each),
    ),
    mark:
      state.mark === 'serve' &&
      state.unfinished.every((task) => !rules.remembersInstance || task.instance === currentOf(state.cache))
        ? undefined
        : state.mark,
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
  return { ...state, unfinished, mark: state.mark === 'serve' && isTrusted ? undefined : state.mark }
}

/** The kernel hears an answer. */
function heard(state: State, message: Message, failed: boolean): State | PipeFault {
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
    const next = { ...state, starts: starts + 1, list: [], stable: [], leases: [], holder: undefined, tracked: true }
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
      const store = begun(state.cache, of, nothingProven)
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
  } as const
  if (stops < limits.stops) {
    // The run directory goes with the machine; what it said of a disk that failed is not covered.
    if (mark !== 'ran' && mark !== 'serve')
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
          },
        }
    // A stop waits for what is queued.
    if (message === undefined && server !== 'starting') yield { action: 'the server stops', to: { ...state, ...down } }
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
    if (front === 'pipe') {
      const xid = state.xid === 1 ? 2 : 1
      return { ...state, ...change, xid, message: { kind, client: who, xid, at: 'queued' } }
    }
    // The helper has one upcall done before the next: protocol-model.ts looks into these.
    const cache = applied(state.cache, { kind, client: who }, currentOf(state.cache))
    const asked: State = { ...state, ...change, cache, disk: cache }
    return heard(asked, { kind, client: who, xid: 0, at: 'read' }, false)
  }
  const isFree = message === undefined && (front === 'helper' || state.work === undefined || work === undefined)

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

  for (const each of clients) {
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
    const comes: State = { ...state, alive: true }
    const { replays } = rules
    const isItsOwn = journal?.pipe === starts || replays === 'on any pipe'
    const hasNoLook = replays === 'at once' || replays === 'on any pipe'
    const isSaid =
      replays !== 'never' && isItsOwn && journal?.xid === message?.xid && (message?.at === 'read' || hasNoLook)
    if (isSaid && journal !== undefined && message !== undefined)
      yield { action: 'serve comes, and says what is in the journal', to: heard(comes, message, journal.failed) }
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
            at: 0,
            failed: false,
            nothingProven: false,
            instance: message.kind === 'start' ? undefined : currentOf(cache),
          },
        },
      }
    if (state.unfinished.length > 0) yield { action: 'serve tries again', to: triedAgain(state, rules) }
    return
  }

  const steps = rules.steps(work.kind)
  const step = steps[work.at]
  const to = (change: Partial<State>, more: Partial<Work> = {}): State => ({
    ...state,
    ...change,
    work: work.at + 1 === steps.length ? undefined : { ...work, ...more, at: work.at + 1 },
  })
  const action = `serve: ${step ?? 'nothing'}`
  if ((step === 'apply' || step === 'barrier') && failures < limits.failures) {
    const isStart = work.kind === 'start'
    const isMarked = rules.marksFailed.includes(work.kind)
    const task: Task = { kind: work.kind, client: work.client, instance: work.instance }
    yield {
      action: `the storage fails: ${step} of ${work.kind}`,
      to: {
        ...state,
        ...(isStart ? refused(state) : {}),
        failures: failures + 1,
        mark: !isMarked ? (isStart ? undefined : mark) : isStart ? 'ran' : (mark ?? 'serve'),
        unfinished: isStart
          ? []
          : [...state.unfinished.filter(({ client: who }) => who !== work.client || who === undefined), task],
        list:
          isStart && rules.listAfterFailure === 'who was'
            ? clients.filter((each) => ours.mayReclaim(cache, each))
            : isStart
              ? []
              : state.list,
        work: { ...work, failed: true, at: steps.indexOf('journal') },
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
    case 'apply': {
      if (work.kind !== 'start') {
        yield { action, to: to({ cache: applied(cache, work, work.instance) }) }
        return
      }
      const of = state.numbers + 2
      // Without a mark that was looked at, what it said is not known.
      yield { action, to: to({ cache: begun(cache, of, work.nothingProven), numbers: of }) }
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
      const done = work.failed ? state : settled(state, work, rules)
      const answered = heard(done, message, work.failed)
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

const pick = ({
  cache,
  disk,
  mark,
  unfinished,
  unrecorded,
}: State): Pick<State, 'cache' | 'disk' | 'mark' | 'unfinished' | 'unrecorded'> => ({
  cache,
  disk,
  mark,
  unfinished,
  unrecorded,
})
