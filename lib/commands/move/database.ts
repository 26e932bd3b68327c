/**
 * Other trackers' databases. They are read without a lock and without a write, and only if nothing changes them
 * meanwhile.
 *
 * If a process died during a transaction, a journal beside the database has what it was changing, and SQLite undoes
 * that when it opens the two. The bytes of the database alone would be neither the old state nor the new one. So a
 * database with a journal that counts is refused, and the message says which program repairs it.
 */
import fs from 'node:fs'
import { storageFailure } from '../../failure.ts'
import { tolerating } from '../../syscalls/files.ts'
import { oneLine, quote } from '../../text.ts'
import type * as sqlite from './sqlite.ts'

export type { Row, Value } from './sqlite.ts'

/** The first bytes of every database (SQLite's "Database File Format", 1.3). */
export const databaseMagic = 'SQLite format 3\0'

/**
 * SQLite is a module of its own beside this one. It has no literal name here, because esbuild would then include it in
 * this module.
 */
function engine(): typeof sqlite {
  const beside = './sqlite.cjs'
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- both artefacts are CommonJS
  return require(beside) as typeof sqlite
}

/** Writes a new database into an empty file that is open for reading and writing. It is not durable yet. */
export function writeDatabase(descriptor: number, fill: (database: sqlite.Database) => void): void {
  const database = engine().makeDatabase(descriptor)
  fill(database)
  database.close()
}

/** Another program's database. */
export type Source = Pick<sqlite.Database, 'rows'>

/** This many rows are read before a check that they are all of the same state. */
const batch = 1000

/**
 * Reads another program's database through its open file. All rows that it yields are of the state in which the file
 * was opened.
 * @throws Failed storage, here or later, if a program writes to it
 */
export function readDatabase(path: string, descriptor: number): Source {
  const opened = identity(fs.fstatSync(descriptor, { bigint: true }))
  const assertUnchanged = (): void => {
    refuseJournals(path)
    if (identity(fs.statSync(path, { bigint: true })) !== opened)
      throw storageFailure(`${quote(path)} is being written to: stop its server first`)
  }
  assertUnchanged()
  const database = engine().openDatabase(descriptor)
  return {
    *rows(sql) {
      const read: sqlite.Row[] = []
      const all = database.rows(sql)
      try {
        for (;;) {
          const next = tryingTo(() => all.next(), assertUnchanged)
          if (next.done !== true && read.push(next.value) < batch) continue
          assertUnchanged()
          yield* read
          if (next.done === true) return
          read.length = 0
        }
      } finally {
        all.return(undefined)
      }
    },
  }
}

/** Runs `work`. If it fails, the error of `otherwise` comes first, because half of a change looks like damage. */
function tryingTo<T>(work: () => T, otherwise: () => void): T {
  try {
    return work()
  } catch (thrown) {
    otherwise()
    throw thrown
  }
}

function identity({ dev, ino, size, mtimeNs, ctimeNs }: fs.BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join()
}

function refuseJournals(path: string): void {
  // A journal whose first byte is zero has been completed ("Atomic Commit in SQLite", 9.1).
  const journal = firstByte(`${path}-journal`)
  const log = firstByte(`${path}-wal`)
  if ((journal ?? 0) === 0 && log === undefined) return
  const beside = log === undefined ? 'journal' : 'wal'
  const pragma = beside === 'wal' ? 'wal_checkpoint(TRUNCATE)' : 'integrity_check'
  throw storageFailure(
    oneLine`
      ${quote(path)} has an unfinished transaction beside it (-${beside}): stop its server; if nobody is writing, copy
      both files and let SQLite finish it in the copy: sqlite3 COPY 'PRAGMA ${pragma}'
    `,
  )
}

/** The file's first byte; undefined, if the file is missing or empty. */
function firstByte(path: string): number | undefined {
  const descriptor = tolerating(['ENOENT'], () => fs.openSync(path, 'r'), undefined)
  if (descriptor === undefined) return undefined
  try {
    const byte = Buffer.alloc(1)
    return fs.readSync(descriptor, byte) === 1 ? byte[0] : undefined
  } finally {
    fs.closeSync(descriptor)
  }
}
