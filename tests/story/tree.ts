/** The state directory as a tree, with what an upcall changed in it. */
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { changed, dim, gone, plain, quoted, made } from './paint.ts'

/** The contents of each path below the state directory: a link's target, a file's bytes, nothing for a directory. */
export type Snapshot = ReadonlyMap<string, string>

export function snapshot(dir: string, below = ''): Map<string, string> {
  const found = new Map<string, string>()
  for (const name of readdirSync(join(dir, below)).sort()) {
    const path = join(below, name)
    const is = lstatSync(join(dir, path))
    if (is.isSymbolicLink()) found.set(path, ` -> ${readlinkSync(join(dir, path))}`)
    else if (is.isFile()) found.set(path, ` ${quoted(readFileSync(join(dir, path), 'latin1').trim())}`)
    else {
      found.set(path, '')
      for (const entry of snapshot(dir, path)) found.set(...entry)
    }
  }
  return found
}

/**
 * The tree's lines: `+` was made by the upcall, `-` was removed, `~` was rewritten. A directory in which nothing
 * changed is one line.
 */
export function tree(before: Snapshot, after: Snapshot): readonly string[] {
  const paths = [...new Set([...before.keys(), ...after.keys()])]
  const isDirectory = (path: string): boolean => (after.get(path) ?? before.get(path)) === ''
  const lines = (parent: string, rails: string): string[] => {
    const here = paths
      .filter((path) => path.startsWith(parent) && path !== parent && !path.slice(parent.length).includes('/'))
      .sort((a, b) => (a < b ? -1 : 1))
    return here.flatMap((path, nth) => {
      const last = nth === here.length - 1
      const value = after.get(path) ?? before.get(path) ?? ''
      const [mark, paint] = !after.has(path)
        ? (['-', gone] as const)
        : !before.has(path)
          ? (['+', made] as const)
          : before.get(path) !== after.get(path)
            ? (['~', changed] as const)
            : ([' ', plain] as const)
      const name = `${path.slice(parent.length)}${isDirectory(path) ? '/' : ''}`
      const line = `${paint(mark)} ${dim(`${rails}${last ? '└─' : '├─'}`)} ${paint(name)}${mark === ' ' ? dim(value) : paint(value)}`
      const below = paths.filter((it) => it.startsWith(`${path}/`))
      if (mark === ' ' && below.length > 0 && below.every((it) => before.get(it) === after.get(it)))
        return [`${line}${dim(` (${below.length} as before)`)}`]
      return [line, ...(isDirectory(path) ? lines(`${path}/`, `${rails}${last ? '   ' : '│  '}`) : [])]
    })
  }
  return lines('', '')
}
