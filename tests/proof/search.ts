/**
 * A breadth-first search of a model: the shortest way to a fault, if there is one. States are values that JSON can
 * distinguish.
 */

export interface Successor<State, Fault extends string> {
  readonly action: string
  readonly to: State | Fault
}

export interface Found<Fault extends string> {
  readonly states: number
  /** The first fault that was found, and the actions that lead to it. */
  readonly fault: { readonly what: Fault; readonly way: readonly string[] } | undefined
}

export function search<State extends object, Fault extends string>(
  first: State,
  successors: (state: State) => Iterable<Successor<State, Fault>>,
): Found<Fault> {
  const cameFrom = new Map<string, { readonly before: string | undefined; readonly action: string }>()
  let edge = [{ state: first, key: JSON.stringify(first) }]
  cameFrom.set(JSON.stringify(first), { before: undefined, action: '' })
  while (edge.length > 0) {
    const next: typeof edge = []
    for (const { state, key } of edge)
      for (const { action, to } of successors(state)) {
        if (typeof to === 'string') {
          const way = [action]
          for (let at = cameFrom.get(key); at?.before !== undefined; at = cameFrom.get(at.before))
            way.unshift(at.action)
          return { states: cameFrom.size, fault: { what: to, way } }
        }
        const reached = JSON.stringify(to)
        if (cameFrom.has(reached)) continue
        cameFrom.set(reached, { before: key, action })
        next.push({ state: to, key: reached })
      }
    edge = next
  }
  return { states: cameFrom.size, fault: undefined }
}
