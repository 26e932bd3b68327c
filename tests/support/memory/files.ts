/**
 * A file system in memory that makes the calls of lib/syscalls/calls.ts: names, links, modes and errors as Linux has
 * them (tests/unit/memory.test.ts makes the same calls on both). Before each call a test may fail it, stop the process
 * at it, or take a copy. What a power cut leaves is the model's to say (tests/proof/power-loss.ts), which follows each
 * change.
 */
import { bytesInto, crc32, digitsAt, percentDecoded, percentEncode } from '../../../lib/bytes.ts'
import { atFlags, type Calls, type Status } from '../../../lib/syscalls/calls.ts'
import { textOfNames } from '../../../lib/syscalls/files.ts'
import type { Node, Tree } from '../../proof/trees.ts'

/** The same on every machine that this is tested on (asm-generic). */
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
const { ENOENT, EBADF, EEXIST, ENOTDIR, EISDIR, EINVAL, ENAMETOOLONG, ENOTEMPTY, ELOOP, EPERM, ENOSYS } = {
  ENOENT: 2,
  EBADF: 9,
  EEXIST: 17,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENAMETOOLONG: 36,
  ENOTEMPTY: 39,
  ELOOP: 40,
  EPERM: 1,
  ENOSYS: 38,
} as const

interface Inode {
  readonly number: number
  readonly kind: 'directory' | 'file' | 'link' | 'other'
  mode: number
  /** Of a file its bytes, of a link its text, each character a byte. */
  text: string
  readonly entries: Map<string, Inode>
  /** A directory that has been removed, and is still open. */
  gone: boolean
  /** What a device, or a file of the kernel's, does with a write. */
  readonly written: ((text: string) => number) | undefined
}

interface Open {
  readonly inode: Inode
  readonly path: string
  at: number
}

/** A call, as the model of a disk and a test's hook are told it: strace's words (tests/support/strace.ts). */
export interface Made {
  readonly name: string
  readonly text: string
  readonly paths: readonly string[]
  /** It makes, changes or syncs something. */
  readonly changes: boolean
}

export interface Hooks {
  /**
   * Before each call.
   * @returns a negated errno that it fails with; undefined, if it is made. Throwing stops the process.
   */
  before: (made: Made) => number | undefined
  /** After each call that has changed something. */
  changed: (made: Made) => void
  /** After each call. */
  answered: (made: Made, answer: unknown) => void
}

export interface MemoryFiles {
  readonly calls: Calls
  readonly hooks: Hooks
  readonly process: { id: number; now: number; monotonic: number }
  /** The process is no more: its files are closed. */
  readonly end: () => void
  /** Another process does something, while this one stands still: each has its own open files. */
  readonly meanwhile: <T>(work: () => T) => T
  /** A machine of its own on which the same stands, but for devices. */
  readonly copy: () => MemoryFiles
  /** What is below a directory. */
  readonly tree: (path: string) => Tree
  /** Puts a tree at a path; its parents are made. */
  readonly plant: (tree: Tree, path: string) => void
  /** The same in the place of what stands there. */
  readonly replace: (path: string, tree: Tree) => void
  readonly remove: (path: string) => void
  /** A file whose writes go to somebody. */
  readonly device: (path: string, text: () => string, written: (text: string) => number) => void
}

/** The names of a path; undefined: one of them is too long. Most calls name what another has named. */
function namesIn(path: string): readonly string[] | undefined {
  const known = parsed.get(path)
  if (known !== undefined || parsed.has(path)) return known
  if (parsed.size > 10_000) parsed.clear()
  const names = path.split('/').filter((name) => name !== '' && name !== '.')
  const answer = names.some((name) => name.length > 255) ? undefined : names
  parsed.set(path, answer)
  return answer
}
const parsed = new Map<string, readonly string[] | undefined>()

/** A directory's names, as the kernel's calls tell them. */
const textIn = ({ entries }: Inode): string =>
  textOfNames([...entries].map(([name, { kind }]) => ({ name, kind: kind === 'file' ? 'other' : kind })))

let inodes = 0
const inode = (kind: Inode['kind'], mode: number, text = '', written?: Inode['written']): Inode => ({
  number: ++inodes,
  kind,
  mode,
  text,
  entries: new Map(),
  gone: false,
  written,
})

/** What stands below, in inodes of its own: two names of one file stay two names of one. */
function copied(of: Inode, made = new Map<Inode, Inode>()): Inode {
  const known = made.get(of)
  if (known !== undefined) return known
  const copy = { ...of, entries: new Map<string, Inode>() }
  made.set(of, copy)
  for (const [name, below] of of.entries) copy.entries.set(name, copied(below, made))
  return copy
}

/**
 * @param longestLink 4095 on ext4, 1023 on XFS.
 * @param root what stands there.
 */
export function memoryFiles(longestLink = 4095, root = inode('directory', 0o755)): MemoryFiles {
  let opened = new Map<number, Open>()
  const hooks: Hooks = { before: () => undefined, changed: () => undefined, answered: () => undefined }
  const us = { id: 1000, now: 1_800_000_000_000, monotonic: 0 }

  /** Where a name leads. `last`: what stands under the last name, links followed or not. */
  interface Found {
    readonly within: Inode
    readonly name: string
    readonly last: Inode | undefined
  }
  const find = (directory: number, name: string, follow: boolean, depth = 0): Found | number => {
    if (depth > 40) return -ELOOP
    const base = name.startsWith('/') ? root : directory === atFlags.AT_FDCWD ? root : opened.get(directory)?.inode
    if (base === undefined) return -EBADF
    return findIn(base, name, follow, depth)
  }
  const findIn = (base: Inode, name: string, follow: boolean, depth: number): Found | number => {
    if (name === '') return -ENOENT
    const parts = namesIn(name)
    if (parts === undefined) return -ENAMETOOLONG
    if (base.kind !== 'directory') return -ENOTDIR
    let at = base
    if (parts.length === 0) return { within: at, name: '.', last: at }
    for (const [number, part] of parts.entries()) {
      const isLast = number === parts.length - 1
      if (part === '..') throw new Error('no path of ours has one')
      const next = at.entries.get(part)
      if (isLast && (next?.kind !== 'link' || !follow)) return { within: at, name: part, last: next }
      if (next === undefined) return -ENOENT
      if (next.kind === 'link') {
        const rest = [next.text, ...parts.slice(number + 1)].join('/')
        return next.text.startsWith('/')
          ? findIn(root, rest, follow, depth + 1)
          : depth > 40
            ? -ELOOP
            : findIn(at, rest, follow, depth + 1)
      }
      if (next.kind !== 'directory') return -ENOTDIR
      at = next
    }
    return -ENOENT
  }

  const pathOf = (directory: number, name: string): string =>
    name.startsWith('/')
      ? name
      : `${directory === atFlags.AT_FDCWD ? '' : (opened.get(directory)?.path ?? '?')}/${name}`
  const quoted = (text: string): string =>
    `"${text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')}"`
  const statusOf = ({ kind, mode, number }: Inode): Status => ({
    kind,
    uid: 0,
    mode,
    mtime: Math.floor(us.now / 1000),
    device: 1,
    inode: number,
  })

  /** One call: a hook may fail it or stop the process; what it changed is told. */
  function made<T>(name: string, paths: readonly string[], work: () => T | number): T | number {
    const told = { name, text: '', paths, changes: false }
    const answer = hooks.before(told) ?? work()
    hooks.answered(told, answer)
    return answer
  }
  function change(name: string, text: string, paths: readonly string[], work: () => number): number {
    const told = { name, text, paths, changes: true }
    const failure = hooks.before(told)
    if (failure !== undefined) return failure
    const answer = work()
    if (answer >= 0) hooks.changed(told)
    hooks.answered(told, answer)
    return answer
  }
  /** The place for a new name. */
  const placeFor = (directory: number, name: string): (Found & { readonly last: undefined }) | number => {
    const found = find(directory, name, false)
    if (typeof found === 'number') return found
    if (found.last !== undefined) return -EEXIST
    return found.within.gone ? -ENOENT : { ...found, last: undefined }
  }

  const holds = (above: Inode, below: Inode): boolean =>
    above === below || [...above.entries.values()].some((next) => holds(next, below))

  const open = (directory: number, name: string, wanted: number, mode: number): number => {
    const makes = (wanted & flags.O_CREAT) !== 0
    const makesAnew = makes && (wanted & flags.O_EXCL) !== 0
    const wantsDirectory = (wanted & flags.O_DIRECTORY) !== 0
    const found = find(directory, name, (wanted & flags.O_NOFOLLOW) === 0 && !makesAnew)
    if (typeof found === 'number') return found
    let { last } = found
    if (last === undefined) {
      if (!makes || found.within.gone) return -ENOENT
      last = inode('file', mode)
      found.within.entries.set(found.name, last)
    } else if (makesAnew) return -EEXIST
    else if (last.kind === 'link') return wantsDirectory ? -ENOTDIR : -ELOOP
    else if (last.kind === 'directory' && (wanted & 3) !== 0) return -EISDIR
    else if (last.kind !== 'directory' && wantsDirectory) return -ENOTDIR
    let descriptor = 3
    while (opened.has(descriptor)) descriptor++
    const path = name === '.' ? (opened.get(directory)?.path ?? '/') : pathOf(directory, name)
    opened.set(descriptor, { inode: last, path, at: 0 })
    return descriptor
  }
  const read = (descriptor: number, most: number): string | number => {
    const file = opened.get(descriptor)
    if (file === undefined) return -EBADF
    if (file.inode.kind === 'directory') return -EISDIR
    const text = file.inode.text.slice(file.at, file.at + most)
    file.at += text.length
    return text
  }

  const calls: Calls = {
    flags,
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
      const file = opened.get(descriptor)
      const text = Buffer.from(bytes).toString('latin1')
      return change('write', `${descriptor}, ${quoted(text)}`, [file?.path ?? ''], () => {
        if (file === undefined) return -EBADF
        if (file.inode.written !== undefined) return file.inode.written(text)
        file.inode.text = file.inode.text.slice(0, file.at) + text
        file.at += text.length
        return text.length
      })
    },
    fsync: (descriptor) =>
      change('fsync', '', [opened.get(descriptor)?.path ?? ''], () => (opened.has(descriptor) ? 0 : -EBADF)),
    // A process that is stopped closes its files, as the kernel does for it.
    close: (descriptor) => (opened.delete(descriptor) ? 0 : -EBADF),
    mkdirat: (directory, name, mode) =>
      change('mkdirat', '', [pathOf(directory, name)], () => {
        const place = placeFor(directory, name)
        if (typeof place === 'number') return place
        place.within.entries.set(place.name, inode('directory', mode))
        return 0
      }),
    unlinkat: (directory, name, how) =>
      change('unlinkat', '', [pathOf(directory, name)], () => {
        const found = find(directory, name, false)
        if (typeof found === 'number') return found
        const { within, last } = found
        if (last === undefined) return -ENOENT
        const asDirectory = (how & atFlags.AT_REMOVEDIR) !== 0
        if (asDirectory !== (last.kind === 'directory')) return asDirectory ? -ENOTDIR : -EISDIR
        if (last.entries.size > 0) return -ENOTEMPTY
        if (asDirectory) last.gone = true
        within.entries.delete(found.name)
        return 0
      }),
    renameat: (fromDirectory, from, toDirectory, to) =>
      change('renameat', '', [pathOf(fromDirectory, from), pathOf(toDirectory, to)], (): number => {
        const [source, target] = [find(fromDirectory, from, false), find(toDirectory, to, false)]
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
        return 0
      }),
    linkat: (fromDirectory, existing, toDirectory, name) =>
      change('linkat', '', [pathOf(fromDirectory, existing), pathOf(toDirectory, name)], () => {
        const source = find(fromDirectory, existing, false)
        if (typeof source === 'number') return source
        if (source.last === undefined) return -ENOENT
        const place = placeFor(toDirectory, name)
        if (typeof place === 'number') return place
        if (source.last.kind === 'directory') return -EPERM
        place.within.entries.set(place.name, source.last)
        return 0
      }),
    symlinkat: (text, directory, name) =>
      change('symlinkat', quoted(text), [pathOf(directory, name)], () => {
        if (text === '') return -ENOENT
        if (text.length > longestLink) return -ENAMETOOLONG
        const place = placeFor(directory, name)
        if (typeof place === 'number') return place
        place.within.entries.set(place.name, inode('link', 0o777, text))
        return 0
      }),
    readlinkat: (directory, name) =>
      made('readlinkat', [pathOf(directory, name)], () => {
        const descriptor = name.startsWith('/proc/') ? /^\/proc\/self\/fd\/([0-9]+)$/.exec(name)?.[1] : undefined
        if (descriptor !== undefined) return opened.get(Number(descriptor))?.path ?? -ENOENT
        const found = find(directory, name, false)
        if (typeof found === 'number') return found
        if (found.last === undefined) return -ENOENT
        return found.last.kind === 'link' ? found.last.text : -EINVAL
      }),
    fstatat: (directory, name, how) =>
      made('fstatat', [pathOf(directory, name)], () => {
        const found = find(directory, name, (how & atFlags.AT_SYMLINK_NOFOLLOW) === 0)
        return typeof found === 'number' ? found : found.last === undefined ? -ENOENT : statusOf(found.last)
      }),
    identityAt: (directory, name) =>
      made<string>('fstatat', [pathOf(directory, name)], () => {
        const found = find(directory, name, false)
        if (typeof found === 'number') return found
        return found.last === undefined ? -ENOENT : `${found.last.number} ${found.last.kind} ${found.last.mode}`
      }),
    fstat: (descriptor) =>
      made('fstat', [], () => {
        const file = opened.get(descriptor)
        return file === undefined ? -EBADF : statusOf(file.inode)
      }),
    entries: (descriptor) =>
      made<string>('getdents64', [], () => {
        const directory = opened.get(descriptor)
        if (directory === undefined) return -EBADF
        if (directory.inode.kind !== 'directory') return -ENOTDIR
        if (directory.at > 0) return ''
        directory.at = 1
        if (directory.inode.gone) return -ENOENT
        return textIn(directory.inode)
      }),
    names: (descriptor) =>
      made('getdents64', [], () => {
        const directory = opened.get(descriptor)
        if (directory === undefined) return -EBADF
        if (directory.inode.kind !== 'directory') return -ENOTDIR
        if (directory.inode.gone) return -ENOENT
        return textIn(directory.inode)
      }),
    checksum: crc32,
    bytesInto,
    percentEncoded: percentEncode,
    percentDecoded,
    digitsAt,
    umask: () => undefined,
    alarm: () => undefined,
    confine: () => 0,
    sleep: (milliseconds) => {
      us.now += milliseconds
      us.monotonic += milliseconds
    },
    poll: () => -ENOSYS,
    watch: () => -ENOSYS,
    endSignals: () => -ENOSYS,
    connect: () => -ENOSYS,
    flock: () => -ENOSYS,
    now: () => us.now,
    monotonic: () => us.monotonic,
    processId: () => us.id,
    userId: () => 0,
    isTerminal: () => false,
    exit: (status) => {
      throw new Error(`ended with ${status}`)
    },
  }

  const directoryAt = (path: string): Inode =>
    (namesIn(path) ?? []).reduce((at, part) => {
      const next = at.entries.get(part) ?? inode('directory', 0o755)
      at.entries.set(part, next)
      return next
    }, root)
  const put = (path: string, node: Inode): void => {
    directoryAt(path.slice(0, path.lastIndexOf('/'))).entries.set(path.slice(path.lastIndexOf('/') + 1), node)
  }
  const inodeFor = (node: Node): Inode =>
    node.kind === 'directory'
      ? inode('directory', 0o700)
      : node.kind === 'link'
        ? inode('link', 0o777, node.target)
        : inode('file', 0o600, node.bytes)

  const plant = (tree: Tree, path: string): void => {
    for (const [name, node] of tree) put(name === '' ? path : `${path}/${name}`, inodeFor(node))
  }
  const remove = (path: string): void => {
    directoryAt(path.slice(0, path.lastIndexOf('/'))).entries.delete(path.slice(path.lastIndexOf('/') + 1))
  }

  return {
    calls,
    hooks,
    process: us,
    end: () => {
      opened.clear()
    },
    meanwhile: (work) => {
      const [ours, { id }] = [opened, us]
      opened = new Map()
      try {
        return work()
      } finally {
        opened = ours
        us.id = id
      }
    },
    copy: () => {
      const copy = memoryFiles(longestLink, copied(root))
      Object.assign(copy.process, us)
      return copy
    },
    tree: (path) => {
      const tree = new Map<string, Node>()
      const visit = (at: Inode, name: string): void => {
        if (at.kind === 'link') tree.set(name, { kind: 'link', target: at.text })
        else if (at.kind === 'directory') {
          tree.set(name, { kind: 'directory' })
          for (const [below, next] of [...at.entries].sort(([a], [b]) => (a < b ? -1 : 1)))
            visit(next, name === '' ? below : `${name}/${below}`)
        } else tree.set(name, { kind: 'file', bytes: at.text })
      }
      const found = find(atFlags.AT_FDCWD, path, true)
      if (typeof found !== 'number' && found.last !== undefined) visit(found.last, '')
      return tree
    },
    plant,
    replace: (path, tree) => {
      remove(path)
      plant(tree, path)
    },
    remove,
    device: (path, text, written) => {
      const made = inode('file', 0o600, '', written)
      Object.defineProperty(made, 'text', { get: text })
      put(path, made)
    },
  }
}
