/**
 * What `serve` has read once it need not read again: then GraceStart's list takes the names of a directory, and no
 * link.
 *
 * An instance's directory is known if this process has watched it (inotify(7)) since before it read all of its links,
 * has found each plain (the present format, no principal) or made it so, and if the watch has reported as many changes
 * as this process has made. The kernel reports a change before another process can see it, so the host looks at the
 * watch between reading names and believing them, and reads the links as soon as something is reported (`links` in
 * lib/syscalls/calls.ts). Of two equal reports in a row there is only one, which could hide that another process has
 * moved something over a record that was moved there: so what this process has moved is read after its report.
 *
 * It is a table of calls for the state directory, which counts what succeeds. So no change of ours is overlooked, one
 * that is not counted makes the directory be read, and an upcall has nothing of this.
 */
import type { Spelled } from '../bytes.ts'
import { hasPrincipal, isDigest, lineOf, readRecord } from '../rules/record.ts'
import { atFlags, type Calls } from '../syscalls/calls.ts'
import { errno } from '../syscalls/errno.ts'

/** An instance's directory, and what is known of it. */
interface Watched {
  /** Device, inode, owner and mode. */
  readonly identity: string
  /** The open directory; -1, if it is not open. */
  descriptor: number
  /** -1, if it is not watched. */
  watch: number
  /** How many changes this process has made that the watch has not been asked for. */
  changes: number
  /** Names that these changes have moved here, or ('gone') from here. */
  readonly moved: Map<string, 'here' | 'gone'>
  /** The descriptor by which it is being read; -1, if it is not. */
  reader: number
  isKnown: boolean
}

/** A line without a principal is shorter, unless it has the owner. */
const longestPlain = 60

/** A descriptor by which such a directory may be read. */
interface Reader {
  readonly watched: Watched
  /** Whether it was known when the reading began; undefined before that. */
  believes: boolean | undefined
}

/** Reports are asked for after so many changes: each takes some memory of the kernel's. */
const enoughChanges = 500
/** When there are more than this, asking costs more than reading. */
const mostChanges = 4096

export class KnownRecords {
  /** The table of calls by which the state directory must be changed. */
  readonly calls: Calls
  private readonly under: Calls
  private readonly byName = new Map<string, Watched>()
  /** By the descriptor of the open directory. */
  private readonly opened = new Map<number, Watched>()
  /** By their descriptors. */
  private readonly readers = new Map<number, Reader>()
  private changes = 0
  /** What is read beforehand. */
  private beforehand: Watched | undefined

  constructor(under: Calls) {
    this.under = under
    // The host's functions can't be enumerated, so they are inherited.
    this.calls = Object.assign(Object.create(under) as Calls, {
      openat: (within, name, flags, mode) => {
        const descriptor = under.openat(within, name, flags, mode)
        if (descriptor >= 0 && (flags & under.flags.O_DIRECTORY) !== 0) this.isOpened(within, name, descriptor)
        return descriptor
      },
      close: (descriptor) => {
        this.isClosed(descriptor)
        return under.close(descriptor)
      },
      symlinkat: (text, directory, name) => {
        const answer = under.symlinkat(text, directory, name)
        if (answer < 0) return answer
        const watched = this.changed(directory)
        // To look into each text would take a hundredth of a Create.
        if (watched !== undefined && text.length > longestPlain && !isDigest(name)) this.forget(watched)
        return answer
      },
      unlinkat: (directory, name, flags) => {
        const answer = under.unlinkat(directory, name, flags)
        if (answer < 0) return answer
        this.changed(directory)
        // Of an instance, perhaps: then its watch is to be closed.
        if (flags === atFlags.AT_REMOVEDIR) this.changes = enoughChanges
        return answer
      },
      renameat: (fromDirectory, from, toDirectory, to) => {
        const answer = under.renameat(fromDirectory, from, toDirectory, to)
        if (answer < 0) return answer
        this.changed(fromDirectory)?.moved.set(from, 'gone')
        this.changed(toDirectory)?.moved.set(to, 'here')
        return answer
      },
      links: (descriptor, patterns, mark) =>
        this.read(descriptor, (unchanged) => under.links(descriptor, patterns, mark, unchanged)),
    } satisfies Partial<Calls>)
  }

  /**
   * Reads the next entries of a directory.
   * @param next `links`, or another call that does more. It gets the watch, if links need not be read.
   */
  read<Found extends Spelled>(
    descriptor: number,
    next: (unchanged: number | undefined) => Found | number | undefined,
  ): Found | number | undefined {
    const reader = this.readers.get(descriptor)
    if (reader === undefined) return next(undefined)
    const { watched } = reader
    reader.believes ??= this.isKnownOrWatched(watched, descriptor)
    const found = next(reader.believes && watched.isKnown ? watched.watch : undefined)
    if (watched.reader !== descriptor) return found
    if (found === undefined) {
      watched.isKnown = true
      watched.reader = -1
    } else if (typeof found === 'number' || !this.arePlain(found)) this.forget(watched)
    return found
  }

  /**
   * Begins to read a directory, so that the next list need not. Nothing waits for that but the list. An error is left
   * to the list, which meets it again.
   * @param directory the descriptor of an open one
   */
  readBeforehand(directory: number, patterns: string, mark: string): void {
    const { under } = this
    const { O_RDONLY, O_DIRECTORY } = under.flags
    const watched = this.opened.get(directory)
    if (watched === undefined || watched.isKnown || this.beforehand !== undefined) return
    const reader = under.openat(directory, '.', O_RDONLY | O_DIRECTORY, 0)
    if (reader < 0) return
    this.forget(watched)
    watched.watch = under.watchNames(reader)
    if (under.readBeforehand(reader, patterns, mark) === 0) this.beforehand = watched
    else {
      this.forget(watched)
      under.close(reader)
    }
  }

  private endReadingBeforehand(): void {
    const watched = this.beforehand
    if (watched === undefined) return
    this.beforehand = undefined
    const arePlain = this.under.endReadingBeforehand()
    // It may have been forgotten meanwhile, and then its watch is closed.
    if (arePlain && watched.watch >= 0) watched.isKnown = true
    else this.forget(watched)
  }

  /** Asks for the reports of what this process has changed, if it is time. To be called when nobody waits. */
  settleIfDue(): void {
    if (this.changes >= enoughChanges) this.settle()
  }

  /** Asks for the reports of what this process has changed. */
  settle(): void {
    this.changes = 0
    for (const [name, watched] of this.byName) {
      if (watched.watch >= 0 && !this.isUnchanged(watched)) this.forget(watched)
      if (watched.watch < 0 && watched.descriptor < 0) this.byName.delete(name)
    }
  }

  /** Watches nothing any more: something that the server waits for needs the watches. */
  giveUp(): void {
    for (const watched of this.byName.values()) this.forget(watched)
  }

  private isOpened(within: number, name: string, descriptor: number): void {
    const above = name === '.' ? this.opened.get(within) : undefined
    if (above !== undefined) this.readers.set(descriptor, { watched: above, believes: undefined })
    const isInstance = name >= '0' && name < ':'
    if (!isInstance) return
    const identity = this.under.identityAt(descriptor, '.')
    if (typeof identity === 'number') return
    let watched = this.byName.get(name)
    if (watched?.identity !== identity) {
      if (watched !== undefined) this.forget(watched)
      watched = { identity, descriptor, watch: -1, changes: 0, moved: new Map(), reader: -1, isKnown: false }
      this.byName.set(name, watched)
    }
    watched.descriptor = descriptor
    this.opened.set(descriptor, watched)
  }

  private isClosed(descriptor: number): void {
    const watched = this.opened.get(descriptor)
    if (watched?.descriptor === descriptor) watched.descriptor = -1
    const read = this.readers.get(descriptor)?.watched
    if (read?.reader === descriptor) this.forget(read)
    this.opened.delete(descriptor)
    this.readers.delete(descriptor)
  }

  /** @returns what is watched there */
  private changed(directory: number): Watched | undefined {
    const watched = this.opened.get(directory)
    if (watched === undefined || watched.watch < 0) return undefined
    this.changes++
    if (++watched.changes > mostChanges) this.forget(watched)
    return watched
  }

  /** @returns whether a directory is known. If not, it is watched from now on, while it is read. */
  private isKnownOrWatched(watched: Watched, reader: number): boolean {
    this.endReadingBeforehand()
    if (watched.isKnown && this.isUnchanged(watched)) return true
    this.forget(watched)
    watched.watch = this.under.watchNames(reader)
    if (watched.watch >= 0) watched.reader = reader
    return false
  }

  private forget(watched: Watched): void {
    if (watched.watch >= 0) this.under.close(watched.watch)
    watched.watch = watched.reader = -1
    watched.changes = 0
    watched.moved.clear()
    watched.isKnown = false
  }

  /** Whether nothing has changed but what this process has, and that is plain. */
  private isUnchanged(watched: Watched): boolean {
    const { changes, moved, descriptor, watch } = watched
    watched.changes = 0
    if (this.under.namesChanged(watch) !== changes) return false
    for (const [name, where] of moved) if (!this.isAsMoved(descriptor, name, where)) return false
    moved.clear()
    return true
  }

  /** A name that is moved to another one of the same file stays: the kernel then does nothing, and reports nothing. */
  private isAsMoved(directory: number, name: string, where: 'here' | 'gone'): boolean {
    const text = this.under.readlinkat(directory, name)
    if (typeof text === 'number') return text === -errno.ENOENT
    if (where === 'gone') return false
    if (this.isReadAlways(name)) return true
    const record = readRecord(name, text, this.under)
    return typeof record === 'object' && !hasPrincipal(text) && text === lineOf(record.owner, record.facts, this.under)
  }

  private arePlain({ others }: Spelled): boolean {
    return others.every(({ name, decoded }) => decoded === undefined && this.isReadAlways(name))
  }

  /** Such a name does not tell the owner, so the host leaves it to its caller. */
  private isReadAlways(name: string): boolean {
    return this.under.percentDecoded(name) === undefined
  }
}
