/**
 * The list of clients that may reclaim, as GraceStart asks for it: one message for each client, all before the answer.
 *
 * To kernels that still have their own tracker, a name that begins with `hash:` is an MD5 (nfs4recover.c,
 * __cld_pipe_inprogress_downcall). A client with such a name would let another one in, so its name is never sent.
 * Clients that only the kernel's own tracker knows are sent in this form, if the kernel understands it.
 *
 * Kernels that look for a name before they insert it (7.2 does) walk one list of all Linux clients for each name, and
 * hold nfsd's mutex: 100 000 names take minutes. So the list has a time limit. When it is over, the kernel is told that
 * it can't have a list. It goes on without, and asks for each client that comes (version 0), as it asks a helper. Then
 * grace does not end early, and no principal is compared.
 */
import { bytesOf } from '../bytes.ts'
import type { Log } from '../kernel/log.ts'
import { helperParameter } from '../kernel/nfsd-module.ts'
import type { Allow, Nfsd } from '../kernel/nfsd.ts'
import type { Pipe, Taken } from '../kernel/pipe.ts'
import { atFlags, type Calls } from '../syscalls/calls.ts'
import { answered, errno } from '../syscalls/errno.ts'
import { hashPrefix, listEntry, meansAnother, putPrincipal } from '../upcall/message.ts'
import { showOwner, type ClientOwner } from '../upcall/owner.ts'
import type { KnownRecords } from './known-records.ts'

/** How long the kernel may take for the list. If each name costs the same, 100 000 names take one or two seconds. */
const longestMs = 5000
/** A process that stands still, stopped or on a busy machine, says nothing of the kernel: more counts as this. */
const longestPauseMs = 3000
/** How many names are said, and timed, together. */
const together = 64
/** After this, what is left of a batch that the host says is said, and timed, by so many. */
const longestBatchMs = 1000

export interface List {
  /** What a start uses to tell the kernel who may reclaim. */
  readonly nfsd: Nfsd
  readonly named: () => number
  /** The list took too long: the kernel has a part of it, and must be told to forget it. */
  readonly isGivenUp: () => boolean
  /** The message, which may have been read completely meanwhile. */
  readonly taken: () => Taken
}

const showText = (owner: string): string => showOwner(bytesOf(owner) as ClientOwner)

/**
 * Whether this kernel understands MD5 names. It does with CONFIG_NFSD_LEGACY_CLIENT_TRACKING, and then also has the
 * parameter that names the helper.
 */
const knowsHashes = (calls: Calls): boolean => typeof calls.fstatat(atFlags.AT_FDCWD, helperParameter, 0) !== 'number'

/** What the class needs from its caller. */
interface Means {
  readonly calls: Calls
  readonly pipe: Pipe
  readonly log: Log
  readonly nfsd: Nfsd
  readonly known: KnownRecords
}

/** @param hashes the MD5 names of clients of which only that is known */
export const listFor = (means: Means, graceStart: Taken, hashes: () => Iterable<string>): List =>
  new ListAtPipe(means, graceStart, hashes)

class ListAtPipe implements List {
  private readonly means: Means
  /** All names are told in the same bytes: the next one overwrites the one before. */
  private readonly entry: Uint8Array
  private readonly hashes: () => Iterable<string>
  private message: Taken
  private count = 0
  private tooLong = false
  private tookMs = 0
  /** The one in {@link entry}. */
  private principal: string | undefined

  constructor(means: Means, graceStart: Taken, hashes: () => Iterable<string>) {
    this.means = means
    this.message = graceStart
    this.hashes = hashes
    this.principal = undefined
    this.entry = listEntry(graceStart.header, graceStart.size)
  }

  /** Not kept: the list and it would hold each other, and with them all that was read of this pipe. */
  get nfsd(): Nfsd {
    return {
      ...this.means.nfsd,
      // The server is just starting, so it is in grace, and nfsd's files must not be read.
      grace: () => 'running',
      takesAllowedClients: () => true,
      allowClients: (sayAll) => this.tell(sayAll),
    }
  }

  named(): number {
    return this.count
  }

  isGivenUp(): boolean {
    return this.tooLong
  }

  taken(): Taken {
    return this.message
  }

  private tell(sayAll: (allow: Allow, links: Calls['links']) => void): number {
    sayAll(
      (owners, principal) => this.sayOwners(owners, principal),
      (...links) => this.sayLinks(links),
    )
    if (!this.tooLong && knowsHashes(this.means.calls)) {
      this.put(undefined)
      this.say(Array.from(this.hashes(), (hash) => `${hashPrefix}${hash}\0`))
    }
    return this.count
  }

  /** @returns whether more are wanted */
  private sayOwners(owners: readonly string[], principal: string | undefined): boolean {
    this.put(principal)
    let from = 0
    const until = owners.length
    for (let at = 0; at < until; at++) {
      const owner = owners[at] ?? ''
      // For most owners these two comparisons are enough.
      if (owner.length > 0 && (owner < hashPrefix || !meansAnother(owner))) continue
      this.say(owners, from, at)
      this.refused(owner)
      from = at + 1
    }
    return this.say(owners, from, until)
  }

  /** Reads links, and says the names of plain ones. A name that would mean another client is left to the caller. */
  private sayLinks(links: Parameters<Calls['links']>): ReturnType<Calls['links']> {
    this.put(undefined)
    const longest = Math.min(longestBatchMs, longestMs - this.tookMs)
    const [directory, patterns, mark] = links
    const found = this.means.known.read(directory, (unchanged = -1) =>
      this.means.pipe.writeLinks(this.entry, [directory, patterns, mark, unchanged], hashPrefix, longest),
    )
    if (typeof found !== 'object') return found
    this.spent(found.took)
    this.count += found.written
    return found
  }

  private spent(milliseconds: number): void {
    this.tookMs += Math.min(longestPauseMs, milliseconds)
    this.tooLong = this.tookMs > longestMs
  }

  private put(principal: string | undefined): void {
    if (principal !== this.principal) putPrincipal(this.entry, principal)
    this.principal = principal
  }

  /** Says names, and measures how long the kernel takes for them. @returns whether more are wanted */
  private say(names: readonly string[], from = 0, until = names.length): boolean {
    const { entry } = this
    const { calls, pipe } = this.means
    for (let next = from; next < until && !this.tooLong;) {
      const most = Math.min(until, next + together)
      const began = calls.monotonic()
      const written = pipe.writeEach(entry, names, next, most)
      this.spent(calls.monotonic() - began)
      this.count += written
      next += written
      if (next === most) continue
      if (this.takenAnyhow(names[next] ?? '')) this.count++
      next++
    }
    return !this.tooLong
  }

  private refused(owner: string): void {
    const { log } = this.means
    if (owner === '') log.error('a client with an empty owner may not reclaim: the kernel takes no such name')
    else log.error(`${showText(owner)} may not reclaim: to the kernel its name would mean another client`)
  }

  /** Says a name once more that was refused: the entry still has it. @returns whether the kernel has taken it */
  private takenAnyhow(owner: string): boolean {
    const { pipe, log } = this.means
    let said = pipe.write(this.entry)
    if (said === -errno.EINVAL && !this.message.whole) {
      // The newest kernels take nothing before the whole message is read (nfs4recover.c, cu_inflight).
      this.message.complete()
      said = pipe.write(this.entry)
    }
    if (said === -errno.EINVAL) log.error(`the kernel refuses ${showText(owner)}: it may not reclaim`)
    else answered(said, 'write', pipe.path)
    return said >= 0
  }
}
