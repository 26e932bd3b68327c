/**
 * nfsdcld's database (nfs-utils, utils/nfsdcld/sqlite.c) has a table of clients for each epoch, and the table `grace`
 * says which of them count. Outside of grace, the next start lets the current epoch's clients reclaim. In grace, only
 * the recovery epoch's clients count, because a start empties the table of the current epoch.
 *
 * The database does not say whether a client has sessions. With a client it has the SHA-256 of its Kerberos principal,
 * which the kernel compares.
 *
 * Clients that nfsdcld took over from the kernel's own tracker are entered as `hash:`, the MD5 and a NUL.
 */
import { storageFailure } from '../../failure.ts'
import { legacyName } from '../../upcall/legacy-name.ts'
import { writeDatabase, type Source, type Value } from './database.ts'
import { sieve, type Found, type Movable } from './movable.ts'
import type { Schema } from './schema.ts'

export const isNfsdcld = ({ tables }: Schema): boolean => tables.has('grace')

const known: readonly (number | undefined)[] = [2, 3, 4]

export function readNfsdcld(database: Source, { version, tables }: Schema, now: number): Found {
  if (!known.includes(version))
    throw storageFailure(`nfsdcld's schema ${version ?? 'of no version'} is not known here (2, 3 and 4 are)`)
  const epochs = [
    ...database.rows("SELECT printf('%016x', current) AS current, printf('%016x', recovery) AS recovery FROM grace"),
  ]
  const [row] = epochs
  if (row === undefined || epochs.length > 1)
    throw storageFailure(`nfsdcld's table 'grace' has ${epochs.length} rows instead of one`)
  const [current, recovery] = [String(row['current']), String(row['recovery'])]
  const inGrace = !/^0+$/.test(recovery)
  const table = tableOf(inGrace ? recovery : current, tables)

  let sieved = sieve(now)
  const princhash = tables.get(table)?.has('princhash') === true ? "ifnull(lower(hex(princhash)), '')" : "''"
  /** Each row as bytes, and as an MD5, if it is one. */
  function* rows(): Generator<{
    readonly bytes: Uint8Array | undefined
    readonly hash: string | undefined
    readonly principal: string
  }> {
    for (const row of database.rows(`SELECT CAST(id AS BLOB) AS id, ${princhash} AS principal FROM "${table}"`)) {
      const { id, principal } = row
      const bytes = id instanceof Uint8Array ? id : undefined
      const hash = /^hash:([^\0]*)\0?$/.exec(Buffer.from(bytes?.subarray(0, 64) ?? []).toString('latin1'))?.[1]
      yield {
        bytes,
        hash: hash !== undefined && legacyName.test(hash) ? hash : undefined,
        principal: String(principal),
      }
    }
  }
  return {
    kind: 'nfsdcld',
    *clients() {
      sieved = sieve(now)
      for (const { bytes, hash, principal } of rows()) {
        if (hash !== undefined) continue
        yield* sieved.client({ bytes, session: 'unknown', recorded: now, principal })
      }
    },
    *matchOnly() {
      for (const { hash } of rows()) if (hash !== undefined) yield hash
    },
    notes: () => [
      ...sieved.notes(),
      ...(inGrace
        ? ['its server was in grace: the clients that it still waited for are imported, as it would have done itself']
        : []),
    ],
  }
}

/**
 * The name of an epoch's table. One version of nfsdcld wrote the number without leading zeros, and a later one corrects
 * that.
 */
function tableOf(epoch: string, tables: Schema['tables']): string {
  const number = epoch.replace(/^0+(?=.)/, '')
  const named = [...tables.keys()].filter(
    (name) => /^rec- *([0-9a-f]+)$/.exec(name)?.[1]?.replace(/^0+(?=.)/, '') === number,
  )
  const [table] = named
  if (table === undefined || named.length > 1)
    throw storageFailure(`nfsdcld's database has ${named.length} tables for epoch ${number} instead of one`)
  return table
}

/**
 * Writes a database of schema 4 for the real nfsdcld, outside of grace. `first_time` is 0, because otherwise nfsdcld's
 * first start would replace these clients by what it finds of nfsdcltrack's.
 */
export function writeNfsdcld(descriptor: number, clients: Iterable<Movable>, matchOnly: Iterable<string>): void {
  writeDatabase(descriptor, ({ run, insert }) => {
    run('CREATE TABLE parameters (key TEXT PRIMARY KEY, value TEXT)')
    run('CREATE TABLE grace (current INTEGER, recovery INTEGER)')
    run('CREATE TABLE "rec-0000000000000001" (id BLOB PRIMARY KEY, princhash BLOB)')
    run(`INSERT INTO parameters VALUES ('version', '4'), ('first_time', '0')`)
    run('INSERT INTO grace VALUES (1, 0)')
    insert('INSERT INTO "rec-0000000000000001" VALUES (?, ?)', rows())
  })

  function* rows(): Generator<Value[]> {
    for (const { owner, principal } of clients)
      yield [owner, principal === undefined ? null : Buffer.from(principal, 'hex')]
    for (const hash of matchOnly) yield [Buffer.from(`hash:${hash}\0`), null]
  }
}
