/**
 * The list of what `install` has put where. With it, the next `install` can tell an admin's change from an old version,
 * and `uninstall` knows what is ours. It has lines of `sha256sum`, which can check them (except links).
 *
 * The list is in the target system, where others may have written it. So it is trusted only for files with one of our
 * names, and says only that such a file is ours if it has the listed digest.
 */
import fs from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { storageFailure } from '../../failure.ts'
import { tolerating } from '../../syscalls/files.ts'
import { quote } from '../../text.ts'
import { bytesIn, inDirectory, type Root } from '../shared/inside.ts'
import { isOurPath, type Item } from './files.ts'
import { place, type Identity } from './place.ts'

const path = '/var/lib/nfsd-userland-helper/installed'

export interface Installed {
  /** The files by path, in the order in which they were installed. */
  readonly files: ReadonlyMap<string, Identity>
  /** Paths that the list names, but that we never install. */
  readonly foreign: readonly string[]
}

export function readInstalled(root: Root): Installed {
  const list = inDirectory(root, dirname(path), 'leave', (directory) => bytesIn(directory, basename(path)))
  if (list === 'other')
    throw storageFailure(`the list of what was installed is no regular file: ${quote(join(root.path, path))}`)
  const text = list?.toString() ?? ''
  const named = [...text.matchAll(/^([0-9a-f]{64}) [ *](\/.+)$/gm)].map(
    ([, identity = '', file = '']) => [file, identity] as const,
  )
  return {
    files: new Map(named.filter(([file]) => isOurPath(file))),
    foreign: named.map(([file]) => file).filter((file) => !isOurPath(file)),
  }
}

export function writeInstalled(root: Root, installed: ReadonlyMap<string, Identity>): void {
  const text = [...installed].map(([file, identity]) => `${identity}  ${file}\n`).join('')
  const item: Item = { path, kind: 'program', mode: 0o644, content: { text } }
  place(root, item)
}

export function forgetInstalled(root: Root): void {
  inDirectory(root, dirname(path), 'leave', (directory) => {
    fs.rmSync(directory.entry(basename(path)), { force: true })
  })
  inDirectory(root, dirname(dirname(path)), 'leave', (directory) => {
    tolerating(
      ['ENOENT', 'ENOTDIR', 'ENOTEMPTY', 'EEXIST'],
      () => {
        fs.rmdirSync(directory.entry(basename(dirname(path))))
      },
      undefined,
    )
  })
}
