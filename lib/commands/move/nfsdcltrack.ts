/**
 * nfsdcltrack's database (nfs-utils, utils/nfsdcltrack/sqlite.c) has a row for each client in `clients`. Every row lets
 * its client reclaim at the next start. The end of grace deletes those whose time is before the start of that grace.
 */
import { storageFailure } from '../../failure.ts'
import { writeDatabase, type Source } from './database.ts'
import { sieve, type Found, type Movable } from './movable.ts'
import type { Schema } from './schema.ts'

export const isNfsdcltrack = ({ tables }: Schema): boolean => tables.has('clients') && !tables.has('grace')

/** Schema 1 has no sessions; schema 2 is nfsdcltrack's last. nfsdcld's own first schema was that of nfsdcltrack. */
export function readNfsdcltrack(database: Source, { version, tables }: Schema, now: number): Found {
  if (version !== 1 && version !== 2)
    throw storageFailure(`nfsdcltrack's schema ${version ?? 'of no version'} is not known here (1 and 2 are)`)
  let sieved = sieve(now)
  const session = tables.get('clients')?.has('has_session') === true ? 'has_session' : '0'
  return {
    kind: 'nfsdcltrack',
    *clients() {
      sieved = sieve(now)
      for (const row of database.rows(`SELECT CAST(id AS BLOB) AS id, time, ${session} AS session FROM clients`)) {
        const { id, time, session: has } = row
        yield* sieved.client({
          bytes: id instanceof Uint8Array ? id : undefined,
          session: has === 1 ? 'has session' : 'no session',
          recorded: time,
          principal: '',
        })
      }
    },
    matchOnly: () => [],
    notes: () => sieved.notes(),
  }
}

/**
 * Writes a database of schema 2 for the real nfsdcltrack. Its times are in the past, whatever the clock was when a
 * client was recorded: a row with a future time would outlive an end of grace in which its client did not reclaim.
 */
export function writeNfsdcltrack(descriptor: number, clients: Iterable<Movable>, now: number): void {
  writeDatabase(descriptor, ({ run, insert }) => {
    run('CREATE TABLE parameters (key TEXT PRIMARY KEY, value TEXT)')
    run('CREATE TABLE clients (id BLOB PRIMARY KEY, time INTEGER, has_session INTEGER)')
    run(`INSERT INTO parameters VALUES ('version', '2')`)
    insert('INSERT INTO clients VALUES (?, ?, ?)', rows())
  })

  function* rows(): Generator<(Uint8Array | number)[]> {
    for (const { owner, session, recorded } of clients)
      yield [owner, Math.min(recorded, now - 1), session === 'has session' ? 1 : 0]
  }
}
