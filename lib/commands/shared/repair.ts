/**
 * What `verify --repair` does: moves what is damaged or not ours out of the way, into v4clients/damaged. Nothing is
 * deleted, and nobody may reclaim who could not before.
 *
 * Under a name the newest entry decides, be it damaged: so older entries of that name are moved first, and are gone for
 * good before the damaged one is. Killed in between, the rest still says that nobody may.
 *
 * Upcalls go on meanwhile. What is damaged is judged under the lock, when it is moved; and since an upcall may pass the
 * lock by, what has been moved is looked at once more, where nobody else can reach it. If a `create` has put a good
 * record there in the moment before, it is put back, unless there is one again. Barriers are waited for without the
 * lock.
 */
import fs from 'node:fs'
import { storageFailure } from '../../failure.ts'
import { nextStart, type Start } from '../../rules/instance.ts'
import { lockName, markOf } from '../../store/layout.ts'
import { directoryOf } from '../../store/open-directories.ts'
import { entryAt } from '../../store/records.ts'
import { clientsOf, lookAt, markFormat, setAside, type StateDirectory } from '../../store/state-directory.ts'
import * as disk from '../../syscalls/files.ts'
import type { Directory } from '../../syscalls/files.ts'
import { underLock } from './lock.ts'
import { everythingIn, oddityAmongInstances } from './oddities.ts'
import type { Oddity } from './recorded-clients.ts'
import { survey, type Survey, type Where } from './survey.ts'

/** So many things at a time: an upcall waits for the lock, and not for ever. */
const batch = 100

/** Mends what can be. @returns each thing that was mended, when it is so durably. */
export function* repairAll(where: Where): Generator<Oddity> {
  const surveyed = survey(where)
  beginAnew(surveyed)
  yield* freeLock(surveyed)
  let found: Oddity[] = []
  for (const seen of everythingIn(surveyed)) {
    if (seen.kind === 'record') continue
    found.push(seen)
    if (found.length < batch) continue
    yield* mend(surveyed, found)
    found = []
  }
  yield* mend(surveyed, found)
}

/**
 * What is no link in the place of the lock is nobody's, and nobody can have the lock before it is gone: so it goes
 * without.
 */
function* freeLock({ state }: Survey): Generator<Oddity> {
  const clients = clientsOf(state)
  const odd = oddityNow(lockName, clients)
  if (odd?.kind !== 'stray' || setAside(state, lockName, clients, lockName) === undefined) return
  sync(clients, [clients])
  yield { ...odd, path: `${state.clientsPath}/${lockName}`, name: lockName, in: 'v4clients' }
}

function mend(surveyed: Survey, found: readonly Oddity[]): readonly Oddity[] {
  const { state } = surveyed
  const clients = clientsOf(state)
  const damaged = found.filter((odd) => odd.kind === 'damaged' && typeof odd.in === 'number')
  const older = new Set<Directory>()
  if (damaged.length > 0)
    underLock(state, () => {
      for (const { name, in: start } of damaged)
        for (const directory of moveOlder(state, name, start as Start)) older.add(directory)
    })
  if (older.size > 0) sync(clients, older)

  const touched = new Set<Directory>([clients])
  const mended = underLock(state, () => found.filter((odd) => mendOne(surveyed, odd, touched)))
  if (mended.length > 0) sync(clients, touched)
  return mended
}

/** What was moved is durably where it is now, before it is durably gone from where it was. */
function sync(clients: Directory, left: Iterable<Directory>): void {
  withEvidence(clients, disk.sync)
  for (const directory of left) disk.sync(directory)
}

function withEvidence<T>(clients: Directory, work: (evidence: Directory) => T): T | undefined {
  const evidence = disk.openDirectory('damaged', clients)
  if (typeof evidence !== 'object') return undefined
  try {
    return work(evidence)
  } finally {
    disk.close(evidence)
  }
}

/** Older entries under the name of one that is still damaged. @returns where any was moved. */
function moveOlder(state: StateDirectory, name: string, start: Start): Directory[] {
  const directory = directoryOf(state, start)
  if (directory === undefined || entryAt(directory, name).kind !== 'damaged') return []
  return lookAt(state)
    .starts.filter((older) => older < start)
    .flatMap((older) => {
      const from = directoryOf(state, older)
      return from !== undefined && setAside(state, name, from, `${older}-${name}`) !== undefined ? [from] : []
    })
}

/** @returns whether it was there, and is mended. */
function mendOne(surveyed: Survey, { kind, name, in: where }: Oddity, touched: Set<Directory>): boolean {
  const { state } = surveyed
  switch (kind) {
    case 'damaged':
      if (typeof where === 'number') return moveDamaged(state, name, where, touched)
      return where === 'v4clients' ? moveStray(state, name) : moveBootTime(surveyed, name, touched)
    case 'stray':
      return moveStray(state, name)
    case 'missing':
      return disk.makeDirectory(name, clientsOf(state))
    case 'open':
      return close(name, clientsOf(state))
    case 'newer':
    case 'leftover':
    case 'set-aside':
      return false
  }
}

function moveDamaged(state: StateDirectory, name: string, start: Start, touched: Set<Directory>): boolean {
  const directory = directoryOf(state, start)
  if (directory === undefined || entryAt(directory, name).kind !== 'damaged') return false
  const kept = setAside(state, name, directory, `${start}-${name}`)
  if (kept === undefined) return false
  touched.add(directory)
  const isGood = withEvidence(clientsOf(state), (evidence) => {
    if (entryAt(evidence, kept, name).kind === 'damaged') return false
    // By a second name, which replaces nothing. Where a file system has none, by the same call as before.
    const back = disk.tolerating(
      ['EPERM', 'EOPNOTSUPP'],
      () => disk.makeHardLink(kept, name, evidence, directory),
      undefined,
    )
    if (back === undefined) disk.move(kept, name, evidence, directory)
    else if (back) disk.remove(kept, evidence)
    return true
  })
  return isGood !== true
}

function moveStray(state: StateDirectory, name: string): boolean {
  const clients = clientsOf(state)
  if (oddityNow(name, clients) === undefined) return false
  if (name === 'damaged') return disk.move(name, `not-a-directory.${Date.now()}.${process.pid}`, clients)
  return setAside(state, name, clients, name) !== undefined
}

/** What is wrong with a name in `v4clients` at this moment, if it is there. */
const oddityNow = (name: string, clients: Directory): Pick<Oddity, 'kind' | 'why'> | undefined =>
  disk.lookAtName(name, clients) === undefined ? undefined : oddityAmongInstances({ name, kind: 'unknown' }, clients)

/**
 * In format 1 a damaged time may hide an end of grace, so nobody may reclaim, and that is how it must stay when the
 * files are gone: as at the next start, an instance without records is full, and later than all others. It counts from
 * the moment that the directory is in the present format.
 */
function beginAnew({ state, format, instance, traces }: Survey): void {
  if (format !== 1 || instance.kind !== 'damaged') return
  const clients = clientsOf(state)
  const start = nextStart(Date.now(), traces)
  if (start === undefined) return
  disk.makeDirectory(String(start), clients)
  disk.makeLink('-', markOf(start, 'full'), clients)
  disk.sync(clients)
  markFormat(clients)
  disk.sync(clients)
}

/** For people only, or damaged: in format 1 both go that defined the instance. */
function moveBootTime({ state, format, instance }: Survey, name: string, touched: Set<Directory>): boolean {
  const root = disk.openDirectory(state.path, state.anywhere, 'follow')
  if (typeof root !== 'object') return false
  touched.add(root)
  if (format === 1 && instance.kind === 'damaged' && name !== 'boot_time')
    setAside(state, 'boot_time', root, 'boot_time')
  return setAside(state, name, root, name) !== undefined
}

/** Makes a directory ours alone. */
function close(name: string, clients: Directory): boolean {
  const opened = disk.openDirectory(name, clients)
  if (typeof opened !== 'object') return false
  try {
    fs.fchownSync(opened.descriptor, clients.calls.userId(), process.getegid?.() ?? 0)
    fs.fchmodSync(opened.descriptor, 0o700)
    return true
  } catch (thrown) {
    throw storageFailure(`${name} can't be made ours alone: ${String(thrown)}`)
  } finally {
    disk.close(opened)
  }
}
