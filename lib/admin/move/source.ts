/** What SOURCE is, told by its content, and who may reclaim according to it. Nothing in it is ever changed. */
import { join } from 'node:path'
import { Failed, quote } from '../../failure.ts'
import fs from 'node:fs'
import * as disk from '../../stable/disk.ts'
import { legacyTopIn } from '../../stable/legacy.ts'
import { reclaimableAtNextStart } from '../next-start.ts'
import { survey } from '../survey.ts'
import { databaseMagic, readDatabase, refused } from './database.ts'
import { readExport } from './json.ts'
import { legacyName, type Found } from './movable.ts'
import { isNfsdcld, readNfsdcld } from './nfsdcld.ts'
import { isNfsdcltrack, readNfsdcltrack } from './nfsdcltrack.ts'
import { openWhole } from './schema.ts'

/** @param source a path, or `-` for standard input. @param now seconds of the wall clock. */
export async function readSource(source: string, now: number): Promise<Found> {
  if (source === '-') return readExport(fs.readFileSync(0, 'utf8'), 'standard input', now)
  switch (disk.kindAt(source)) {
    case 'absent':
      throw new Failed({ kind: 'bad-argument', why: 'there is nothing to import', word: source })
    case 'directory':
      return readDirectory(source, now)
    case 'other':
      return readFile(source, now)
  }
}

async function readFile(path: string, now: number): Promise<Found> {
  if (!fs.statSync(path).isFile()) throw unknownKind(path)
  if (startOf(path) !== databaseMagic) return readExport(fs.readFileSync(path, 'utf8'), path, now)
  const { database, schema } = await openWhole(readDatabase(path), path)
  if (isNfsdcld(schema)) return readNfsdcld(database, schema, now)
  if (isNfsdcltrack(schema)) return readNfsdcltrack(database, schema, now)
  throw unknownKind(path)
}

function startOf(path: string): string {
  const descriptor = fs.openSync(path, 'r')
  try {
    const buffer = Buffer.alloc(databaseMagic.length)
    return buffer.toString('latin1', 0, fs.readSync(descriptor, buffer))
  } finally {
    fs.closeSync(descriptor)
  }
}

async function readDirectory(path: string, now: number): Promise<Found> {
  const names = fs.readdirSync(path)
  if (names.includes('v4clients') || names.includes('boot_time')) return readStateDirectory(path)
  if (names.includes('main.sqlite')) return readFile(join(path, 'main.sqlite'), now)
  const matchOnly = names.filter((name) => legacyName.test(name) && typeof disk.directoryAt(join(path, name)) === 'object')
  if (matchOnly.length === 0) throw unknownKind(path)
  const others = names.length - matchOnly.length
  return { kind: 'v4recovery', clients: [], matchOnly, notes: others === 0 ? [] : [`${others} entries that are no client's directory left out`] }
}

/** Of another machine, or a copy. The newest entry of an owner decides, as it does there. */
function readStateDirectory(path: string): Found {
  const read = survey(path)
  const { instance, oddities } = read
  if (instance.kind === 'damaged') throw refused(`${quote(path)}: ${instance.file} can't be understood (${instance.why}), so nobody may reclaim by it`)
  const notes: string[] = []
  const damaged = oddities.filter(({ kind }) => kind === 'damaged').length
  if (damaged > 0) notes.push(`${damaged} entries that can't be understood allow nothing there, and are left out`)
  if (instance.kind === 'none') notes.push('no server instance is recorded there, so nobody may reclaim by it')
  const top = legacyTopIn(path)
  const legacy = disk.namesIn(top).filter((name) => legacyName.test(name)).length
  if (legacy > 0) notes.push(`${legacy} clients of the kernel's own tracker are in ${quote(top)}: import that by itself, if they count`)
  return {
    kind: 'state directory',
    clients: reclaimableAtNextStart(read).map(({ owner, session, recorded }) => ({ owner, session: session === true, recorded })),
    matchOnly: [],
    notes,
  }
}

const unknownKind = (path: string): Failed =>
  refused(`${quote(path)} is nothing that can be imported: no database of nfsdcltrack or nfsdcld, no v4recovery or state directory, no export`)
