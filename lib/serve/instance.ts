/**
 * Finds out whether the server instance behind a pipe is recorded.
 *
 * A server uses one pipe from its start to its end, and its start is the first thing it asks. So the instance that the
 * start begins identifies the pipe: its mark `pipe` holds the pipe's name, in the state directory. The mark is there as
 * soon as the instance is, so it does not matter which process was killed at which point. Another state directory does
 * not have it.
 *
 * If no instance has the mark, there are three cases. Another program answered the server's start (nfsdcld, until it
 * was stopped). Or rpc_pipefs was mounted again under a running server, and clients left while no process was told. Or
 * the start could not be recorded. Any client in our records may have lost its lease since, and another may have had
 * its lock. To continue as before would be wrong in two ways: such clients could reclaim at the next start, and a new
 * client would be recorded in an instance that ended long ago. So before anything is done for such a server, an
 * instance is begun that stands for it, empty and full (docs/protocol.md, an instance that was not recorded). Older
 * records do not count any more. A client that is recorded from then on may reclaim, because we are told when it
 * leaves. So no client reclaims that may not. A client that only the other tracker knew loses its locks at the next
 * start, and the log says so.
 *
 * Even if an instance has the mark, messages of its pipe may have been lost, or answered by another program
 * (missed.ts). Then such an instance is begun, too.
 *
 * What distinguishes such a pipe from one at which a start is about to come:
 * * GetVersion and GraceStart are the first messages on a new pipe, with the numbers 0 and 1 (nfs4recover.c). So a
 *   message about a client with another number shows that another process has answered before.
 * * A message about a client with the number 0 is the first on a pipe of version 0. The kernel makes such a pipe if
 *   GraceStart was answered with an error, or was lost with its reader. No process has answered anything there, so the
 *   instance begins with this message: it is a start like any other, and the same one as a start that was not finished.
 * * As long as no message comes, it is not known which of the two a pipe is. After two seconds a note in the run
 *   directory says that a server runs whose start is not recorded. A start at this very pipe removes the note; after
 *   any other start no client may reclaim. The same note is made if the pipe goes away before any message came, unless
 *   the kernel then uses our helper.
 */
import { performUnseen, perform } from '../events/perform.ts'
import type { World } from '../events/world.ts'
import { errorCode } from '../failure.ts'
import type { Log } from '../kernel/log.ts'
import type { Pipe } from '../kernel/pipe.ts'
import { mark, readMark, unmark } from '../store/marks.ts'
import { openClients } from '../store/open-directories.ts'
import { lookAt } from '../store/state-directory.ts'
import { forgetUnseen, isStartCutShort, nameOfStart, noteUnseen, type Marked } from '../store/untracked.ts'
import type { Calls } from '../syscalls/calls.ts'
import * as files from '../syscalls/files.ts'
import type { Header } from '../upcall/message.ts'
import { Missed } from './missed.ts'
import { helperIsOurs } from './others.ts'

export interface InstanceBehind {
  /**
   * This process holds a pipe now.
   * @param name of this pipe, and of no other
   * @param last the number of its last message that was answered, if that is known
   */
  readonly held: (name: string, last?: number) => void
  /** Messages have been taken from the pipe. They are not carried out yet. */
  readonly asked: (messages: readonly { readonly header: Header }[], pipe: Pick<Pipe, 'isFull'>) => void
  /** The pipe is gone. @returns 'goes on', if the kernel makes another one for the same instance */
  readonly gone: () => 'stopped' | 'goes on'
  /** The kernel asks for a start, or is about to. */
  readonly starting: () => void
  /**
   * The start is durable.
   * @param goesOn whether the kernel now makes a pipe of version 0, which belongs to the same instance
   */
  readonly started: (goesOn: boolean) => void
  /** The start could not be recorded. */
  readonly notStarted: () => void
  /**
   * Makes sure that the instance is recorded. To be called before messages are carried out or retried, except for a
   * start.
   * @param first the number of the first message; 'again', if they are retried
   * @throws the reason why the instance can't be recorded: then nothing may be done for this server
   */
  readonly assure: (first: number | 'again') => void
  /** Whether the recorded current instance is this server's; also true if there is no pipe. */
  readonly isRecorded: () => boolean
  /** When to call {@link due}, in milliseconds of the monotonic clock; undefined, if nothing is to be done. */
  readonly dueAt: () => number | undefined
  readonly due: () => void
}

/**
 * 'nobody': there is no pipe. 'unknown': the instance is not recorded, or the records could not be read, and no message
 * has come. 'starting': the kernel asks for a start. 'unread': a message has come, and the records could not be read.
 * 'unseen': the start is not recorded, and an instance that stands for it must be begun.
 */
type Known = 'nobody' | 'unknown' | 'starting' | 'unread' | 'unseen' | 'recorded'

/**
 * How long to wait for a first message, and before another attempt to record an instance. The kernel looks every 100 ms
 * whether its pipe is held (cld_running), and then sends a message at once.
 */
const quietMs = 2000
const againMs = 10_000

const startedWithout = 'the NFS server was started without this program'
const unanswered = 'messages of the NFS server were lost, or another program has answered them'

/** What the class needs from `serve`. */
interface Means {
  readonly calls: Calls
  readonly log: Log
  readonly marked: Marked
  readonly withWorld: <T>(work: (world: World) => T) => T
  readonly beginning: () => void
  /** Makes the next start let nobody reclaim. */
  readonly distrust: () => void
}

export const instanceBehind = (means: Means): InstanceBehind => new Behind(means)

class Behind implements InstanceBehind {
  private readonly means: Means
  private pipe = ''
  private known: Known = 'nobody'
  private goesOn = false
  /** No message came before this one. */
  private isFirst = false
  private nextAt: number | undefined
  /** Set as long as messages may be missing that this program has not seen. */
  private missed: Missed | undefined
  /**
   * Whether missing messages may be queued behind those that were taken last: with few descriptors not all can be
   * taken.
   */
  private mayBeQueued = false
  private unseenBecause = startedWithout

  constructor(means: Means) {
    this.means = means
    this.nextAt = undefined
    this.missed = undefined
  }

  held(name: string, last?: number): void {
    this.pipe = name
    this.unseenBecause = startedWithout
    this.mayBeQueued = false
    this.missed = last === undefined ? undefined : new Missed(last, this.means.calls.monotonic())
    this.become('unknown')
    if (this.goesOn) {
      this.goesOn = false
      this.takeOver()
      this.become('recorded')
      return
    }
    this.nextAt = this.means.calls.monotonic() + quietMs
    try {
      if (this.isOurs() && !isStartCutShort(this.means.marked)) this.knownAgain()
    } catch {
      // The first message will show it.
    }
  }

  gone(): 'stopped' | 'goes on' {
    if (this.known === 'unknown' && this.nextAt !== undefined && !helperIsOurs(this.means.calls)) this.warn()
    if (this.missed?.isMissing() === true && this.known === 'recorded') {
      this.means.log.critical(`${unanswered}: nobody may reclaim after the next start`)
      this.means.distrust()
    }
    this.missed = undefined
    this.become('nobody')
    return this.goesOn ? 'goes on' : 'stopped'
  }

  asked(messages: readonly { readonly header: Header }[], pipe: Pick<Pipe, 'isFull'>): void {
    const { missed } = this
    if (missed === undefined) return
    let isWhole = false
    for (const { header } of messages) isWhole = missed.saw(header.xid)
    this.mayBeQueued = pipe.isFull()
    if (isWhole) this.missed = undefined
    else this.lookForMissed()
  }

  starting(): void {
    if (this.known === 'unknown') this.become('starting')
  }

  started(goesOn: boolean): void {
    this.become('recorded')
    this.goesOn = goesOn
  }

  notStarted(): void {
    this.isFirst = false
    this.become('unseen')
  }

  assure(first: number | 'again'): void {
    const { known } = this
    if (known === 'nobody' || known === 'recorded') return
    if (known === 'unknown' || known === 'starting') {
      if (first === 'again') return
      this.isFirst = first === 0 && known === 'unknown'
    }
    this.mend()
  }

  isRecorded(): boolean {
    return this.known === 'nobody' || this.known === 'recorded'
  }

  dueAt(): number | undefined {
    const { nextAt, missed } = this
    if (missed === undefined) return nextAt
    return missed.isMissing() && !this.mayBeQueued ? Math.min(missed.until, nextAt ?? missed.until) : nextAt
  }

  due(): void {
    if (this.missed !== undefined) this.lookForMissed()
    if (this.nextAt === undefined || this.nextAt > this.means.calls.monotonic()) return
    if (this.known === 'unknown') {
      this.warn()
      return
    }
    try {
      this.mend()
    } catch {
      // It has been reported, and is tried again.
    }
  }

  /**
   * Messages that have not come by now will not come any more. Then the records of this instance can't be relied on.
   */
  private lookForMissed(): void {
    const { missed } = this
    if (missed?.isMissing() !== true || this.mayBeQueued || missed.until > this.means.calls.monotonic()) return
    this.missed = undefined
    if (this.known !== 'recorded' && this.known !== 'unknown') return
    this.become('unseen')
    this.unseenBecause = unanswered
    this.nextAt = this.means.calls.monotonic()
  }

  private become(now: Known): void {
    this.known = now
    this.nextAt = now === 'unread' || now === 'unseen' ? this.means.calls.monotonic() + againMs : undefined
  }

  private isOurs(): boolean {
    return this.means.withWorld(({ state }) => {
      if (openClients(state) === undefined && files.kindAt(state.path, state.anywhere) === 'absent') return false
      const { instance } = lookAt(state)
      return 'start' in instance && readMark(state, instance.start, 'pipe') === this.pipe
    })
  }

  private knownAgain(): void {
    this.become('recorded')
    const failure = forgetUnseen(this.means.marked, this.pipe)
    if (failure !== undefined)
      this.means.log.critical(`can't remove the mark by which the next start lets nobody reclaim (${failure})`)
  }

  /**
   * Makes the next start let nobody reclaim, unless it comes at this pipe.
   * @returns what to add to the message, if that fails
   */
  private noted(): string {
    const failure = noteUnseen(this.means.marked, this.pipe)
    return failure === undefined ? '' : `, which can't be noted (${failure}): see to it`
  }

  private warn(): void {
    this.nextAt = undefined
    this.means.log.critical(
      "the NFS server's start is not recorded: " +
        `unless it is yet to come, nobody may reclaim after the next one${this.noted()}`,
    )
  }

  /** A pipe of version 0 belongs to the instance of the pipe before it, so the mark gets the new pipe's name. */
  private takeOver(): void {
    try {
      this.means.withWorld(({ state }) => {
        const { instance } = lookAt(state)
        if (!('start' in instance)) return
        unmark(state, instance.start, 'pipe')
        mark(state, instance.start, 'pipe', this.pipe)
      })
    } catch (thrown) {
      this.means.log.error(`if this process ends now, the next one can't know the server's pipe: ${String(thrown)}`)
    }
  }

  /** Makes sure that the instance is recorded. @throws the reason, if it can't be */
  private mend(): void {
    const isCutShort = this.look()
    if (this.known === 'recorded') return
    try {
      if (this.isFirst || isCutShort) this.begin()
      else this.stand()
    } catch (thrown) {
      this.isFirst = false
      if (this.known !== 'unseen')
        this.means.log.critical(
          `the NFS server's start is not recorded, and can't be (${errorCode(thrown) ?? String(thrown)})`,
        )
      this.become('unseen')
      this.means.distrust()
      throw thrown
    }
    this.become('recorded')
  }

  /**
   * Looks whether the instance is recorded.
   * @returns whether its start was killed: then the instance may not be durable, and is begun again
   */
  private look(): boolean {
    if (this.known === 'unseen') return false
    try {
      if (!this.isOurs()) return false
      if (isStartCutShort(this.means.marked)) return true
      this.knownAgain()
      return false
    } catch (thrown) {
      if (this.known !== 'unread')
        this.means.log.critical(
          `whether the NFS server's start is recorded can't be read (${errorCode(thrown) ?? String(thrown)}): ` +
            `until it can, nobody may reclaim after the next one${this.noted()}`,
        )
      this.become('unread')
      throw thrown
    }
  }

  /** Begins an instance as if GraceStart had come. */
  private begin(): void {
    const { pipe } = this
    this.means.beginning()
    this.means.withWorld((world) => {
      perform(world, { event: 'start', kernelBootTime: undefined, askedBy: this.unfinishedStart() ?? pipe, pipe })
    })
  }

  /** The last start that the kernel asked for, if it was not completed. It must have come at a pipe, in this boot. */
  private unfinishedStart(): string | undefined {
    const [boot] = this.pipe.split('-').slice(-1)
    const name = nameOfStart(this.means.marked)
    return name?.startsWith('pipe-') === true && name.endsWith(`-${boot ?? ''}`) ? name : undefined
  }

  private stand(): void {
    this.means.withWorld((world) => {
      performUnseen(world, this.pipe)
    })
    this.means.log.critical(
      `${this.unseenBecause}: ` +
        'after its next start, clients recorded before now may not reclaim, and clients that come from now on may',
    )
  }
}
