/**
 * SQLite, in memory: a database comes as bytes and goes as bytes, so nobody's file is ever written to or locked.
 *
 * sql.js is SQLite itself, compiled to WebAssembly; the build takes the variant with that inside its script, which needs nothing beside
 * it, in Node as in the executable. It is a megabyte, so it is a module of its own (bin/sqlite.ts), which only `import` and
 * `export` load.
 */
import initialize, { type Database as Engine, type SqlValue } from 'sql.js'

export type Value = SqlValue

export interface Database {
  readonly rows: (sql: string) => Generator<readonly Value[]>
  readonly run: (sql: string) => void
  /** One statement for every row, in one transaction. */
  readonly insert: (sql: string, rows: Iterable<Value[]>) => void
  readonly bytes: () => Uint8Array
}

/** A new database, or the one that these bytes are. @throws SQLite's error. */
export async function openDatabase(bytes?: Uint8Array): Promise<Database> {
  const { Database } = await initialize()
  const engine: Engine = new Database(bytes)
  return {
    *rows(sql) {
      const statement = engine.prepare(sql)
      try {
        while (statement.step()) yield statement.get()
      } finally {
        statement.free()
      }
    },
    run: (sql) => void engine.run(sql),
    insert: (sql, rows) => {
      engine.run('BEGIN')
      const statement = engine.prepare(sql)
      for (const row of rows) statement.run(row)
      statement.free()
      engine.run('COMMIT')
    },
    bytes: () => engine.export(),
  }
}
