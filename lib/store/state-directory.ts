/**
 * The state directory: what is where, who owns it, and in which format it is.
 *
 *     v4clients/
 *       format-2                  the format
 *       1795328616/               a server instance, named by its start: one record per client owner
 *       1795328616.partial        one of its marks (layout.ts has them all)
 *       damaged/                  what could not be understood, kept as evidence
 *       lock                      while an upcall decides
 *       intent-log.1234.…         changes of `serve` that the file system may not have committed yet (intent-log.ts)
 *     boot_time, new_boot_time, old_boot_time: for people (views.ts); format 1 went by them (format1.ts)
 *
 * Marks are symbolic links: one call makes each, and removing one needs no space. Everything that decides is in
 * `v4clients`. It is opened once, must belong to us, and no other user may write to it. Every name that follows is in
 * it: the owner of a directory above can remove these names, but can't put others in their place.
 */
import { storageFailure } from '../failure.ts'
import { instanceFrom, startFromName, type InstanceFacts, type Start } from '../rules/instance.ts'
import type { Calls, DirectoryEntry } from '../syscalls/calls.ts'
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { quote } from '../text.ts'
import type { ClientOwner } from '../upcall/owner.ts'
import type { KernelBootTime } from '../upcall/request.ts'
import { lookAtFormat1 } from './format1.ts'
import { settleLogs, type OwnIntentLog } from './intent-log.ts'
import { intentLogPrefix, isMark, lockName, markOf, type Mark, type Recorded } from './layout.ts'
import { notADirectory, openAnew, openClients, type OpenDirectories } from './open-directories.ts'
import { holderName } from './process.ts'
import { distrust } from './untracked.ts'

export interface StateDirectory extends OpenDirectories {
  /** Where the marks of starts are kept (untracked.ts). It must not be on the same disk, which may fail. */
  readonly runDirectory: string
  /** The name of this process in locks and notes; undefined, if it is not known yet ({@link holderOf}). */
  us: string | undefined
  /** The path of the directory of notes (begun.ts), if it has been asked for. */
  notesPath: string | undefined
  /** The directory of notes, if it has been opened. */
  notes: Directory | undefined
  /** The client about whom this upcall has left no note (begun.ts). */
  forgotten: ClientOwner | undefined
  /** What {@link lookAt} has read last. */
  seen: Seen | undefined
  /** The intent log that this process holds, if it does: only `serve` does. */
  intents: OwnIntentLog | undefined
}

/** Names in `v4clients`, and what they mean. Equal names always mean the same. */
interface Seen {
  readonly names: string
  readonly recorded: Recorded
}

/** @param us the name of this process, if the caller knows it */
export const stateDirectory = (calls: Calls, path: string, runDirectory: string, us?: string): StateDirectory => ({
  anywhere: files.anywhere(calls),
  path,
  clientsPath: `${path}/v4clients`,
  clients: undefined,
  instances: new Map(),
  left: [],
  work: 0,
  runDirectory,
  us,
  notesPath: undefined,
  notes: undefined,
  forgotten: undefined,
  seen: undefined,
  intents: undefined,
})

/** The name of this process in locks and notes. */
export const holderOf = (state: StateDirectory): string => (state.us ??= holderName(state.anywhere))

/** `v4clients`. @throws Failed, if it does not exist. */
export function clientsOf(state: StateDirectory): Directory {
  const clients = openClients(state)
  if (clients === undefined) throw storageFailure(`${quote(state.clientsPath)} is missing`)
  return clients
}

/** The format that this program writes. A newer version of it may write a greater one. */
const format = 2
const formatMark = `format-${format}`

/**
 * Everything that an upcall decides by, except the records. Its size does not depend on how many there are. What
 * another process has in an intent log is durable in its directory then, so this process may change what it finds.
 */
export const lookAt = (state: StateDirectory): Recorded => look(state, 'to change')

/** The same for a process that only reads: `serve` goes on with its intent log. */
export const glanceAt = (state: StateDirectory): Recorded => look(state, 'to read')

/** The same as if there were no intent log, so that it takes no time to settle one: nothing must be answered by it. */
export const lookAhead = (state: StateDirectory): Recorded => look(state, 'ahead')

function look(state: StateDirectory, how: 'to change' | 'to read' | 'ahead'): Recorded {
  const clients = openClients(state)
  if (clients === undefined) {
    const kind = files.kindAt(state.path, state.anywhere)
    if (kind === 'absent') throw storageFailure(`state directory ${quote(state.path)} is missing: is its disk mounted?`)
    if (kind === 'other') throw notADirectory(state.path)
    // Without it nothing is recorded, in either format.
    return { instance: { kind: 'none' }, starts: [], traces: [], marks: () => false, isUnconfirmed: false, format: 2 }
  }
  const names = namesOf(clients)
  if (names === state.seen?.names) return state.seen.recorded
  const hasLog = names.includes(intentLogPrefix)
  if (hasLog && how !== 'ahead' && isSettled(state, clients, names, how === 'to change')) return look(state, how)
  const parts = names.split('/')
  const kinds = parts[0] ?? ''
  const recorded = recordedBy(parts, kinds, clients, state)
  // Another upcall may have converted the directory before the files were read. Then the files mean nothing any more.
  if (recorded.format === 1 && files.lookAtName(formatMark, clients) !== undefined) return look(state, how)
  // Format 1 depends on files too, an entry of unknown kind on what it is, and another process's intent log on who
  // holds it: names alone do not tell those.
  const isTold = recorded.format === 2 && !kinds.includes('u') && (!hasLog || state.intents !== undefined)
  state.seen = isTold ? { names, recorded } : undefined
  return recorded
}

/**
 * Settles the intent logs of other processes.
 * @returns whether it has changed anything
 * @throws Failed, if one is damaged. Then it is kept as evidence, with the instance's directory: a client that was
 * removed could reclaim by what is in there. The next look finds neither.
 */
function isSettled(state: StateDirectory, clients: Directory, names: string, mayChange: boolean): boolean {
  const own = state.intents?.name
  const others = names.split('/').filter((name) => name.startsWith(intentLogPrefix) && name !== own)
  if (others.length === 0) return false
  const settled = settleLogs(state, clients, others, mayChange)
  if (typeof settled === 'boolean') return settled
  const { log, start } = settled
  const kept = start === undefined ? [log] : [String(start), log]
  for (const name of kept) {
    setAside(state, name, clients, name)
    // The log stays until nobody can believe the records.
    files.sync(clients)
  }
  openAnew(state)
  // Whoever meets this may keep it to himself. The next start does not.
  distrust(state, 'start')
  throw storageFailure(
    `${quote(`${clients.path}/${log}`)} can't be understood, so the records of that instance can't be believed: ` +
      'its clients may not reclaim; both are kept in damaged/',
  )
}

/** @param parts the kinds of the entries as one text, then their names */
function recordedBy(parts: readonly string[], kinds: string, clients: Directory, state: StateDirectory): Recorded {
  const starts: Start[] = []
  /** By how they are spelled: an instance has some names, and to read each anew would be a seventieth of a check. */
  const traces = new Map<string, Start>()
  const facts: InstanceFacts[] = []
  const marks = new Set<string>()
  let found = 1
  for (let at = 1; at < parts.length; at++) {
    const name = parts[at] ?? ''
    if (name === formatMark) {
      found = Math.max(found, format)
      continue
    }
    if (name.startsWith('format-')) {
      found = Math.max(found, Number(/^format-([1-9][0-9]{0,8})$/.exec(name)?.[1] ?? 1))
      continue
    }
    const dot = name.indexOf('.')
    const spelled = dot < 0 ? name : name.slice(0, dot)
    const start = traces.get(spelled) ?? startFromName(spelled)
    const mark = dot < 0 ? undefined : name.slice(dot + 1)
    if (start === undefined || (mark !== undefined && !isMark(mark) && !/^[a-z_]+$/.test(mark))) continue
    traces.set(spelled, start)
    if (mark === 'full' || mark === 'partial') facts.push({ start, full: mark === 'full' })
    if (mark !== undefined) marks.add(name)
    else if (isDirectory(kinds[at - 1], name, clients)) starts.push(start)
  }
  if (found > format)
    throw storageFailure(
      `${quote(state.clientsPath)} is in format ${found}, which a newer program wrote: ` +
        `this one reads formats up to ${format}`,
    )
  starts.sort((a, b) => a - b)
  const seen = { instance: instanceFrom(facts), marks: (start: Start, mark: Mark) => marks.has(markOf(start, mark)) }
  const { instance, marks: has } = found < format ? lookAtFormat1(state, seen) : seen
  return {
    instance,
    starts,
    traces: [...traces.values()],
    marks: has,
    isUnconfirmed: instance.kind === 'full' && has(instance.start, 'unconfirmed'),
    format: found < format ? 1 : 2,
  }
}

const isDirectory = (kind: string | undefined, name: string, within: Directory): boolean =>
  kind === 'd' || (kind === 'u' && typeof files.directoryAt(name, within) === 'object')

/** A consistent snapshot of all names in `v4clients` but the lock's: with the lock and without it they are the same. */
const namesOf = (clients: Directory): string =>
  files.namesAtOnce(clients, lockName) ?? files.textOfNames(manyNamesOf(clients))

/**
 * A long directory takes several getdents(2) calls. A mark that is renamed between them may appear under neither name.
 * So the directory is read until two reads are equal: a mark is renamed only once.
 */
function manyNamesOf(clients: Directory): readonly DirectoryEntry[] {
  // Only names of this program are kept, because there may be any number of others. The lock is left out, because every
  // upcall makes and removes it.
  const isOurs = ({ name }: DirectoryEntry): boolean =>
    (name >= '0' && name < ':') || name.startsWith('format-') || name.startsWith(intentLogPrefix)
  let entries = files.allIn(clients, isOurs)
  for (;;) {
    const again = files.allIn(clients, isOurs)
    const seen = new Set(entries.map(({ name }) => name))
    if (again.length === seen.size && again.every(({ name }) => seen.has(name))) return again
    entries = again
  }
}

/**
 * Whether the records of the kernel's own tracker count. They are older than every instance, so not after one that ran
 * without us.
 */
export const legacyCounts = ({ instance, marks }: Pick<Recorded, 'instance' | 'marks'>): boolean =>
  !(instance.kind === 'partial' && instance.full !== undefined && marks(instance.full, 'untracked'))

/** The boot time that the kernel gave at the start of an instance. */
export function bootTimeOf(state: StateDirectory, start: Start): KernelBootTime | undefined {
  const clients = openClients(state)
  const text = clients === undefined ? undefined : files.readLink(markOf(start, 'grace_start'), clients)
  return text !== undefined && /^[0-9]{1,19}$/.test(text) ? text : undefined
}

/**
 * Makes the state directory and `v4clients`, with their parents, as far as they are missing. Durable when it returns.
 * Everybody may pass through the parents, because they are not ours alone.
 */
export function makeStateDirectory(state: StateDirectory): Directory {
  makeParents(state)
  const made = files.makeDirectory(state.clientsPath, state.anywhere)
  if (made) openAnew(state)
  const clients = clientsOf(state)
  if (made) {
    files.makeLink('-', formatMark, clients)
    files.sync(clients)
    syncStateDirectory(state)
  }
  return clients
}

/**
 * To be called if nothing is recorded: another process may have made the directories and been killed before its
 * barrier. Durable when it returns. Parents need no barrier: each was durable before the next was made.
 */
export function syncStateDirectory({ path, anywhere }: StateDirectory): void {
  files.syncDirectory(path, anywhere)
  files.syncDirectory(files.parentOf(path), anywhere)
}

/** Marks the directory as format 2. The caller makes that durable. */
export const markFormat = (clients: Directory): void => {
  files.makeLink('-', formatMark, clients)
}

/** A loop: a path may have two thousand parts, too many for recursion on this stack. */
function makeParents({ path, anywhere }: StateDirectory): void {
  const missing: string[] = []
  for (let at = path; ; at = files.parentOf(at)) {
    const kind = files.kindAt(at, anywhere)
    if (kind === 'other') throw notADirectory(at)
    if (kind === 'directory') {
      // The process that made it may have been killed before its sync.
      if (missing.length > 0) files.syncDirectory(files.parentOf(at), anywhere)
      break
    }
    missing.push(at)
  }
  for (let at = missing.pop(); at !== undefined; at = missing.pop())
    if (files.makeDirectory(at, anywhere, 0o755)) files.syncDirectory(files.parentOf(at), anywhere)
    else if (files.kindAt(at, anywhere) === 'absent') throw storageFailure(`${quote(at)} is a link that leads nowhere`)
}

/** The directory for what can't be understood. If something else has its name, that is renamed. */
function evidenceIn(clients: Directory): Directory {
  for (;;) {
    const opened = files.openDirectory('damaged', clients)
    if (typeof opened === 'object') return opened
    if (opened === 'absent') files.makeDirectory('damaged', clients)
    else files.move('damaged', freshName('not-a-directory', clients), clients)
  }
}

/**
 * Moves an entry that can't be understood out of the way and keeps it. It never replaces another one. @returns its new
 * name, or undefined if it was gone.
 */
export function setAside(state: StateDirectory, name: string, within: Directory, label: string): string | undefined {
  const evidence = evidenceIn(clientsOf(state))
  try {
    const kept = freshName(label, evidence)
    return files.move(name, kept, within, evidence) ? kept : undefined
  } finally {
    files.close(evidence)
  }
}

/**
 * Keeps a copy of an entry that can't be understood, by a second name. The entry itself stays until something replaces
 * it. @returns false, if there can be no second name: for a directory, or on a file system that has none.
 */
export function copyAside(state: StateDirectory, name: string, within: Directory, label: string): boolean {
  const evidence = evidenceIn(clientsOf(state))
  try {
    return files.tolerating(
      ['EPERM', 'EOPNOTSUPP', 'EMLINK'],
      () => files.makeHardLink(name, freshName(label, evidence), within, evidence),
      false,
    )
  } finally {
    files.close(evidence)
  }
}

/**
 * An unused name that tells people what the entry was. It contains the process id, so two processes never choose the
 * same one.
 */
function freshName(label: string, within: Directory): string {
  const readable = label.replace(/[^!-~]|[/]/g, '?').slice(0, 180)
  for (let count = 0; ; count++) {
    const name = `${readable}.${within.calls.now()}.${within.calls.processId()}.${count}`
    if (files.lookAtName(name, within) === undefined) return name
  }
}
