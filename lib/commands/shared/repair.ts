/**
 * `verify --repair` moves what is damaged or not ours into v4clients/damaged. It deletes nothing, and lets no client
 * reclaim that could not before.
 *
 * The newest entry of a name decides, even if it is damaged. So older entries of that name are moved first, durably,
 * before the damaged one is. After a kill in between, the remaining entry still says that the client may not reclaim.
 *
 * Upcalls go on meanwhile. Whether something is damaged is decided under the lock, when it is moved. Since a `create`
 * takes no lock out of grace, and any upcall may go on without it, what has been moved is checked once more, where no
 * other process can reach it. If a `create` has made a good record there just before, the record is put back, unless
 * there is a new one. (If this command is killed between the two, that record is lost with the damaged one.) The lock
 * is not held during barriers.
 */
import fs from 'node:fs'
import { storageFailure } from '../../failure.ts'
import { nextStart, type Start } from '../../rules/instance.ts'
import { lockName, markOf } from '../../store/layout.ts'
import { directoryOf } from '../../store/open-directories.ts'
import { entryAt } from '../../store/records.ts'
import { clientsOf, lookAt, markFormat, setAside, type StateDirectory } from '../../store/state-directory.ts'
import * as files from '../../syscalls/files.ts'
import type { Directory } from '../../syscalls/files.ts'
import { underLock } from './lock.ts'
import { everythingIn, oddityAmongInstances } from './oddities.ts'
import type { Oddity } from './recorded-clients.ts'
import { survey, type Survey, type Where } from './survey.ts'

/** This many are handled at a time: an upcall does not wait for the lock for ever. */
const batch = 100

/** Repairs what can be repaired. @returns each repaired thing, once its repair is durable */
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
 * If something other than a link is in the place of the lock, no process owns it, and nobody can take the lock before
 * it is gone. So it is moved without the lock.
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
  // Ends an intent log that `serve` holds, which could bring back what is repaired.
  lookAt(state)
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
  lookAt(state)
  return mended
}

/** What was moved must be durable in its new place before its removal from the old one is. */
function sync(clients: Directory, left: Iterable<Directory>): void {
  withEvidence(clients, files.sync)
  for (const directory of left) files.sync(directory)
}

function withEvidence<T>(clients: Directory, work: (evidence: Directory) => T): T | undefined {
  const evidence = files.openDirectory('damaged', clients)
  if (typeof evidence !== 'object') return undefined
  try {
    return work(evidence)
  } finally {
    files.close(evidence)
  }
}

/** Moves older entries of a name whose newest entry is still damaged. @returns the directories that have changed */
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

/** @returns whether it was there, and is repaired */
function mendOne(surveyed: Survey, { kind, name, in: where }: Oddity, touched: Set<Directory>): boolean {
  const { state } = surveyed
  switch (kind) {
    case 'damaged':
      if (typeof where === 'number') return moveDamaged(state, name, where, touched)
      return where === 'v4clients' ? moveStray(state, name) : moveBootTime(surveyed, name, touched)
    case 'stray':
      return moveStray(state, name)
    case 'missing':
      return files.makeDirectory(name, clientsOf(state))
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
    // A second link replaces nothing. On a file system without links, the same call as before is used.
    const back = files.tolerating(
      ['EPERM', 'EOPNOTSUPP'],
      () => files.makeHardLink(kept, name, evidence, directory),
      undefined,
    )
    if (back === undefined) files.move(kept, name, evidence, directory)
    else if (back) files.remove(kept, evidence)
    return true
  })
  return isGood !== true
}

function moveStray(state: StateDirectory, name: string): boolean {
  const clients = clientsOf(state)
  if (oddityNow(name, clients) === undefined) return false
  if (name === 'damaged') return files.move(name, `not-a-directory.${Date.now()}.${process.pid}`, clients)
  return setAside(state, name, clients, name) !== undefined
}

/** What is wrong with a name in `v4clients` at this moment, if the name exists. */
const oddityNow = (name: string, clients: Directory): Pick<Oddity, 'kind' | 'why'> | undefined =>
  files.lookAtName(name, clients) === undefined ? undefined : oddityAmongInstances({ name, kind: 'unknown' }, clients)

/**
 * In format 1 a damaged time may hide an end of grace, so no client may reclaim. That must remain so without the files.
 * So a new instance without records is made, as at the next start: full, and later than all others. It counts as soon
 * as the directory is in the present format.
 */
function beginAnew({ state, format, instance, traces }: Survey): void {
  if (format !== 1 || instance.kind !== 'damaged') return
  const clients = clientsOf(state)
  const start = nextStart(Date.now(), traces)
  if (start === undefined) return
  files.makeDirectory(String(start), clients)
  files.makeLink('-', markOf(start, 'full'), clients)
  files.sync(clients)
  markFormat(clients)
  files.sync(clients)
}

/**
 * Moves a boot time file, which is for people only, or damaged: in format 1 both files go that defined the instance.
 */
function moveBootTime({ state, format, instance }: Survey, name: string, touched: Set<Directory>): boolean {
  const root = files.openDirectory(state.path, state.anywhere, 'follow')
  if (typeof root !== 'object') return false
  touched.add(root)
  if (format === 1 && instance.kind === 'damaged' && name !== 'boot_time')
    setAside(state, 'boot_time', root, 'boot_time')
  return setAside(state, name, root, name) !== undefined
}

/** Gives only root access to a directory. */
function close(name: string, clients: Directory): boolean {
  const opened = files.openDirectory(name, clients)
  if (typeof opened !== 'object') return false
  try {
    fs.fchownSync(opened.descriptor, clients.calls.userId(), process.getegid?.() ?? 0)
    fs.fchmodSync(opened.descriptor, 0o700)
    return true
  } catch (thrown) {
    throw storageFailure(`${name} can't be made ours alone: ${String(thrown)}`)
  } finally {
    files.close(opened)
  }
}
