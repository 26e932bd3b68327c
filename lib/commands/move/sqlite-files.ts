/**
 * What node-sqlite3-wasm has in the place of `node:fs` (lib/build/bundles.ts): the files that are open, and nothing
 * else.
 *
 * By itself it opens files by their names, and a lock is a directory that it makes beside a database. Here its
 * databases are files that others have opened and watch over, so a name is the number of a descriptor, there is nothing
 * beside it, and no lock: whoever asks for another name gets an empty file.
 */
import fs from 'node:fs'
import code from 'node-sqlite3-wasm/dist/node-sqlite3-wasm.wasm'

export const nameOf = (descriptor: number): string => `/${descriptor}`

/**
 * What the system refused last. SQLite only tells that something was refused, and calls that are made out of it can't
 * hand on what; so this stands here, and not in a database.
 */
let refusal: unknown

/** @returns it once. */
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

/** The only file that it reads whole is its own code. */
export const readFileSync = (): Uint8Array => code

export const fstatSync = noting((descriptor: number) => fs.fstatSync(descriptor))

export const readSync = noting((descriptor: number, into: Uint8Array, from: number, length: number, position: bigint) =>
  fs.readSync(descriptor, into, from, length, position),
)

/** All of it: of less, SQLite could not tell why. */
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

/** A database in WAL mode has its log opened, though none is there: that is an empty file. */
export const openSync = (name: string): number =>
  /^\/[0-9]+$/.test(name) ? Number(name.slice(1)) : fs.openSync('/dev/null', 'r')

/** Who has opened it closes it. */
export const closeSync = (): void => undefined

export const accessSync = (name: string): void => {
  throw new Error(`nothing beside a database: ${name}`)
}

export const mkdirSync = (): void => undefined
export const rmdirSync = (): void => undefined
