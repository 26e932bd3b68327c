/**
 * SQLite on a file that the caller has opened. It does not open, make, lock or remove any file (sqlite-files.ts).
 *
 * node-sqlite3-wasm is SQLite itself, compiled to WebAssembly, which reads and writes files with Node's calls, so its
 * memory does not grow with a database. With its code it takes nearly two megabytes. So it is a module of its own
 * (bin/sqlite.ts), which only `import` and `export` load.
 */
import { Database as Engine } from 'node-sqlite3-wasm'
import { nameOf, takeRefusal } from './sqlite-files.ts'

export type Value = number | bigint | string | Uint8Array | null
/** By the names of the columns. A statement must name each column, and no two alike. */
export type Row = Readonly<Record<string, Value>>

export interface Database {
  /** @throws SQLite's error, or the system's. */
  readonly rows: (sql: string) => Generator<Row>
  readonly run: (sql: string) => void
  /** Runs one statement for each row, in one transaction. */
  readonly insert: (sql: string, rows: Iterable<Value[]>) => void
  /** When it returns, everything is written, but not yet durable. The file stays open. */
  readonly close: () => void
}

/** The database in an open file. Each read and each change goes to the file at once. */
export function openDatabase(descriptor: number): Database {
  const database = databaseOn(new Engine(nameOf(descriptor), { readOnly: true }))
  // Without this, a database in WAL mode needs memory that is shared with other readers.
  database.run('PRAGMA locking_mode = EXCLUSIVE')
  return database
}

/**
 * Makes a new database in an empty file that is open for reading and writing. After any failure the file is worthless.
 */
export function makeDatabase(descriptor: number): Database {
  const database = databaseOn(new Engine(nameOf(descriptor), { fileMustExist: true }))
  // Nothing is rolled back, and the caller makes it durable. Rows come in no order, and a small cache would write each
  // page many times.
  database.run('PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32768')
  return database
}

const databaseOn = (engine: Engine): Database => ({
  *rows(sql) {
    const statement = asking(() => engine.prepare(sql))
    try {
      const rows = statement.iterate()
      for (;;) {
        const row = asking(() => rows.next())
        if (row.done === true) return
        yield row.value as Row
      }
    } finally {
      statement.finalize()
    }
  },
  run: (sql) => {
    asking(() => {
      engine.exec(sql)
    })
  },
  insert: (sql, rows) => {
    asking(() => {
      engine.exec('BEGIN')
    })
    const statement = asking(() => engine.prepare(sql))
    for (const row of rows) asking(() => statement.run(row))
    asking(() => {
      statement.finalize()
      engine.exec('COMMIT')
    })
  },
  close: () => {
    asking(() => {
      engine.close()
    })
  },
})

/** @throws the system's error, if SQLite reports only that a call failed */
function asking<T>(work: () => T): T {
  takeRefusal()
  try {
    return work()
  } catch (thrown) {
    throw takeRefusal() ?? thrown
  }
}
