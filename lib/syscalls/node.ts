/**
 * The kernel's calls by Node's file system module: what the bundle has.
 *
 * Node has no openat(2). `/proc/self/fd/N` leads to the very directory that is open as N, whatever has become of its
 * path, and a name after it is looked up there: so this promises the same, where /proc is mounted.
 */
import fs, { existsSync, type Dir, type Stats } from 'node:fs'
import { bytesInto, bytesOf, crc32, percentDecoded, percentEncode, spelledAs, textOf, writeEach } from '../bytes.ts'
import { atFlags, type Calls, type DirectoryEntry, type Status } from './calls.ts'
import { assertSayable, errno, unsayable } from './errno.ts'
import { textOfNames } from './files.ts'

/** How many entries of a directory are read at a time. */
const batch = 512
/** If the text of that many names is no longer than this, Node has surely read them by one call of the kernel's. */
const surelyOneCall = 4096

export const nodeCalls = (): Calls => ({
  flags,
  ...files,
  ...directoryReader(),
  ...ownProcess,
  ...withoutTheKernel,
  ...onlyInTheExecutable,
})

const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_NONBLOCK, O_DIRECTORY, O_NOFOLLOW } = fs.constants
const flags = { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_NONBLOCK, O_DIRECTORY, O_NOFOLLOW }

const writeBytes = (descriptor: number, bytes: Uint8Array): number => answer(() => fs.writeSync(descriptor, bytes))

const files = {
  openat: (directory, name, flags, mode) => answer(fs.openSync, pathIn(directory, name), flags, mode),
  read: (descriptor, into) => answer(() => fs.readSync(descriptor, into, 0, into.length, null)),
  readText: (descriptor, most) =>
    answer(() => {
      const into = Buffer.alloc(most)
      return into.toString('latin1', 0, fs.readSync(descriptor, into, 0, most, null))
    }),
  write: writeBytes,
  writeEach: (descriptor, message, at, room, texts, from, until) =>
    writeEach(() => writeBytes(descriptor, message), message, at, room, texts, from, until),
  writeAt: (descriptor, text, at) => {
    const bytes = bytesOf(text)
    // Node takes such an offset for none.
    return at < 0 ? -errno.EINVAL : answer(() => fs.writeSync(descriptor, bytes, 0, bytes.length, at))
  },
  fsync: (descriptor) => done(fs.fsyncSync, descriptor),
  fdatasync: (descriptor) => done(fs.fdatasyncSync, descriptor),
  fchmod: (descriptor, mode) => done(fs.fchmodSync, descriptor, mode),
  mkdirat: (directory, name, mode) => done(fs.mkdirSync, pathIn(directory, name), mode),
  unlinkat: (directory, name, flags) =>
    done((flags & atFlags.AT_REMOVEDIR) !== 0 ? fs.rmdirSync : fs.unlinkSync, pathIn(directory, name)),
  renameat: (fromDirectory, from, toDirectory, to) =>
    done(fs.renameSync, pathIn(fromDirectory, from), pathIn(toDirectory, to)),
  linkat: (fromDirectory, existing, toDirectory, name) =>
    done(fs.linkSync, pathIn(fromDirectory, existing), pathIn(toDirectory, name)),
  symlinkat: (text, directory, name) => done(fs.symlinkSync, bytesOfWord(text), pathIn(directory, name)),
  readlinkat: (directory, name) => answer(() => fs.readlinkSync(pathIn(directory, name), 'latin1')),
  fstatat: (directory, name, flags) =>
    answer(() => {
      const path = pathIn(directory, name)
      return status((flags & atFlags.AT_SYMLINK_NOFOLLOW) !== 0 ? fs.lstatSync(path) : fs.statSync(path))
    }),
  fstat: (descriptor) => answer(() => status(fs.fstatSync(descriptor))),
  isHeld: (descriptor) =>
    answer(() => {
      const { dev, ino } = fs.fstatSync(descriptor, { bigint: true })
      // As the C library composes the two (sys/sysmacros.h), and the kernel shows them (fs/locks.c, lock_get_status).
      const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn)
      const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn)
      const place = ` ${twoDigits(major)}:${twoDigits(minor)}:${ino} `
      const locks = fs.readFileSync('/proc/locks', 'latin1').split('\n')
      return locks.some((lock) => lock.includes(' OFDLCK ') && lock.includes(place) && !lock.includes(' -> '))
    }),
  identityAt: (directory, name) =>
    answer(() => {
      const { dev, ino, uid, mode } = fs.lstatSync(pathIn(directory, name), { bigint: true })
      return `${dev} ${ino} ${uid} ${mode}`
    }),
} satisfies Partial<Calls>

/** The calls that read directories, and `close`, which ends that. */
function directoryReader(): Pick<Calls, 'entries' | 'links' | 'writeLinks' | 'names' | 'close'> {
  /** What Node reads a directory by, for each descriptor that is being read. */
  const reading = new Map<number, Dir>()

  const nextEntries = (descriptor: number): DirectoryEntry[] => {
    const directory =
      reading.get(descriptor) ??
      fs.opendirSync(`/proc/self/fd/${descriptor}`, { encoding: 'latin1', bufferSize: batch } as object)
    reading.set(descriptor, directory)
    const found: DirectoryEntry[] = []
    for (let entry = directory.readSync(); entry !== null; entry = found.length < batch ? directory.readSync() : null)
      found.push({
        name: entry.name,
        kind: entry.isDirectory() ? 'directory' : entry.isSymbolicLink() ? 'link' : 'other',
      })
    return found
  }
  const stopReading = (descriptor: number): void => {
    reading.get(descriptor)?.closeSync()
    reading.delete(descriptor)
  }

  const nextOrNone = (descriptor: number): DirectoryEntry[] => {
    const found = nextEntries(descriptor)
    if (found.length === 0) stopReading(descriptor)
    return found
  }

  const links: Calls['links'] = (descriptor, patterns, mark) =>
    answer(() => {
      const names = nextOrNone(descriptor).map(({ name }) => name)
      const texts = names.map((name) => files.readlinkat(descriptor, name))
      return names.length === 0 ? undefined : spelledAs(names, texts, patterns, mark)
    })

  return {
    entries: (descriptor) => answer(() => textOfNames(nextOrNone(descriptor))),
    links,
    writeLinks: writeLinksBy({ links, writeEach: files.writeEach, monotonic: ownProcess.monotonic }),
    names: (descriptor, _again, except) =>
      answer(() => {
        stopReading(descriptor)
        const names = textOfNames(nextEntries(descriptor).filter(({ name }) => name !== except))
        stopReading(descriptor)
        return names.length <= surelyOneCall ? names : -errno.E2BIG
      }),
    close: (descriptor) =>
      done(() => {
        stopReading(descriptor)
        fs.closeSync(descriptor)
      }),
  }
}

const twoDigits = (number: bigint): string => number.toString(16).padStart(2, '0')

const neverWritten = new Int32Array(new SharedArrayBuffer(4))

const ownProcess = {
  umask: (mask) => {
    process.umask(mask)
  },
  sleep: (milliseconds) => {
    Atomics.wait(neverWritten, 0, 0, milliseconds)
  },
  now: Date.now,
  monotonic: () => performance.now(),
  processId: () => process.pid,
  userId: () => process.geteuid?.() ?? -1,
  isTerminal: (descriptor) => process.getBuiltinModule('node:tty').isatty(descriptor),
  exit: (code) => process.exit(code),
} satisfies Partial<Calls>

/** Calls that need no kernel. The host in C has faster ones. */
export const withoutTheKernel = {
  checksum: crc32,
  sha256: (text) => process.getBuiltinModule('node:crypto').createHash('sha256').update(bytesOf(text)).digest('hex'),
  bytesInto,
  textOf,
  percentEncoded: percentEncode,
  percentDecoded,
} satisfies Partial<Calls>

/** `writeLinks` by other calls. The host in C has a faster one. */
export const writeLinksBy =
  (calls: Pick<Calls, 'links' | 'writeEach' | 'monotonic'>): Calls['writeLinks'] =>
  (directory, patterns, mark, unchanged, descriptor, message, at, room, excepted, longest) => {
    const found = calls.links(directory, patterns, mark, unchanged)
    if (typeof found !== 'object') return found
    const left: string[] = []
    let isOver = false
    const began = calls.monotonic()
    for (const text of found.plain) {
      const isWanted: boolean = !isOver && text.length <= room && !text.startsWith(excepted)
      if (isWanted && calls.writeEach(descriptor, message, at, room, [text], 0, 1) > 0)
        isOver = calls.monotonic() - began > longest
      else {
        left.push(text)
        isOver ||= isWanted
      }
    }
    const took = calls.monotonic() - began
    return { plain: left, others: found.others, written: found.plain.length - left.length, took }
  }

/** Node has none of these calls. */
export const onlyInTheExecutable = {
  alarm: () => undefined,
  confine: () => 0,
  poll: () => -errno.ENOSYS,
  watch: () => -errno.ENOSYS,
  watchNames: () => -errno.ENOSYS,
  namesChanged: () => -errno.ENOSYS,
  readBeforehand: () => -errno.ENOSYS,
  endReadingBeforehand: () => false,
  endSignals: () => -errno.ENOSYS,
  connect: () => -errno.ENOSYS,
  flock: () => -errno.ENOSYS,
  hold: () => -errno.ENOSYS,
  isWrittenInPlace: () => false,
} satisfies Partial<Calls>

/** Whether /proc is mounted: looked up once. */
let procIsThere = false

/** A name in an open directory, as a path for Node. */
function pathIn(directory: number, name: string): Buffer {
  if (directory === atFlags.AT_FDCWD || name.startsWith('/')) return bytesOfWord(name)
  if (!(procIsThere ||= existsSync('/proc/self/fd'))) throw withoutProc(name)
  return bytesOfWord(`/proc/self/fd/${directory}/${name}`)
}

/** Node takes paths as bytes. */
function bytesOfWord(word: string): Buffer {
  assertSayable(word)
  return Buffer.from(word, 'latin1')
}

/** Thrown, because as an answer ENOENT would mean that the name is missing. */
const withoutProc = (name: string): Error =>
  Object.assign(new Error('no /proc'), {
    code: 'ENOSYS',
    syscall: 'open (for which Node needs /proc, and it is not mounted)',
    path: name,
  })

/**
 * What Node returns, or else the negated errno of what it throws.
 * @throws what has no errno of the kernel's: a word that can't be said to it, or a mistake in this program.
 */
function answer<T, Given extends unknown[]>(call: (...given: Given) => T, ...given: Given): T | number {
  try {
    return call(...given)
  } catch (thrown) {
    const { errno: number, syscall } = thrown as NodeJS.ErrnoException
    if (number === undefined || syscall === unsayable) throw thrown
    return number
  }
}

/** 0, or else the negated errno. */
const done = <Given extends unknown[]>(call: (...given: Given) => void, ...given: Given): number =>
  answer(() => {
    call(...given)
    return 0
  })

const status = (stats: Stats): Status => ({
  kind: stats.isDirectory() ? 'directory' : stats.isFile() ? 'file' : stats.isSymbolicLink() ? 'link' : 'other',
  uid: stats.uid,
  mode: stats.mode & 0o7777,
  mtime: Math.floor(stats.mtimeMs / 1000),
  device: stats.dev,
  inode: stats.ino,
})
