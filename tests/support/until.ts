/** Waiting for something to be so: looked at again and again, on a machine however busy. */
import { setTimeout as pause } from 'node:timers/promises'

/** Longer than a machine with a queue of others needs for anything that is waited for here. */
const patienceMs = 120_000

/**
 * @param look what is seen; nothing, or false, as long as it is not so.
 * @throws if it never comes to that, saying what was waited for.
 */
export async function until<T>(what: string, look: () => T | undefined | false | ''): Promise<T> {
  for (const giveUpAt = performance.now() + patienceMs; ;) {
    const seen = look()
    if (seen !== undefined && seen !== false && seen !== '') return seen
    if (performance.now() > giveUpAt) throw new Error(`it never came to that: ${what}`)
    await pause(10)
  }
}
