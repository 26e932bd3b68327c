/** The inodes of a machine in memory (directories, files and links), and how a path is resolved. */
import { errno } from '../../../lib/syscalls/errno.ts'
import { textOfNames } from '../../../lib/syscalls/files.ts'
import type { Node, Tree } from '../../proof/trees.ts'

const { ENOENT, ENOTDIR, ENAMETOOLONG, ELOOP } = errno

export interface Inode {
  readonly number: number
  readonly kind: 'directory' | 'file' | 'link' | 'other'
  mode: number
  /** A file's bytes, or a link's text. Each character is a byte. */
  text: string
  readonly entries: Map<string, Inode>
  /** A directory that has been removed and is still open. */
  gone: boolean
  /** What each watch on a directory has to report. */
  readonly watches: Set<Reports>
  /** What a device, or a file of the kernel's, does with a write. */
  readonly written: ((text: string) => number) | undefined
  /** The open file that has locked it. */
  lockedBy: object | undefined
  /** The same, with the other kind of lock. */
  heldBy: object | undefined
}

/** A watch's reports that were not asked for yet, as inotify(7) keeps them. */
export type Reports = string[]

/** fs.inotify.max_queued_events */
const mostReports = 16_384

/** Of two equal reports in a row the kernel keeps one (fs/notify/inotify/inotify_fsnotify.c, inotify_merge). */
export function report(within: Inode, what: string): void {
  for (const reports of within.watches)
    if (reports.length > mostReports) reports[mostReports] = 'overflow'
    else if (reports.at(-1) !== what) reports.push(what)
}

let inodes = 0
export const inode = (kind: Inode['kind'], mode: number, text = '', written?: Inode['written']): Inode => ({
  number: ++inodes,
  kind,
  mode,
  text,
  entries: new Map(),
  gone: false,
  watches: new Set(),
  written,
  lockedBy: undefined,
  heldBy: undefined,
})

/** A copy of what is below, with new inodes. Hard links stay hard links. What is open there is not open here. */
export function copied(of: Inode, made = new Map<Inode, Inode>()): Inode {
  const known = made.get(of)
  if (known !== undefined) return known
  const copy = {
    ...of,
    entries: new Map<string, Inode>(),
    watches: new Set<Reports>(),
    lockedBy: undefined,
    heldBy: undefined,
  }
  made.set(of, copy)
  for (const [name, below] of of.entries) copy.entries.set(name, copied(below, made))
  return copy
}

/** The names in a path; undefined: one of them is too long. Kept, because most calls name the same paths. */
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

/** A directory's names, but for one, in the form of the kernel's calls. */
export const textIn = ({ entries }: Inode, except?: string): string =>
  textOfNames(
    [...entries]
      .filter(([name]) => name !== except)
      .map(([name, { kind }]) => ({ name, kind: kind === 'file' ? 'other' : kind })),
  )

/** The place to which a path leads. */
export interface Found {
  readonly within: Inode
  readonly name: string
  /** The inode with the last name. */
  readonly last: Inode | undefined
}

/** Whether a link under the last name is followed. Links before it always are. */
export type LastLink = 'followed' | 'itself'

/** @param base where a relative path begins; undefined: relative paths lead nowhere. */
export function find(root: Inode, base: Inode, name: string, lastLink: LastLink, links = 0): Found | number {
  if (links > 40) return -ELOOP
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
    if (isLast && (next?.kind !== 'link' || lastLink === 'itself')) return { within: at, name: part, last: next }
    if (next === undefined) return -ENOENT
    if (next.kind === 'link') {
      const rest = [next.text, ...parts.slice(number + 1)].join('/')
      return find(root, next.text.startsWith('/') ? root : at, rest, lastLink, links + 1)
    }
    if (next.kind !== 'directory') return -ENOTDIR
    at = next
  }
  return -ENOENT
}

/** Whether a directory is the other one, or above it. */
export const holds = (above: Inode, below: Inode): boolean =>
  above === below || [...above.entries.values()].some((next) => holds(next, below))

/** The tree below a path. */
export function treeAt(root: Inode, path: string): Tree {
  const tree = new Map<string, Node>()
  const visit = (at: Inode, name: string): void => {
    if (at.kind === 'link') tree.set(name, { kind: 'link', target: at.text })
    else if (at.kind === 'directory') {
      tree.set(name, { kind: 'directory' })
      for (const [below, next] of [...at.entries].sort(([a], [b]) => (a < b ? -1 : 1)))
        visit(next, name === '' ? below : `${name}/${below}`)
    } else tree.set(name, { kind: 'file', bytes: at.text })
  }
  const found = find(root, root, path, 'followed')
  if (typeof found !== 'number' && found.last !== undefined) visit(found.last, '')
  return tree
}

/** The directory that contains a path's last name. It is made, if it does not exist. */
function parentOf(root: Inode, path: string): { readonly parent: Inode; readonly name: string } {
  const names = [...(namesIn(path) ?? [])]
  const name = names.pop() ?? ''
  const parent = names.reduce((at, part) => {
    const next = at.entries.get(part) ?? inode('directory', 0o755)
    at.entries.set(part, next)
    return next
  }, root)
  return { parent, name }
}

export function put(root: Inode, path: string, node: Inode): void {
  const { parent, name } = parentOf(root, path)
  parent.entries.set(name, node)
  report(parent, `moved here ${name}`)
}

export function remove(root: Inode, path: string): void {
  const { parent, name } = parentOf(root, path)
  if (parent.entries.delete(name)) report(parent, `removed ${name}`)
}

const inodeFor = (node: Node): Inode =>
  node.kind === 'directory'
    ? inode('directory', 0o700)
    : node.kind === 'link'
      ? inode('link', 0o777, node.target)
      : inode('file', 0o600, node.bytes)

/** Puts a tree at a path, and makes its parents. */
export function plant(root: Inode, tree: Tree, path: string): void {
  for (const [name, node] of tree) put(root, name === '' ? path : `${path}/${name}`, inodeFor(node))
}
