/** Finds what does not belong in the state directory, or can't be understood. */
import { bootTimeFiles, startFromName, type BootTime, type BootTimeFile } from '../../rules/instance.ts'
import { readBootTime } from '../../store/format1.ts'
import { intentLogPrefix, lockName, markNames, unfinishedIntentLog } from '../../store/layout.ts'
import { openClients } from '../../store/open-directories.ts'
import { holderName, lifeOf } from '../../store/process.ts'
import type { StateDirectory } from '../../store/state-directory.ts'
import type { DirectoryEntry as Name } from '../../syscalls/calls.ts'
import * as files from '../../syscalls/files.ts'
import type { Directory } from '../../syscalls/files.ts'
import { oneLine, quote } from '../../text.ts'
import { recordsOf, type Client, type Oddity } from './recorded-clients.ts'
import type { Survey } from './survey.ts'

/** Everything in the state directory: records and oddities. */
export function* everythingIn(surveyed: Survey): Generator<Client | Oddity> {
  yield* oddBootTimes(surveyed)
  yield* oddNames(surveyed)
  yield* recordsOf(surveyed)
}

/**
 * Of the names in the state directory itself, only those of our own form are judged, because /var/lib/nfs belongs to
 * others too. A file that an upcall is about to rename is no oddity, but one that a killed upcall has left is. The
 * start of the instance tells which it is.
 */
function* oddBootTimes({ state, instance, format }: Survey): Generator<Oddity> {
  const odd = (kind: Oddity['kind'], name: string, why: string): Oddity => ({
    kind,
    path: `${state.path}/${name}`,
    why,
    name,
    in: 'state directory',
  })
  const contents = bootTimesOf(state)
  for (const [file, content] of Object.entries(contents))
    if (typeof content === 'object') yield odd('damaged', file, content.damaged)
  // Two times that can be read, but can't both be true.
  if (instance.kind === 'damaged' && typeof contents[instance.file] !== 'object')
    yield odd('damaged', instance.file, instance.why)
  for (const name of namesAt(state.path, state)) {
    const [, file, start = ''] = /^((?:new_)?boot_time)\.([0-9]+)$/.exec(name) ?? []
    if (file !== undefined && startFromName(start) !== undefined)
      yield odd('leftover', name, `a ${file} that was not finished`)
    else if (/^selftest-.{6}$/.test(name)) yield odd('leftover', name, 'of a selftest')
    else if (format === 2 && name === 'nfsd-userland-helper.lock')
      yield odd('leftover', name, 'the lock of an earlier version')
  }
}

/** The content of the three files. In format 2 they are for people only. */
function bootTimesOf(state: StateDirectory): Record<BootTimeFile, BootTime> {
  const root = files.openDirectory(state.path, state.anywhere, 'follow')
  const read = (file: BootTimeFile): BootTime => (typeof root === 'object' ? readBootTime(file, root) : 'absent')
  const all = Object.fromEntries(bootTimeFiles.map((file) => [file, read(file)])) as Record<BootTimeFile, BootTime>
  if (typeof root === 'object') files.close(root)
  return all
}

function* namesAt(path: string, { anywhere }: StateDirectory): Generator<string> {
  const directory = files.openDirectory(path, anywhere, 'follow')
  if (typeof directory !== 'object') return
  try {
    for (const { name } of files.entriesOf(directory)) yield name
  } finally {
    files.close(directory)
  }
}

function* oddNames({ state }: Survey): Generator<Oddity> {
  const clients = openClients(state)
  if (clients === undefined) return
  for (const entry of files.entriesOf(clients)) {
    const odd = oddityAmongInstances(entry, clients)
    if (odd !== undefined)
      yield { ...odd, path: `${state.clientsPath}/${entry.name}`, name: entry.name, in: 'v4clients' }
    if (entry.name === 'damaged' && odd?.kind !== 'stray')
      for (const name of namesAt(`${state.clientsPath}/damaged`, state))
        yield {
          kind: 'set-aside',
          path: `${state.clientsPath}/damaged/${name}`,
          why: 'it could not be understood',
          name,
          in: 'v4clients',
        }
  }
}

/** What is wrong with a name in `v4clients`, if something is. */
export function oddityAmongInstances(
  { name, kind }: Name,
  clients: Directory,
): Pick<Oddity, 'kind' | 'why'> | undefined {
  const what = kind === 'unknown' ? (files.lookAtName(name, clients)?.kind ?? 'unknown') : kind
  if (name === 'damaged') {
    const found = files.directoryAt(name, clients)
    if (typeof found !== 'object')
      return { kind: 'stray', why: 'it is in the place where evidence is kept, and is no directory' }
    return files.isOursAlone(found, clients)
      ? undefined
      : { kind: 'open', why: 'others may write to it: look at what is in it' }
  }
  if (name.startsWith('not-a-directory.'))
    return { kind: 'set-aside', why: 'it was in the place where evidence is kept' }
  const [, digits = '', mark] = /^([0-9]+)(?:\.([a-z_]+))?$/.exec(name) ?? []
  if (startFromName(digits) !== undefined) {
    if (mark === undefined)
      return what === 'directory'
        ? undefined
        : { kind: 'stray', why: 'it has the name of a server instance, and is not a directory' }
    if ((markNames as readonly string[]).includes(mark)) {
      if (what !== 'link') return { kind: 'stray', why: 'it has the name of a mark, and is no link' }
      const text = mark === 'grace_start' ? files.readLink(name, clients) : undefined
      return text === undefined || /^[0-9]{1,19}$/.test(text)
        ? undefined
        : { kind: 'damaged', why: `it says ${quote(text)}, which is no time` }
    }
  }
  if (/^format-[1-9][0-9]*$/.test(name) || name === 'rebuilt' || name === lockName) {
    if (what !== 'link')
      return {
        kind: 'stray',
        why: oneLine`
          it is in the place of ${name === lockName ? 'the lock, so that nobody can have it' : 'a mark'}, and is no link
        `,
      }
    return name === lockName && lifeOf(files.readLink(name, clients) ?? '', holderName(clients), clients) === 'dead'
      ? { kind: 'leftover', why: 'a lock whose holder is gone' }
      : undefined
  }
  // What is wrong with one is said by whoever looks into the directory.
  if (name.startsWith(intentLogPrefix) || name === unfinishedIntentLog) return undefined
  if (/^selftest-.{6}$/.test(name)) return { kind: 'leftover', why: 'of a selftest' }
  return { kind: 'stray', why: 'no name that this program gives' }
}

/** How many oddities of each kind there are, and some examples. */
export interface Tally {
  readonly records: number
  readonly oddities: ReadonlyMap<Oddity['kind'], { readonly count: number; readonly some: readonly Oddity[] }>
}

const mostExamples = 3

/** Goes through everything and counts it. */
export function tallyOf(surveyed: Survey): Tally {
  let records = 0
  const oddities = new Map<Oddity['kind'], { count: number; some: Oddity[] }>()
  for (const seen of everythingIn(surveyed)) {
    if (seen.kind === 'record') {
      records++
      continue
    }
    const known = oddities.get(seen.kind) ?? { count: 0, some: [] }
    oddities.set(seen.kind, known)
    if (++known.count <= mostExamples) known.some.push(seen)
  }
  return { records, oddities }
}
