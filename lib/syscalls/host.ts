/** What the executable's host in C (lib/syscalls/host/) hands in. */
import type { Calls } from './calls.ts'

export interface Host {
  readonly calls: Calls
  /** The command line after the program's name. */
  readonly words: readonly string[]
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Runs a piece of the program, by its number (lib/build/pieces.ts). @returns the value of its last statement. */
  readonly read: (number: number) => unknown
  /** The version of the engine. */
  readonly engine: string
  /**
   * Another program goes on in this one's place with a script, and this one's words.
   * @param name its argv[0].
   * @returns only where it fails, the negated errno.
   */
  readonly handOn: (program: string, script: string, name: string) => number
}

export const { host } = globalThis as unknown as { readonly host: Host }
