/**
 * A model of lock recovery that is small enough to read. It has one server, one lock, two clients, leases, grace
 * periods, and a store that follows some rules, call by call. The network may separate a client from the server, and
 * the server may crash at any moment. The search visits every state that can be reached with a limited number of
 * crashes. It returns the shortest way to a fault.
 *
 * Two facts about each client's lock judge the rules, which can't see them. The lock is `valid` as long as neither its
 * lease has ended, nor a grace period in which the client did not reclaim. It is `tainted` once another client was
 * granted the lock. If a tainted lock is reclaimed, that is illegal. If a valid one is refused, that is a needless
 * loss.
 *
 * An upcall that fails knows it, and leaves a mark. An upcall that is killed leaves the note that it has made before
 * its first change, and the kernel goes on. The next start does what the note tells.
 */
import { search, type Found, type Successor } from './search.ts'

export type Client = 'A' | 'B'
export const clients: readonly Client[] = ['A', 'B']

/**
 * What is on the disk: facts about instances, and who is recorded in which instance. Later instances have higher
 * numbers. In format 1 there were two files instead of the facts.
 */
export interface Store {
  readonly format: 1 | 2
  readonly started: readonly number[]
  readonly full: readonly number[]
  /** Instances whose end of grace is not finished: records of the kernel's own tracker may still be there. */
  readonly unconfirmed: readonly number[]
  /** Empty full instances. Each stands for an instance that ran without the helper. */
  readonly untracked: readonly number[]
  /** records[i]: the clients that are recorded in instance i. */
  readonly records: readonly (readonly Client[])[]
  /** The clients that the kernel's own tracker recorded. */
  readonly legacy: readonly Client[]
  /**
   * In the run directory, which is lost if the machine crashes: the boot time that the kernel gave to a start that is
   * not durable yet; 'ran': an instance ran of which something is not recorded.
   */
  readonly mark: number | 'ran' | undefined
  /** In the run directory too: the instance whose grace the kernel has ended, if that could not be recorded. */
  readonly end: number | undefined
  /** In the run directory too: what upcalls about clients have begun, one note for each client. */
  readonly begun: readonly Begun[]
  /** Format 1. */
  readonly boot: number | undefined
  readonly newBoot: number | undefined
}

export type Begun =
  | { readonly what: 'remove'; readonly client: Client }
  /** `from`: the instance in which it was recorded before. */
  | { readonly what: 'put'; readonly client: Client; readonly in: number; readonly from: number | undefined }

export const blank: Store = {
  format: 2,
  started: [],
  full: [],
  unconfirmed: [],
  untracked: [],
  records: [],
  legacy: [],
  mark: undefined,
  end: undefined,
  begun: [],
  boot: undefined,
  newBoot: undefined,
}

/** An upcall that is under way. What it has decided to do is done call by call, on whatever the store is by then. */
export interface Upcall {
  readonly verb: 'start' | 'grace done'
  /** The instance that it begins or ends. */
  readonly of: number
  /** The boot time that the kernel gives; negative: release 0.1.0 carries it out. */
  readonly told: number
  /** Whether this start lets nobody reclaim. */
  readonly nothingProven: boolean
  readonly at: number
}

type Call = (store: Store) => Store

export interface Rules {
  readonly name: string
  /** Two files instead of facts. */
  readonly format?: 1
  /** What a start does, one durable call after the other. The machine may crash between any two. */
  readonly start: (upcall: Upcall) => readonly Call[]
  readonly graceDone: (upcall: Upcall) => readonly Call[]
  readonly check: (store: Store, client: Client) => Store
  readonly create: (store: Store, client: Client) => Store
  readonly remove: (store: Store, client: Client) => Store
  readonly mayReclaim: (store: Store, client: Client) => boolean
  /** What an upcall leaves if its storage fails. The kernel goes on as if the upcall had succeeded. */
  readonly removeRefused: Call
  readonly graceDoneRefused: Call
  /** What a create or a check leaves if it finds that grace is over, and can't record that. */
  readonly endRefused: (store: Store, of: number) => Store
  /** What a remove or an end of grace leaves that is killed before its first change. */
  readonly removeBegun: (store: Store, client: Client) => Store
  readonly graceDoneBegun: (store: Store, of: number) => Store
  /** What a create leaves that is killed when it has made its record. */
  readonly createBegun: (store: Store, client: Client) => Store
}

const within = (records: Store['records'], instance: number, client: Client): Store['records'] =>
  Array.from({ length: Math.max(records.length, instance + 1) }, (_, at) => {
    const there = (records[at] ?? []).filter((each) => each !== client)
    return at === instance ? [...there, client].sort() : there
  })

export const and = (facts: readonly number[], fact: number): readonly number[] =>
  [...new Set([...facts, fact])].sort((a, b) => a - b)
export const but = (facts: readonly number[], fact: number): readonly number[] => facts.filter((each) => each !== fact)
const latest = (facts: readonly number[]): number | undefined => (facts.length === 0 ? undefined : Math.max(...facts))

interface Known {
  readonly current: number | undefined
  readonly isFull: boolean
  readonly lastFull: number | undefined
}

/** What the facts together mean (lib/rules/instance.ts). */
export const known = ({ format, started, full, boot, newBoot }: Store): Known => {
  if (format === 1)
    return { current: newBoot ?? boot, isFull: newBoot === undefined || newBoot === boot, lastFull: boot ?? newBoot }
  const current = latest([...started, ...full])
  return { current, isFull: current !== undefined && full.includes(current), lastFull: latest(full) }
}

/**
 * A start takes the second number. The first is for the empty full instance that comes before it if nobody may reclaim.
 */
export const numbersPerStart = 2

/** Converts format 1 to format 2. The facts are made first, and count once the mark of the format is there. */
const migrated: readonly Call[] = [
  (store) => {
    if (store.format === 2) return store
    const { current, isFull, lastFull } = known(store)
    if (current === undefined) return store
    const isFirst = !isFull && lastFull === current
    return {
      ...store,
      started: [current],
      full: isFirst || lastFull === undefined ? [] : [lastFull],
      unconfirmed: [current],
      records: isFirst ? store.records.map((each, at) => (at < current ? [] : each)) : store.records,
    }
  },
  (store) => (store.format === 2 ? store : { ...store, format: 2, boot: undefined, newBoot: undefined }),
]

/** Ends the last instance's grace, if the kernel has ended it, and that is noted and not recorded. */
const endedAsNoted: Call = (store) => {
  const { current, isFull } = known(store)
  return current === undefined || isFull || store.end !== current
    ? store
    : { ...store, started: but(store.started, current), full: and(store.full, current) }
}

/** Completes a remove that was cut short. */
const removesCompleted: Call = (store) =>
  store.begun.reduce((before, note) => (note.what === 'remove' ? forgotten(before, note.client) : before), store)

/** Takes back the record of a create that was cut short: the kernel will not say when its client is gone. */
const putsTakenBack: Call = (store) =>
  store.begun.reduce((before, note) => {
    if (note.what !== 'put' || before.records[note.in]?.includes(note.client) !== true) return before
    const without = before.records.map((each, at) =>
      at === note.in ? each.filter((one) => one !== note.client) : each,
    )
    return { ...before, records: note.from === undefined ? without : within(without, note.from, note.client) }
  }, store)

const notesRemoved: Call = (store) => (store.begun.length === 0 ? store : { ...store, begun: [] })

const forgotten = (store: Store, client: Client): Store => ({
  ...store,
  records: store.records.map((each) => each.filter((other) => other !== client)),
  legacy: store.legacy.filter((other) => other !== client),
})

/** What is promised about a client is durable. */
const withoutNote = (store: Store, client: Client): Store =>
  store.begun.length === 0 ? store : { ...store, begun: store.begun.filter((note) => note.client !== client) }

/** Finishes the end of the last instance's grace, if the upcall for it died. */
const followedUp: Call = (store) => {
  const { current, isFull } = known(store)
  return current === undefined || !isFull || !store.unconfirmed.includes(current)
    ? store
    : { ...store, legacy: [], unconfirmed: but(store.unconfirmed, current) }
}

/** Removes records that nothing reads any more. */
const swept: Call = (store) => {
  const { lastFull } = known(store)
  return lastFull === undefined
    ? store
    : { ...store, records: store.records.map((each, at) => (at < lastFull ? [] : each)) }
}

/** The helper's rules: docs/protocol.md and lib/. */
export const ours: Rules = {
  name: 'the helper',
  start: ({ of, told, nothingProven }) => [
    (store) => ({ ...store, mark: nothingProven ? 'ran' : told }),
    ...migrated,
    endedAsNoted,
    followedUp,
    removesCompleted,
    putsTakenBack,
    notesRemoved,
    ...(nothingProven
      ? [
          (store: Store): Store => ({
            ...store,
            full: and(store.full, of - 1),
            untracked: and(store.untracked, of - 1),
          }),
        ]
      : []),
    (store) => ({ ...store, started: and(store.started, of), unconfirmed: and(store.unconfirmed, of) }),
    swept,
    (store) => ({ ...store, mark: undefined, end: undefined }),
  ],
  graceDone: ({ of }) => [
    ...migrated,
    // This renames a name that only this instance has. So if another upcall has done it, or has removed the name,
    // nothing happens.
    (store) =>
      store.started.includes(of) ? { ...store, started: but(store.started, of), full: and(store.full, of) } : store,
    (store) => (store.full.includes(of) && store.unconfirmed.includes(of) ? { ...store, legacy: [] } : store),
    (store) => ({ ...store, unconfirmed: but(store.unconfirmed, of) }),
    swept,
  ],
  check: (store) => store,
  create: (store, client) => {
    const { current } = known(store)
    // The state directory was wiped under a running server. A full instance begins, and what was before is forgotten.
    if (current === undefined)
      return { ...store, full: [store.records.length], records: within(store.records, store.records.length, client) }
    return withoutNote({ ...store, records: within(store.records, current, client) }, client)
  },
  remove: (store, client) => withoutNote(forgotten(store, client), client),
  mayReclaim: (store, client) => {
    const { current, isFull, lastFull } = known(store)
    if (current === undefined) return false
    if (isFull) return store.records[current]?.includes(client) === true
    const isRecorded = store.records.some((each, at) => at >= (lastFull ?? 0) && at <= current && each.includes(client))
    return (
      isRecorded || (store.legacy.includes(client) && !(lastFull !== undefined && store.untracked.includes(lastFull)))
    )
  },
  removeRefused: (store) => ({ ...store, mark: 'ran' }),
  graceDoneRefused: (store) => ({ ...store, mark: 'ran' }),
  endRefused: (store, of) => ({ ...store, end: of }),
  removeBegun: (store, client) => ({
    ...store,
    begun: [...withoutNote(store, client).begun, { what: 'remove', client }],
  }),
  graceDoneBegun: (store, of) => ({ ...store, end: of }),
  createBegun: (store, client) => {
    const { current } = known(store)
    if (current === undefined) return store
    const at = store.records.findLastIndex((each) => each.includes(client))
    const made = { ...store, records: within(store.records, current, client) }
    // An earlier note tells more: where the record was before all that was not promised.
    if (at === current || store.begun.some((note) => note.client === client)) return made
    return { ...made, begun: [...store.begun, { what: 'put', client, in: current, from: at < 0 ? undefined : at }] }
  },
}

/** A server without stable storage, which lets everybody reclaim: the first edge condition (RFC 7530 §9.6.3.4.1). */
export const noStore: Rules = { ...ours, name: 'no store at all', mayReclaim: () => true }

/** A client is remembered until its lease expires, and the end of grace forgets nobody: the second edge condition. */
export const neverForgets: Rules = {
  ...ours,
  name: 'grace done forgets nobody',
  graceDone: () => [],
  mayReclaim: ({ records }, client) => records.some((each) => each.includes(client)),
}

/** The rules of release 0.1.0, whose format was 1. */
export const format1: Rules = {
  ...ours,
  name: 'release 0.1.0',
  format: 1,
  start: ({ of }) => [(store) => ({ ...store, newBoot: of })],
  graceDone: ({ of }) => [
    (store) => (store.newBoot === of ? { ...store, boot: of, newBoot: undefined } : store),
    (store) => ({ ...store, legacy: [] }),
    swept,
  ],
  create: (store, client) => ({
    ...store,
    records: within(store.records, store.newBoot ?? store.boot ?? 0, client),
    legacy: store.legacy.filter((other) => other !== client),
  }),
  mayReclaim: ({ boot, newBoot, records, legacy }, client) =>
    records.some((each, at) => at >= (boot ?? newBoot ?? 0) && each.includes(client)) || legacy.includes(client),
}

/** The draft of 2010 as written. As long as there is no boot_time, a start records nothing. */
export const draftWithoutBootstrap: Rules = {
  ...format1,
  name: 'the draft of 2010: no bootstrap',
  start: ({ of }) => [(store) => (store.boot === undefined ? store : { ...store, newBoot: of })],
  graceDone: (upcall) => [
    (store) =>
      store.newBoot === undefined
        ? { ...store, boot: undefined }
        : format1.graceDone(upcall).reduce((before, call) => call(before), store),
  ],
  mayReclaim: ({ boot, records }, client) =>
    boot !== undefined && records.some((each, at) => at >= boot && each.includes(client)),
}

/** The draft of 2010 with a first boot_time. First boot_time is removed, then new_boot_time is renamed to it. */
export const draftTwoRenames: Rules = {
  ...format1,
  name: 'the draft of 2010: two renames',
  graceDone: (upcall) => [(store) => ({ ...store, boot: undefined }), ...format1.graceDone(upcall)],
}

/** Rules that the helper had or might have had. The name of each says what is wrong. */
export const wrong = {
  'a check with a session takes a legacy client over': {
    ...ours,
    check: (store, client) =>
      store.legacy.includes(client) && ours.mayReclaim(store, client)
        ? ours.create({ ...store, legacy: store.legacy.filter((other) => other !== client) }, client)
        : store,
  },
  'a legacy client is taken over, and a first grace period forgotten': {
    ...ours,
    create: (store, client) =>
      ours.create({ ...store, legacy: store.legacy.filter((other) => other !== client) }, client),
    mayReclaim: (store, client) => {
      const { current, lastFull } = known(store)
      return lastFull === undefined && current !== undefined
        ? store.records[current]?.includes(client) === true || store.legacy.includes(client)
        : ours.mayReclaim(store, client)
    },
  },
  'the end of grace forgets no legacy client': {
    ...ours,
    graceDone: (upcall) => ours.graceDone(upcall).filter((_, at) => at !== migrated.length + 1),
    start: (upcall) => ours.start(upcall).filter((call) => call !== followedUp),
  },
  'an end of grace that died is not followed up': {
    ...ours,
    start: (upcall) => ours.start(upcall).filter((call) => call !== followedUp),
  },
  'a start makes no mark': { ...ours, start: (upcall) => ours.start(upcall).slice(1) },
  'a start takes its mark away before it tidies up': {
    ...ours,
    start: (upcall) => {
      const calls = ours.start(upcall)
      return [...calls.slice(0, -2), ...calls.slice(-1), swept]
    },
  },
  'an instance without a tracker spares legacy clients': {
    ...ours,
    mayReclaim: (store, client) =>
      (store.legacy.includes(client) && !known(store).isFull) || ours.mayReclaim(store, client),
  },
  'the end of grace completes whatever instance it finds when it wakes up': {
    ...ours,
    graceDone: (upcall) => [
      (store) => {
        const { current, isFull } = known(store)
        return current === undefined || isFull
          ? store
          : ours.graceDone({ ...upcall, of: current }).reduce((before, call) => call(before), store)
      },
    ],
  },
  'a sweep removes what is older than the current instance': {
    ...ours,
    start: (upcall) => [
      ...ours.start(upcall),
      (store: Store): Store => ({ ...store, records: store.records.map((each, at) => (at < upcall.of ? [] : each)) }),
    ],
  },
  'of two facts the one that was written last counts': {
    ...ours,
    graceDone: (upcall) => [
      ...ours.graceDone(upcall),
      (store: Store): Store => ({ ...store, started: store.started.filter((each) => each <= upcall.of) }),
    ],
  },
  'a remove that the storage refuses leaves no mark': { ...ours, removeRefused: (store) => store },
  'an end of grace that the storage refuses leaves no mark': { ...ours, graceDoneRefused: (store) => store },
  'a create or a check that can not record the end of grace leaves no mark': { ...ours, endRefused: (store) => store },
  'a start lets nobody reclaim because of it': {
    ...ours,
    start: (upcall) =>
      ours
        .start(upcall)
        .map((call) =>
          call === endedAsNoted
            ? (store) => (endedAsNoted(store) === store ? store : { ...store, records: [], legacy: [] })
            : call,
        ),
  },
  'a remove makes no note': { ...ours, removeBegun: (store) => store },
  'an end of grace makes no note': { ...ours, graceDoneBegun: (store) => store },
  'a create makes no note': {
    ...ours,
    createBegun: (store, client) => ({ ...ours.createBegun(store, client), begun: store.begun }),
  },
  'a start does not complete a remove that was cut short': {
    ...ours,
    start: (upcall) => ours.start(upcall).filter((call) => call !== removesCompleted),
  },
  'a start does not take back a create that was cut short': {
    ...ours,
    start: (upcall) => ours.start(upcall).filter((call) => call !== putsTakenBack),
  },
  'a start removes the record of a create that was cut short, wherever it came from': {
    ...ours,
    createBegun: (store, client) => {
      const after = ours.createBegun(store, client)
      return {
        ...after,
        begun: after.begun.map((note) => (note.what === 'put' ? { ...note, from: undefined } : note)),
      }
    },
  },
  'the note of a create replaces that of a remove': {
    ...ours,
    createBegun: (store, client) =>
      ours.createBegun(
        { ...store, begun: store.begun.filter((note) => note.what === 'put' || note.client !== client) },
        client,
      ),
  },
  'a create that succeeds leaves the note of an earlier one': {
    ...ours,
    create: (store, client) => ({ ...ours.create(store, client), begun: store.begun }),
  },
  'format 1 is brought to format 2 mark of the format first': {
    ...ours,
    start: (upcall) => {
      const [mark, facts, format, ...rest] = ours.start(upcall)
      return [mark, format, facts, ...rest].filter((call) => call !== undefined)
    },
  },
} as const satisfies Record<string, Rules | Omit<Rules, 'name'>>

interface Belief {
  readonly connected: boolean
  /** The instance in which the client got the lock that it believes to hold. */
  readonly holdsSince: number | undefined
  readonly valid: boolean
  readonly tainted: boolean
}

interface State {
  /** `starting` and `ending`: an upcall is under way, and the kernel waits for it. */
  readonly server: 'down' | 'starting' | 'grace' | 'ending' | 'normal'
  /** Whether the kernel has a tracker to ask. */
  readonly tracked: boolean
  /** The upcall for the end of grace died. The next upcall finds that grace is over. */
  readonly unheard: boolean
  /** Clients whose create has died: the kernel does not run `remove` for them (nfs4recover.c, NFSD4_CLIENT_STABLE). */
  readonly unstable: readonly Client[]
  readonly upcall: Upcall | undefined
  /** An end of grace that a person typed. It may sleep between any two of its calls, even during a restart. */
  readonly byHand: Upcall | undefined
  readonly instance: number
  readonly stops: number
  readonly holder: Client | undefined
  readonly leases: readonly Client[]
  readonly A: Belief
  readonly B: Belief
  readonly store: Store
}

/** What may happen besides starts, ends of grace, crashes, and clients that come and go. */
export type Event =
  /** The kernel's own tracker was used before, and A has a lock. */
  | 'legacy'
  /** An `init` dies. The kernel asks again, or goes on without a tracker. */
  | 'a start dies'
  /** The upcall for the end of grace dies after it has recorded that, and the kernel goes on. */
  | 'an end of grace dies'
  /** It dies before that, and the kernel goes on. Perhaps no later upcall sees that grace is over. */
  | 'an end of grace is lost'
  /** The storage fails at a `remove`, or at an end of grace, and works again at once. */
  | 'a remove is refused'
  | 'an end of grace is refused'
  /** An end of grace is lost, and the first upcall that sees it can't record that. */
  | 'an end of grace is seen, and not recorded'
  /** A `remove` dies before its first change. */
  | 'a remove is lost'
  /** A `create` dies when it has made its record. */
  | 'a create is lost'
  /** A person types grace_done. */
  | 'by hand'
  /** Release 0.1.0 is the helper at first. */
  | 'format 1'
  | 'wiped'

export type Fault = 'illegal reclaim' | 'legal reclaim refused'
export type Outcome = Found<Fault>

export const other = (client: Client): Client => (client === 'A' ? 'B' : 'A')
const nobody: Belief = { connected: true, holdsSince: undefined, valid: false, tainted: false }

/** Visits every state in which the server has stopped at most `stops` times, breadth first. */
export function explore(rules: Rules, stops: number, events: readonly Event[] = []): Outcome {
  const isLegacy = events.includes('legacy')
  const first: State = {
    server: 'down',
    tracked: true,
    unheard: false,
    unstable: [],
    upcall: undefined,
    byHand: undefined,
    instance: 0,
    stops: 0,
    holder: undefined,
    leases: [],
    A: isLegacy ? { ...nobody, holdsSince: 0, valid: true } : nobody,
    B: nobody,
    store: { ...blank, legacy: isLegacy ? ['A'] : [], format: rules.format ?? (events.includes('format 1') ? 1 : 2) },
  }
  return search(first, (state) => successors(state, rules, stops, events))
}

type Next = Successor<State, Fault>

/** A state, the rules of its server, and what may happen in this search. */
interface Situation {
  readonly state: State
  readonly rules: Rules
  /** The rules after an upgrade, which happens at a start. */
  readonly all: Rules
  readonly most: number
  readonly events: readonly Event[]
}

function* successors(state: State, all: Rules, most: number, events: readonly Event[]): Generator<Next> {
  // Until the upgrade, the helper is release 0.1.0.
  const rules = isOfFormat1(state, events) ? { ...format1, start: all.start } : all
  const at: Situation = { state, rules, all, most, events }
  if (state.server === 'down') yield* serverStarts(at)
  else if (state.stops < most) yield* serverStops(at)
  if (state.upcall !== undefined) yield* upcallGoesOn(at, state.upcall)
  if (state.byHand !== undefined) yield typedGraceDoneGoesOn(at, state.byHand)
  else yield* graceDoneIsTyped(at)
  yield* directoryIsWiped(at)
  if (state.server === 'grace') yield graceTimeIsUp(state)
  for (const client of clients) {
    yield networkChanges(state, client)
    if (!isServing(state)) continue
    if (!state[client].connected) yield* leaseExpires(at, client)
    else if (state[client].holdsSince === undefined) yield* locksOrIsRecorded(at, client)
    else if (state[client].holdsSince === state.instance) yield givesUpLock(state, client)
    else yield* reclaims(at, client)
  }
}

const isOfFormat1 = ({ store }: State, events: readonly Event[]): boolean =>
  store.format === 1 && events.includes('format 1')

const isServing = ({ server }: State): boolean => server === 'grace' || server === 'normal'

const believing = (state: State, client: Client, change: Partial<Belief>): Partial<State> => ({
  [client]: { ...state[client], ...change },
})

const bothRefused = ({ A, B }: State): Pick<State, 'A' | 'B'> => ({
  A: { ...A, valid: false },
  B: { ...B, valid: false },
})

const withoutLock = ({ connected }: Belief): Belief => ({
  connected,
  holdsSince: undefined,
  valid: false,
  tainted: false,
})

/** Whether there is the mark of another start, which is not recorded. */
const isMarked = ({ mark }: Store, told: number): boolean => mark !== undefined && mark !== told

const graceDoneOf = (of: number): Upcall => ({ verb: 'grace done', of, told: 0, nothingProven: false, at: 0 })

const callsOf = ({ rules, all }: Situation, upcall: Upcall): readonly Call[] => {
  if (upcall.verb === 'grace done') return rules.graceDone(upcall)
  return (upcall.told < 0 ? format1 : all).start(upcall)
}

function* serverStarts({ state, events }: Situation): Generator<Next> {
  const { store, instance } = state
  const of = instance + numbersPerStart
  const begin = (told: number, release: string): Next => ({
    action: `the server starts${release}`,
    to: {
      ...state,
      // After an instance that ran without a tracker, nobody may reclaim.
      ...(isMarked(store, told) ? bothRefused(state) : {}),
      server: 'starting',
      tracked: true,
      instance: of,
      upcall: { verb: 'start', of, told, nothingProven: isMarked(store, told), at: 0 },
    },
  })
  yield begin(of, '')
  if (isOfFormat1(state, events)) yield begin(-1, ' with release 0.1.0')
}

function* serverStops({ state }: Situation): Generator<Next> {
  const { tracked, store, stops, upcall, byHand } = state
  const down = {
    ...state,
    server: 'down',
    tracked: true,
    unheard: false,
    unstable: [],
    stops: stops + 1,
    upcall: undefined,
    holder: undefined,
    leases: [],
  } as const
  // While an upcall runs, the kernel waits. So only the machine can stop then. The model leaves out a reboot after an
  // instance without a tracker, if no start has recorded yet that there was one.
  const isNoted = upcall?.nothingProven === true && !store.untracked.includes(upcall.of - 1)
  // It also leaves out a reboot after an upcall that has failed, or was cut short.
  const isDistrusted =
    store.end !== undefined || store.begun.length > 0 || (store.mark === 'ran' && upcall === undefined)
  if (tracked && !isNoted && !isDistrusted)
    yield { action: 'the machine crashes', to: { ...down, byHand: undefined, store: { ...store, mark: undefined } } }
  if (isServing(state) && (!tracked || byHand !== undefined || isDistrusted))
    yield { action: 'the server is stopped', to: down }
}

function* upcallGoesOn(at: Situation, upcall: Upcall): Generator<Next> {
  const { state } = at
  const { server, store } = state
  const call = callsOf(at, upcall)[upcall.at]
  if (call === undefined) {
    if (server === 'starting') yield { action: 'grace begins', to: { ...state, server: 'grace', upcall: undefined } }
    if (server === 'ending') yield { action: 'grace is over', to: { ...state, server: 'normal', upcall: undefined } }
    return
  }
  const next = { ...upcall, at: upcall.at + 1 }
  yield { action: `${server}: call ${next.at}`, to: { ...state, store: call(store), upcall: next } }
  // A sweep has only a second. What is left is removed by a later one.
  if (call === swept) yield { action: `${server}: swept later`, to: { ...state, upcall: next } }
  if (server === 'ending') yield* graceDoneFails(at, upcall)
  if (server === 'starting') yield* startDies(at, upcall)
}

/** The upcall for the end of grace is not completed, and the kernel goes on as if it were. */
function* graceDoneFails({ state, rules, events }: Situation, { of }: Upcall): Generator<Next> {
  const { store } = state
  const over = { ...state, server: 'normal', upcall: undefined, unheard: true } as const
  const isCommitted = store.full.includes(of)
  if (events.includes(isCommitted ? 'an end of grace dies' : 'an end of grace is lost'))
    yield {
      action: 'gracedone dies, and grace is over',
      to: isCommitted ? over : { ...over, store: rules.graceDoneBegun(store, of) },
    }
  if (events.includes('an end of grace is refused'))
    yield { action: 'gracedone is refused, and grace is over', to: { ...over, store: rules.graceDoneRefused(store) } }
  if (events.includes('an end of grace is seen, and not recorded') && !isCommitted)
    yield {
      action: "gracedone dies, grace is over, and an upcall can't record that",
      to: { ...over, store: rules.endRefused(store, of) },
    }
}

function* startDies({ state, most, events }: Situation, upcall: Upcall): Generator<Next> {
  const { store, stops } = state
  // A start that dies before its first call can't leave a trace. The model leaves that out.
  if (upcall.at === 0 || upcall.told < 0 || stops >= most || !events.includes('a start dies')) return
  const of = state.instance + numbersPerStart
  yield {
    action: 'init dies, and the kernel asks again',
    to: {
      ...state,
      stops: stops + 1,
      upcall: { ...upcall, of, at: 0, nothingProven: isMarked(store, upcall.told) },
      instance: of,
    },
  }
  yield {
    action: 'init dies, and the kernel goes on without a tracker',
    to: { ...state, ...bothRefused(state), stops: stops + 1, server: 'grace', tracked: false, upcall: undefined },
  }
}

function typedGraceDoneGoesOn(at: Situation, byHand: Upcall): Next {
  const { state } = at
  const call = callsOf(at, byHand)[byHand.at]
  if (call === undefined) return { action: 'grace_done by hand: ends', to: { ...state, byHand: undefined } }
  const next = { ...byHand, at: byHand.at + 1 }
  return { action: `grace_done by hand: call ${next.at}`, to: { ...state, store: call(state.store), byHand: next } }
}

/** A person types grace_done. With that, the person gives up the clients that have not reclaimed. */
function* graceDoneIsTyped({ state, most, events }: Situation): Generator<Next> {
  const { server, tracked, store, instance, stops } = state
  if (!events.includes('by hand') || server !== 'grace' || !tracked || stops >= most) return
  const givenUp = (client: Client): Belief =>
    state[client].holdsSince === instance ? state[client] : { ...state[client], valid: false }
  yield {
    action: 'a person types grace_done',
    to: { ...state, A: givenUp('A'), B: givenUp('B'), byHand: graceDoneOf(known(store).current ?? 0) },
  }
}

function* directoryIsWiped({ state, events }: Situation): Generator<Next> {
  const { store, instance } = state
  if (!events.includes('wiped') || !isServing(state) || store.started.length + store.full.length === 0) return
  yield {
    action: 'the state directory is wiped',
    to: {
      ...state,
      ...bothRefused(state),
      store: { ...blank, records: Array.from({ length: instance + 1 }, () => []) },
    },
  }
}

/** A client that has not reclaimed by now has lost its lock. */
function graceTimeIsUp(state: State): Next {
  const { tracked, store, leases, unstable } = state
  const late = (client: Client): Belief =>
    leases.includes(client) && !unstable.includes(client) ? state[client] : { ...state[client], valid: false }
  const next = { ...state, A: late('A'), B: late('B') }
  return {
    action: 'the grace time is up',
    to: tracked
      ? { ...next, server: 'ending', upcall: graceDoneOf(known(store).current ?? 0) }
      : { ...next, server: 'normal' },
  }
}

function networkChanges(state: State, client: Client): Next {
  const { connected } = state[client]
  return {
    action: `the network ${connected ? 'parts' : 'reaches'} ${client}`,
    to: { ...state, ...believing(state, client, { connected: !connected }) },
  }
}

/** The store as an upcall finds it. If grace is over and no upcall has recorded that, it records that first. */
function heard({ state, rules }: Situation): Store {
  const { store, unheard } = state
  const { current, isFull } = known(store)
  if (!unheard || current === undefined) return store
  return isFull
    ? followedUp(store)
    : rules.graceDone(graceDoneOf(current)).reduce((before, call) => call(before), store)
}

/** A client that is recorded in this instance is not recorded again: the kernel makes no upcall for it. */
function recorded(at: Situation, client: Client): Pick<State, 'store' | 'leases' | 'unstable'> {
  const { tracked, store, leases, unstable } = at.state
  return {
    store: !tracked || isStable(at.state, client) ? store : at.rules.create(heard(at), client),
    leases: [...new Set([...leases, client])].sort(),
    unstable: unstable.filter((each) => each !== client),
  }
}

/** The same, and the create dies when it has made its record. */
function almostRecorded(at: Situation, client: Client): Pick<State, 'store' | 'leases' | 'unstable'> {
  return {
    ...recorded(at, client),
    store: at.rules.createBegun(heard(at), client),
    unstable: [...new Set([...at.state.unstable, client])].sort(),
  }
}

const isStable = ({ store, leases, unstable }: State, client: Client): boolean =>
  store.records[known(store).current ?? -1]?.includes(client) === true &&
  leases.includes(client) &&
  !unstable.includes(client)

/** Whether a create of this client can die now. */
const mayLoseCreate = ({ state, events }: Situation, client: Client): boolean =>
  events.includes('a create is lost') && state.tracked && !isStable(state, client)

function* leaseExpires(at: Situation, client: Client): Generator<Next> {
  const { state, rules, events } = at
  const { tracked, store, holder, leases, unstable } = state
  if (!leases.includes(client)) return
  const without: State = {
    ...state,
    unstable: unstable.filter((each) => each !== client),
    leases: leases.filter((each) => each !== client),
    holder: holder === client ? undefined : holder,
    ...believing(state, client, { valid: false }),
  }
  if (unstable.includes(client)) {
    yield { action: `${client}'s lease expires, and no remove comes`, to: without }
    return
  }
  yield {
    action: `${client}'s lease expires`,
    to: { ...without, store: tracked ? rules.remove(heard(at), client) : store },
  }
  if (tracked && events.includes('a remove is refused'))
    yield {
      action: `${client}'s lease expires, and its remove is refused`,
      to: { ...without, store: rules.removeRefused(store) },
    }
  if (tracked && events.includes('a remove is lost'))
    yield {
      action: `${client}'s lease expires, and its remove dies`,
      to: { ...without, store: rules.removeBegun(store, client) },
    }
}

function* locksOrIsRecorded(at: Situation, client: Client): Generator<Next> {
  const { state } = at
  const { server, tracked, instance, holder } = state
  if (server === 'normal' && holder === undefined) {
    const loser = other(client)
    const locked = (valid: boolean): State => ({
      ...state,
      holder: client,
      ...believing(state, client, { holdsSince: instance, valid, tainted: false }),
      ...(state[loser].holdsSince === undefined ? {} : believing(state, loser, { tainted: true })),
    })
    yield { action: `${client} locks`, to: { ...locked(tracked), ...recorded(at, client) } }
    if (mayLoseCreate(at, client))
      yield { action: `${client} locks, and its create dies`, to: { ...locked(false), ...almostRecorded(at, client) } }
  }
  // The client is recorded, and gets no lock: it asks for none, or the server crashes before that.
  yield { action: `${client} is recorded`, to: { ...state, ...recorded(at, client) } }
}

function givesUpLock(state: State, client: Client): Next {
  const without = { ...state, [client]: withoutLock(state[client]) }
  return state.holder === client
    ? { action: `${client} unlocks`, to: { ...without, holder: undefined } }
    : { action: `${client} learns that its lease has expired`, to: without }
}

/** The client reclaims a lock of an earlier instance. */
function* reclaims(at: Situation, client: Client): Generator<Next> {
  const { state, rules, events } = at
  const { server, tracked, store, instance, holder } = state
  const { valid, tainted } = state[client]
  const without = { ...state, [client]: withoutLock(state[client]) }
  if (server === 'normal') {
    yield { action: `${client} comes too late to reclaim`, to: without }
    return
  }
  if (!tracked || !rules.mayReclaim(store, client)) {
    const isLoss = valid && tracked && !isOfFormat1(state, events)
    yield { action: `${client} is refused`, to: isLoss ? 'legal reclaim refused' : without }
    return
  }
  const asked = rules.check(store, client)
  if (asked !== store) yield { action: `${client} asks`, to: { ...state, store: asked } }
  const isIllegal = tainted || (holder !== undefined && holder !== client)
  const reclaimed: State = {
    ...state,
    holder: client,
    ...believing(state, client, { holdsSince: instance, valid: true }),
  }
  yield {
    action: `${client} reclaims`,
    to: isIllegal ? 'illegal reclaim' : { ...reclaimed, ...recorded(at, client) },
  }
  // Its older record counts again after a crash in this grace period.
  if (!isIllegal && mayLoseCreate(at, client))
    yield {
      action: `${client} reclaims, and its create dies`,
      to: { ...reclaimed, ...believing(state, client, { holdsSince: instance }), ...almostRecorded(at, client) },
    }
}
