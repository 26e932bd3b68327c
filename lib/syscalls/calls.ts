/**
 * The kernel's calls that this program makes: its one door to the system.
 *
 * Each answers as the kernel does: not negative, or the negated errno, so that a name which is not there is an answer
 * and no exception. Only synchronous calls: each is one point at which a process can die, in the order in which it is
 * written.
 *
 * Words are bytes: each character of a path, a name or a text stands for one byte (0 to 255), so what is no UTF-8 comes
 * back as it went. A word that holds a NUL, or a character past 255, can't be said to the kernel: it is refused with
 * EINVAL, the one thing that is thrown.
 *
 * A name is looked up in an open directory (openat(2) and its like), so whoever owns a parent directory can't exchange
 * what stands above it; `here` is AT_FDCWD, for absolute paths.
 */
export interface Calls {
  /** The numbers of this machine: some are spelled otherwise on some processors. */
  readonly flags: Flags
  /** Every descriptor is closed on exec. @param flags of open(2). @returns a descriptor. */
  readonly openat: (directory: number, name: string, flags: number, mode: number) => number
  /** @returns how many bytes were read; 0 at the end. */
  readonly read: (descriptor: number, into: Uint8Array) => number
  /** @param most bytes; 8192 is the most that is ever given. @returns what was read. */
  readonly readText: (descriptor: number, most: number) => string | number
  /** @returns how many bytes were written. */
  readonly write: (descriptor: number, bytes: Uint8Array) => number
  readonly fsync: (descriptor: number) => number
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
   * fstatat(2) of a name itself, be it a link, as one text to compare: device, inode, owner and mode. What has the same
   * text is the same, with the same rights.
   */
  readonly identityAt: (directory: number, name: string) => string | number
  /**
   * The next entries of an open directory, but `.` and `..`, as `names` tells them; '' at its end. Never all at once: a
   * directory may hold millions.
   */
  readonly entries: (descriptor: number) => string | number
  /**
   * All names in a small directory, as one text: a letter for each one's kind (`l`ink, `d`irectory, `o`ther,
   * `u`nknown), then each name after a `/`. What one getdents(2) gives is of one moment, because the kernel holds the
   * directory's lock (fs/readdir.c, iterate_dir).
   * @param again whether its descriptor has been read before.
   * @returns -E2BIG for a directory that takes more than one such call.
   */
  readonly names: (descriptor: number, again: boolean) => string | number
  /** No call of the kernel's: CRC-32 of a text's bytes, as eight hex digits, as fast as the runtime can. */
  readonly checksum: (text: string) => string
  /**
   * Nor is this: writes a text's bytes into others.
   * @returns how many.
   * @throws RangeError for a character past 255, and where the text does not fit.
   */
  readonly bytesInto: (text: string, into: Uint8Array, at: number) => number
  /**
   * Nor this: every byte of a text but `A-Za-z0-9_.,:=@+-` stands as `%XX` (lib/bytes.ts, percentEncode).
   * @throws RangeError for a character past 255.
   */
  readonly percentEncoded: (text: string) => string
  /** That undone. @returns undefined for a text that is not spelled so. */
  readonly percentDecoded: (encoded: string) => string | undefined
  /** Nor this: how many decimal digits stand at a place of a text, one after the other. Before it all is ASCII. */
  readonly digitsAt: (text: string, at: number) => number
  readonly umask: (mask: number) => void
  /** alarm(2): this process ends by SIGALRM after so many seconds. Nothing where the runtime has no such call. */
  readonly alarm: (seconds: number) => void
  /**
   * Gives up for good what an upcall has no use for (host/confine.c). Nothing where the runtime has no such call.
   * @param changed directories below which anything may be made and taken away, the state directory first
   * @param written files, or directories of files, that may be written: opened for it also later, when they come again
   * @param emptied directories below which directories may be removed
   * @param waits whether this process lives on, and so must keep none of them open
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
   * poll(2): waits until something has happened at a descriptor. -ENOSYS where the runtime has no such call.
   * @param descriptors 16 at most, whose `events` stand at the same place ({@link pollEvents})
   * @param milliseconds at most; -1 waits without an end
   * @returns what has happened, in the same order; all 0 if the time is over. -EINTR is possible.
   */
  readonly poll: (
    descriptors: readonly number[],
    events: readonly number[],
    milliseconds: number,
  ) => readonly number[] | number
  /**
   * inotify(7): a descriptor that can be read when a name has come into, or gone from, a directory, or when the
   * directory itself has gone. What is read only says that one should look. It never waits. -ENOSYS where the runtime
   * has no such call.
   */
  readonly watch: (directory: string) => number
  /**
   * signalfd(2): SIGTERM, SIGINT and SIGHUP end this process no more. @returns a descriptor that can be read when one
   * has come; it never waits. Not once confined. -ENOSYS where the runtime has no such call.
   */
  readonly endSignals: () => number
  /**
   * Connects to a socket of datagrams, as sd_notify(3) does: each `write` is a message. Not once confined.
   * @param path '@' at its beginning: a name that has no file. @returns a descriptor. -ENOSYS where the runtime has no
   * such call.
   */
  readonly connect: (path: string) => number
  /**
   * flock(2): takes an open file for this process alone, until it is closed or the process is no more. It never waits:
   * -EAGAIN where another has it. Not once confined. -ENOSYS where the runtime has no such call.
   */
  readonly flock: (descriptor: number) => number
  /** The wall clock, in milliseconds since 1970. */
  readonly now: () => number
  /** A clock that no step of the wall clock moves, in milliseconds; from when is not said. */
  readonly monotonic: () => number
  readonly processId: () => number
  /** The effective user. */
  readonly userId: () => number
  readonly isTerminal: (descriptor: number) => boolean
  /** Ends the process at once: nothing that is buffered is written, nothing is run. */
  readonly exit: (status: number) => never
}

/** A name in a directory, and what the directory tells of it; some file systems tell nothing. */
export interface DirectoryEntry {
  readonly name: string
  readonly kind: 'link' | 'directory' | 'other' | 'unknown'
}

/** Of stat(2), what decides anything here. */
export interface Status {
  readonly kind: 'directory' | 'file' | 'link' | 'other'
  readonly uid: number
  /** Permission bits. */
  readonly mode: number
  /** Seconds since 1970, of the last change of the content (mtime). */
  readonly mtime: number
  readonly device: number
  readonly inode: number
}

/** open(2), and the flags of its like. */
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
 * What can happen at a descriptor, the same on every machine (include/uapi/asm-generic/poll.h). The last three come
 * unasked.
 */
export const pollEvents = { POLLIN: 1, POLLPRI: 2, POLLOUT: 4, POLLERR: 8, POLLHUP: 16, POLLNVAL: 32 } as const
