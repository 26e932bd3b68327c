/** The contents of a state directory as a value: read, planted, compared. */
import { lstatSync, mkdirSync, readFileSync, readdirSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ensureDirSync, removeSync } from 'fs-extra/esm'

export type Node =
  | { readonly kind: 'directory' }
  | { readonly kind: 'link'; readonly target: string }
  | { readonly kind: 'file'; readonly bytes: string }

/** From relative path to contents; a directory comes before what is in it. `bytes` are latin1. */
export type Tree = ReadonlyMap<string, Node>

/** A tree; an empty one if the directory does not exist. */
export function readTree(directory: string): Tree {
  const tree = new Map<string, Node>()
  const visit = (path: string): void => {
    const full = join(directory, path)
    const stats = lstatSync(full, { throwIfNoEntry: false })
    if (stats === undefined) return
    if (stats.isSymbolicLink()) tree.set(path, { kind: 'link', target: readlinkSync(full) })
    else if (stats.isDirectory()) {
      tree.set(path, { kind: 'directory' })
      for (const name of readdirSync(full).sort()) visit(path === '' ? name : `${path}/${name}`)
    } else tree.set(path, { kind: 'file', bytes: readFileSync(full, 'latin1') })
  }
  visit('')
  return tree
}

/** Makes a directory hold exactly this tree. */
export function plant(tree: Tree, directory: string): void {
  removeSync(directory)
  ensureDirSync(dirname(directory))
  for (const [path, node] of tree) {
    const full = join(directory, path)
    if (node.kind === 'directory') mkdirSync(full, { mode: 0o700 })
    else if (node.kind === 'link') symlinkSync(node.target, full)
    else writeFileSync(full, node.bytes, { encoding: 'latin1', mode: 0o600 })
  }
}

/** A node's line in a fingerprint: texts, and between them the starts of instances. */
interface Line {
  readonly texts: readonly string[]
  readonly starts: readonly number[]
}

const starting = /(?<![0-9a-z])[0-9]{9,12}(?![0-9a-z])/g
const unrecorded = (text: string): string => text.replace(/recorded=\d+,check=[0-9a-f]{8}/, '')

function lineFor(path: string, node: Node): Line {
  const name = path.replace(/%new-[0-9-]+/, '%new')
  const bytes = node.kind === 'file' ? unrecorded(node.bytes) : ''
  const starts = [name, bytes].flatMap((text) => [...text.matchAll(starting)].map(([start]) => Number(start)))
  const texts = name.split(starting)
  const end = (text: string): void => void texts.push(`${texts.pop() ?? ''}${text}`)
  if (node.kind === 'directory') end('/')
  else if (node.kind === 'file') {
    const [first = '', ...rest] = bytes.split(starting).map((text) => JSON.stringify(text).slice(1, -1))
    end(`="${first}`)
    texts.push(...rest)
    end('"')
  }
  // Whoever plants a pipe's mark has another pipe.
  else end(name === 'v4clients/lock' || name.endsWith('.pipe') ? '@' : `@${unrecorded(node.target)}`)
  return { texts, starts }
}

/** Most trees differ in few of their nodes. */
const lines = new Map<string, Line>()

function lineOf(path: string, node: Node): Line {
  const key =
    node.kind === 'link' ? `${path}@${node.target}` : node.kind === 'file' ? `${path}=${node.bytes}` : `${path}/`
  const known = lines.get(key)
  if (known !== undefined) return known
  if (lines.size > 100_000) lines.clear()
  const line = lineFor(path, node)
  lines.set(key, line)
  return line
}

/**
 * The same text for two trees that mean the same: instances are numbered in their order, a lock's holder is any dead
 * process, and when a client was recorded does not matter.
 */
export function fingerprint(tree: Tree): string {
  const all: Line[] = []
  const starts = new Set<number>()
  for (const [path, node] of tree) {
    const line = lineOf(path, node)
    all.push(line)
    for (const start of line.starts) starts.add(start)
  }
  const order = [...starts].sort((a, b) => a - b)
  return all
    .map((line) =>
      line.texts.reduce((text, next, at) => `${text}#${order.indexOf(line.starts[at - 1] ?? 0) + 1}${next}`),
    )
    .sort()
    .join('\n')
}
