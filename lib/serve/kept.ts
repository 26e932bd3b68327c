/**
 * Keeps in the run directory what the storage refused (unfinished.ts), for the next process.
 *
 * The kernel has its answer, so it does not ask again. Without this file, a kill would lose a Create that waits for a
 * retry, and its client would be refused after the next start. The message could not stay in the pipe instead: its nfsd
 * thread would wait as long as the disk fails, and so would a stop of the server.
 *
 * 1. What failed is written down before the kernel is answered, and so is what a later message has settled. So the next
 *    process never carries out a Create after which a Remove came.
 * 2. The list belongs to one pipe, and each line to one instance. Between two pipes messages may have been lost. So at
 *    another pipe nothing in the list is done, and if there is a Remove or a GraceDone in it, nobody may reclaim after
 *    the next start.
 * 3. A list that can't be written is removed, because an old one would be wrong.
 *
 * The list is lost when the machine crashes. A Create in it is lost as well: its client may be refused after the next
 * start, but no client may reclaim because of that which must not.
 */
import { bytesOf } from '../bytes.ts'
import { atFlags, type Calls } from '../syscalls/calls.ts'
import { answered, errno } from '../syscalls/errno.ts'
import { anywhere, openOurs, writeWhole } from '../syscalls/files.ts'
import { bytesFromHex, hexOf } from '../upcall/hex.ts'
import type { ClientOwner } from '../upcall/owner.ts'
import type { Asked } from '../upcall/request.ts'

const here = atFlags.AT_FDCWD

export interface Left {
  readonly request: Asked
  /**
   * The instance in which it was asked; undefined, if that is not known: then another process must not carry it out.
   */
  readonly instance: number | undefined
}

export interface Kept {
  /** What the last process has left undone at this pipe; undefined, if that is not known. */
  readonly read: (pipe: string) => readonly Left[] | undefined
  /** Adds a request, in place of an earlier one about the same client. */
  readonly add: (left: Left) => void
  /** Notes that a request is settled. */
  readonly drop: (request: Asked) => void
  /**
   * Writes what has changed.
   * @param left tells how many requests are left
   * @returns 'stale', if an outdated list could not be removed
   */
  readonly write: (pipe: string, left: { readonly size: number }, all: () => readonly Left[]) => 'done' | 'stale'
}

/** Requests about the same client have the same key: only the last one counts. */
export const keyOf = (request: Asked): string => ('owner' in request ? hexOf(request.owner) : request.event)

/** A list that has this many lines more than it needs is written anew. */
const surplus = 1000

/** @param path undefined, if there is no place for the list: then what is left is forgotten with the process */
export function keptAt(calls: Calls, path: string | undefined): Kept {
  if (path === undefined)
    return { read: () => undefined, add: () => undefined, drop: () => undefined, write: () => 'done' }
  const changes: string[] = []
  let descriptor = -1
  let lines = 0
  const append = (text: string): void => {
    writeWhole(calls, descriptor, bytesOf(text, calls.bytesInto), path)
  }
  const close = (): void => {
    if (descriptor >= 0) calls.close(descriptor)
    descriptor = -1
  }
  const begin = (pipe: string, all: readonly Left[]): void => {
    close()
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = calls.flags
    const staged = `${path}.new`
    answered(calls.unlinkat(here, staged, 0), 'unlink', staged, errno.ENOENT)
    descriptor = answered(calls.openat(here, staged, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600), 'open', staged)
    append([`${pipe}\n`, ...all.map(lineOf)].join(''))
    answered(calls.renameat(here, staged, here, path), 'rename', staged)
    lines = all.length
  }
  const remove = (): 'done' | 'stale' => {
    close()
    const answer = calls.unlinkat(here, path, 0)
    return answer < 0 && answer !== -errno.ENOENT ? 'stale' : 'done'
  }
  return {
    read: (pipe) => {
      const found = textAt(calls, path)
      if (found === 'absent') return []
      const [first, ...rest] = found?.text.split('\n') ?? []
      // Text after the last line break was still being written, so its message was not answered.
      return first === pipe ? leftIn(rest.slice(0, -1)) : undefined
    },
    add: (left) => void changes.push(lineOf(left)),
    drop: (request) => void changes.push(`done ${keyOf(request)}\n`),
    write: (pipe, left, all) => {
      if (changes.length === 0) return 'done'
      const count = left.size
      const changed = changes.splice(0)
      if (count === 0) return remove()
      lines += changed.length
      try {
        if (descriptor < 0 || lines > count + surplus) begin(pipe, all())
        else append(changed.join(''))
        return 'done'
      } catch {
        return remove()
      }
    },
  }
}

function lineOf({ request, instance }: Left): string {
  switch (request.event) {
    case 'create':
      return `create ${instance ?? '-'} ${hexOf(request.owner)} ${request.principal ?? '-'}\n`
    case 'remove':
      return `remove ${instance ?? '-'} ${hexOf(request.owner)}\n`
    default:
      return `${request.event} ${instance ?? '-'}\n`
  }
}

/** @returns undefined, if a line can't be understood, or is not for another process: it may be a Remove */
function leftIn(lines: readonly string[]): readonly Left[] | undefined {
  const left = new Map<string, Left>()
  for (const line of lines) {
    const [word = '', instance = '', owner, principal] = line.split(' ')
    const request = requestFrom(word, owner, principal)
    if (word !== 'done' && request === undefined) return undefined
    const key = request === undefined ? instance : keyOf(request)
    // The last request about a client goes to the end.
    left.delete(key)
    if (request !== undefined)
      left.set(key, { request, instance: /^\d{1,16}$/.test(instance) ? Number(instance) : undefined })
  }
  const all = [...left.values()]
  return all.some(({ instance }) => instance === undefined) ? undefined : all
}

function requestFrom(word = '', hex = '', principal = '-'): Asked | undefined {
  if (word === 'grace-done') return { event: word, kernelBootTime: undefined, legacyTop: undefined }
  const bytes = bytesFromHex(hex)
  if (bytes === undefined || bytes.length === 0) return undefined
  const owner = bytes as ClientOwner
  if (word === 'remove') return { event: word, owner }
  if (word !== 'create') return undefined
  return {
    event: word,
    owner,
    session: 'unknown',
    principal: principal === '-' ? undefined : principal,
  }
}

/** @returns undefined, if it can't be read. */
function textAt(calls: Calls, path: string): { readonly text: string } | 'absent' | undefined {
  const descriptor = openOurs(path, anywhere(calls))
  if (descriptor < 0) return descriptor === -errno.ENOENT ? 'absent' : undefined
  let text = ''
  let page = calls.readText(descriptor, pageSize)
  for (; typeof page === 'string' && page !== ''; page = calls.readText(descriptor, pageSize)) text += page
  calls.close(descriptor)
  return page === '' ? { text } : undefined
}

/** The most that readText returns at once. */
const pageSize = 8192
