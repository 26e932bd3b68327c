/**
 * The kernel's calls by the C library itself: what the executable has.
 *
 * bun's file system module takes as long to load as a check takes for all of its own work (docs/performance.md), so the
 * executable says its calls to the C library, which bun has loaded anyway. Where that can't be done, the other way
 * remains (node.ts), which does the same. errno is the thread's own, and is read where the answer is returned: nothing that
 * allocates, and so nothing of the engine's that might call the kernel, runs in between. Whether a call was carried out
 * is told by its answer alone.
 */
import type { Calls, Entry, Status } from './calls.ts'
import { assertSayable } from './errno.ts'
import { openFlags } from './open-flags.ts'
import { bytesOf, putText, textOf } from './text.ts'

type Pointer = Uint8Array

/** The C library's functions, by their C types. */
const functions = {
  open: { args: ['ptr', 'i32', 'u32'], returns: 'i32' },
  read: { args: ['i32', 'ptr', 'u32'], returns: 'i32' },
  write: { args: ['i32', 'ptr', 'u32'], returns: 'i32' },
  fsync: { args: ['i32'], returns: 'i32' },
  close: { args: ['i32'], returns: 'i32' },
  mkdir: { args: ['ptr', 'u32'], returns: 'i32' },
  rmdir: { args: ['ptr'], returns: 'i32' },
  unlink: { args: ['ptr'], returns: 'i32' },
  rename: { args: ['ptr', 'ptr'], returns: 'i32' },
  link: { args: ['ptr', 'ptr'], returns: 'i32' },
  symlink: { args: ['ptr', 'ptr'], returns: 'i32' },
  readlink: { args: ['ptr', 'ptr', 'u32'], returns: 'i32' },
  statx: { args: ['i32', 'ptr', 'i32', 'u32', 'ptr'], returns: 'i32' },
  getdents64: { args: ['i32', 'ptr', 'u32'], returns: 'i32' },
  umask: { args: ['u32'], returns: 'u32' },
  alarm: { args: ['u32'], returns: 'u32' },
  _exit: { args: ['i32'], returns: 'void' },
  __errno_location: { args: [], returns: 'ptr' },
} as const

interface Libc {
  open: (path: Pointer, flags: number, mode: number) => number
  read: (descriptor: number, into: Pointer, size: number) => number
  write: (descriptor: number, bytes: Pointer, size: number) => number
  fsync: (descriptor: number) => number
  close: (descriptor: number) => number
  mkdir: (path: Pointer, mode: number) => number
  rmdir: (path: Pointer) => number
  unlink: (path: Pointer) => number
  rename: (from: Pointer, to: Pointer) => number
  link: (existing: Pointer, path: Pointer) => number
  symlink: (text: Pointer, path: Pointer) => number
  readlink: (path: Pointer, into: Pointer, size: number) => number
  statx: (directory: number, path: Pointer, flags: number, mask: number, into: Pointer) => number
  getdents64: (descriptor: number, into: Pointer, size: number) => number
  umask: (mask: number) => number
  alarm: (seconds: number) => number
  _exit: (status: number) => never
  __errno_location: () => number
}

/** bun's foreign function interface, as its module `bun:ffi` hands it on. */
interface ForeignFunctions {
  readonly dlopen: (library: string, symbols: object) => { readonly symbols: Libc }
  readonly read: { readonly i32: (address: number) => number }
}

const foreignFunctions = (): ForeignFunctions | undefined => (globalThis as { Bun?: { FFI?: ForeignFunctions } }).Bun?.FFI

/** @returns undefined where there is no such way: another runtime, or another C library. */
export function libcCalls(): Calls | undefined {
  const foreign = foreignFunctions()
  if (foreign === undefined) return undefined
  try {
    return overLibc(foreign.dlopen('libc.so.6', functions).symbols, foreign)
  } catch {
    return undefined
  }
}

/** Longer than any path (PATH_MAX), and so than any link's text; a directory is read by so much at a time. */
const roomSize = 8192

/** Nearly every path. */
const wordSize = 1024

/** statx(2): AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, STATX_BASIC_STATS. */
const [here, noFollow, emptyPath, basicStatus] = [-100, 0x100, 0x1000, 0x7ff]

function overLibc(libc: Libc, { read }: ForeignFunctions): Calls {
  const whereErrnoIs = libc.__errno_location()
  const answer = (result: number): number => (result < 0 ? -read.i32(whereErrnoIs) : result)
  // One for every answer, one for each word of a call: what is in them has served when the call is over.
  const room = new Uint8Array(roomSize)
  const [firstWord, secondWord] = [new Uint8Array(wordSize), new Uint8Array(wordSize)]
  const c = (word: string): Pointer => terminated(word, firstWord)
  const status = (result: number): Status | number => (result < 0 ? answer(result) : statusIn(room))
  return {
    open: (path, flags, mode) => answer(libc.open(c(path), flags | openFlags.O_CLOEXEC, mode)),
    read: (descriptor, into) => answer(libc.read(descriptor, into, into.length)),
    readText: (descriptor, most) => {
      const length = libc.read(descriptor, room, Math.min(most, roomSize))
      return length < 0 ? answer(length) : textOf(room, 0, length)
    },
    write: (descriptor, bytes) => answer(libc.write(descriptor, bytes, bytes.length)),
    fsync: (descriptor) => answer(libc.fsync(descriptor)),
    close: (descriptor) => answer(libc.close(descriptor)),
    mkdir: (path, mode) => answer(libc.mkdir(c(path), mode)),
    rmdir: (path) => answer(libc.rmdir(c(path))),
    unlink: (path) => answer(libc.unlink(c(path))),
    rename: (from, to) => answer(libc.rename(c(from), terminated(to, secondWord))),
    link: (existing, path) => answer(libc.link(c(existing), terminated(path, secondWord))),
    symlink: (text, path) => answer(libc.symlink(c(text), terminated(path, secondWord))),
    readlink: (path) => {
      const length = libc.readlink(c(path), room, roomSize)
      return length < 0 ? answer(length) : textOf(room, 0, length)
    },
    stat: (path) => status(libc.statx(here, c(path), 0, basicStatus, room)),
    lstat: (path) => status(libc.statx(here, c(path), noFollow, basicStatus, room)),
    fstat: (descriptor) => status(libc.statx(descriptor, c(''), emptyPath, basicStatus, room)),
    entries: (path) => {
      const descriptor = answer(libc.open(c(path), openFlags.O_RDONLY | openFlags.O_DIRECTORY | openFlags.O_CLOEXEC, 0))
      if (descriptor < 0) return descriptor
      const found: Entry[] = []
      let length: number
      while ((length = answer(libc.getdents64(descriptor, room, roomSize))) > 0) entriesIn(room, length, found)
      libc.close(descriptor)
      return length < 0 ? length : found
    },
    umask: (mask) => { libc.umask(mask) },
    alarm: (seconds) => { libc.alarm(seconds) },
    exit: libc._exit,
  }
}

/** A word as C has it, in `room` if it fits in there. @throws EINVAL for one with a NUL. */
function terminated(word: string, room: Pointer): Pointer {
  assertSayable(word)
  if (word.length >= room.length || !putText(word, room)) return bytesOf(`${word}\0`)
  room[word.length] = 0
  return room
}

/** struct statx (include/uapi/linux/stat.h): the same on every machine. */
function statusIn(bytes: Uint8Array): Status {
  const mode = u16(bytes, 28)
  const type = mode & 0o170000
  return {
    kind: type === 0o040000 ? 'directory' : type === 0o100000 ? 'file' : 'other',
    uid: u32(bytes, 20),
    mode: mode & 0o7777,
    mtime: (u32(bytes, 116) | 0) * 2 ** 32 + u32(bytes, 112),
  }
}

/** struct linux_dirent64 (include/linux/dirent.h): inode 8, offset 8, length 2, type 1, name. */
function entriesIn(bytes: Uint8Array, length: number, found: Entry[]): void {
  for (let at = 0; at < length; at += u16(bytes, at + 16)) {
    let end = at + 19
    while (bytes[end] !== 0) end++
    const name = textOf(bytes, at + 19, end)
    const type = bytes[at + 18]
    if (name !== '.' && name !== '..') found.push({ name, kind: type === 10 /* DT_LNK */ ? 'link' : type === 0 /* DT_UNKNOWN */ ? 'unknown' : 'other' })
  }
}

const u16 = (bytes: Uint8Array, at: number): number => (bytes[at] ?? 0) + (bytes[at + 1] ?? 0) * 0x100
const u32 = (bytes: Uint8Array, at: number): number => u16(bytes, at) + u16(bytes, at + 2) * 0x1_0000
