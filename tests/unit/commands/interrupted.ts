import type { Calls } from '../../../lib/syscalls/calls.ts'

/** The same calls, with something else that happens before call number `nth`. */
export function interrupted(
  calls: Calls,
  nth: number,
  happens: () => void,
): { readonly calls: Calls; readonly made: () => number } {
  let made = 0
  const get = (target: Calls, name: keyof Calls): unknown => {
    const call: unknown = target[name]
    return typeof call !== 'function'
      ? call
      : (...words: readonly unknown[]): unknown => {
          if (made++ === nth) happens()
          return Reflect.apply(call, target, words)
        }
  }
  return { calls: new Proxy(calls, { get: (target, name) => get(target, name as keyof Calls) }), made: () => made }
}
