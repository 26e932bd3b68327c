/**
 * Many records at once, with the same bytes as the program's own. The program makes only one in a process, which is too
 * slow for a million.
 */
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

/** A server that has restarted, with `count` clients recorded. None of them has reclaimed. */
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

/** Makes all recorded clients of a restarted server such that have reclaimed. */
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

/** Gives nfsdcltrack's records a time before the restart again. With ours, the directory tells that. */
export function age(name: Name, room: Room): void {
  if (name === 'nfsdcltrack') sql(room, `UPDATE clients SET time = ${before}`)
}

const sql = (room: Room, statement: string): void =>
  void run('sqlite3', [join(room.state('nfsdcltrack'), 'main.sqlite')], `${statement};`)

/** The directories of the instances, the oldest first. */
function instances(room: Room, name: Name): string[] {
  const clients = join(room.state(name), 'v4clients')
  ensureDirSync(clients)
  const starts = readdirSync(clients)
    .map(startFromName)
    .filter((start) => start !== undefined)
  return starts.sort((a, b) => a - b).map((start) => join(clients, String(start)))
}
