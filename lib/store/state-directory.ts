/**
 * The state directory: what is where, who owns it, and in which format it is.
 *
 *     v4clients/
 *       format-2                  the format
 *       1795328616/               a server instance, named by its start: one record per client owner
 *       1795328616.partial        one of its marks (layout.ts has them all)
 *       damaged/                  what could not be understood, kept as evidence
 *       lock                      while an upcall decides
 *     boot_time, new_boot_time, old_boot_time: for people (views.ts); format 1 went by them (format1.ts)
 *
 * Marks are symbolic links: one call makes each, and removing one needs no space. Everything that decides is in
 * `v4clients`. It is opened once, must belong to us, and no other user may write to it. Every name that follows is in
 * it: the owner of a directory above can remove these names, but can't put others in their place.
 */
import { Failed, storageFailure } from '../failure.ts'
import { quote } from '../text.ts'
import { instanceFrom, startFromName, type InstanceFacts, type Start } from '../rules/instance.ts'
import type { Calls, DirectoryEntry } from '../syscalls/calls.ts'
import type { KernelBootTime } from '../upcall/request.ts'
import * as disk from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { lookAtFormat1 } from './format1.ts'
import { holderName } from './process.ts'
import { isMark, markOf, type Mark, type Recorded } from './layout.ts'

export interface StateDirectory {
  /** For absolute paths, in the system that the state directory is in. */
  readonly anywhere: Directory
  readonly path: string
  /** Where marks of starts that are on their way are kept: it must not be on the disk that may fail. */
  readonly runDirectory: string
  /** `v4clients`, for messages. */
  readonly clientsPath: string
  /** An instance's directory, for messages. */
  readonly pathOf: (start: Start) => string
  /** `v4clients`, open; undefined if it is not there. @throws Failed, if it is not a directory of ours alone. */
  readonly clients: () => Directory | undefined
  /**
   * An instance's directory, open; undefined if it is not there.
   * @throws Failed, if it is not a directory of ours alone.
   */
  readonly directoryOf: (start: Start) => Directory | undefined
  /** Directories have been made, or removed: they are opened anew. */
  readonly reopen: () => void
  /** This process, as the lock names it. */
  readonly holder: () => string
  /**
   * For whoever goes on living, between two pieces of work: directories stay open, and are used again if their names
   * still lead to them. An open directory keeps its inode, so no other one can be taken for it.
   */
  readonly rest: () => void
  /** For whoever goes on living: all that was ever opened is closed. */
  readonly close: () => void
  /** What {@link lookAt} has made of the names that it read last, and before: the lock comes and goes. */
  seen: readonly Seen[]
}

/** Names in `v4clients`, and what they say: the same names say the same. */
interface Seen {
  readonly names: string
  readonly recorded: Recorded
}

/** @param holder this process, where its name is known already. */
export function stateDirectory(calls: Calls, path: string, runDirectory: string, holder?: string): StateDirectory {
  const anywhere = disk.anywhere(calls)
  const clientsPath = `${path}/v4clients`
  const opened = new Map<Start | 'clients', Held>()
  /** Those whose names lead elsewhere. */
  const left: Held[] = []
  let work = 0
  const open = (which: Start | 'clients', within: Directory): Directory | undefined => {
    const known = opened.get(which)
    if (known?.lookedAtIn === work) return known.directory
    const name = which === 'clients' ? clientsPath : String(which)
    if (known !== undefined && isStillAt(known, name, within)) return known.directory
    if (known !== undefined) forget(which, known)
    const directory = disk.openDirectory(name, within)
    if (directory === 'absent') return undefined
    if (directory === 'other')
      throw notADirectory(
        within !== anywhere ? `${clientsPath}/${name}` : disk.kindAt(path, anywhere) === 'other' ? path : clientsPath,
      )
    const held: Held = { directory, identity: undefined, lookedAtIn: -1 }
    opened.set(which, held)
    assertOurs(directory)
    held.lookedAtIn = work
    return directory
  }
  const isStillAt = (held: Held, name: string, within: Directory): boolean => {
    if (held.identity === undefined) {
      const identity = disk.identityAt('.', held.directory)
      // Its owner and mode may be others than when it was opened.
      assertOurs(held.directory)
      held.identity = identity
    }
    const now = disk.identityAt(name, within)
    if (now === undefined || now !== held.identity) return false
    held.lookedAtIn = work
    return true
  }
  const forget = (which: Start | 'clients', held: Held): void => {
    opened.delete(which)
    left.push(held)
  }
  const clients = (): Directory | undefined => open('clients', anywhere)
  return {
    anywhere,
    path,
    runDirectory,
    clientsPath,
    pathOf: (start) => `${clientsPath}/${String(start)}`,
    clients,
    directoryOf: (start) => {
      const known = opened.get(start)
      if (known?.lookedAtIn === work) return known.directory
      const within = clients()
      return within === undefined ? undefined : open(start, within)
    },
    // Open directories stay open: a caller may still use one, and its descriptor must not become another file's.
    reopen: () => {
      for (const [which, held] of opened) forget(which, held)
    },
    holder: () => holder ?? holderName(anywhere),
    rest: () => {
      work++
      if (left.length > 0) for (const { directory } of left.splice(0)) disk.close(directory)
    },
    close: () => {
      for (const [which, held] of opened) forget(which, held)
      for (const { directory } of left.splice(0)) disk.close(directory)
    },
    seen: [],
  }
}

/** An open directory. */
interface Held {
  readonly directory: Directory
  /** Where it is ours alone; undefined before anybody has looked at its name again. */
  identity: string | undefined
  /** The piece of work in which its name was looked at last. */
  lookedAtIn: number
}

/** Who may put records here decides who may reclaim: nobody but us. */
function assertOurs(directory: Directory): void {
  const status = disk.statusOf(directory)
  if (disk.isOursAlone(status, directory)) return
  throw storageFailure(
    (status.mode & 0o022) === 0
      ? `${quote(directory.path)} belongs to another user (${status.uid})`
      : `${quote(directory.path)} is writable by others`,
  )
}

const notADirectory = (path: string): Failed => storageFailure(`${quote(path)} is not a directory`)

/** `v4clients`, where it must be there. @throws Failed. */
export function clientsOf(state: StateDirectory): Directory {
  const clients = state.clients()
  if (clients === undefined) throw storageFailure(`${quote(state.clientsPath)} is missing`)
  return clients
}

/** How this program keeps its records; a greater number was written by a newer one. */
const format = 2
const formatMark = `format-${format}`

/** Everything an upcall decides by, but for the records themselves. Small: it does not grow with them. */
export function lookAt(state: StateDirectory): Recorded {
  const clients = state.clients()
  if (clients === undefined) {
    const kind = disk.kindAt(state.path, state.anywhere)
    if (kind === 'absent') throw storageFailure(`state directory ${quote(state.path)} is missing`)
    if (kind === 'other') throw notADirectory(state.path)
    // Without it nothing is recorded, in either format.
    return { instance: { kind: 'none' }, starts: [], traces: [], marks: () => false, format: 2 }
  }
  const names = namesOf(clients)
  const last = state.seen[0]
  if (names === last?.names) return last.recorded
  const before = state.seen[1]
  if (last !== undefined && names === before?.names) {
    state.seen = [before, last]
    return before.recorded
  }
  const parts = names.split('/')
  const kinds = parts[0] ?? ''
  const recorded = recordedBy(parts, kinds, clients, state)
  // Another upcall may have converted it before the files were read: since then they are only for people.
  if (recorded.format === 1 && disk.lookAtName(formatMark, clients) !== undefined) return lookAt(state)
  // Format 1 goes by files as well, and what kind an entry is may have to be looked at.
  const isTold = recorded.format === 2 && !kinds.includes('u')
  state.seen = isTold ? [{ names, recorded }, ...(last === undefined ? [] : [last])] : []
  return recorded
}

/** @param parts the names follow the first. */
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
  const seen = {
    starts,
    traces: [...traces.values()],
    marks: (start: Start, mark: Mark) => marks.has(markOf(start, mark)),
  }
  if (found < format) return { ...seen, ...lookAtFormat1(state, seen), format: 1 }
  return { ...seen, instance: instanceFrom(facts), format: 2 }
}

const isDirectory = (kind: string | undefined, name: string, within: Directory): boolean =>
  kind === 'd' || (kind === 'u' && typeof disk.directoryAt(name, within) === 'object')

/** Every name in `v4clients`, of one moment. */
const namesOf = (clients: Directory): string => disk.namesAtOnce(clients) ?? disk.textOfNames(manyNamesOf(clients))

/**
 * Over several calls of getdents(2), a mark that is renamed meanwhile may be seen under neither name, so a long
 * directory is read until it reads the same twice: a mark is renamed only once.
 */
function manyNamesOf(clients: Directory): readonly DirectoryEntry[] {
  // What is no name of ours takes no memory, be it ever so much. The lock, which comes and goes with every upcall, is
  // none.
  const isOurs = ({ name }: DirectoryEntry): boolean => (name >= '0' && name < ':') || name.startsWith('format-')
  let entries = disk.allIn(clients, isOurs)
  for (;;) {
    const again = disk.allIn(clients, isOurs)
    const seen = new Set(entries.map(({ name }) => name))
    if (again.length === seen.size && again.every(({ name }) => seen.has(name))) return again
    entries = again
  }
}

/** Whether what the kernel's own tracker recorded counts: it is older than an instance that ran without us. */
export const legacyCounts = ({ instance, marks }: Pick<Recorded, 'instance' | 'marks'>): boolean =>
  !(instance.kind === 'partial' && instance.full !== undefined && marks(instance.full, 'untracked'))

/** The boot time that an instance's start was told. */
export function bootTimeOf(state: StateDirectory, start: Start): KernelBootTime | undefined {
  const clients = state.clients()
  const text = clients === undefined ? undefined : disk.readLink(markOf(start, 'grace_start'), clients)
  return text !== undefined && /^[0-9]{1,19}$/.test(text) ? text : undefined
}

/**
 * Makes the state directory and `v4clients`, with their parents, as far as they are missing. Durable when it returns.
 * Parents are for everybody to pass, since they are not ours alone.
 */
export function makeStateDirectory(state: StateDirectory): Directory {
  makeParents(state)
  const made = disk.makeDirectory(state.clientsPath, state.anywhere)
  if (made) state.reopen()
  const clients = clientsOf(state)
  if (made) {
    disk.makeLink('-', formatMark, clients)
    disk.sync(clients)
    syncStateDirectory(state)
  }
  return clients
}

/**
 * For whoever finds nothing recorded: another process may have made what is there, and not have come to its barrier.
 * Durable when it returns. Each parent above was durable before the next was made.
 */
export function syncStateDirectory({ path, anywhere }: StateDirectory): void {
  disk.syncDirectory(path, anywhere)
  disk.syncDirectory(disk.parentOf(path), anywhere)
}

/** From here on this directory is in the present format. The caller makes it durable. */
export const markFormat = (clients: Directory): void => {
  disk.makeLink('-', formatMark, clients)
}

/** Without recursion: a path may have two thousand parts, and the stack has no space for as many calls. */
function makeParents({ path, anywhere }: StateDirectory): void {
  const missing: string[] = []
  for (let at = path; ; at = disk.parentOf(at)) {
    const kind = disk.kindAt(at, anywhere)
    if (kind === 'other') throw notADirectory(at)
    if (kind === 'directory') {
      // Whoever has made it may have been killed before its sync.
      if (missing.length > 0) disk.syncDirectory(disk.parentOf(at), anywhere)
      break
    }
    missing.push(at)
  }
  for (let at = missing.pop(); at !== undefined; at = missing.pop())
    if (disk.makeDirectory(at, anywhere, 0o755)) disk.syncDirectory(disk.parentOf(at), anywhere)
    else if (disk.kindAt(at, anywhere) === 'absent') throw storageFailure(`${quote(at)} is a link that leads nowhere`)
}

/** A directory for what can't be understood; what stands in its place stays where it is, under another name. */
function evidenceIn(clients: Directory): Directory {
  for (;;) {
    const opened = disk.openDirectory('damaged', clients)
    if (typeof opened === 'object') return opened
    if (opened === 'absent') disk.makeDirectory('damaged', clients)
    else disk.move('damaged', freshName('not-a-directory', clients), clients)
  }
}

/**
 * Moves something that can't be understood out of the way, and keeps it. Nothing that
 * is kept is ever replaced. @returns its new name, or undefined if it was gone.
 */
export function setAside(state: StateDirectory, name: string, within: Directory, label: string): string | undefined {
  const evidence = evidenceIn(clientsOf(state))
  try {
    const kept = freshName(label, evidence)
    return disk.move(name, kept, within, evidence) ? kept : undefined
  } finally {
    disk.close(evidence)
  }
}

/**
 * A name that nothing has, for people to recognise what it was. Whoever looks at the same moment is another process, so
 * it takes another name.
 */
function freshName(label: string, within: Directory): string {
  const readable = label.replace(/[^!-~]|[/]/g, '?').slice(0, 180)
  for (let count = 0; ; count++) {
    const name = `${readable}.${within.calls.now()}.${within.calls.processId()}.${count}`
    if (disk.lookAtName(name, within) === undefined) return name
  }
}
