/** The contents of a state directory as a value: read, planted, compared. */
import {
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'

export type Node =
  | { readonly kind: 'directory' }
  | { readonly kind: 'link'; readonly target: string }
  | { readonly kind: 'file'; readonly bytes: string }

/** Relative path to what stands there; a directory comes before what is in it. `bytes` are latin1. */
export type Tree = ReadonlyMap<string, Node>

/** A tree, or none where the directory is not there. */
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

/** Makes a directory hold exactly a tree. */
export function plant(tree: Tree, directory: string): void {
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(dirname(directory), { recursive: true })
  for (const [path, node] of tree) {
    const full = join(directory, path)
    if (node.kind === 'directory') mkdirSync(full, { mode: 0o700 })
    else if (node.kind === 'link') symlinkSync(node.target, full)
    else writeFileSync(full, node.bytes, { encoding: 'latin1', mode: 0o600 })
  }
}

/**
 * What is the same for two trees that mean the same: instances are numbered in their order, a lock's holder is any dead
 * process, and when a client was recorded plays no part.
 */
export function fingerprint(tree: Tree): string {
  const starts = new Set<number>()
  const starting = /(?<![0-9a-z])[0-9]{9,12}(?![0-9a-z])/g
  for (const [path, node] of tree) {
    const text = node.kind === 'file' ? `${path}\n${node.bytes}` : path
    for (const [start] of text.matchAll(starting)) starts.add(Number(start))
  }
  const order = [...starts].sort((a, b) => a - b)
  const numbered = (text: string): string => text.replace(starting, (start) => `#${order.indexOf(Number(start)) + 1}`)
  return [...tree]
    .map(([path, node]) => {
      const name = numbered(path.replace(/%new-[0-9-]+/, '%new'))
      if (node.kind === 'directory') return `${name}/`
      if (node.kind === 'file')
        return `${name}=${JSON.stringify(numbered(node.bytes.replace(/recorded=\d+,check=[0-9a-f]{8}/, '')))}`
      if (name === 'v4clients/lock') return `${name}@`
      // Whoever plants it has another pipe.
      if (name.endsWith('.pipe')) return `${name}@`
      return `${name}@${node.target.replace(/recorded=\d+,check=[0-9a-f]{8}/, '')}`
    })
    .sort()
    .join('\n')
}
