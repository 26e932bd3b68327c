/** The kernel's calls by Node's file system module: what the bundle has. */
import type { Stats } from 'node:fs'
import type { Calls, Status } from './calls.ts'
import { assertSayable } from './errno.ts'
import { openFlags } from './open-flags.ts'
import { textOf } from './text.ts'

export function nodeCalls(): Calls {
  const fs = process.getBuiltinModule('node:fs')
  return {
    open: (path, flags, mode) => answer(() => fs.openSync(path, flags | openFlags.O_CLOEXEC, mode), path),
    read: (descriptor, into) => answer(() => fs.readSync(descriptor, into, 0, into.length, null)),
    readText: (descriptor, most) =>
      answer(() => {
        const into = new Uint8Array(most)
        return textOf(into, 0, fs.readSync(descriptor, into, 0, most, null))
      }),
    write: (descriptor, bytes) => answer(() => fs.writeSync(descriptor, bytes)),
    fsync: (descriptor) => done(() => { fs.fsyncSync(descriptor) }),
    close: (descriptor) => done(() => { fs.closeSync(descriptor) }),
    mkdir: (path, mode) => done(() => { fs.mkdirSync(path, mode) }, path),
    rmdir: (path) => done(() => { fs.rmdirSync(path) }, path),
    unlink: (path) => done(() => { fs.unlinkSync(path) }, path),
    rename: (from, to) => done(() => { fs.renameSync(from, to) }, from, to),
    link: (existing, path) => done(() => { fs.linkSync(existing, path) }, existing, path),
    symlink: (text, path) => done(() => { fs.symlinkSync(text, path) }, text, path),
    readlink: (path) => answer(() => fs.readlinkSync(path), path),
    stat: (path) => answer(() => status(fs.statSync(path)), path),
    lstat: (path) => answer(() => status(fs.lstatSync(path)), path),
    fstat: (descriptor) => answer(() => status(fs.fstatSync(descriptor))),
    entries: (path) =>
      answer(() => fs.readdirSync(path, { withFileTypes: true }).map((entry) => ({ name: entry.name, kind: entry.isSymbolicLink() ? 'link' : 'other' })), path),
    umask: (mask) => { process.umask(mask) },
    alarm: () => undefined,
    exit: (code) => process.exit(code),
  }
}

/** What was thrown, as the kernel said it. @throws what it did not say: that a word has a NUL, or a mistake of ours. */
function answer<T>(work: () => T, ...words: readonly string[]): T | number {
  for (const word of words) assertSayable(word)
  try {
    return work()
  } catch (thrown) {
    const { errno } = thrown as NodeJS.ErrnoException
    if (errno === undefined) throw thrown
    return errno
  }
}

const done = (work: () => void, ...words: readonly string[]): number =>
  answer(() => {
    work()
    return 0
  }, ...words)

const status = (stats: Stats): Status => ({
  kind: stats.isDirectory() ? 'directory' : stats.isFile() ? 'file' : 'other',
  uid: stats.uid,
  mode: stats.mode & 0o7777,
  mtime: Math.floor(stats.mtimeMs / 1000),
})
