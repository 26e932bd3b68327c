/**
 * SQLite on a file that its caller has opened: none is opened, made, locked or removed here (sqlite-files.ts).
 *
 * node-sqlite3-wasm is SQLite itself, compiled to WebAssembly, with files by Node's calls: what it needs of memory does
 * not grow with a database. With its code in it, it is nearly two megabytes, so it is a module of its own
 * (bin/sqlite.ts), which only `import` and `export` load.
 */
import { Database as Engine } from 'node-sqlite3-wasm'
import { nameOf, takeRefusal } from './sqlite-files.ts'

export type Value = number | bigint | string | Uint8Array | null
/** By the names of the columns: a statement names each, and no two alike. */
export type Row = Readonly<Record<string, Value>>

export interface Database {
  /** @throws SQLite's error, or the system's. */
  readonly rows: (sql: string) => Generator<Row>
  readonly run: (sql: string) => void
  /** One statement for every row, in one transaction. */
  readonly insert: (sql: string, rows: Iterable<Value[]>) => void
  /** Afterwards all is written, and not yet on the disk. The file stays open. */
  readonly close: () => void
}

/** The database that an open file is. Each of its changes is read from the file, or written to it, when it comes. */
export function openDatabase(descriptor: number): Database {
  const database = databaseOn(new Engine(nameOf(descriptor), { readOnly: true }))
  // Otherwise a database in WAL mode needs memory that it shares with other readers.
  database.run('PRAGMA locking_mode = EXCLUSIVE')
  return database
}

/**
 * A new database in an empty file that is open to be read and written. Whatever fails, the file is then worth nothing.
 */
export function makeDatabase(descriptor: number): Database {
  const database = databaseOn(new Engine(nameOf(descriptor), { fileMustExist: true }))
  // Nothing is taken back, and who called makes it durable. Rows come in no order, and a small cache would write each
  // page often.
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

/** @throws what the system refused, where SQLite says only that it refused something. */
function asking<T>(work: () => T): T {
  takeRefusal()
  try {
    return work()
  } catch (thrown) {
    throw takeRefusal() ?? thrown
  }
}
