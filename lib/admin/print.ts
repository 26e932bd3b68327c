/** Results, on stdout. A reader that has seen enough (`| head`) is no failure. */
import { errorCode } from '../failure.ts'

export function print(text: string): void {
  if (process.stdout.listenerCount('error') === 0)
    process.stdout.on('error', (error) => {
      if (errorCode(error) !== 'EPIPE') throw error
    })
  process.stdout.write(text)
}

/** One document, one line (docs/json.md). */
export const printJson = (document: unknown): void => { print(`${JSON.stringify(document)}\n`) }
