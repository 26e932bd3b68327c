/**
 * A model of lock recovery small enough to read: one server, one lock, two clients, a network that may part them, a
 * server that may crash at any moment, leases, grace periods, and a store that follows some rules. Every reachable state
 * is visited, up to a bound on crashes; the shortest way to a fault is the answer.
 *
 * Two ghosts judge, and no rule can see them. A client's lock is `valid` while neither its lease nor a grace period
 * that it did not reclaim in has ended; it is `tainted` once somebody else was granted the lock. A tainted lock reclaimed is
 * illegal; a valid one refused is a loss that need not be.
 */

/** What a store remembers: who is recorded in which instance, and which instances count. Instances are numbered from 1. */
export interface Store {
  readonly boot: number | undefined
  readonly newBoot: number | undefined
  /** records[i]: the clients in instance i. */
  readonly records: readonly (readonly Client[])[]
}

export type Client = 'A' | 'B'
const clients: readonly Client[] = ['A', 'B']

export interface Rules {
  readonly name: string
  /** Each step is durable before the next; a crash may come in between. */
  readonly start: (store: Store, instance: number) => readonly Store[]
  readonly graceDone: (store: Store) => readonly Store[]
  readonly create: (store: Store, client: Client, instance: number) => Store
  readonly remove: (store: Store, client: Client) => Store
  readonly mayReclaim: (store: Store, client: Client) => boolean
}

const within = (records: Store['records'], instance: number, client: Client): Store['records'] =>
  Array.from({ length: Math.max(records.length, instance + 1) }, (_, at) => {
    const there = (records[at] ?? []).filter((each) => each !== client)
    return at === instance ? [...there, client].sort() : there
  })

const without: Rules['remove'] = (store, client) => ({ ...store, records: store.records.map((each) => each.filter((other) => other !== client)) })

/** The helper's rules: docs and lib/recovery/instance.ts. */
export const ours: Rules = {
  name: 'the helper',
  start: (store, instance) => [{ ...store, newBoot: instance }],
  graceDone: (store) => {
    const committed = { ...store, boot: store.newBoot, newBoot: undefined }
    const full = committed.boot ?? 0
    return [committed, { ...committed, records: committed.records.map((each, at) => (at < full ? [] : each)) }]
  },
  create: (store, client, instance) => ({ ...store, records: within(store.records, instance, client) }),
  remove: without,
  mayReclaim: ({ boot, records }, client) =>
    boot !== undefined && records.some((each, at) => at >= boot && each.includes(client)),
}

/** A server without stable storage, which lets everybody reclaim: RFC 7530 §9.6.3.4.1, the first edge condition. */
export const noStore: Rules = { ...ours, name: 'no store at all', mayReclaim: () => true }

/** Who had a lock is remembered until its lease expires, and the end of grace forgets nobody: the second one. */
export const neverForgets: Rules = {
  ...ours,
  name: 'grace done forgets nobody',
  graceDone: (store) => [{ ...store, boot: store.newBoot, newBoot: undefined }],
  mayReclaim: ({ records }, client) => records.some((each) => each.includes(client)),
}

/** The draft of 2010, as written: without a boot_time, nothing is recorded at start. */
export const draftWithoutBootstrap: Rules = {
  ...ours,
  name: 'the draft of 2010: no bootstrap',
  start: (store, instance) => [store.boot === undefined ? store : { ...store, newBoot: instance }],
  graceDone: (store) => (store.newBoot === undefined ? [{ ...store, boot: undefined }] : ours.graceDone(store)),
}

/** The draft of 2010 with a bootstrap: boot_time is renamed away, then new_boot_time is renamed to it. */
export const draftTwoRenames: Rules = {
  ...ours,
  name: 'the draft of 2010: two renames',
  graceDone: (store) => [{ ...store, boot: undefined }, ...ours.graceDone(store)],
}

interface Belief {
  readonly connected: boolean
  /** The client thinks that it holds the lock, since this instance. */
  readonly holdsSince: number | undefined
  readonly valid: boolean
  readonly tainted: boolean
}

interface State {
  /** `starting` and `ending`: between two steps of the store. */
  readonly server: 'down' | 'starting' | 'grace' | 'ending' | 'normal'
  readonly steps: readonly Store[]
  readonly instance: number
  readonly holder: Client | undefined
  readonly leases: readonly Client[]
  readonly A: Belief
  readonly B: Belief
  readonly store: Store
}

export interface Outcome {
  readonly states: number
  /** The shortest way to a fault, or none to be found. */
  readonly fault: { readonly what: 'illegal reclaim' | 'legal reclaim refused'; readonly way: readonly string[] } | undefined
}

const other = (client: Client): Client => (client === 'A' ? 'B' : 'A')
const nobody: Belief = { connected: true, holdsSince: undefined, valid: false, tainted: false }

/** Visits every state with at most so many crashes, breadth first. */
export function explore(rules: Rules, crashes: number): Outcome {
  const first: State = {
    server: 'down', steps: [], instance: 0, holder: undefined, leases: [], A: nobody, B: nobody,
    store: { boot: undefined, newBoot: undefined, records: [] },
  }
  const cameFrom = new Map<string, { readonly before: string | undefined; readonly action: string }>()
  let edge: { readonly state: State; readonly key: string }[] = [{ state: first, key: JSON.stringify(first) }]
  cameFrom.set(JSON.stringify(first), { before: undefined, action: '' })
  const wayTo = (key: string, last: string): string[] => {
    const way = [last]
    for (let at = cameFrom.get(key); at?.before !== undefined; at = cameFrom.get(at.before)) way.unshift(at.action)
    return way
  }
  while (edge.length > 0) {
    const next: typeof edge = []
    for (const { state, key } of edge)
      for (const { action, to } of successors(state, rules, crashes)) {
        if (typeof to === 'string') return { states: cameFrom.size, fault: { what: to, way: wayTo(key, action) } }
        const reached = JSON.stringify(to)
        if (cameFrom.has(reached)) continue
        cameFrom.set(reached, { before: key, action })
        next.push({ state: to, key: reached })
      }
    edge = next
  }
  return { states: cameFrom.size, fault: undefined }
}

interface Successor { readonly action: string; readonly to: State | 'illegal reclaim' | 'legal reclaim refused' }

function* successors(state: State, rules: Rules, crashes: number): Generator<Successor> {
  const { server, store, instance, holder, leases, steps } = state
  const belief = (client: Client, change: Partial<Belief>): Partial<State> => ({ [client]: { ...state[client], ...change } })

  if (server === 'down') yield { action: 'the server starts', to: { ...state, server: 'starting', instance: instance + 1, steps: rules.start(store, instance + 1) } }
  else if (instance <= crashes)
    yield { action: 'the server crashes', to: { ...state, server: 'down', steps: [], holder: undefined, leases: [] } }

  if (server === 'starting' || server === 'ending') {
    const [step, ...rest] = steps
    if (step !== undefined) yield { action: `${server}: one step`, to: { ...state, store: step, steps: rest } }
    else if (server === 'starting') yield { action: 'grace begins', to: { ...state, server: 'grace' } }
    else yield { action: 'grace is over', to: { ...state, server: 'normal' } }
  }
  if (server === 'grace') {
    // Whoever has not reclaimed by now has lost its lock, wherever it is.
    const late = (client: Client): Belief => (leases.includes(client) ? state[client] : { ...state[client], valid: false })
    yield { action: 'the grace time is up', to: { ...state, server: 'ending', steps: rules.graceDone(store), A: late('A'), B: late('B') } }
  }

  for (const client of clients) {
    const { connected, holdsSince, valid, tainted } = state[client]
    yield { action: `the network ${connected ? 'parts' : 'reaches'} ${client}`, to: { ...state, ...belief(client, { connected: !connected }) } }

    const isServing = server === 'grace' || server === 'normal'
    if (!connected && isServing && leases.includes(client))
      yield {
        action: `${client}'s lease expires`,
        to: {
          ...state, store: rules.remove(store, client), leases: leases.filter((each) => each !== client),
          holder: holder === client ? undefined : holder, ...belief(client, { valid: false }),
        },
      }
    if (!connected || !isServing) continue

    const lost: Belief = { connected, holdsSince: undefined, valid: false, tainted: false }
    if (holdsSince === undefined) {
      if (server === 'normal' && holder === undefined) {
        const loser = other(client)
        yield {
          action: `${client} locks`,
          to: {
            ...state, store: rules.create(store, client, instance), holder: client, leases: [...new Set([...leases, client])].sort(),
            ...belief(client, { holdsSince: instance, valid: true, tainted: false }),
            ...(state[loser].holdsSince === undefined ? {} : { [loser]: { ...state[loser], tainted: true } }),
          },
        }
        // Recorded, and then no lock: the server may crash in between.
        yield { action: `${client} is recorded`, to: { ...state, store: rules.create(store, client, instance), leases: [...new Set([...leases, client])].sort() } }
      }
    } else if (holdsSince === instance) {
      if (holder === client) yield { action: `${client} unlocks`, to: { ...state, holder: undefined, [client]: lost } }
      else yield { action: `${client} learns that its lease has expired`, to: { ...state, [client]: lost } }
    } else if (server === 'normal') yield { action: `${client} comes too late to reclaim`, to: { ...state, [client]: lost } }
    else if (rules.mayReclaim(store, client)) {
      if (tainted || (holder !== undefined && holder !== client)) yield { action: `${client} reclaims`, to: 'illegal reclaim' }
      else
        yield {
          action: `${client} reclaims`,
          to: {
            ...state, store: rules.create(store, client, instance), holder: client, leases: [...new Set([...leases, client])].sort(),
            ...belief(client, { holdsSince: instance }),
          },
        }
    } else if (valid) yield { action: `${client} is refused`, to: 'legal reclaim refused' }
    else yield { action: `${client} is refused`, to: { ...state, [client]: lost } }
  }
}
