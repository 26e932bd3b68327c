/**
 * Puts one file in place, or removes one, by the rules for a Debian conffile.
 *
 * A file is written under a temporary name, synced, and renamed: a process that runs or reads the old file keeps it
 * whole, and the kernel never finds half a program. What an admin has changed is never overwritten, and what an admin
 * has removed is not installed again.
 */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import { basename, dirname } from 'node:path'
import { errorCode } from '../../failure.ts'
import { tolerating } from '../../syscalls/files.ts'
import { bytesIn, inDirectory, inEntry, type Directory, type Root } from '../shared/inside.ts'
import type { Content, Item } from './files.ts'

export type Outcome =
  | 'installed'
  | 'updated'
  | 'unchanged'
  /** The admin has changed it, and ours has not changed since. */
  | 'kept'
  /** The admin has changed it; ours is beside it as `.new`. */
  | 'kept, see .new'
  /** The admin has changed it, and the `.new` beside it is the admin's as well. */
  | 'kept, and your .new'
  | 'left out: you removed it'
  | 'removed'
  | 'was gone already'
  /** The list of installed files names it, but we never install that name. */
  | 'left alone: not ours'

/** A file's identity: the digest of its bytes, or where a link leads. */
export type Identity = string

export interface Placed {
  readonly outcome: Outcome
  readonly identity: Identity
}

/** @param before what was installed here the last time; undefined, if nothing was */
export function place(
  root: Root,
  item: Item,
  { before, dryRun = false }: { readonly before?: Identity | undefined; readonly dryRun?: boolean } = {},
): Placed {
  const name = basename(item.path)
  const identity = identityOfContent(item.content)
  const look = (directory: Directory): Outcome =>
    decide(item, identity, before, (suffix) => identityOf(directory, `${name}${suffix}`))
  const nothing = (): Outcome => decide(item, identity, before, () => undefined)
  if (dryRun) return { outcome: inDirectory(root, dirname(item.path), 'leave', look) ?? nothing(), identity }
  const put = (directory: Directory): Outcome => {
    const outcome = look(directory)
    if (outcome === 'installed' || outcome === 'updated') write(directory, name, item)
    if (outcome === 'kept, see .new') write(directory, `${name}.new`, item)
    if (outcome === 'unchanged') setMode(directory, name, item)
    return outcome
  }
  // What an admin has removed is not installed again, so its directory is not made again either.
  const outcome = inDirectory(root, dirname(item.path), nothing() === 'installed' ? 'make' : 'leave', put) ?? nothing()
  return { outcome, identity }
}

function decide(
  { kind }: Item,
  ours: Identity,
  before: Identity | undefined,
  found: (suffix: '' | '.new') => Identity | undefined,
): Outcome {
  const there = found('')
  if (there === ours) return 'unchanged'
  if (kind === 'switch' && there !== undefined) return 'unchanged'
  if (kind !== 'configuration' && kind !== 'switch') return there === undefined ? 'installed' : 'updated'
  if (there === undefined) return before === undefined ? 'installed' : 'left out: you removed it'
  if (there === before) return 'updated'
  if (ours === before) return 'kept'
  return [undefined, ours, before].includes(found('.new')) ? 'kept, see .new' : 'kept, and your .new'
}

/** Removes the file if it is still as it was installed, and a `.new` beside it if we put it there. */
export function takeAway(
  root: Root,
  path: string,
  before: Identity,
  { dryRun }: { readonly dryRun: boolean },
): Outcome {
  const name = basename(path)
  const outcome = inDirectory(root, dirname(path), 'leave', (directory): Outcome => {
    const found = identityOf(directory, name)
    for (const ours of [name, `${name}.new`])
      if (!dryRun && identityOf(directory, ours) === before) fs.unlinkSync(directory.entry(ours))
    if (!dryRun) fs.fsyncSync(directory.descriptor)
    return found === undefined ? 'was gone already' : found === before ? 'removed' : 'kept'
  })
  if (outcome === 'removed' && !dryRun) removeOwnDirectory(root, dirname(path))
  return outcome ?? 'was gone already'
}

/** Directories that exist only for our files are removed with the last one. */
function removeOwnDirectory(root: Root, path: string): void {
  if (/\/(?:nfsd-userland-helper|nfs-server\.service\.(?:d|wants))$/.test(path))
    inDirectory(root, dirname(path), 'leave', (directory) => {
      tolerating(
        ['ENOENT', 'ENOTDIR', 'ENOTEMPTY', 'EEXIST'],
        () => {
          fs.rmdirSync(directory.entry(basename(path)))
        },
        undefined,
      )
    })
}

function identityOf(directory: Directory, name: string): Identity | undefined {
  const link = tolerating(['ENOENT', 'EINVAL'], () => fs.readlinkSync(directory.entry(name)), undefined)
  if (link !== undefined) return linkIdentity(link)
  const bytes = bytesIn(directory, name)
  return typeof bytes === 'object' ? digest(bytes) : bytes
}

export const identityOfContent = (content: Content): Identity =>
  'linkTo' in content ? linkIdentity(content.linkTo) : digest(bytesOf(content))
const linkIdentity = (target: string): Identity => digest(Buffer.from(`link to ${target}`))
const digest = (bytes: Uint8Array): Identity => createHash('sha256').update(bytes).digest('hex')

function bytesOf(content: Exclude<Content, { readonly linkTo: string }>): Buffer {
  if ('text' in content) return Buffer.from(content.text)
  if ('copyOf' in content) return fs.readFileSync(content.copyOf)
  const firstLine = content.interpreter === undefined ? '' : `#!${content.interpreter}\n`
  return Buffer.from(fs.readFileSync(content.scriptOf, 'utf8').replace(/^(?:#!.*\n)?/, () => firstLine))
}

function setMode(directory: Directory, name: string, { mode, content }: Item): void {
  if (!('linkTo' in content))
    inEntry(directory, name, (descriptor) => {
      fs.fchmodSync(descriptor, mode)
    })
}

function write(directory: Directory, name: string, { content, mode }: Item): void {
  sweep(directory, name)
  const staged = directory.entry(`.${name}.${process.pid}.tmp`)
  try {
    if ('linkTo' in content) fs.symlinkSync(content.linkTo, staged)
    else writeSynced(staged, bytesOf(content), mode)
    fs.renameSync(staged, directory.entry(name))
  } catch (thrown) {
    // If the name existed already, the file is not ours.
    if (errorCode(thrown) !== 'EEXIST')
      tolerating(
        ['ENOENT'],
        () => {
          fs.unlinkSync(staged)
        },
        undefined,
      )
    throw thrown
  }
  fs.fsyncSync(directory.descriptor)
}

/** Removes what a killed install was writing, but not what a running one is writing. */
function sweep(directory: Directory, name: string): void {
  for (const entry of fs.readdirSync(directory.entry('.'), { withFileTypes: true })) {
    const owner = entry.name.startsWith(`.${name}.`)
      ? /^(\d+)\.tmp$/.exec(entry.name.slice(name.length + 2))?.[1]
      : undefined
    if (owner !== undefined && !entry.isDirectory() && !fs.existsSync(`/proc/${owner}`))
      fs.unlinkSync(directory.entry(entry.name))
  }
}

function writeSynced(path: Buffer, bytes: Buffer, mode: number): void {
  const descriptor = fs.openSync(path, 'wx', mode)
  try {
    for (let written = 0; written < bytes.length;) written += fs.writeSync(descriptor, bytes, written)
    // The caller's umask must not matter.
    fs.fchmodSync(descriptor, mode)
    fs.fsyncSync(descriptor)
  } finally {
    fs.closeSync(descriptor)
  }
}
