/**
 * What a disk may hold after a power cut: a model of files and directories that remembers what was synced.
 *
 * The model promises less than ext4, XFS and btrfs do:
 * - Each entry that was made in a directory or removed from it since its last fsync may be there or not, in any
 *   combination. A sync of one directory promises nothing for another one, nor for the directory's own name.
 * - If a file's bytes were not synced, they are all there, missing, cut short, or zeros.
 * - What was synced is there, unless it was overwritten since (pwrite(2)). Then each block of 4096 bytes holds,
 *   whatever the others hold, what was synced, or what it held after one of the writes since, or the first half of one.
 * Three things it takes over from all three file systems. A symbolic link has its target. A renamed file is there under
 * its old name, the new one, or (btrfs) both, but never under neither. A name that was replaced by a rename is never
 * missing.
 */
import { textIn, type Call } from '../support/strace.ts'
import { random } from './figures.ts'
import type { Node, Tree } from './trees.ts'

interface Inode {
  readonly kind: 'directory' | 'link' | 'file'
  readonly target: string
  readonly entries: Map<string, Entry>
  bytes: string
  synced: string
  /** What was overwritten since the last sync, by the number of the block. */
  readonly overwritten: Map<number, Block>
}

/** What a cut may leave of a block. The first was synced. */
interface Block {
  readonly contents: string[]
}
const blockSize = 4096

/** What a name has meant since its directory was last synced. The first is certainly on the disk. */
interface Entry {
  history: (Inode | undefined)[]
  /** The index of the earliest meaning that a cut can leave: more than 0, if a rename's other half is on the disk. */
  atLeast: number
}

/** A rename of which only one half may be on the disk. If the old name is gone, the new one is there. */
interface Rename {
  readonly from: Entry
  readonly goneAt: number
  readonly to: Entry
  readonly hereAt: number
}

const inode = (kind: Inode['kind'], target = ''): Inode => ({
  kind,
  target,
  entries: new Map(),
  bytes: '',
  synced: '',
  overwritten: new Map(),
})

export interface Disk {
  /** Follows a call that succeeded. Calls outside `top` are ignored. */
  readonly apply: (call: Pick<Call, 'name' | 'text' | 'paths'>) => void
  /**
   * Every tree that a cut may leave now. `bounded` is called if there are more than the bound, and only some are given.
   */
  readonly afterCut: (bounded: () => void) => Generator<Tree>
}

/** How many combinations are tried at one moment, at most. */
export const bound = 1500

/** A disk on which `top` is certainly an empty directory. */
export const diskAt = (top: string): Disk => new DiskInModel(top)

class DiskInModel implements Disk {
  private readonly top: string
  private readonly root = inode('directory')
  private renames: readonly Rename[] = []

  constructor(top: string) {
    this.top = top
  }

  apply({ name, text, paths }: Pick<Call, 'name' | 'text' | 'paths'>): void {
    const [first = '', second = ''] = paths.filter((path) => this.under(path) !== undefined)
    if (first === '') return
    switch (name) {
      case 'mkdir':
      case 'mkdirat':
        this.set(first, inode('directory'))
        return
      case 'symlink':
      case 'symlinkat':
        this.set(first, inode('link', /^"((?:[^"\\]|\\.)*)"/.exec(text)?.[1] ?? ''))
        return
      case 'link':
      case 'linkat':
        this.set(second, this.find(first))
        return
      case 'unlink':
      case 'unlinkat':
      case 'rmdir':
        this.set(first, undefined)
        return
      case 'rename':
      case 'renameat':
        this.rename(first, second)
        return
      case 'openat':
        this.open(first, text)
        return
      case 'write': {
        const file = this.find(first)
        if (file !== undefined) file.bytes += textIn(text) ?? ''
        return
      }
      case 'pwrite64':
        this.overwrite(first, textIn(text) ?? '', Number(/, (\d+)$/.exec(text.trim())?.[1]))
        return
      case 'fchmod':
        return
      case 'ftruncate': {
        const file = this.find(first)
        if (file !== undefined && file.overwritten.size > 0)
          throw new Error(`the model does not know what is left of ${first}`)
        if (file !== undefined) file.bytes = file.bytes.slice(0, Number(/, (\d+)$/.exec(text.trim())?.[1] ?? 0))
        return
      }
      case 'fsync':
      case 'fdatasync':
        this.sync(first)
        return
      default:
        throw new Error(`the model does not know what ${name} does to ${first}`)
    }
  }

  *afterCut(bounded: () => void): Generator<Tree> {
    const choices = choicesIn(this.root)
    const views = viewsIn(this.root)
    for (const chosen of combinationsOf(choices, bounded)) {
      const index = (at: Entry): number => chosen.get(at) ?? (views.has(at) ? at.history.length - 1 : at.atLeast)
      if (this.renames.some(({ from, goneAt, to, hereAt }) => index(from) >= goneAt && index(to) < hereAt)) continue
      yield treeOf(this.root, index, (file) => bytesOf(file, chosen))
    }
  }

  private under(path: string): string[] | undefined {
    if (path === this.top) return []
    return path.startsWith(`${this.top}/`) ? path.slice(this.top.length + 1).split('/') : undefined
  }

  private find(path: string): Inode | undefined {
    return this.under(path)?.reduce<Inode | undefined>((at, name) => {
      const entry = at?.entries.get(name)
      return entry && newest(entry)
    }, this.root)
  }

  /** A file that is open, and whose name was removed: a cut may bring the name back. */
  private removed(path: string): Inode | undefined {
    const parts = this.under(path) ?? []
    const parent = this.find([this.top, ...parts.slice(0, -1)].join('/'))
    const last = parent?.entries.get(parts.at(-1) ?? '')?.history.findLast((one) => one !== undefined)
    return last?.kind === 'file' ? last : undefined
  }

  private entry(path: string): Entry {
    const parts = this.under(path) ?? []
    const parent = this.find([this.top, ...parts.slice(0, -1)].join('/'))
    if (parent === undefined) throw new Error(`the model has no directory for ${path}`)
    const name = parts.at(-1) ?? ''
    const known = parent.entries.get(name) ?? { history: [undefined], atLeast: 0 }
    parent.entries.set(name, known)
    return known
  }

  private set(path: string, to: Inode | undefined): Entry {
    const at = this.entry(path)
    at.history.push(to)
    return at
  }

  private open(path: string, text: string): void {
    const there = this.find(path)
    if (there === undefined) this.set(path, inode('file'))
    else if (text.includes('O_TRUNC')) there.bytes = ''
  }

  private overwrite(path: string, text: string, at: number): void {
    const file = this.find(path) ?? this.removed(path)
    if (Number.isNaN(at)) throw new Error(`the model does not know what is written to ${path}`)
    // It is open, and its removal is durable: no cut brings it back.
    if (file === undefined) return
    const before = file.bytes
    file.bytes = before.slice(0, at).padEnd(at, '\0') + text + before.slice(at + text.length)
    const end = Math.min(at + text.length, file.synced.length)
    for (let number = Math.floor(at / blockSize); number * blockSize < end; number++) {
      const blockIn = (bytes: string): string =>
        bytes.slice(number * blockSize, Math.min((number + 1) * blockSize, file.synced.length))
      const block = file.overwritten.get(number) ?? { contents: [blockIn(file.synced)] }
      file.overwritten.set(number, block)
      for (const content of partsOf(blockIn(before), blockIn(file.bytes)))
        if (!block.contents.includes(content)) block.contents.push(content)
    }
  }

  private rename(oldPath: string, newPath: string): void {
    const to = this.set(newPath, this.find(oldPath))
    const from = this.set(oldPath, undefined)
    this.renames = [...this.renames, { from, goneAt: from.history.length - 1, to, hereAt: to.history.length - 1 }]
  }

  private sync(path: string): void {
    const there = this.find(path) ?? this.removed(path)
    if (there?.kind === 'directory') this.syncDirectory(there)
    else if (there !== undefined) {
      there.synced = there.bytes
      there.overwritten.clear()
    }
  }

  private syncDirectory(directory: Inode): void {
    for (const at of directory.entries.values()) {
      for (const { from, to, hereAt } of this.renames)
        if (from === at) to.atLeast = Math.max(to.atLeast, Math.min(hereAt, to.history.length - 1))
      this.renames = this.renames.filter(({ from, to }) => from !== at && to !== at)
      at.history = [newest(at)]
      at.atLeast = 0
    }
  }
}

const newest = ({ history }: Entry): Inode | undefined => history.at(-1)

/** What a write makes of a block: up to the middle of what differs it is new, then everywhere. */
function partsOf(old: string, now: string): string[] {
  const differ = Array.from(now, (byte, at) => (byte === old[at] ? -1 : at)).filter((at) => at >= 0)
  const middle = ((differ[0] ?? 0) + (differ.at(-1) ?? 0) + 1) >> 1
  return [now.slice(0, middle) + old.slice(middle), now]
}

/** What a cut may leave differently: a name, the end of a file's bytes, or an overwritten block. */
type Unsure = Entry | Inode | Block

interface Choice {
  readonly of: Unsure
  readonly options: readonly number[]
}

function choicesIn(directory: Inode, seen = new Set<Inode>()): Choice[] {
  if (seen.has(directory)) return []
  seen.add(directory)
  const choices: Choice[] = []
  for (const [name, at] of directory.entries) {
    if (isView(name)) continue
    const options = differing(name, at)
    if (options.length > 1) choices.push({ of: at, options })
    for (const child of at.history) {
      if (child === undefined) continue
      if (child.kind === 'file' && !seen.has(child)) {
        if (child.bytes.length > child.synced.length) choices.push({ of: child, options: [0, 1, 2, 3] })
        for (const block of child.overwritten.values())
          if (block.contents.length > 1) choices.push({ of: block, options: [...block.contents.keys()] })
        seen.add(child)
      }
      choices.push(...choicesIn(child, seen))
    }
  }
  return choices
}

/** All combinations. If they are more than the bound: the least that may be left, the most, and then random ones. */
function* combinationsOf(choices: readonly Choice[], bounded: () => void): Generator<Map<Unsure, number>> {
  const combinations = choices.reduce((all, { options }) => all * options.length, 1)
  const isBounded = combinations > bound
  if (isBounded) bounded()
  const dice = random(combinations)
  const byLot = (turn: number, { length }: readonly number[]): number => {
    if (turn === 0) return 0
    return turn === 1 ? length - 1 : Math.floor(dice() * length)
  }
  for (let turn = 0; turn < (isBounded ? bound : combinations); turn++) {
    const chosen = new Map<Unsure, number>()
    let rest = turn
    for (const { of, options } of choices) {
      const at = isBounded ? byLot(turn, options) : rest % options.length
      chosen.set(of, options[at] ?? 0)
      rest = Math.floor(rest / options.length)
    }
    yield chosen
  }
}

/** Files that are only for people (lib/store/views.ts). No program reads them, so a cut may leave anything of them. */
const isView = (name: string): boolean => /^(?:new_|old_)?boot_time(?:\.[0-9]+)?$/.test(name)

function viewsIn(directory: Inode, found = new Set<Entry>(), seen = new Set<Inode>()): Set<Entry> {
  if (seen.has(directory)) return found
  seen.add(directory)
  for (const [name, at] of directory.entries)
    if (isView(name)) found.add(at)
    else for (const child of at.history) if (child !== undefined) viewsIn(child, found, seen)
  return found
}

/** The meanings of a name that a cut can leave and that differ. Locks of dead holders count as the same. */
function differing(name: string, { history, atLeast }: Entry): number[] {
  const options: number[] = []
  for (let at = history.length - 1; at >= atLeast; at--) {
    const same = (other: number): boolean =>
      history[other] === history[at] || (name === 'lock' && history[other] !== undefined && history[at] !== undefined)
    if (!options.some(same)) options.unshift(at)
  }
  return options
}

/** What follows the synced bytes is all there, missing, cut short, or zeros. */
function bytesOf(file: Inode, chosen: ReadonlyMap<Unsure, number>): string {
  let { synced } = file
  for (const [number, block] of file.overwritten) {
    const content = block.contents[chosen.get(block) ?? 0] ?? ''
    const at = number * blockSize
    synced = synced.slice(0, at) + content + synced.slice(at + content.length)
  }
  const fresh = file.bytes.slice(synced.length)
  return (
    synced + ([fresh, '', fresh.slice(0, fresh.length >> 1), '\0'.repeat(fresh.length)][chosen.get(file) ?? 0] ?? '')
  )
}

function treeOf(root: Inode, index: (at: Entry) => number, bytes: (file: Inode) => string): Tree {
  const tree = new Map<string, Node>()
  const visit = (directory: Inode, path: string): void => {
    for (const [name, at] of [...directory.entries].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const there = at.history[index(at)]
      if (there === undefined) continue
      const full = path === '' ? name : `${path}/${name}`
      if (there.kind === 'link') tree.set(full, { kind: 'link', target: there.target })
      else if (there.kind === 'file') tree.set(full, { kind: 'file', bytes: bytes(there) })
      else {
        tree.set(full, { kind: 'directory' })
        visit(there, full)
      }
    }
  }
  visit(root, '')
  return tree
}
