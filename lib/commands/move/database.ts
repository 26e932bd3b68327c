/**
 * Other trackers' databases: read whole, without a lock and without a write, and only if nothing is going on in them.
 *
 * What a transaction was about to change when its process died is in a journal beside the database, and SQLite takes it
 * back when it opens the two. Bytes that are read alone would be neither before nor after, so a database with a journal
 * that counts is refused, and the line says who mends it.
 */
import fs from 'node:fs'
import { Failed, quote } from '../../failure.ts'
import { tolerating } from '../../syscalls/files.ts'
import type * as sqlite from './sqlite.ts'

export type { Database, Value } from './sqlite.ts'

/** What every database begins with (SQLite's "Database File Format", 1.3). */
export const databaseMagic = 'SQLite format 3\0'

export function openDatabase(bytes?: Uint8Array): Promise<sqlite.Database> {
  // A module of its own, found beside this one: not by a literal name, or it would be melted into this.
  const beside = './sqlite.cjs'
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- both artefacts are CommonJS
  return (require(beside) as typeof sqlite).openDatabase(bytes)
}

/** A database file's bytes, of one moment. @throws Failed storage. */
export function readDatabase(path: string): Uint8Array {
  for (let attempt = 0; attempt < 3; attempt++) {
    refuseJournals(path)
    const before = identity(path)
    const bytes = fs.readFileSync(path)
    refuseJournals(path)
    if (identity(path) === before) return bytes
  }
  throw refused(`${quote(path)} is being written to: stop its server first`)
}

function identity(path: string): string {
  const { ino, size, mtimeNs, ctimeNs } = fs.statSync(path, { bigint: true })
  return [ino, size, mtimeNs, ctimeNs].join()
}

function refuseJournals(path: string): void {
  // A journal whose first byte is zero has been ended by its writer ("Atomic Commit in SQLite", 9.1).
  const journal = firstByte(`${path}-journal`)
  const log = firstByte(`${path}-wal`)
  if ((journal ?? 0) === 0 && log === undefined) return
  const beside = log === undefined ? 'journal' : 'wal'
  throw refused(
    `${quote(path)} has an unfinished transaction beside it (-${beside}): stop its server; if nobody is writing, copy both files and let ` +
      `SQLite finish it in the copy: sqlite3 COPY 'PRAGMA ${beside === 'wal' ? 'wal_checkpoint(TRUNCATE)' : 'integrity_check'}'`,
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

export const refused = (what: string): Failed => new Failed({ kind: 'storage', atStart: false, what })
