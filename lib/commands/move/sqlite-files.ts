/**
 * Replaces `node:fs` for node-sqlite3-wasm (lib/build/bundles.ts): it can reach the files that are open, and nothing
 * else.
 *
 * node-sqlite3-wasm would open files by their names, and make a directory beside a database as a lock. Here the callers
 * have opened the databases, and check whether they change. So a name is the number of a descriptor, nothing is beside
 * it, and there is no lock. Any other name leads to an empty file.
 */
import fs from 'node:fs'
import code from 'node-sqlite3-wasm/dist/node-sqlite3-wasm.wasm'

export const nameOf = (descriptor: number): string => `/${descriptor}`

/**
 * The system's last error. SQLite only reports that a call failed, and the calls that it makes can't pass on the error.
 * So it is kept here, not in a database.
 */
let refusal: unknown

/** @returns the last error, once */
export function takeRefusal(): unknown {
  const taken = refusal
  refusal = undefined
  return taken
}

const noting =
  <Words extends unknown[], T>(call: (...words: Words) => T) =>
  (...words: Words): T => {
    try {
      return call(...words)
    } catch (thrown) {
      refusal = thrown
      throw thrown
    }
  }

export const { constants } = fs

/** The only file that node-sqlite3-wasm reads as a whole is its own code. */
export const readFileSync = (): Uint8Array => code

export const fstatSync = noting((descriptor: number) => fs.fstatSync(descriptor))

export const readSync = noting((descriptor: number, into: Uint8Array, from: number, length: number, position: bigint) =>
  fs.readSync(descriptor, into, from, length, position),
)

/** Writes everything: after a partial write, SQLite could not say why. */
export const writeSync = noting(
  (descriptor: number, bytes: Uint8Array, from: number, length: number, position: number): number => {
    for (let done = 0; done < length;)
      done += fs.writeSync(descriptor, bytes, from + done, length - done, position + done)
    return length
  },
)

export const ftruncateSync = noting((descriptor: number, size: number) => {
  fs.ftruncateSync(descriptor, size)
})

export const fsyncSync = noting((descriptor: number) => {
  fs.fsyncSync(descriptor)
})

/** For a database in WAL mode SQLite opens the log even if there is none: that is an empty file. */
export const openSync = (name: string): number =>
  /^\/[0-9]+$/.test(name) ? Number(name.slice(1)) : fs.openSync('/dev/null', 'r')

/** The caller, who has opened the file, closes it. */
export const closeSync = (): void => undefined

export const accessSync = (name: string): void => {
  throw new Error(`nothing beside a database: ${name}`)
}

export const mkdirSync = (): void => undefined
export const rmdirSync = (): void => undefined
