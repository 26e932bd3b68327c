/**
 * The calls of lib/syscalls/calls.ts on a machine in memory, with Linux's names, links, modes and errors.
 * tests/unit/memory.test.ts compares them with a real file system.
 */
import { bytesOf, percentDecoded, spelledAs, writeEach } from '../../../lib/bytes.ts'
import { atFlags, type Calls, type Status } from '../../../lib/syscalls/calls.ts'
import { errno } from '../../../lib/syscalls/errno.ts'
import { namesOf } from '../../../lib/syscalls/files.ts'
import { onlyInTheExecutable, withoutTheKernel, writeLinksBy } from '../../../lib/syscalls/node.ts'
import { holds, inode, report, textIn, type Inode, type Reports } from './inodes.ts'
import { unlock, type Process } from './process.ts'

const { ENOENT, EBADF, EEXIST, ENOTDIR, EISDIR, EINVAL, ENAMETOOLONG, ENOTEMPTY, ELOOP, EPERM, ESTALE, EBUSY, EAGAIN } =
  errno

/** The same on every architecture that this is tested on (asm-generic). */
const flags = {
  O_RDONLY: 0,
  O_WRONLY: 1,
  O_RDWR: 2,
  O_CREAT: 0o100,
  O_EXCL: 0o200,
  O_NONBLOCK: 0o4000,
  O_DIRECTORY: 0o200000,
  O_NOFOLLOW: 0o400000,
} as const
type Part = Partial<Calls>

const quoted = (text: string): string =>
  `"${text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')}"`

const statusOf = ({ us }: Process, { kind, mode, number }: Inode): Status => ({
  kind,
  uid: 0,
  mode,
  mtime: Math.floor(us.now / 1000),
  device: 1,
  inode: number,
})

/** Puts a text at a place in a file, after zeros where the file is shorter. None makes it no longer. */
function put(file: Inode, text: string, at: number): void {
  const { text: before } = file
  if (text !== '') file.text = before.slice(0, at).padEnd(at, '\0') + text + before.slice(at + text.length)
}

function onOpenFiles(process: Process) {
  const { find, pathOf, made, change } = process
  const open = (directory: number, name: string, wanted: number, mode: number): number => {
    const makes = (wanted & flags.O_CREAT) !== 0
    const makesAnew = makes && (wanted & flags.O_EXCL) !== 0
    const wantsDirectory = (wanted & flags.O_DIRECTORY) !== 0
    const found = find(directory, name, (wanted & flags.O_NOFOLLOW) === 0 && !makesAnew ? 'followed' : 'itself')
    if (typeof found === 'number') return found
    let { last } = found
    if (last === undefined) {
      if (!makes || found.within.gone) return -ENOENT
      last = inode('file', mode)
      found.within.entries.set(found.name, last)
      report(found.within, `made ${found.name}`)
    } else if (makesAnew) return -EEXIST
    else if (last.kind === 'link') return wantsDirectory ? -ENOTDIR : -ELOOP
    else if (last.kind === 'directory' && (wanted & 3) !== 0) return -EISDIR
    else if (last.kind !== 'directory' && wantsDirectory) return -ENOTDIR
    let descriptor = 3
    while (process.opened.has(descriptor)) descriptor++
    const path = name === '.' ? (process.opened.get(directory)?.path ?? '/') : pathOf(directory, name)
    process.opened.set(descriptor, { inode: last, path, at: 0 })
    return descriptor
  }
  const read = (descriptor: number, most: number): string | number => {
    const file = process.opened.get(descriptor)
    if (file === undefined) return -EBADF
    if (file.inode.kind === 'directory') return -EISDIR
    const text = file.inode.text.slice(file.at, file.at + most)
    file.at += text.length
    return text
  }
  const synced =
    (name: string) =>
    (descriptor: number): number =>
      change(name, '', [process.opened.get(descriptor)?.path ?? ''], () =>
        process.opened.has(descriptor) ? 0 : -EBADF,
      )
  return {
    openat: (directory, name, wanted, mode) => {
      const paths = [pathOf(directory, name)]
      return (wanted & flags.O_CREAT) !== 0
        ? change('openat', '', paths, () => open(directory, name, wanted, mode))
        : made('openat', paths, () => open(directory, name, wanted, mode))
    },
    read: (descriptor, into) => {
      const text = made('read', [], () => read(descriptor, into.length))
      if (typeof text === 'number') return text
      into.set(Buffer.from(text, 'latin1'))
      return text.length
    },
    readText: (descriptor, most) => made('read', [], () => read(descriptor, Math.min(most, 8192))),
    write: (descriptor, bytes) => {
      const file = process.opened.get(descriptor)
      const text = Buffer.from(bytes).toString('latin1')
      return change('write', `${descriptor}, ${quoted(text)}`, [file?.path ?? ''], () => {
        if (file === undefined) return -EBADF
        if (file.inode.written !== undefined) return file.inode.written(text)
        put(file.inode, text, file.at)
        file.at += text.length
        return text.length
      })
    },
    writeAt: (descriptor, text, at) => {
      const file = process.opened.get(descriptor)
      bytesOf(text)
      return change(
        'pwrite64',
        `${descriptor}, ${quoted(text)}, ${text.length}, ${at}`,
        [file?.path ?? ''],
        (): number => {
          if (at < 0) return -EINVAL
          if (file === undefined) return -EBADF
          if (file.inode.written !== undefined) return file.inode.written(text)
          put(file.inode, text, at)
          return text.length
        },
      )
    },
    fsync: synced('fsync'),
    fdatasync: synced('fdatasync'),
    fchmod: (descriptor, mode) => {
      const file = process.opened.get(descriptor)
      return change('fchmod', `${descriptor}, 0${mode.toString(8)}`, [file?.path ?? ''], () => {
        if (file === undefined) return -EBADF
        file.inode.mode = mode
        return 0
      })
    },
    isWrittenInPlace: (descriptor) => process.opened.has(descriptor) && process.disk.isWrittenInPlace,
    hold: (descriptor) => {
      const file = process.opened.get(descriptor)
      return made('fcntl', [file?.path ?? ''], () => {
        if (file === undefined) return -EBADF
        file.inode.heldBy ??= file
        return file.inode.heldBy === file ? 0 : -EAGAIN
      })
    },
    isHeld: (descriptor) => {
      const file = process.opened.get(descriptor)
      return made<boolean>('fcntl', [file?.path ?? ''], () => {
        if (file === undefined) return -EBADF
        return file.inode.heldBy !== undefined && file.inode.heldBy !== file
      })
    },
    flock: (descriptor) => {
      const file = process.opened.get(descriptor)
      return made('flock', [file?.path ?? ''], () => {
        if (file === undefined) return -EBADF
        file.inode.lockedBy ??= file
        return file.inode.lockedBy === file ? 0 : -EAGAIN
      })
    },
    // The kernel closes the files of a process that ends, so this closes those of one that is stopped.
    close: (descriptor) => {
      const file = process.opened.get(descriptor)
      if (file === undefined) return -EBADF
      unlock(file)
      process.opened.delete(descriptor)
      return 0
    },
    fstat: (descriptor) =>
      made('fstat', [], () => {
        const file = process.opened.get(descriptor)
        return file === undefined ? -EBADF : statusOf(process, file.inode)
      }),
    entries: (descriptor) =>
      made<string>('getdents64', [], () => {
        const directory = process.opened.get(descriptor)
        if (directory === undefined) return -EBADF
        if (directory.inode.kind !== 'directory') return -ENOTDIR
        if (directory.at > 0) return ''
        directory.at = 1
        if (directory.inode.gone) return -ENOENT
        return textIn(directory.inode)
      }),
    names: (descriptor, _again, except) =>
      made('getdents64', [], () => {
        const directory = process.opened.get(descriptor)
        if (directory === undefined) return -EBADF
        if (directory.inode.kind !== 'directory') return -ENOTDIR
        if (directory.inode.gone) return -ENOENT
        return textIn(directory.inode, except)
      }),
  } satisfies Part
}

function onNames(process: Process) {
  const { find, placeFor, pathOf, made, change } = process
  return {
    mkdirat: (directory, name, mode) =>
      change('mkdirat', '', [pathOf(directory, name)], () => {
        const place = placeFor(directory, name)
        if (typeof place === 'number') return place
        place.within.entries.set(place.name, inode('directory', mode))
        report(place.within, `made ${place.name}`)
        return 0
      }),
    unlinkat: (directory, name, how) =>
      change('unlinkat', '', [pathOf(directory, name)], () => {
        const found = find(directory, name, 'itself')
        if (typeof found === 'number') return found
        const { within, last } = found
        if (last === undefined) return -ENOENT
        const asDirectory = (how & atFlags.AT_REMOVEDIR) !== 0
        if (asDirectory !== (last.kind === 'directory')) return asDirectory ? -ENOTDIR : -EISDIR
        if (last.entries.size > 0) return -ENOTEMPTY
        if (asDirectory) last.gone = true
        within.entries.delete(found.name)
        report(within, `removed ${found.name}`)
        report(last, 'gone')
        return 0
      }),
    renameat: (fromDirectory, from, toDirectory, to) =>
      change('renameat', '', [pathOf(fromDirectory, from), pathOf(toDirectory, to)], (): number => {
        const [source, target] = [find(fromDirectory, from, 'itself'), find(toDirectory, to, 'itself')]
        if (typeof source === 'number') return source
        if (typeof target === 'number') return target
        if (source.last === undefined || target.within.gone) return -ENOENT
        if (source.last === target.last) return 0
        if (holds(source.last, target.within)) return -EINVAL
        if (target.last !== undefined) {
          if (source.last.kind === 'directory' && target.last.kind !== 'directory') return -ENOTDIR
          if (source.last.kind !== 'directory' && target.last.kind === 'directory') return -EISDIR
          if (target.last.entries.size > 0) return -ENOTEMPTY
        }
        source.within.entries.delete(source.name)
        target.within.entries.set(target.name, source.last)
        for (const file of process.opened.values())
          if (file.inode === source.last && source.last.kind === 'file') file.path = pathOf(toDirectory, to)
        report(source.within, `moved away ${source.name}`)
        report(target.within, `moved here ${target.name}`)
        return 0
      }),
    linkat: (fromDirectory, existing, toDirectory, name) =>
      change('linkat', '', [pathOf(fromDirectory, existing), pathOf(toDirectory, name)], () => {
        const source = find(fromDirectory, existing, 'itself')
        if (typeof source === 'number') return source
        if (source.last === undefined) return -ENOENT
        const place = placeFor(toDirectory, name)
        if (typeof place === 'number') return place
        if (source.last.kind === 'directory') return -EPERM
        place.within.entries.set(place.name, source.last)
        report(place.within, `made ${place.name}`)
        return 0
      }),
    fstatat: (directory, name, how) =>
      made('fstatat', [pathOf(directory, name)], () => {
        const found = find(directory, name, (how & atFlags.AT_SYMLINK_NOFOLLOW) === 0 ? 'followed' : 'itself')
        return typeof found === 'number' ? found : found.last === undefined ? -ENOENT : statusOf(process, found.last)
      }),
    identityAt: (directory, name) =>
      made<string>('fstatat', [pathOf(directory, name)], () => {
        const found = find(directory, name, 'itself')
        if (typeof found === 'number') return found
        return found.last === undefined ? -ENOENT : `${found.last.number} ${found.last.kind} ${found.last.mode}`
      }),
  } satisfies Part
}

/** The path without links of an open directory. */
function realPathOf({ find }: Process, wanted: Inode | undefined): string | number {
  const search = (at: Inode, path: string): string | undefined => {
    if (at === wanted) return path
    for (const [name, below] of at.entries) {
      const found = below.kind === 'directory' ? search(below, `${path}/${name}`) : undefined
      if (found !== undefined) return found
    }
    return undefined
  }
  const root = find(atFlags.AT_FDCWD, '/', 'itself')
  if (typeof root === 'number' || root.last === undefined || wanted === undefined) return -ENOENT
  const path = search(root.last, '')
  return path === '' ? '/' : (path ?? -ENOENT)
}

function onLinks(process: Process, longestLink: number) {
  const { find, placeFor, pathOf, made, change } = process
  return {
    symlinkat: (text, directory, name) =>
      change('symlinkat', quoted(text), [pathOf(directory, name)], () => {
        if (text === '') return -ENOENT
        if (text.length > longestLink) return -ENAMETOOLONG
        const place = placeFor(directory, name)
        if (typeof place === 'number') return place
        place.within.entries.set(place.name, inode('link', 0o777, text))
        report(place.within, `made ${place.name}`)
        return 0
      }),
    readlinkat: (directory, name) =>
      made('readlinkat', [pathOf(directory, name)], () => {
        const descriptor = name.startsWith('/proc/') ? /^\/proc\/self\/fd\/([0-9]+)$/.exec(name)?.[1] : undefined
        if (descriptor !== undefined) return realPathOf(process, process.opened.get(Number(descriptor))?.inode)
        const found = find(directory, name, 'itself')
        if (typeof found === 'number') return found
        if (found.last === undefined) return -ENOENT
        return found.last.kind === 'link' ? found.last.text : -EINVAL
      }),
  } satisfies Part
}

function onWatches(process: Process) {
  return {
    watchNames: (directory) =>
      process.made('inotify_add_watch', [], () => {
        const watched = process.opened.get(directory)
        if (watched?.inode.kind !== 'directory') return watched === undefined ? -EBADF : -ENOTDIR
        let descriptor = 3
        while (process.opened.has(descriptor)) descriptor++
        const reports: Reports = []
        watched.inode.watches.add(reports)
        process.opened.set(descriptor, { inode: inode('other', 0), path: 'inotify', at: 0, reports })
        return descriptor
      }),
    namesChanged: (watch) =>
      process.made('read', [], () => {
        const reports = process.opened.get(watch)?.reports?.splice(0)
        if (reports === undefined) return -EBADF
        return reports.some((what) => what === 'gone' || what === 'overflow') ? -ESTALE : reports.length
      }),
  } satisfies Part
}

const onTheProcess = (process: Process) =>
  ({
    sleep: (milliseconds) => {
      process.us.now += milliseconds
      process.us.monotonic += milliseconds
    },
    now: () => process.us.now,
    monotonic: () => process.us.monotonic,
    processId: () => process.us.id,
  }) satisfies Part

/** Of which the host computes a checksum. */
const longestText = 8192

/** Calls for what a machine in memory does not have. */
const ofARealProcess = {
  umask: () => undefined,
  userId: () => 0,
  isTerminal: () => false,
  exit: (status) => {
    throw new Error(`ended with ${status}`)
  },
} satisfies Part

/** @param longestLink 4095 on ext4, 1023 on XFS. */
export function callsOf(process: Process, longestLink: number): Calls {
  const files = onOpenFiles(process)
  const { readlinkat, ...links } = onLinks(process, longestLink)
  const checked: Calls['links'] = (descriptor, patterns, mark, unchanged = -1) => {
    const text = files.entries(descriptor)
    if (typeof text === 'number') return text
    if (text === '') return undefined
    const names = namesOf(text)
    const isUnchanged = process.opened.get(unchanged)?.reports?.length === 0
    const isUnread = (name: string, at: number): boolean =>
      isUnchanged && text.startsWith('l', at) && percentDecoded(name) !== undefined
    const read = names.filter((name, at) => !isUnread(name, at))
    const texts = read.map((name) => readlinkat(descriptor, name))
    const found = spelledAs(read, texts, patterns, mark)
    const unread = names.filter(isUnread).map((name) => percentDecoded(name) ?? '')
    return { ...found, plain: [...unread, ...found.plain] }
  }
  let beforehand: boolean | undefined
  const readBeforehand: Calls['readBeforehand'] = (descriptor, patterns, mark) => {
    if (beforehand !== undefined) return -EBUSY
    let arePlain = true
    for (;;) {
      const batch = checked(descriptor, patterns, mark)
      if (typeof batch !== 'object') {
        beforehand = arePlain && batch === undefined
        return files.close(descriptor)
      }
      arePlain &&= batch.others.every(
        ({ name, decoded }) => decoded === undefined && percentDecoded(name) === undefined,
      )
    }
  }
  const endReadingBeforehand = (): boolean => {
    const arePlain = beforehand === true
    beforehand = undefined
    return arePlain
  }
  const write: Calls['writeEach'] = (descriptor, message, ...texts) =>
    writeEach(() => files.write(descriptor, message), message, ...texts)
  return {
    flags,
    ...onlyInTheExecutable,
    ...files,
    ...onNames(process),
    ...links,
    readlinkat,
    links: checked,
    writeLinks: writeLinksBy({ links: checked, writeEach: write, monotonic: () => process.us.monotonic }),
    writeEach: write,
    ...onTheProcess(process),
    ...ofARealProcess,
    ...withoutTheKernel,
    checksum: (text) => {
      if (text.length > longestText) throw new RangeError('the host takes no longer text')
      return withoutTheKernel.checksum(text)
    },
    ...onWatches(process),
    readBeforehand,
    endReadingBeforehand,
  }
}
