/**
 * The kernel's calls that an upcall makes.
 *
 * Each answers as the kernel does: not negative, or the negated errno, so that a name which is not there is an answer and
 * no exception. Only synchronous calls: each is one point at which a process can die, in the order in which it is written.
 * A text that holds a NUL can't be said to the kernel: it is refused with EINVAL, the one thing that is thrown.
 */
export interface Calls {
  /** Every descriptor is closed on exec. @param flags see open-flags.ts. @returns a descriptor. */
  readonly open: (path: string, flags: number, mode: number) => number
  /** @returns how many bytes were read; 0 at the end. */
  readonly read: (descriptor: number, into: Uint8Array) => number
  /** @param most bytes; 8192 is the most that is ever given. @returns what was read, as text. */
  readonly readText: (descriptor: number, most: number) => string | number
  /** @returns how many bytes were written. */
  readonly write: (descriptor: number, bytes: Uint8Array) => number
  readonly fsync: (descriptor: number) => number
  readonly close: (descriptor: number) => number
  readonly mkdir: (path: string, mode: number) => number
  readonly rmdir: (path: string) => number
  readonly unlink: (path: string) => number
  readonly rename: (from: string, to: string) => number
  readonly link: (existing: string, path: string) => number
  readonly symlink: (text: string, path: string) => number
  /** @returns a symbolic link's text. */
  readonly readlink: (path: string) => string | number
  readonly stat: (path: string) => Status | number
  /** Of the link itself. */
  readonly lstat: (path: string) => Status | number
  readonly fstat: (descriptor: number) => Status | number
  /** @returns what a directory holds, but `.` and `..`. */
  readonly entries: (path: string) => readonly Entry[] | number
  readonly umask: (mask: number) => void
  /** alarm(2): this process ends by SIGALRM after so many seconds. Nothing where the runtime has no such call. */
  readonly alarm: (seconds: number) => void
  /** Ends the process at once: nothing that is buffered is written, nothing is run. */
  readonly exit: (status: number) => never
}

/** A name in a directory, and what the directory tells of it; some file systems tell nothing. */
export interface Entry {
  readonly name: string
  readonly kind: 'link' | 'other' | 'unknown'
}

/** Of stat(2), what decides anything here. */
export interface Status {
  readonly kind: 'directory' | 'file' | 'other'
  readonly uid: number
  /** Permission bits. */
  readonly mode: number
  /** Seconds since 1970. */
  readonly mtime: number
}
