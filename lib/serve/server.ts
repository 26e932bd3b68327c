/**
 * What `serve` knows while it runs. None of it needs to outlive the process: a new one begins with what is on the disk.
 */
import type { World } from '../events/world.ts'
import type { Deadline } from '../kernel/deadline.ts'
import type { Log } from '../kernel/log.ts'
import { nfsdAt, type Nfsd } from '../kernel/nfsd.ts'
import type { Pipe } from '../kernel/pipe.ts'
import { reclaimableIn } from '../rules/instance.ts'
import { checkField, usualFacts } from '../rules/record.ts'
import { isNoted, noteDirectory } from '../settings/last-start.ts'
import type { Settings } from '../settings/settings.ts'
import { closeAll, directoryOf, lookAgain } from '../store/open-directories.ts'
import { legacyCounts, lookAhead, lookAt, stateDirectory, type StateDirectory } from '../store/state-directory.ts'
import { distrust, distrustForGood, trustAgain, type Marked } from '../store/untracked.ts'
import { legacyRecordOf, legacyRecordsIn, legacyTopIn, usualTop } from '../store/v4recovery.ts'
import type { Calls } from '../syscalls/calls.ts'
import * as files from '../syscalls/files.ts'
import type { ClientOwner } from '../upcall/owner.ts'
import type { Asked } from '../upcall/request.ts'
import type { Claim } from './claim.ts'
import { instanceBehind, type InstanceBehind } from './instance.ts'
import { Intents } from './intents.ts'
import { keptAt } from './kept.ts'
import { KnownRecords } from './known-records.ts'
import { nothingDone, type Doing, type StatusFile } from './status-file.ts'
import { isDangerous, unfinished, type Unfinished } from './unfinished.ts'

export interface Server {
  readonly calls: Calls
  readonly log: Log
  readonly nfsd: Nfsd
  readonly maxVersion: number
  readonly doing: Doing
  readonly unfinished: Unfinished
  /** The server instance that asks, and whether it is in the records. */
  readonly instance: InstanceBehind
  /** What need not be read again of the state directory. */
  readonly known: KnownRecords
  /** The intent log, while there is one. */
  readonly intents: Intents
  /** Does what is due about it. To be called while no message waits. */
  readonly settleIntents: (now: number) => void
  /** Begins to read the records that the next start would list. To be called while no pipe is held. */
  readonly readBeforehand: () => void
  /**
   * Runs `work` on the state directory. The next time that may be another directory, or one on another disk, so what
   * stays open in between is checked again.
   * @param given to `work` as well: to make a function that knows it would take longer
   */
  readonly withWorld: <T, Given = undefined>(nfsd: Nfsd, work: (world: World, given: Given) => T, given?: Given) => T
  /** A name that no other server instance has: that of its pipe. */
  readonly nameOf: (pipe: Pipe) => string
  /** Notes that a server starts with this state directory, as an upcall's start does. */
  readonly beginning: () => void
  /** Makes the next start let nobody reclaim. 'start': for good. 'serve': until what `serve` could not do is done. */
  readonly distrust: (why: 'start' | 'serve') => void
  /** A request has succeeded, so an earlier failure of it no longer matters. */
  readonly settled: (request: Asked) => void
  /** Continues with what the last process could not do at the pipe of this name. */
  readonly takeOver: (name: string) => void
  /** Writes down for the next process what could not be done. To be called before the kernel is answered. */
  readonly keepUnfinished: () => void
  /** The MD5 names of clients that only the kernel's own tracker has recorded, as long as they count. */
  readonly hashes: () => Iterable<string>
  readonly legacyRecordOf: (owner: ClientOwner) => string | undefined
  readonly tellStatus: () => void
  /** The pipe is gone. @returns whether its server has stopped, or makes another pipe */
  readonly pipeGone: () => 'stopped' | 'goes on'
}

/** `serve` has no deadline of its own: systemd's watchdog ends a process that hangs, if an admin wants that. */
const noDeadline: Deadline = { assertTimeLeft: () => undefined }

/** What the class needs from `serve`. */
interface Means {
  readonly calls: Calls
  readonly settings: Settings
  readonly log: Log
  readonly bootId: string
  readonly holder: string
  readonly claim: Claim
  /** Where to keep what could not be done; undefined, if there is no place for it. */
  readonly unfinishedPath: string | undefined
}

export const serverFor = (means: Means, maxVersion: number, statusFile: StatusFile): Server =>
  new Serving(means, maxVersion, statusFile)

class Serving implements Server {
  readonly calls: Calls
  readonly log: Log
  readonly nfsd: Nfsd
  readonly maxVersion: number
  readonly doing = nothingDone()
  readonly unfinished: Unfinished
  readonly instance: InstanceBehind
  readonly known: KnownRecords
  readonly intents: Intents
  private readonly means: Means
  private readonly statusFile: StatusFile
  private readonly anywhere: files.Directory
  /** Where to make the marks which say that nobody may reclaim. */
  private readonly marked: Marked
  private readonly state: StateDirectory
  private readonly usual: World
  private isAtWork = false
  /** The name of the pipe that was held last. */
  private name = ''
  /** Set until what `serve` could not do is done. */
  private isDistrusted = false

  constructor(means: Means, maxVersion: number, statusFile: StatusFile) {
    const { calls, log, settings, holder } = means
    const { stateDirectory: path, runDirectory } = settings
    this.calls = calls
    this.log = log
    this.nfsd = nfsdAt(calls, settings.nfsdDirectory)
    this.maxVersion = maxVersion
    this.means = means
    this.statusFile = statusFile
    this.anywhere = files.anywhere(calls)
    this.marked = { anywhere: this.anywhere, runDirectory, path }
    this.unfinished = unfinished(() => calls.monotonic(), keptAt(calls, means.unfinishedPath))
    this.known = new KnownRecords(calls)
    this.state = stateDirectory(this.known.calls, path, runDirectory, holder)
    this.intents = new Intents(this.state, log)
    this.usual = { calls, state: this.state, nfsd: this.nfsd, log, deadline: noDeadline, isUpcall: false }
    this.instance = this.instanceBehind()
  }

  withWorld<T, Given = undefined>(nfsd: Nfsd, work: (world: World, given: Given) => T, given?: Given): T {
    const world = nfsd === this.nfsd ? this.usual : { ...this.usual, nfsd }
    if (this.isAtWork) return work(world, given as Given)
    this.isAtWork = true
    try {
      const done = work(world, given as Given)
      // The work may have made the directory.
      this.means.claim.take()
      if (this.doing.pipe === undefined) closeAll(this.state)
      else lookAgain(this.state)
      return done
    } catch (thrown) {
      closeAll(this.state)
      throw thrown
    } finally {
      this.isAtWork = false
    }
  }

  settleIntents(now: number): void {
    this.intents.due(now, (work) => {
      this.withWorld(this.nfsd, work)
    })
  }

  readBeforehand(): void {
    const { state } = this
    try {
      // The kernel waits a second for the pipe to be held.
      const { instance, starts } = lookAhead(state)
      // After a crash in grace there are more, but most often only this one has many.
      const start = reclaimableIn(instance, starts).at(-1)
      const directory = start === undefined ? undefined : directoryOf(state, start)
      if (directory !== undefined) this.known.readBeforehand(directory.descriptor, usualFacts(), checkField)
    } catch {
      // The start meets it again, and says so.
    } finally {
      closeAll(state)
    }
  }

  nameOf({ status }: Pipe): string {
    return `pipe-${status.device}-${status.inode}-${this.means.bootId}`
  }

  beginning(): void {
    const { calls, settings } = this.means
    try {
      const changed = noteDirectory(calls, settings)
      if (changed !== undefined) this.log.warning(changed)
    } catch (thrown) {
      if (isNoted(calls, settings)) throw thrown
    }
  }

  distrust(why: 'start' | 'serve'): void {
    if (why === 'serve') this.isDistrusted = true
    const failure = distrust(this.marked, why)
    if (failure !== undefined)
      this.log.critical(`nor can it be noted that nobody may reclaim after the next start (${failure}): see to it`)
  }

  settled(request: Asked): void {
    this.unfinished.settle(request)
    if (!this.isDistrusted || this.unfinished.hasDangerous()) return
    this.isDistrusted = false
    const failure = trustAgain(this.marked)
    if (failure !== undefined)
      this.log.error(`the mark by which the next start lets nobody reclaim can't be removed (${failure})`)
  }

  takeOver(name: string): void {
    this.name = name
    // This process knows itself what it could not do.
    if (this.unfinished.count() > 0) return
    const found = this.unfinished.takeOver(name)
    if (found?.some(isDangerous) === true) this.isDistrusted = true
    else if (!this.isDistrusted) distrustForGood(this.marked)
  }

  keepUnfinished(): void {
    if (this.unfinished.keep(this.name) === 'done') return
    this.log.error('what is left to do for clients could not be written to the run directory')
    this.distrust('start')
  }

  hashes(): Iterable<string> {
    return this.withWorld(this.nfsd, ({ state }) =>
      legacyCounts(lookAt(state))
        ? new Set(this.legacyTops().flatMap((top) => legacyRecordsIn(top, this.anywhere)))
        : [],
    )
  }

  legacyRecordOf(owner: ClientOwner): string | undefined {
    try {
      return legacyRecordOf(owner, this.legacyTops(), this.anywhere)
    } catch (thrown) {
      // A directory that can't be read lets nobody reclaim. The other messages must be answered nevertheless.
      this.log.error(`can't read which clients the kernel's own tracker has recorded: ${String(thrown)}`)
      return undefined
    }
  }

  tellStatus(): void {
    this.doing.notRecorded = this.unfinished.notRecorded()
    this.statusFile.write(this.doing)
  }

  pipeGone(): 'stopped' | 'goes on' {
    // A request for an instance that was never recorded must not be carried out in another one.
    if (!this.instance.isRecorded()) this.unfinished.clear()
    this.keepUnfinished()
    this.doing.pipe = undefined
    this.doing.protocol = undefined
    this.intents.close()
    this.known.settle()
    closeAll(this.state)
    return this.instance.gone()
  }

  private instanceBehind(): InstanceBehind {
    return instanceBehind({
      calls: this.calls,
      log: this.log,
      marked: this.marked,
      withWorld: (work) => this.withWorld(this.nfsd, work),
      beginning: () => {
        this.beginning()
      },
      distrust: () => {
        this.distrust('start')
      },
    })
  }

  /** Most often the two are the same directory. The kernel must get each name only once. */
  private legacyTops(): readonly string[] {
    return [...new Set([legacyTopIn(this.means.settings.stateDirectory), usualTop])]
  }
}
