/**
 * The intent log that this process holds (intent-log.ts says what it promises): only `serve` has one.
 *
 * It is made and synced while nobody waits: its blocks are written once, so that writing over them changes nothing else
 * on the disk. It is for one instance, whose grace is over. What this process changes without the log, it makes durable
 * first, and then empties the log: an entry never tells of a state that was left. If the log can't be written, emptied
 * or removed, nothing is answered.
 */
import { storageFailure } from '../failure.ts'
import type { Start } from '../rules/instance.ts'
import { answered } from '../syscalls/errno.ts'
import * as files from '../syscalls/files.ts'
import { quote } from '../text.ts'
import { blockSize, empty, endedMode, entryOf, headerOf, type OwnIntentLog } from './intent-log.ts'
import { intentLogPrefix, unfinishedIntentLog } from './layout.ts'
import { directoryOf, openClients } from './open-directories.ts'
import type { StateDirectory } from './state-directory.ts'

/**
 * Makes a log, if the file system is one that gains by it. When it returns, {@link isLogged} may be used.
 * @throws the file system's error
 */
export function makeIntentLog(state: StateDirectory, start: Start, blocks: number): void {
  const clients = openClients(state)
  if (clients === undefined || directoryOf(state, start) === undefined) return
  const { calls, descriptor: within } = clients
  if (!calls.isWrittenInPlace(within)) return
  const name = `${intentLogPrefix}${String(calls.processId())}.${String(calls.now())}`
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = calls.flags
  const path = `${clients.path}/${name}`
  // What a killed process has left. Nobody else has a claim to this directory.
  files.remove(unfinishedIntentLog, clients)
  const descriptor = answered(
    calls.openat(within, unfinishedIntentLog, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600),
    'open',
    path,
  )
  try {
    answered(calls.hold(descriptor), 'fcntl', path)
    const block = new Uint8Array(blockSize)
    calls.bytesInto(headerOf(start), block, 0)
    for (let written = 0; written < blocks; written++) {
      files.writeWhole(calls, descriptor, block, path)
      if (written === 0) block.fill(0)
    }
    answered(calls.fsync(descriptor), 'fsync', path)
    const identity = calls.identityAt(within, unfinishedIntentLog)
    if (typeof identity !== 'string') throw files.missing(path)
    // From now on others may end it.
    if (!files.move(unfinishedIntentLog, name, clients)) throw files.missing(path)
    files.sync(clients)
    state.intents = { name, start, descriptor, identity, number: 0, blocks, next: 1 }
  } catch (thrown) {
    calls.close(descriptor)
    for (const made of [unfinishedIntentLog, name]) calls.unlinkat(within, made, 0)
    throw thrown
  }
}

/**
 * Writes changes to the log that have been made in the instance's directory.
 * @param changes as `made` and `removed` spell them
 * @returns whether they are durable. If not, the caller syncs the directory, and then empties the log.
 */
export function isLogged(state: StateDirectory, log: OwnIntentLog, changes: string): boolean {
  const clients = openClients(state)
  if (clients === undefined || log.identity === '') return false
  const { calls } = clients
  const entry = entryOf(log.number + 1, log.start, changes, calls.checksum)
  const blocks = entry.length > blockSize ? Math.ceil(entry.length / blockSize) : 1
  if (log.next + blocks > log.blocks) return false
  const at = log.next * blockSize
  log.number++
  log.next += blocks
  if (calls.writeAt(log.descriptor, entry, at) === entry.length && calls.fdatasync(log.descriptor) === 0)
    return calls.identityAt(clients.descriptor, log.name) === log.identity
  log.identity = ''
  return false
}

/**
 * The instance's directory is synced, and so is what this process has changed without the log. Removes all entries, so
 * that none undoes such a change. Durable when it returns.
 * @throws the file system's error: then what was changed must not be answered
 */
export function emptyIntentLog(state: StateDirectory, log: OwnIntentLog): void {
  const { identity } = log
  if (!isNamed(state, log)) {
    removeLog(state, log)
    return
  }
  if (log.next === 1) return
  // Until it is known to be empty, nothing is written to it.
  log.identity = ''
  try {
    emptied(state, log)
  } catch {
    removeLog(state, log)
    return
  }
  log.identity = identity
  log.next = 1
}

/**
 * The log is not used any more: before anything but records is changed, or when nobody asks any more.
 * @throws the file system's error: then nothing else must be changed
 */
export function closeIntentLog(state: StateDirectory): void {
  const log = state.intents
  if (log === undefined) return
  const directory = log.next > 1 ? directoryOf(state, log.start) : undefined
  if (directory !== undefined) files.sync(directory)
  removeLog(state, log)
}

function isNamed(state: StateDirectory, { name, identity }: OwnIntentLog): boolean {
  const clients = openClients(state)
  return clients !== undefined && clients.calls.identityAt(clients.descriptor, name) === identity
}

function emptied({ anywhere: { calls }, clientsPath }: StateDirectory, { descriptor, name }: OwnIntentLog): boolean {
  empty(calls, descriptor, `${clientsPath}/${name}`)
  return true
}

/**
 * What the log has is durable in its directory.
 * @throws Failed, if its name leads to another file: the state directory is another one, and its records may lack what
 * the log has. Then the next look settles that.
 */
function removeLog(state: StateDirectory, log: OwnIntentLog): void {
  const { calls } = state.anywhere
  const clients = openClients(state)
  const there = clients === undefined ? undefined : files.lookAtName(log.name, clients)
  const open = calls.fstat(log.descriptor)
  const isOurs = typeof open === 'object' && there?.inode === open.inode && there.device === open.device
  if (isOurs && clients !== undefined) {
    const isEmpty = log.next === 1 || files.tolerating(['EIO', 'ENOSPC', 'EROFS'], () => emptied(state, log), false)
    files.remove(log.name, clients)
    // It must not come back with its entries.
    if (!isEmpty) files.sync(clients)
  } else if (typeof open === 'object' && open.mode === endedMode)
    // Another process has ended it. Its removal may not be durable, and the last entry may be younger.
    emptied(state, log)
  state.intents = undefined
  // What was seen does not count the log as another's.
  state.seen = undefined
  calls.close(log.descriptor)
  if (!isOurs && there !== undefined)
    throw storageFailure(`${quote(`${state.clientsPath}/${log.name}`)} is another file by now`)
}
