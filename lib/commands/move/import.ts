/** `import` lets clients that another tracker, or another machine, has recorded reclaim here at the next start. */
import { resolve } from 'node:path'
import { completeCutShort } from '../../events/cut-short.ts'
import { Failed, storageFailure } from '../../failure.ts'
import { lookAt, makeStateDirectory, syncStateDirectory } from '../../store/state-directory.ts'
import * as files from '../../syscalls/files.ts'
import type { Directory } from '../../syscalls/files.ts'
import { counted, oneLine, quote } from '../../text.ts'
import { assertRoot, command, jsonOption } from '../shared/command.ts'
import { consent, withConsent, type Answered } from '../shared/consent.ts'
import type { Context } from '../shared/context.ts'
import { print, printJson, say, textOfPath } from '../shared/print.ts'
import { progress } from '../shared/progress.ts'
import { worldOf } from '../shared/world.ts'
import type { Found, Movable } from './movable.ts'
import {
  confirmPlaced,
  legacyDestination,
  placeAll,
  placeMatchOnly,
  destinationAt,
  type Destination,
} from './placement.ts'
import { readSource, standardInput } from './source.ts'

/** The result for `--json`, in a form that stays (docs/json.md). */
export interface Imported {
  readonly source: { readonly kind: Found['kind']; readonly path: string }
  readonly state_directory: string
  readonly dry_run: boolean
  /** How many clients the source lets reclaim. */
  readonly clients: number
  /** How many of them may reclaim here only because of this import (with a dry run: would). */
  readonly imported: number
  /** How many of them could before. */
  readonly already_there: number
  /** The same for clients of which only the MD5 of the owner is known. */
  readonly match_only: { readonly clients: number; readonly imported: number }
  readonly notes: readonly string[]
}

export const importCommand = command(
  'import <SOURCE>',
  'let clients that another tracker has recorded reclaim at the next start',
  (cli) =>
    withConsent(
      cli.positional('SOURCE', {
        type: 'string',
        demandOption: true,
        describe: 'a file or directory, recognized by its content; - for an export on standard input',
      }),
    )
      .option('json', jsonOption)
      .example('$0 import /var/lib/nfs/nfsdcltrack', "nfsdcltrack's database (schema 1 and 2)")
      .example('$0 import /var/lib/nfs/nfsdcld', "nfsdcld's database")
      .example('$0 import /mnt/v4recovery', "directories of the kernel's own tracker")
      .example('$0 import --yes /srv/failed-node/nfs', 'the state directory of another machine')
      .example('ssh old nfsd-userland-helper export | $0 import --yes -', 'its export'),
  async ({ SOURCE: given, 'dry-run': dryRun, yes, json }, settings) => {
    assertRoot('import')
    const result = await importFrom(given, { dryRun, yes }, settings)
    if (json) printJson(result)
    else print(describe(result))
    return 0
  },
)

/**
 * @param how `yes`: nobody is asked. @throws Failed: then nothing has changed, except that some clients may be placed
 */
export async function importFrom(
  given: string,
  { dryRun, yes }: Answered & { readonly dryRun: boolean },
  settings: Context,
): Promise<Imported> {
  process.umask(0o077)
  const { calls, stateDirectory, nfsdDirectory } = settings
  const anywhere = files.anywhere(calls)
  const source = given === standardInput ? '-' : resolve(given)
  const asBytes = Buffer.from(source).toString('latin1')
  if (asBytes === stateDirectory)
    throw new Failed({ kind: 'bad-argument', why: 'this is the state directory itself', word: given })
  const now = Date.now()
  const found = readSource(calls, source, Math.floor(now / 1000))
  const destination = destinationAt(settings)
  // The source is read to its end before anything is changed. If something in it can't be understood, all of it is
  // refused.
  const count = { there: 0, blocked: 0, missing: 0 }
  for (const client of found.clients()) count[destination.standing(client)]++
  let matchOnly = 0
  for (const hash of found.matchOnly()) if (hash !== '') matchOnly++
  const top = matchOnly > 0 ? legacyDestination(stateDirectory, nfsdDirectory) : undefined
  if (asBytes === top)
    throw new Failed({
      kind: 'bad-argument',
      why: 'the helper looks there by itself: nothing needs to be imported',
      word: given,
    })
  if (count.blocked > 0)
    throw storageFailure(
      oneLine`
        nothing changed: ${count.blocked} of these clients have a newer record here that can't be understood, so they
        could not reclaim; run verify --repair first
      `,
    )

  const notes = found.notes()
  let [placed, made] = [count.missing, top === undefined ? 0 : missingIn(anywhere, top, found.matchOnly())]
  if (!dryRun && placed + made > 0) {
    for (const note of notes) say(note)
    await consent(question(found, source, stateDirectory, placed + made), { yes })
    // Otherwise the next start would complete it, and perhaps take out who is placed now.
    if (files.kindAt(stateDirectory, anywhere) === 'directory')
      completeCutShort(worldOf(settings), lookAt(destination.state))
    if (placed > 0) placed = placeAll(destination, missing(found, destination, progress('placing clients', placed)))
    if (top !== undefined) made = placeInTop(destination, top, found.matchOnly())
  } else if (!dryRun) {
    if (count.there > 0) confirmPlaced(destination.state)
    if (top !== undefined) files.syncDirectory(top, anywhere)
  }
  const clients = count.there + count.missing
  return {
    source: { kind: found.kind, path: source },
    state_directory: textOfPath(stateDirectory),
    dry_run: dryRun,
    clients,
    imported: placed,
    already_there: clients - placed,
    match_only: { clients: matchOnly, imported: made },
    notes,
  }
}

function* missing(found: Found, destination: Destination, shown: (done: number) => void): Generator<Movable> {
  let count = 0
  for (const client of found.clients()) {
    if (destination.standing(client) !== 'missing') continue
    yield client
    shown(++count)
  }
}

const question = (found: Found, source: string, stateDirectory: string, count: number): string =>
  [
    oneLine`
      ${counted(count, 'client')} of ${nameOf(found.kind)} ${quote(source)} may reclaim their locks at the next start of
      the server
    `,
    `on ${quote(stateDirectory)}. This is correct only if`,
    ' * the server that recorded them has stopped, and no locks have been granted on its file systems since;',
    ' * this server exports those file systems only after that start, under the same server scope.',
    'Go on?',
  ].join('\n')

const nameOf = (kind: Found['kind']): string =>
  kind === 'export'
    ? 'the export'
    : kind === 'state directory' || kind === 'v4recovery'
      ? `the ${kind}`
      : `${kind}'s database`

function missingIn(anywhere: Directory, top: string, hashes: Iterable<string>): number {
  let count = 0
  for (const hash of hashes) if (files.kindAt(`${top}/${hash}`, anywhere) === 'absent') count++
  return count
}

function placeInTop({ state }: Destination, top: string, hashes: Iterable<string>): number {
  makeStateDirectory(state)
  syncStateDirectory(state)
  return placeMatchOnly(state.anywhere, top, hashes)
}

export function describe({
  source,
  state_directory: stateDirectory,
  dry_run: dryRun,
  imported,
  already_there: already,
  match_only: matchOnly,
  notes,
}: Imported): string {
  const would = dryRun ? 'would be ' : ''
  const lines = [
    oneLine`
      ${counted(imported, 'client')} ${would}imported from ${nameOf(source.kind)} ${quote(source.path)} into
      ${quote(stateDirectory)}, ${already} were there already
    `,
  ]
  if (matchOnly.clients > 0)
    lines.push(
      oneLine`
        ${matchOnly.imported} of ${matchOnly.clients} clients known only by MD5 ${would}placed: the first check of each
        records it
      `,
    )
  if (dryRun) lines.push(...notes.map((note) => `note: ${note}`))
  if (!dryRun) lines.push('They may reclaim at the next start of the server.')
  return `${lines.join('\n')}\n`
}
