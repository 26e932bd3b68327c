/** What a database says of itself: its tables, and the version that nfs-utils writes into `parameters`. */
import { errorCode, Failed, quote } from '../../failure.ts'
import { openDatabase, refused, type Database } from './database.ts'

export interface Schema {
  readonly version: number | undefined
  /** Columns of each table. */
  readonly tables: ReadonlyMap<string, ReadonlySet<string>>
}

/** Opens somebody's database, and looks whether it is whole. @throws Failed storage, if it is not, or no database at all. */
export async function openWhole(
  bytes: Uint8Array,
  path: string,
): Promise<{ readonly database: Database; readonly schema: Schema }> {
  try {
    const database = await openDatabase(bytes)
    const [said] = first(database, 'PRAGMA quick_check(1)')
    if (said !== 'ok') throw new Error(String(said))
    return { database, schema: schemaOf(database) }
  } catch (thrown) {
    if (thrown instanceof Failed || errorCode(thrown) !== undefined) throw thrown
    throw refused(`${quote(path)} is damaged: ${quote(thrown instanceof Error ? thrown.message : String(thrown))}`)
  }
}

function schemaOf(database: Database): Schema {
  const tables = new Map<string, Set<string>>()
  for (const [table, column] of database.rows(
    `SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table'`,
  )) {
    const columns = tables.get(String(table)) ?? new Set()
    tables.set(String(table), columns.add(String(column)))
  }
  const [version] = tables.has('parameters')
    ? first(database, `SELECT value FROM parameters WHERE key = 'version'`)
    : []
  return { version: version === undefined ? undefined : Number(version), tables }
}

function first(database: Database, sql: string): readonly unknown[] {
  for (const row of database.rows(sql)) return row
  return []
}
