/** What a database says of itself: its tables, and the version that nfs-utils writes into its table `parameters`. */
import { errorCode, Failed, storageFailure } from '../../failure.ts'
import { quote } from '../../text.ts'
import { readDatabase, type Row, type Source } from './database.ts'

export interface Schema {
  readonly version: number | undefined
  /** The columns of each table. */
  readonly tables: ReadonlyMap<string, ReadonlySet<string>>
}

/**
 * Opens another program's database, and checks that it is intact.
 * @throws Failed storage, if it is not, or if it is no database
 */
export function openWhole(path: string, descriptor: number): { readonly database: Source; readonly schema: Schema } {
  const database = readDatabase(path, descriptor)
  try {
    const said = first(database, 'PRAGMA quick_check(1)')?.['quick_check']
    if (said !== 'ok') throw new Error(String(said))
    return { database, schema: schemaOf(database) }
  } catch (thrown) {
    if (thrown instanceof Failed || errorCode(thrown) !== undefined) throw thrown
    throw storageFailure(
      `${quote(path)} is damaged: ${quote(thrown instanceof Error ? thrown.message : String(thrown))}`,
    )
  }
}

function schemaOf(database: Source): Schema {
  const tables = new Map<string, Set<string>>()
  for (const { table, column } of database.rows(
    `SELECT m.name AS "table", c.name AS "column"
     FROM sqlite_master AS m, pragma_table_info(m.name) AS c
     WHERE m.type = 'table'`,
  )) {
    const columns = tables.get(String(table)) ?? new Set()
    tables.set(String(table), columns.add(String(column)))
  }
  const version = tables.has('parameters')
    ? first(database, `SELECT value FROM parameters WHERE key = 'version'`)?.['value']
    : undefined
  return { version: version === undefined ? undefined : Number(version), tables }
}

function first(database: Source, sql: string): Row | undefined {
  for (const row of database.rows(sql)) return row
  return undefined
}
