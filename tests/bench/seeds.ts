/** Records in bulk: the program makes one in a process, which is too slow for a million. Same bytes as its own. */
import { readdirSync, renameSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { ensureDirSync } from 'fs-extra/esm'
import { startFromName } from '../../lib/rules/instance.ts'
import { recordLine, recordName } from '../../lib/rules/record.ts'
import type { ClientOwner } from '../../lib/upcall/owner.ts'
import type { Progress } from './progress.ts'
import { graceStart, numbered, now, ownerPrefix, steady, upcalls, type Name, type Room } from './subjects.ts'
import { run } from './tools.ts'

const before = graceStart - 1000
const after = graceStart + 1

/** A server that has restarted with `count` clients recorded, none of which has reclaimed. */
export function restarted(name: Name, room: Room, count: number, progress: Progress): void {
  steady(name, room)
  fill(name, room, count, progress)
  now(name, room, upcalls.init)
}

/** Adds `count` records to an empty state. */
export function fill(name: Name, room: Room, count: number, progress: Progress): void {
  if (name === 'nfsdcltrack') {
    progress.say(`${count} records for ${name}`)
    sql(
      room,
      `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ${count - 1})
      INSERT INTO clients SELECT CAST(printf('${ownerPrefix}%07d', i) AS BLOB), ${before}, 1 FROM n`,
    )
    return
  }
  const directory = instances(room, name).at(-1) ?? ''
  for (let number = 0; number < count; number++) {
    if (number % 20_000 === 0) progress.say(`${count} records for the ${name}: ${number}`)
    const owner = Buffer.from(numbered(number)) as Uint8Array as ClientOwner
    symlinkSync(recordLine(owner, { session: 'has session', recorded: before }), join(directory, recordName(owner)))
  }
}

/**
 * Puts a restarted server where all recorded clients have reclaimed: an exchange of two directories, or one statement.
 */
export function reclaimAll(name: Name, room: Room): void {
  if (name === 'nfsdcltrack') {
    sql(room, `UPDATE clients SET time = ${after}`)
    return
  }
  const [current = '', last = ''] = instances(room, name).reverse()
  const aside = `${last}.aside`
  renameSync(last, aside)
  renameSync(current, last)
  renameSync(aside, current)
}

/** The peer's records are again of the time before the restart: what is a matter of directories with us. */
export function age(name: Name, room: Room): void {
  if (name === 'nfsdcltrack') sql(room, `UPDATE clients SET time = ${before}`)
}

const sql = (room: Room, statement: string): void =>
  void run('sqlite3', [join(room.state('nfsdcltrack'), 'main.sqlite')], `${statement};`)

/** Instances' directories, the oldest first. */
function instances(room: Room, name: Name): string[] {
  const clients = join(room.state(name), 'v4clients')
  ensureDirSync(clients)
  const starts = readdirSync(clients)
    .map(startFromName)
    .filter((start) => start !== undefined)
  return starts.sort((a, b) => a - b).map((start) => join(clients, String(start)))
}
