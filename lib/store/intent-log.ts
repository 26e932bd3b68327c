/**
 * The intent log: changes of records that `serve` has answered, and that the file system may not have committed yet.
 *
 * A change in a directory is durable when the file system commits it, for which the disk is flushed twice. What is
 * written over bytes that a file has already is durable after one flush. So when grace is over, `serve` makes each
 * change in the instance's directory as always, writes it to this log, and syncs the log.
 *
 * 1. While a log is there, only its holder changes records of its instance: each in the directory first, then in the
 *    log. So if the holder is gone, each name gets the state that the log gives it last ({@link settleLogs}): that is
 *    what the directory has already, or what a power cut has taken from it.
 * 2. Who does that makes a directory, and each name gets its state by one rename out of it or into it. When all is
 *    durable the log is removed, then that directory, and only then anything else is changed. So those who do it at
 *    once do the same, and none does it later.
 * 3. Whoever else changes something ends the log of a living holder first: marks the file by its mode, syncs the
 *    instance's directory, empties the log. The holder looks at the file between its sync and its answer. If it is not
 *    marked, its change was in the directory before that sync; if it is, the holder syncs the directory itself.
 *
 * Each step may be killed: as long as the file has entries, the next process does all of it again. It is removed when
 * it is durable that it has none. So if a power cut brings the file back, it says nothing.
 */
import { storageFailure, type Failed } from '../failure.ts'
import { startFromName, type Start } from '../rules/instance.ts'
import type { Calls } from '../syscalls/calls.ts'
import { answered, errno, systemError } from '../syscalls/errno.ts'
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { quote } from '../text.ts'
import { intentLogPrefix } from './layout.ts'
import { directoryOf, type OpenDirectories } from './open-directories.ts'

/** An entry begins with a block, which no other shares: what is being written may be torn, and nothing else. */
export const blockSize = 4096
/** What the first block says. */
export const headerOf = (start: Start): string => `${program} ${String(start)}\n`
const program = 'nfsd-userland-helper intent-log 1'
const header = new RegExp(`^${program} ([0-9]+)\n`)

/** The states of names in an instance's directory. Undefined: it is not there. A later one replaces an earlier one. */
export type States = Map<string, string | undefined>

/** A change, as an entry has it: no record's name has a blank, and neither its name nor its text a line break. */
export const made = (name: string, text: string): string => '+' + name + ' ' + text + '\n'
export const removed = (name: string): string => '-' + name + '\n'

/**
 * An entry, as it is in the log. Its checksum covers everything, so an entry that was not written to its end is none.
 * @param number one more than that of the entry before
 */
export const entryOf = (number: number, start: Start, changes: string, checksum: (text: string) => string): string => {
  const head = String(number) + ' ' + String(start) + ' ' + String(changes.length)
  return head + ' ' + sumOf(head + '\n' + changes, checksum) + '\n' + changes
}

/** The host computes no checksum of a longer text, and a thousand clients may come at once. */
const longestSummed = 4096

function sumOf(text: string, checksum: (text: string) => string): string {
  let sum = checksum(text.length > longestSummed ? text.slice(0, longestSummed) : text)
  for (let at = longestSummed; at < text.length; at += longestSummed)
    sum = checksum(sum + text.slice(at, at + longestSummed))
  return sum
}

/**
 * Empties a log. Durable when it returns.
 * @throws the file system's error
 */
export function empty(calls: Calls, descriptor: number, path: string): void {
  const written = calls.writeAt(descriptor, noEntries, blockSize)
  if (answered(written, 'pwrite', path) < noEntries.length) throw systemError(-errno.EIO, 'pwrite', path)
  answered(calls.fdatasync(descriptor), 'fdatasync', path)
}

/** What the first block of entries has when there are none. No entry has this number. */
export const noEntries = '0\n'

/** The mode of a log by which nothing more is answered. */
export const endedMode = 0o700

interface Entry {
  readonly number: number
  readonly start: Start
  readonly changes: string
  readonly blocks: number
}

interface Read {
  /** Undefined, if the log was not used yet, or is damaged. */
  readonly start: Start | undefined
  readonly states: States
  /** Something that was durable can't be understood. */
  readonly isDamaged: boolean
}

/** An entry's first line is shorter. */
const longestHead = 64

function entryAt(text: string, at: number, checksum: (text: string) => string): Entry | undefined {
  const [line = '', head = '', number = '', name = '', length = '', sum] =
    /^(([0-9]{1,15}) ([0-9]{1,15}) ([0-9]{1,7})) ([0-9a-f]{8})\n/.exec(text.slice(at, at + longestHead)) ?? []
  const start = startFromName(name)
  const end = at + line.length
  const changes = text.slice(end, end + Number(length))
  if (start === undefined || changes.length !== Number(length) || sumOf(`${head}\n${changes}`, checksum) !== sum)
    return undefined
  return { number: Number(number), start, changes, blocks: Math.ceil((line.length + changes.length) / blockSize) }
}

const startIn = (text: string): Start | undefined => startFromName(header.exec(text.slice(0, blockSize))?.[1] ?? '')

/** The number of an entry that can't be understood otherwise. */
function numberAt(text: string, at: number): number | undefined {
  const [, number] = /^([1-9][0-9]{0,14}) /.exec(text.slice(at, at + 20)) ?? []
  return number === undefined ? undefined : Number(number)
}

/** @param text of a whole log */
export function readLog(text: string, checksum: (text: string) => string): Read {
  const said = startIn(text)
  const states: States = new Map()
  let start = said
  let last: number | undefined
  let at = blockSize
  for (let entry = entryAt(text, at, checksum); entry !== undefined; entry = entryAt(text, at, checksum)) {
    // The entries of the log's last use follow, and count no more.
    if (last !== undefined && entry.number !== last + 1) break
    if (start !== undefined && entry.start !== start) return { start, states, isDamaged: true }
    start = entry.start
    last = entry.number
    for (const change of entry.changes.split('\n')) {
      const [name = '', line] = halves(change.slice(1))
      // The last state of a name may depend on its place: none has two.
      if (change !== '') states.set(name, change.startsWith('+') ? line : undefined)
    }
    at += entry.blocks * blockSize
  }
  let isDamaged = last !== undefined && said === undefined
  // An entry is written when the one before it is durable. What was written over the first of them is older than none.
  const before = last ?? numberAt(text, at)
  for (; at < text.length && before !== undefined; at += blockSize)
    isDamaged ||= (entryAt(text, at, checksum)?.number ?? 0) > before
  return { start, states, isDamaged }
}

const halves = (text: string): readonly string[] => {
  const at = text.indexOf(' ')
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)]
}

/** A log that this process holds (own-intent-log.ts): data without methods, as all that a state directory has. */
export interface OwnIntentLog {
  readonly name: string
  readonly start: Start
  readonly descriptor: number
  /** Device, inode, owner and mode: whoever ends the log changes the mode. '': it could not be written. */
  identity: string
  /** The number of the last entry. */
  number: number
  /** How many blocks it has, with the first, which says whose it is. */
  readonly blocks: number
  /** The block after the last entry. 1: there is no entry. */
  next: number
}

/** An open log. */
interface File {
  readonly calls: Calls
  readonly descriptor: number
  readonly path: string
}

/** The directory through which changes are made anew. */
const redoName = `${intentLogPrefix}redo`

/** What is to be done about a log that can't be understood: nothing of its instance can be believed. */
export interface Damaged {
  readonly log: string
  readonly start: Start | undefined
}

/**
 * Makes the changes anew of logs whose holders are gone. What they have is durable in its directory then.
 * @param names of what is in `v4clients`
 * @param mayChange whether a log that has a holder is ended, because this process may change something; and whether one
 * that has none is removed even if nothing has to be made anew
 * @returns whether anything was done, so that the caller must look again
 * @throws the file system's error: then no record can be believed
 */
export function settleLogs(
  all: OpenDirectories,
  clients: Directory,
  names: readonly string[],
  mayChange: boolean,
): boolean | Damaged {
  let isChanged = false
  for (const log of names) {
    if (!log.startsWith(intentLogPrefix) || log === redoName) continue
    const settled = settleOne(all, clients, log, mayChange)
    if (typeof settled === 'object') return settled
    isChanged ||= settled
  }
  // Somebody was killed after the log was removed, or is just about to do this too.
  if (mayChange && !isChanged && names.includes(redoName)) {
    if (files.directoryAt(redoName, clients) === 'other') throw noDirectory(clients)
    closeRedo(clients)
    isChanged = true
  }
  return isChanged
}

function settleOne(all: OpenDirectories, clients: Directory, log: string, mayChange: boolean): boolean | Damaged {
  const { calls } = clients
  const path = `${clients.path}/${log}`
  // A reader may be on a read-only disk.
  const descriptor = files.openOurs(log, clients, mayChange ? calls.flags.O_RDWR : calls.flags.O_RDONLY)
  if (descriptor === -errno.EPERM || descriptor === -errno.ELOOP)
    throw storageFailure(`${quote(path)} is no file of ours alone: move it away`)
  if (answered(descriptor, 'open', path, errno.ENOENT) < 0) return true
  const file = { calls, descriptor, path }
  try {
    const isHeld = calls.isHeld(descriptor)
    if (typeof isHeld === 'number') throw systemError(isHeld, 'fcntl', path)
    if (isHeld) {
      if (mayChange) end(all, clients, file, log)
      return mayChange
    }
    // Nobody writes to it any more.
    const { text, isWhole } = textOf(file)
    if (!isWhole) return { log, start: startIn(text) }
    const { start, states, isDamaged } = readLog(text, calls.checksum)
    if (isDamaged) return { log, start }
    const directory = start === undefined ? undefined : directoryOf(all, start)
    const lacking = directory === undefined ? new Map<string, string>() : lackingIn(directory, states)
    if (!mayChange) return lacking.size > 0 && settleOne(all, clients, log, true)
    if (directory !== undefined) {
      if (lacking.size > 0) redo(clients, file, log, directory, lacking)
      files.sync(directory)
    }
    remove(clients, file, log)
    // Before anything else is changed, nobody makes a change anew any more.
    if (files.lookAtName(redoName, clients) !== undefined) closeRedo(clients)
    return true
  } finally {
    calls.close(descriptor)
  }
}

/** @returns what the disk can read of it */
function textOf({ calls, descriptor, path }: File): { readonly text: string; readonly isWhole: boolean } {
  const parts: string[] = []
  for (;;) {
    const part = calls.readText(descriptor, 2 * blockSize)
    if (part === '' || part === -errno.EIO) return { text: parts.join(''), isWhole: part === '' }
    if (typeof part === 'number') throw systemError(part, 'read', path)
    parts.push(part)
  }
}

/** The log's entries are durable in their directory. */
function remove(clients: Directory, { calls, descriptor, path }: File, log: string): void {
  // Even if it seems to be empty: whoever emptied it may have been killed before that was durable.
  empty(calls, descriptor, path)
  files.remove(log, clients)
}

/** What of the states a directory does not have. */
function lackingIn(directory: Directory, states: States): States {
  const lacking: States = new Map()
  for (const [name, text] of states) {
    const now = files.linkAt(name, directory)
    if (text === undefined ? now !== 'absent' : typeof now !== 'object' || now.text !== text) lacking.set(name, text)
  }
  return lacking
}

/** Makes changes anew, unless another process has done it. */
function redo(clients: Directory, file: File, log: string, directory: Directory, lacking: States): void {
  for (let isDone = false; !isDone;) {
    files.makeDirectory(redoName, clients)
    const through = files.openDirectory(redoName, clients)
    if (through === 'other') throw noDirectory(clients)
    // Another process has removed it.
    if (through === 'absent') continue
    try {
      // Whoever removes the log removes that directory next. If this process has made it again since then, it is late.
      isDone = !isNamed(file, log, clients) || areBrought(lacking, directory, through)
    } finally {
      files.close(through)
    }
  }
}

/** Whether the name still leads to the open file. */
function isNamed({ calls, descriptor, path }: File, log: string, clients: Directory): boolean {
  const [there, open] = [files.lookAtName(log, clients), calls.fstat(descriptor)]
  if (typeof open === 'number') throw systemError(open, 'fstat', path)
  return there?.inode === open.inode && there.device === open.device
}

const noDirectory = (clients: Directory): Failed =>
  storageFailure(`${quote(`${clients.path}/${redoName}`)} is not a directory: move it away`)

/** @returns false, if somebody has removed the directory through which it is done */
function areBrought(lacking: States, directory: Directory, through: Directory): boolean {
  const { calls } = directory
  let count = 0
  for (const [name, text] of lackingIn(directory, lacking)) {
    // A person has put it there. It lets nobody reclaim.
    if (typeof files.directoryAt(name, directory) === 'object') continue
    const staged = `${String(calls.processId())}-${String(calls.now())}-${String(count++)}`
    if (text !== undefined) {
      if (!files.tolerating(['ENOENT'], () => files.makeLink(text, staged, through), false)) return false
      if (!files.move(staged, name, through, directory)) return false
    } else if (files.move(name, staged, directory, through)) files.remove(staged, through)
    else if (files.lookAtName(name, directory) !== undefined) return false
  }
  return true
}

/** From now on nobody makes a change anew. */
function closeRedo(clients: Directory): void {
  while (!files.removeIfEmpty(redoName, clients)) {
    const through = files.openDirectory(redoName, clients)
    if (typeof through !== 'object') continue
    try {
      for (const { name } of files.allIn(through, () => true)) files.remove(name, through)
    } finally {
      files.close(through)
    }
  }
}

/** Ends the log of a living holder: what it has is then durable in the instance's directory. */
function end(all: OpenDirectories, clients: Directory, file: File, log: string): void {
  const { calls, descriptor, path } = file
  answered(calls.fchmod(descriptor, endedMode), 'fchmod', path)
  const text = calls.readText(descriptor, blockSize)
  const start = typeof text === 'string' ? startIn(text) : undefined
  if (start === undefined) throw storageFailure(`${quote(path)} does not say of which instance it is`)
  const directory = directoryOf(all, start)
  if (directory !== undefined) files.sync(directory)
  remove(clients, file, log)
  // The holder may just be writing another entry. It will not answer by it, and it must not come back.
  files.sync(clients)
}
