/**
 * What `install` has put where, so that the next one knows an admin's change from an old version, and `uninstall` knows
 * what is ours: lines of `sha256sum`, which can check them (but for links).
 */
import { join } from 'node:path'
import fs from 'node:fs'
import { tolerating } from '../../stable/disk.ts'
import type { Item } from './files.ts'
import { place, type Identity } from './place.ts'

const path = '/var/lib/nfsd-userland-helper/installed'

/** By path, in the order of their installation. */
export type Installed = ReadonlyMap<string, Identity>

export function readInstalled(root: string): Installed {
  const text = tolerating(['ENOENT', 'ENOTDIR'], () => fs.readFileSync(join(root, path), 'utf8'), '')
  return new Map([...text.matchAll(/^([0-9a-f]{64}) [ *](\/.+)$/gm)].map(([, identity = '', file = '']) => [file, identity]))
}

export function writeInstalled(root: string, installed: Installed): void {
  const text = [...installed].map(([file, identity]) => `${identity}  ${file}\n`).join('')
  const item: Item = { path, kind: 'program', mode: 0o644, content: { text } }
  place(root, item, undefined, false)
}

export function forgetInstalled(root: string): void {
  tolerating(['ENOENT', 'ENOTDIR'], () => { fs.unlinkSync(join(root, path)) }, undefined)
  tolerating(['ENOENT', 'ENOTDIR', 'ENOTEMPTY'], () => { fs.rmdirSync(join(root, '/var/lib/nfsd-userland-helper')) }, undefined)
}

