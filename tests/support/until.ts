/** Waits until a condition holds, by testing it again and again, however busy the machine is. */
import { setTimeout as pause } from 'node:timers/promises'

/** Longer than anything that is waited for here takes on a machine that also does other work. */
const patienceMs = 120_000

/** What others remove while it is looked at: a file, a process, a process's descriptor. */
const vanished: readonly unknown[] = ['ENOENT', 'ESRCH']

/**
 * @param look what is seen; nothing, or false, as long as the condition does not hold. What vanishes under its eyes is
 *   not seen yet.
 * @param also what else to say if it never holds.
 * @throws if it never holds, with what was waited for.
 */
export async function until<T>(
  what: string,
  look: () => T | undefined | false | '',
  also: () => string = () => '',
): Promise<T> {
  let lacking = ''
  const seenNow = (): T | undefined | false | '' => {
    try {
      lacking = ''
      return look()
    } catch (thrown) {
      if (!(thrown instanceof Error && 'code' in thrown && vanished.includes(thrown.code))) throw thrown
      lacking = ` (${thrown.message})`
      return undefined
    }
  }
  for (const giveUpAt = performance.now() + patienceMs; ;) {
    const seen = seenNow()
    if (seen !== undefined && seen !== false && seen !== '') return seen
    if (performance.now() > giveUpAt) throw new Error(`it never came to that: ${what}${lacking} ${also()}`.trimEnd())
    await pause(10)
  }
}
