/** What the executable's host in C (lib/syscalls/host/) hands in. */
import type { Calls } from './calls.ts'

export interface Host {
  readonly calls: Calls
  /** The command line after the program's name. */
  readonly words: readonly string[]
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Reads a piece of the program: a module, of which the build knows the names (lib/build/bundles.ts). @returns what it exports. */
  readonly read: (name: string) => object
  /** The version of the engine. */
  readonly engine: string
  /** Another program goes on in this one's place with a script, and this one's words. @param name its argv[0]. @returns only where it fails, the negated errno. */
  readonly handOn: (program: string, script: string, name: string) => number
}

export const { host } = globalThis as unknown as { readonly host: Host }
