/**
 * Puts one file in place, and takes one away, by the rules of a Debian conffile.
 *
 * A file is written under a name of its own, synced, and renamed: whoever runs or reads the old one keeps it whole, and
 * the kernel never finds half a program. What an admin has changed is never written over, and what an admin has removed
 * does not come back.
 */
import { createHash } from 'node:crypto'
import { basename, dirname, join } from 'node:path'
import { mkdirpSync } from 'fs-extra/esm'
import fs from 'node:fs'
import { syncDirectory, tolerating } from '../../stable/disk.ts'
import type { Content, Item } from './files.ts'

export type Outcome =
  | 'installed'
  | 'updated'
  | 'unchanged'
  /** Changed by the admin, and ours has not changed since. */
  | 'kept'
  /** Changed by the admin; ours lies beside it as `.new`. */
  | 'kept, see .new'
  | 'left out: you removed it'
  | 'removed'
  | 'was gone already'

/** A file's identity: the digest of its bytes, or where a link leads. */
export type Identity = string

export interface Placed { readonly outcome: Outcome; readonly identity: Identity }

/** @param before what was installed here the last time; undefined if nothing was. */
export function place(root: string, item: Item, before: Identity | undefined, dryRun: boolean): Placed {
  const target = join(root, item.path)
  const found = identityAt(target)
  const identity = identityOf(item.content)
  const outcome = decide(item, found, identity, before)
  if (dryRun) return { outcome, identity }
  if (outcome === 'installed' || outcome === 'updated') write(target, item)
  if (outcome === 'kept, see .new') write(`${target}.new`, item)
  if (outcome === 'unchanged' && !('linkTo' in item.content)) fs.chmodSync(target, item.mode)
  return { outcome, identity }
}

function decide({ kind }: Item, found: Identity | undefined, ours: Identity, before: Identity | undefined): Outcome {
  if (found === ours) return 'unchanged'
  if (kind !== 'configuration') return found === undefined ? 'installed' : 'updated'
  if (found === undefined) return before === undefined ? 'installed' : 'left out: you removed it'
  if (found === before) return 'updated'
  return ours === before ? 'kept' : 'kept, see .new'
}

/** Takes away what is still as it was installed. @param before what was installed. */
export function takeAway(root: string, path: string, before: Identity, dryRun: boolean): Outcome {
  const target = join(root, path)
  if (!dryRun) {
    const beside = `${target}.new`
    tolerating(['ENOENT', 'ENOTDIR'], () => { fs.unlinkSync(beside) }, undefined)
  }
  const found = identityAt(target)
  if (found === undefined) return 'was gone already'
  if (found !== before) return 'kept'
  if (!dryRun) {
    fs.unlinkSync(target)
    syncDirectory(dirname(target))
    removeRoom(dirname(target))
  }
  return 'removed'
}

/** Directories that are there for us alone go with their last file. */
function removeRoom(directory: string): void {
  if (/\/(?:nfsd-userland-helper|nfs-server\.service\.d)$/.test(directory))
    tolerating(['ENOTEMPTY', 'EEXIST'], () => { fs.rmdirSync(directory) }, undefined)
}

export function identityAt(path: string): Identity | undefined {
  const stats = tolerating(['ENOENT', 'ENOTDIR'], () => fs.lstatSync(path), undefined)
  if (stats === undefined) return undefined
  if (stats.isSymbolicLink()) return linkIdentity(fs.readlinkSync(path))
  return stats.isFile() ? digest(fs.readFileSync(path)) : 'other'
}

const identityOf = (content: Content): Identity => ('linkTo' in content ? linkIdentity(content.linkTo) : digest(bytesOf(content)))
const linkIdentity = (target: string): Identity => digest(Buffer.from(`link to ${target}`))
const digest = (bytes: Uint8Array): Identity => createHash('sha256').update(bytes).digest('hex')

function bytesOf(content: Exclude<Content, { readonly linkTo: string }>): Buffer {
  if ('text' in content) return Buffer.from(content.text)
  if ('copyOf' in content) return fs.readFileSync(content.copyOf)
  const firstLine = content.interpreter === undefined ? '' : `#!${content.interpreter}\n`
  return Buffer.from(fs.readFileSync(content.scriptOf, 'utf8').replace(/^(?:#!.*\n)?/, () => firstLine))
}

function write(target: string, { content, mode }: Item): void {
  const directory = dirname(target)
  mkdirpSync(directory, 0o755)
  sweep(directory, basename(target))
  const staged = join(directory, `.${basename(target)}.${process.pid}.tmp`)
  try {
    if ('linkTo' in content) fs.symlinkSync(content.linkTo, staged)
    else writeSynced(staged, bytesOf(content), mode)
    fs.renameSync(staged, target)
  } catch (thrown) {
    tolerating(['ENOENT'], () => { fs.unlinkSync(staged) }, undefined)
    throw thrown
  }
  syncDirectory(directory)
}

/** What a killed install was writing goes; what one that still runs is writing stays. */
function sweep(directory: string, name: string): void {
  for (const found of fs.readdirSync(directory)) {
    const owner = found.startsWith(`.${name}.`) ? /\.(\d+)\.tmp$/.exec(found)?.[1] : undefined
    if (owner !== undefined && !fs.existsSync(`/proc/${owner}`)) fs.unlinkSync(join(directory, found))
  }
}

function writeSynced(path: string, bytes: Buffer, mode: number): void {
  const descriptor = fs.openSync(path, 'wx', mode)
  try {
    for (let written = 0; written < bytes.length; ) written += fs.writeSync(descriptor, bytes, written)
    // Whatever umask the caller has.
    fs.fchmodSync(descriptor, mode)
    fs.fsyncSync(descriptor)
  } finally {
    fs.closeSync(descriptor)
  }
}
