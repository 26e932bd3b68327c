/** Waits until a condition holds, by testing it again and again, however busy the machine is. */
import { setTimeout as pause } from 'node:timers/promises'

/** Longer than anything that is waited for here takes on a machine that also does other work. */
const patienceMs = 120_000

/**
 * @param look what is seen; nothing, or false, as long as the condition does not hold.
 * @throws if it never holds, with what was waited for.
 */
export async function until<T>(what: string, look: () => T | undefined | false | ''): Promise<T> {
  for (const giveUpAt = performance.now() + patienceMs; ;) {
    const seen = look()
    if (seen !== undefined && seen !== false && seen !== '') return seen
    if (performance.now() > giveUpAt) throw new Error(`it never came to that: ${what}`)
    await pause(10)
  }
}
