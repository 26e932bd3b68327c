/**
 * The pipe that this process serves: the one at the pipe's path, as long as it exists. It is taken over as it is, with
 * the messages that the last process left unanswered.
 */
import { openPipe, type Pipe } from '../kernel/pipe.ts'
import { pipeIn } from '../settings/pipefs.ts'
import { atFlags } from '../syscalls/calls.ts'
import * as files from '../syscalls/files.ts'
import { quote } from '../text.ts'
import type { Claim } from './claim.ts'
import { mayNotOpen, mountedAnew } from './confined.ts'
import { Journal, lastReplies } from './journal.ts'
import { latestOf } from './missed.ts'
import { isWaitedFor, Owed, type Answering } from './owed.ts'
import type { Readiness } from './readiness.ts'
import { answerQueued, answerTaken } from './round.ts'
import type { Server } from './server.ts'

export interface ServedPipe extends Answering {
  /** What the last process could not say here. */
  readonly owed: Owed
}

/** Looks after the pipe that is served, if there is one. */
export interface CurrentPipe {
  readonly served: () => ServedPipe | undefined
  /** A pipe exists, and could not be taken over. */
  readonly isMissed: () => boolean
  /** Serves the pipe that is at the path now. */
  readonly look: () => void
  /** Closes a pipe that no longer exists. */
  readonly release: () => void
  /** When the pipe went away; undefined as long as one is served, or if none ever was. */
  readonly goneAt: () => number | undefined
}

/** Where the pipe is, and what serves it. */
export interface PipePlace {
  readonly server: Server
  readonly claim: Claim
  readonly ready: Pick<Readiness, 'status'>
  readonly pipefs: string
  /** Undefined, if there is no place for a journal. */
  readonly journalPath: string | undefined
}

/** @param early the pipe, if it has been opened already */
export const currentPipe = (place: PipePlace, early?: Pipe): CurrentPipe => new PipeAtItsPlace(place, early)

class PipeAtItsPlace implements CurrentPipe {
  private readonly place: PipePlace
  private readonly path: string
  /** Opened when the program began, and not served yet. */
  private opened: Pipe | undefined
  private now: ServedPipe | undefined
  /** What the status file says is served. */
  private told: ServedPipe | undefined | 'nothing yet' = 'nothing yet'
  private missed = false
  private endedAt: number | undefined

  constructor(place: PipePlace, early: Pipe | undefined) {
    this.place = place
    this.path = pipeIn(place.pipefs)
    this.opened = early
    this.now = undefined
    this.endedAt = undefined
  }

  served(): ServedPipe | undefined {
    return this.now
  }

  isMissed(): boolean {
    return this.missed
  }

  goneAt(): number | undefined {
    return this.endedAt
  }

  look(): void {
    const { path, now } = this
    const { server, ready } = this.place
    const { calls, log } = server
    if (now !== undefined && this.isReplaced(now)) {
      // Messages that were queued before the pipe went away are carried out. Their answers may come too late.
      answerQueued(server, now.pipe, now.journal)
      this.release()
    }
    this.now ??= this.take()
    if (this.now !== undefined) this.endedAt = undefined
    const wasMissed = this.missed
    this.missed = this.now === undefined && files.exists(path, files.anywhere(calls))
    if (this.missed && mayNotOpen(calls, path)) throw mountedAnew(quote(path))
    if (this.missed && !wasMissed) log.error(`${quote(path)} is there, and can't be held yet`)
    // A machine that runs containers mounts something every few milliseconds, and most often nothing has changed here.
    if (this.now === this.told) return
    this.told = this.now
    server.tellStatus()
    ready.status(this.now === undefined ? 'waiting for the NFS server' : 'answering the NFS server')
  }

  release(): void {
    if (this.now === undefined) return
    const { pipe, journal } = this.now
    this.now = undefined
    this.place.server.log.notice(
      this.ended(pipe, journal) === 'stopped'
        ? 'the pipe is gone: the NFS server has stopped'
        : 'the pipe is gone: the NFS server makes another one, and asks there for each client that comes (version 0)',
    )
  }

  private take(): ServedPipe | undefined {
    const { server, claim, journalPath } = this.place
    // A pipe that goes away meanwhile may have had a successor before the directory was watched: no event reports that.
    for (let attempt = 0; attempt < 3; attempt++) {
      const pipe = this.opened ?? openPipe(server.calls, this.path)
      this.opened = undefined
      if (pipe === undefined) return undefined
      claim.take()
      const taken = beginServing(server, journalPath, pipe)
      if (taken !== 'gone') return taken
      this.ended(pipe)
    }
    return undefined
  }

  private isReplaced({ pipe: { status } }: ServedPipe): boolean {
    const { calls } = this.place.server
    const there = calls.fstatat(atFlags.AT_FDCWD, this.path, atFlags.AT_SYMLINK_NOFOLLOW)
    return typeof there === 'number' || there.inode !== status.inode || there.device !== status.device
  }

  private ended(pipe: Pipe, journal?: Journal): 'stopped' | 'goes on' {
    const { server, claim } = this.place
    const whatOfServer = server.pipeGone()
    pipe.close()
    journal?.close()
    claim.release()
    this.endedAt = server.calls.monotonic()
    return whatOfServer
  }
}

/**
 * Takes over a pipe, and answers the messages that are queued there. What the last `serve` wrote down and could not say
 * is given later (owed.ts).
 */
export function beginServing(server: Server, journalPath: string | undefined, pipe: Pipe): ServedPipe | 'gone' {
  const { calls, log, doing } = server
  const name = server.nameOf(pipe)
  const replies = lastReplies(calls, journalPath, name)
  const last = latestOf(replies.map(({ message }) => message))
  // Before the first read: if the pipe is gone by then, its server has run, and that must not be forgotten.
  server.instance.held(name, last)
  const taken = pipe.take()
  if (taken === 'gone') return 'gone'
  const isTaken = new Set(taken.map(({ header }) => header.xid))
  const owed = replies.filter((reply) => !isTaken.has(reply.message.header.xid) && isWaitedFor({ pipe }, reply))
  const journal = new Journal(calls, journalPath, name, owed)
  // The next process must find this number, even if this one answers nothing.
  journal.note(replies.filter(({ message: { header } }) => header.xid === last && !journal.owed.has(header.xid)))
  server.takeOver(name)
  doing.pipe = pipe
  log.notice(`holds ${quote(pipe.path)}`)
  return answerTaken(server, pipe, journal, taken) ? { pipe, journal, owed: new Owed(server) } : 'gone'
}
