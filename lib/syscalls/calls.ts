/**
 * The system calls that an upcall makes. Nothing else in it touches the system.
 *
 * Each returns what the kernel returns: zero or more, or a negated errno. So a name that does not exist is a return
 * value, not an exception. All calls are synchronous: the order in which they are written is the order in which a
 * process can die between them.
 *
 * Paths, names and texts are bytes: each character stands for one byte (0 to 255), so bytes that are not UTF-8 survive.
 * A word that contains a NUL, or a character past 255, can't be passed to the kernel. EINVAL is thrown for it, and
 * nothing else is ever thrown.
 *
 * A name is looked up in an open directory (openat(2) and similar calls), so the owner of a directory further up can't
 * redirect the lookup. Absolute paths are passed with AT_FDCWD.
 */
import type { Spelled, Written } from '../bytes.ts'

export interface Calls {
  /** Their values on this machine: some differ between processors. */
  readonly flags: Flags
  /** Every descriptor is closed on exec. @param flags of open(2). @returns a descriptor. */
  readonly openat: (directory: number, name: string, flags: number, mode: number) => number
  /** @returns how many bytes were read; 0 at the end. */
  readonly read: (descriptor: number, into: Uint8Array) => number
  /** @param most bytes to read, at most 8192. @returns what was read. */
  readonly readText: (descriptor: number, most: number) => string | number
  /** @returns how many bytes were written. */
  readonly write: (descriptor: number, bytes: Uint8Array) => number
  /**
   * Writes a message once for each text from `from` to before `until`, which is put into it before: at `at` its length,
   * a number of two bytes in the machine's order, and then, where there is room for `room` bytes, its own. Where the
   * last text was longer, zeros follow.
   * @returns how many were written. The message is then the one that could not be, if there is one.
   * @throws RangeError for a character past 255, or if a text does not fit.
   */
  readonly writeEach: (
    descriptor: number,
    message: Uint8Array,
    at: number,
    room: number,
    texts: readonly string[],
    from: number,
    until: number,
  ) => number
  /**
   * pwrite(2): writes a text's bytes where it is told, whatever is there, and moves nothing.
   * @param at an offset in bytes, below 2 GB
   * @returns how many bytes were written.
   * @throws RangeError for a character past 255.
   */
  readonly writeAt: (descriptor: number, text: string, at: number) => number
  readonly fsync: (descriptor: number) => number
  /** The same for a file's bytes and what it takes to read them: its times may be lost. */
  readonly fdatasync: (descriptor: number) => number
  /** After `confine` -EPERM for a mode that gives anybody but the owner a right. */
  readonly fchmod: (descriptor: number, mode: number) => number
  /**
   * Whether a file system with a journal has this file, and writes what is overwritten in its place: ext4 or XFS
   * (fstatfs(2), which says the same of ext2 and ext3). After `confine` only with `waits`: otherwise false, as in Node.
   */
  readonly isWrittenInPlace: (descriptor: number) => boolean
  readonly close: (descriptor: number) => number
  readonly mkdirat: (directory: number, name: string, mode: number) => number
  /** @param flags 0, or AT_REMOVEDIR for a directory. */
  readonly unlinkat: (directory: number, name: string, flags: number) => number
  readonly renameat: (fromDirectory: number, from: string, toDirectory: number, to: string) => number
  readonly linkat: (fromDirectory: number, existing: string, toDirectory: number, name: string) => number
  readonly symlinkat: (text: string, directory: number, name: string) => number
  /** @returns a symbolic link's text. */
  readonly readlinkat: (directory: number, name: string) => string | number
  /** @param flags 0, or AT_SYMLINK_NOFOLLOW for the link itself. */
  readonly fstatat: (directory: number, name: string, flags: number) => Status | number
  readonly fstat: (descriptor: number) => Status | number
  /**
   * fstatat(2) of a name, links not followed, as one text to compare: device, inode, owner and mode. If two texts are
   * equal, it is the same file with the same rights.
   */
  readonly identityAt: (directory: number, name: string) => string | number
  /**
   * The next entries of an open directory, without `.` and `..`, in the format of `names`; '' at the end. Never all at
   * once, because a directory may hold millions.
   */
  readonly entries: (descriptor: number) => string | number
  /**
   * All names in a small directory, as one text: a letter for each one's kind (`l`ink, `d`irectory, `o`ther,
   * `u`nknown), then each name after a `/`. One getdents(2) is a consistent snapshot, because the kernel holds the
   * directory's lock (fs/readdir.c, iterate_dir).
   * @param again whether this descriptor was read before.
   * @param except a name that is left out
   * @returns -E2BIG, if one getdents(2) is not enough.
   */
  readonly names: (descriptor: number, again: boolean, except: string) => string | number
  /**
   * The next entries of an open directory, and which of them are symbolic links with a text that is spelled in a
   * certain way and has the right checksum. Such a text is as one of the patterns says. Then come `mark`, the checksum
   * of the percent-decoded name and of what the pattern covers, and nothing else. It has at most 255 bytes, and the
   * name does not begin with a dot. The host reads a large directory ahead of its caller. So a descriptor that is read
   * by this call must not be read by another, but from its beginning.
   * @param patterns ASCII, a line break between two of them; the same for all of a directory. Consecutive `#` stand for
   * a decimal number of at most as many digits, without leading zeros; `*` for a lowercase hex digit; each other
   * character for itself.
   * @param unchanged a descriptor of `watchNames`, if every link with a name that can be decoded has such a text,
   * without hex digits. As long as nothing can be read from it, such a link is not read.
   * @returns the decoded names of such texts that have no hex digits, and all other entries; undefined at the end.
   */
  readonly links: (
    descriptor: number,
    patterns: string,
    mark: string,
    unchanged?: number,
  ) => Spelled | number | undefined
  /**
   * As `links` of `directory`, and writes a message to `descriptor` for each of the decoded names that `links` gives,
   * put into it as `writeEach` puts its texts, but for those that begin with `excepted` or do not fit. Several messages
   * may be written by one writev(2), which the kernel's pipe takes as so many writes. After one that fails no other is
   * tried, nor, of these entries, a few after the writing has taken longer than `longest` milliseconds.
   * @param message of at most 2048 bytes
   * @returns the entries that were not written.
   * @throws RangeError if the message has no such place.
   */
  readonly writeLinks: (
    directory: number,
    patterns: string,
    mark: string,
    unchanged: number | undefined,
    descriptor: number,
    message: Uint8Array,
    at: number,
    room: number,
    excepted: string,
    longest: number,
  ) => Written | number | undefined
  /**
   * Begins to read all entries of a directory as `links` does, in a thread, and returns at once. It takes the
   * descriptor over: it is closed when all is read. -EBUSY if such a reading was not ended. -ENOSYS in Node.
   */
  readonly readBeforehand: (descriptor: number, patterns: string, mark: string) => number
  /**
   * Ends that reading, and waits for the few entries that are being read.
   * @returns whether all were read, and each had such a text without hex digits or a name that can't be decoded.
   */
  readonly endReadingBeforehand: () => boolean
  /**
   * The next six are no system calls. They are here because the runtime does them faster than this program could.
   * This one: CRC-32 of the bytes of a text of at most 8192, as eight hex digits.
   * @throws RangeError for a longer one, and for a character past 255. In Node it may be longer.
   */
  readonly checksum: (text: string) => string
  /** SHA-256 of a text's bytes, as 64 hex digits. @throws RangeError for a character past 255. */
  readonly sha256: (text: string) => string
  /**
   * Writes the bytes of `text` into `into`.
   * @returns how many.
   * @throws RangeError for a character past 255, or if the text does not fit.
   */
  readonly bytesInto: (text: string, into: Uint8Array, at: number) => number
  /** The text of which each character is one of these bytes. */
  readonly textOf: (bytes: Uint8Array) => string
  /**
   * Replaces every byte except `A-Za-z0-9_.,:=@+-` by `%XX` (lib/bytes.ts, percentEncode).
   * @throws RangeError for a character past 255.
   */
  readonly percentEncoded: (text: string) => string
  /** Reverses `percentEncoded`. @returns undefined for a text that it can't have returned. */
  readonly percentDecoded: (encoded: string) => string | undefined
  readonly umask: (mask: number) => void
  /** alarm(2): SIGALRM ends this process after that many seconds. Does nothing in Node. */
  readonly alarm: (seconds: number) => void
  /**
   * Permanently drops the rights that an upcall does not need (host/confine.c). Does nothing in Node.
   * @param changed directories below which anything may be created and removed, the state directory first
   * @param written files, or directories of files, that may be written, even if they are created later
   * @param emptied directories below which directories may be removed
   * @param waits given by `serve`: it lives on, so it must keep none of these directories open
   */
  readonly confine: (
    changed: readonly string[],
    written: readonly string[],
    emptied: readonly string[],
    waits?: 'waits',
  ) => number
  /** Sleeps; a signal may end it early. */
  readonly sleep: (milliseconds: number) => void
  /**
   * poll(2): waits for an event on one of the descriptors. -ENOSYS in Node.
   * @param descriptors at most 16; `events` has the events of each at the same index ({@link pollEvents})
   * @param milliseconds to wait at most; -1 for no limit
   * @returns the events that occurred, in the same order; all 0 after a timeout. -EINTR is possible.
   */
  readonly poll: (
    descriptors: readonly number[],
    events: readonly number[],
    milliseconds: number,
  ) => readonly number[] | number
  /**
   * inotify(7): a descriptor that becomes readable when a name is created in or removed from a directory, or when the
   * directory itself is removed. The bytes that are read tell nothing more. Reading never blocks. -ENOSYS in Node.
   */
  readonly watch: (directory: string) => number
  /**
   * The same for an open directory. -EOPNOTSUPP on a file system where a name may change without a report: one of a
   * network, or one that shows another file system's files.
   */
  readonly watchNames: (directory: number) => number
  /**
   * How many changes such a descriptor has reported since the last call: one for a name that is made, removed, or moved
   * into the directory or out of it, two for one that is moved within it. The kernel reports a change before it lets
   * another process see it, and of two equal reports in a row only one (inotify(7)).
   * @returns -ESTALE, if it has reported anything else: the directory is gone, or reports are missing.
   */
  readonly namesChanged: (watch: number) => number
  /**
   * signalfd(2): SIGTERM, SIGINT and SIGHUP no longer end this process, nor does SIGPIPE. @returns a descriptor that
   * becomes readable when one of the first three arrives; reading never blocks. Not allowed after `confine`. -ENOSYS
   * in Node.
   */
  readonly endSignals: () => number
  /**
   * Connects to a datagram socket, as sd_notify(3) does: each `write` sends one message, and never waits (-EAGAIN). Not
   * allowed after `confine`.
   * @param path of the socket; a leading '@' means the abstract namespace. @returns a descriptor. -ENOSYS in Node.
   */
  readonly connect: (path: string) => number
  /**
   * flock(2): locks an open file exclusively, until it is closed or this process ends. It never waits: -EAGAIN if
   * something else has opened the file and locked it. -ENOSYS in Node.
   */
  readonly flock: (descriptor: number) => number
  /**
   * fcntl(2), F_OFD_SETLK: the same with a lock that {@link isHeld} sees. The file must be open for writing. -ENOSYS in
   * Node.
   */
  readonly hold: (descriptor: number) => number
  /**
   * F_OFD_GETLK: whether something else that has opened the file holds it, in whatever namespace, boot id or container.
   * Node reads that in /proc/locks.
   */
  readonly isHeld: (descriptor: number) => boolean | number
  /** The wall clock, in milliseconds since 1970. */
  readonly now: () => number
  /** A monotonic clock, in milliseconds since an unspecified moment. */
  readonly monotonic: () => number
  readonly processId: () => number
  /** The effective user. */
  readonly userId: () => number
  readonly isTerminal: (descriptor: number) => boolean
  /** Ends the process at once: no buffer is flushed, and no exit handler runs. */
  readonly exit: (status: number) => never
}

/** A name in a directory, and its kind, which some file systems do not report. */
export interface DirectoryEntry {
  readonly name: string
  readonly kind: 'link' | 'directory' | 'other' | 'unknown'
}

/** The part of stat(2) that this program uses. */
export interface Status {
  readonly kind: 'directory' | 'file' | 'link' | 'other'
  readonly uid: number
  /** Permission bits. */
  readonly mode: number
  /** When the content last changed, in seconds since 1970. */
  readonly mtime: number
  readonly device: number
  readonly inode: number
}

/** Flags of open(2). */
export interface Flags {
  readonly O_RDONLY: number
  readonly O_WRONLY: number
  readonly O_RDWR: number
  readonly O_CREAT: number
  readonly O_EXCL: number
  readonly O_NONBLOCK: number
  readonly O_DIRECTORY: number
  readonly O_NOFOLLOW: number
}

/** The same on every machine (include/uapi/linux/fcntl.h). */
export const atFlags = { AT_FDCWD: -100, AT_SYMLINK_NOFOLLOW: 0x100, AT_REMOVEDIR: 0x200 } as const

/**
 * Events of poll(2), the same on every machine (include/uapi/asm-generic/poll.h). The last three are always reported.
 */
export const pollEvents = { POLLIN: 1, POLLPRI: 2, POLLOUT: 4, POLLERR: 8, POLLHUP: 16, POLLNVAL: 32 } as const
