/**
 * Other trackers' databases: read without a lock and without a write, and only if nothing is going on in them.
 *
 * What a transaction was about to change when its process died is in a journal beside the database, and SQLite takes it
 * back when it opens the two. Bytes that are read alone would be neither before nor after, so a database with a journal
 * that counts is refused, and the line says who mends it.
 */
import fs from 'node:fs'
import { storageFailure } from '../../failure.ts'
import { tolerating } from '../../syscalls/files.ts'
import { oneLine, quote } from '../../text.ts'
import type * as sqlite from './sqlite.ts'

export type { Row, Value } from './sqlite.ts'

/** What every database begins with (SQLite's "Database File Format", 1.3). */
export const databaseMagic = 'SQLite format 3\0'

/** A module of its own, found beside this one: not by a literal name, or it would be melted into this. */
function engine(): typeof sqlite {
  const beside = './sqlite.cjs'
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- both artefacts are CommonJS
  return require(beside) as typeof sqlite
}

/** Writes a new database into an empty file that is open to be read and written. It is not yet on the disk. */
export function writeDatabase(descriptor: number, fill: (database: sqlite.Database) => void): void {
  const database = engine().makeDatabase(descriptor)
  fill(database)
  database.close()
}

/** Somebody's database. */
export type Source = Pick<sqlite.Database, 'rows'>

/** So many rows are read before it is made sure that they are of one moment. */
const batch = 1000

/**
 * Somebody's database, by its open file. Whatever it gives, it has been this since it was opened.
 * @throws Failed storage, here or later, where somebody is writing to it.
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

/** @throws what `otherwise` throws, before what `work` does: half of a change looks like damage. */
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
  // A journal whose first byte is zero has been ended by its writer ("Atomic Commit in SQLite", 9.1).
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

/** Undefined if there is no such file, or nothing in it. */
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
