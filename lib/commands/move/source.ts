/**
 * Finds out from its content what SOURCE is, and which clients may reclaim according to it. It never changes anything
 * in it.
 */
import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import { join } from 'node:path'
import { Failed, storageFailure } from '../../failure.ts'
import { legacyTopIn } from '../../store/v4recovery.ts'
import type { Calls } from '../../syscalls/calls.ts'
import { anywhere } from '../../syscalls/files.ts'
import { counted, oneLine, quote } from '../../text.ts'
import { legacyName } from '../../upcall/legacy-name.ts'
import { reclaimableAtNextStart } from '../shared/next-start.ts'
import { databaseMagic } from './database.ts'
import { readExport } from './json.ts'
import { hashesIn } from './legacy-top.ts'
import type { Found } from './movable.ts'
import { isNfsdcld, readNfsdcld } from './nfsdcld.ts'
import { isNfsdcltrack, readNfsdcltrack } from './nfsdcltrack.ts'
import { openWhole } from './schema.ts'

/** What `-` stands for on the command line. */
export const standardInput = '/dev/stdin'

/** @param source a path, or `-` for standard input @param now in seconds of the wall clock */
export function readSource(calls: Calls, source: string, now: number): Found {
  if (source === '-') return readExport(chunksOf(spooled()), 'standard input', now)
  if (!fs.existsSync(source)) throw new Failed({ kind: 'bad-argument', why: 'this does not exist', word: source })
  return fs.statSync(source).isDirectory() ? readDirectory(calls, source, now) : readFile(source, now)
}

function readFile(path: string, now: number): Found {
  const kind = fs.statSync(path)
  if (!kind.isFile()) throw unknownKind(path)
  if (kind.size === 0) throw storageFailure(`${quote(path)} is empty`)
  const descriptor = fs.openSync(path, 'r')
  if (startOf(descriptor) !== databaseMagic) return readExport(chunksOf(descriptor), path, now)
  const { database, schema } = openWhole(path, descriptor)
  if (isNfsdcld(schema)) return readNfsdcld(database, schema, now)
  if (isNfsdcltrack(schema)) return readNfsdcltrack(database, schema, now)
  throw unknownKind(path)
}

/** Standard input can be read only once, but is needed several times. So it is copied to a file without a name. */
function spooled(): number {
  const path = join('/var/tmp', `.nfsd-userland-helper-${randomUUID()}`)
  const descriptor = fs.openSync(path, 'wx+', 0o600)
  fs.unlinkSync(path)
  const buffer = Buffer.alloc(1 << 16)
  for (let length = fs.readSync(0, buffer); length > 0; length = fs.readSync(0, buffer))
    for (let written = 0; written < length;) written += fs.writeSync(descriptor, buffer, written, length - written)
  return descriptor
}

/** A file's bytes from its beginning; each character is a byte. */
const chunksOf = (descriptor: number) =>
  function* (): Generator<string> {
    const buffer = Buffer.alloc(1 << 16)
    for (let position = 0; ;) {
      const length = fs.readSync(descriptor, buffer, 0, buffer.length, position)
      if (length === 0) return
      position += length
      yield buffer.toString('latin1', 0, length)
    }
  }

function startOf(descriptor: number): string {
  const buffer = Buffer.alloc(databaseMagic.length)
  return buffer.toString('latin1', 0, fs.readSync(descriptor, buffer, 0, buffer.length, 0))
}

function readDirectory(calls: Calls, path: string, now: number): Found {
  const has = (name: string): boolean => fs.existsSync(join(path, name))
  if (has('v4clients') || has('boot_time')) return readStateDirectory(calls, path)
  if (has('main.sqlite')) return readFile(join(path, 'main.sqlite'), now)
  const matchOnly = hashesIn(bytesOfPath(path), anywhere(calls))
  let others = 0
  const top = fs.opendirSync(path, { encoding: 'latin1' })
  for (let entry = top.readSync(); entry !== null; entry = top.readSync())
    if (!(legacyName.test(entry.name) && entry.isDirectory())) others++
  top.closeSync()
  if (matchOnly().next().done === true) throw unknownKind(path)
  return {
    kind: 'v4recovery',
    clients: () => [],
    matchOnly,
    notes: () =>
      others === 0 ? [] : [`${counted(others, 'entry that is', 'entries that are')} no client's directory left out`],
  }
}

/** The state directory of another machine, or a copy. The newest entry of an owner decides, as it does there. */
function readStateDirectory(calls: Calls, path: string): Found {
  // The marks of this machine's starts do not concern that directory.
  const {
    surveyed: { instance },
    clients,
    damaged,
  } = reclaimableAtNextStart({ calls, stateDirectory: bytesOfPath(path), runDirectory: '/nowhere' })
  if (instance.kind === 'damaged')
    throw storageFailure(
      `${quote(path)}: ${instance.file} can't be understood (${instance.why}), so it lets no client reclaim`,
    )
  const top = legacyTopIn(bytesOfPath(path))
  let legacy = 0
  for (const name of hashesIn(top, anywhere(calls))()) if (name !== '') legacy++
  return {
    kind: 'state directory',
    *clients() {
      for (const { owner, session, recorded, principal } of clients) yield { owner, session, recorded, principal }
    },
    matchOnly: () => [],
    notes: () => [
      ...(damaged() > 0
        ? [
            oneLine`
              ${counted(damaged(), 'entry', 'entries')} that can't be understood, left out: they let no client reclaim
              there
            `,
          ]
        : []),
      ...(instance.kind === 'none' ? ['no server instance is recorded there, so it lets no client reclaim'] : []),
      ...(legacy > 0
        ? [
            oneLine`
              ${counted(legacy, 'client')} of the kernel's own tracker are in ${quote(top)}: import that by itself, if
              they count
            `,
          ]
        : []),
    ],
  }
}

/** The path that was typed, with each byte as a character. */
const bytesOfPath = (path: string): string => Buffer.from(path).toString('latin1')

const unknownKind = (path: string): Failed =>
  storageFailure(
    oneLine`
      ${quote(path)} can't be imported: it is no database of nfsdcltrack or nfsdcld, no v4recovery or state directory,
      no export
    `,
  )
