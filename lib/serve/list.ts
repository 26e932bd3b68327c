/**
 * The list of clients that may reclaim, as GraceStart asks for it: one write for each client, all before the answer.
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
import { hashPrefix, listEntries, meansAnother } from '../upcall/message.ts'
import { showOwner, type ClientOwner } from '../upcall/owner.ts'

/**
 * How long the kernel may take for the list, estimated from a sample. If each name costs the same, 100 000 names take
 * one or two seconds.
 */
const longestMs = 5000
/** One of this many names is timed. */
const sample = 64

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
}

/** @param hashes the MD5 names of clients of which only that is known */
export const listFor = (means: Means, graceStart: Taken, hashes: () => Iterable<string>): List =>
  new ListAtPipe(means, graceStart, hashes)

class ListAtPipe implements List {
  readonly nfsd: Nfsd
  private readonly means: Means
  private readonly entryOf: (owner: string, principal: string | undefined) => Uint8Array
  private readonly hashes: () => Iterable<string>
  private message: Taken
  private count = 0
  private tooLong = false
  private tookMs = 0
  private lastTimed: number | undefined

  constructor(means: Means, graceStart: Taken, hashes: () => Iterable<string>) {
    this.means = means
    this.message = graceStart
    this.hashes = hashes
    this.entryOf = listEntries(graceStart.header, graceStart.size, means.calls.bytesInto)
    this.lastTimed = undefined
    this.nfsd = {
      ...means.nfsd,
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

  private tell(sayAll: (allow: Allow) => void): number {
    sayAll(this.saying('owner'))
    if (!this.tooLong && knowsHashes(this.means.calls)) {
      const say = this.saying('hash')
      for (const hash of this.hashes()) say(`${hashPrefix}${hash}\0`, undefined)
    }
    return this.count
  }

  /** The function that sends one name. It is one function, because another call would add 2 % to each name. */
  private saying(what: 'owner' | 'hash'): Allow {
    const { entryOf } = this
    const { pipe } = this.means
    const isOwner = what === 'owner'
    return (owner, principal) => {
      // For most owners one comparison is enough.
      if (isOwner && (owner === '' || (owner >= hashPrefix && meansAnother(owner)))) return this.refused(owner)
      const entry = entryOf(owner, principal)
      const answer = this.count % sample === 0 ? this.timed(entry) : pipe.write(entry)
      if (answer >= 0 || this.takenAnyhow(entry, answer, owner)) this.count++
      return !this.tooLong
    }
  }

  /**
   * Writes a name, and estimates what the names since the last timed one took: as much as this one each, but together
   * not more than the time that has passed. A busy machine may delay any single write.
   */
  private timed(entry: Uint8Array): number {
    const { calls, pipe } = this.means
    const began = calls.monotonic()
    const answer = pipe.write(entry)
    const ended = calls.monotonic()
    this.tookMs += Math.min(sample * (ended - began), ended - (this.lastTimed ?? began))
    this.lastTimed = ended
    this.tooLong = this.tookMs > longestMs
    return answer
  }

  private refused(owner: string): boolean {
    const { log } = this.means
    if (owner === '') log.error('a client with an empty owner may not reclaim: the kernel takes no such name')
    else log.error(`${showText(owner)} may not reclaim: to the kernel its name would mean another client`)
    return !this.tooLong
  }

  /** Handles a refused write. @returns whether the kernel has taken the name after all */
  private takenAnyhow(entry: Uint8Array, answer: number, owner: string): boolean {
    const { pipe, log } = this.means
    let said = answer
    if (said === -errno.EINVAL && !this.message.whole) {
      // The newest kernels take nothing before the whole message is read (nfs4recover.c, cu_inflight).
      this.message = pipe.complete(this.message)
      said = pipe.write(entry)
    }
    if (said === -errno.EINVAL) log.error(`the kernel refuses ${showText(owner)}: it may not reclaim`)
    else answered(said, 'write', pipe.path)
    return said >= 0
  }
}
