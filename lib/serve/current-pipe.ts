/**
 * The pipe that this process serves: the one at its place, as long as it is there. It is taken over as it is found,
 * with what the last process left unanswered.
 */
import { openPipe, type Pipe } from '../kernel/pipe.ts'
import { pipeIn } from '../settings/pipefs.ts'
import { atFlags } from '../syscalls/calls.ts'
import { errno } from '../syscalls/errno.ts'
import * as files from '../syscalls/files.ts'
import { quote } from '../text.ts'
import { commands, probe } from '../upcall/message.ts'
import type { Claim } from './claim.ts'
import { mayNotOpen, mountedAnew } from './confined.ts'
import { bytesOfReply, Journal, lastReplies, type Reply } from './journal.ts'
import type { Readiness } from './readiness.ts'
import { answerQueued, answerTaken } from './round.ts'
import type { Server } from './server.ts'

/** A pipe whose messages are answered, and the journal of its answers. */
export interface ServedPipe {
  readonly pipe: Pipe
  readonly journal: Journal
}

/** The pipe that is served, if there is one. */
export interface CurrentPipe {
  readonly served: () => ServedPipe | undefined
  /** There is a pipe, and it could not be opened. */
  readonly isMissed: () => boolean
  /** Looks what is at the pipe's place, and serves that. */
  readonly look: () => void
  /** Closes a pipe that is no more. */
  readonly release: () => void
  /** Since when there is none, where there was one; undefined while there is one, or never was. */
  readonly goneAt: () => number | undefined
}

/** Where it is, and who serves it. */
export interface PipePlace {
  readonly server: Server
  readonly claim: Claim
  readonly ready: Pick<Readiness, 'status'>
  readonly pipefs: string
  readonly journalPath: string
}

/** @param early the pipe, where it has been opened already. */
export function currentPipe({ server, claim, ready, pipefs, journalPath }: PipePlace, early?: Pipe): CurrentPipe {
  const { calls, log } = server
  const path = pipeIn(pipefs)
  let opened = early
  let served: ServedPipe | undefined
  let isMissed = false
  let goneAt: number | undefined

  const ended = (pipe: Pipe, journal?: Journal): 'stopped' | 'goes on' => {
    const whatOfServer = server.pipeGone()
    pipe.close()
    journal?.close()
    claim.release()
    goneAt = calls.monotonic()
    return whatOfServer
  }
  const release = (): void => {
    if (served === undefined) return
    const { pipe, journal } = served
    served = undefined
    log.notice(
      ended(pipe, journal) === 'stopped'
        ? 'the pipe is gone: the NFS server has stopped'
        : 'the pipe is gone: the NFS server makes another one, and asks there for each client that comes (version 0)',
    )
  }
  const isReplaced = ({ pipe: { status } }: ServedPipe): boolean => {
    const now = calls.fstatat(atFlags.AT_FDCWD, path, atFlags.AT_SYMLINK_NOFOLLOW)
    return typeof now === 'number' || now.inode !== status.inode || now.device !== status.device
  }
  const take = (): ServedPipe | undefined => {
    // One that goes while it is taken may have had a successor before the directory was watched.
    for (let attempt = 0; attempt < 3; attempt++) {
      const pipe = opened ?? openPipe(calls, path)
      opened = undefined
      if (pipe === undefined) return undefined
      claim.take()
      const taken = beginServing(server, journalPath, pipe)
      if (taken !== 'gone') return taken
      ended(pipe)
    }
    return undefined
  }
  return {
    served: () => served,
    isMissed: () => isMissed,
    look: () => {
      if (served !== undefined && isReplaced(served)) {
        // What it asked before it went is carried out; its answer may come too late.
        answerQueued(server, served.pipe, served.journal)
        release()
      }
      served ??= take()
      if (served !== undefined) goneAt = undefined
      const wasMissed = isMissed
      isMissed = served === undefined && files.exists(path, files.anywhere(calls))
      if (isMissed && mayNotOpen(calls, path)) throw mountedAnew(quote(path))
      if (isMissed && !wasMissed) log.error(`${quote(path)} is there, and can't be held yet`)
      server.tellStatus()
      ready.status(served === undefined ? 'waiting for the NFS server' : 'answering the NFS server')
    },
    release,
    goneAt: () => goneAt,
  }
}

/** How long the kernel's threads may take to queue their messages again when a reader has died. */
const queueAgainMs = 200

/**
 * Takes over a pipe, and what is queued there. It also gives the answers that the last `serve` wrote down and could not
 * give: the last byte of a message that is neither answered nor queued was read, and a thread waits for its answer. A
 * message that is queued again must not be answered before it is read, because older kernels then go on with a message
 * that no longer exists (lib/kernel/pipe.ts).
 */
export function beginServing(server: Server, journalPath: string, pipe: Pipe): ServedPipe | 'gone' {
  const { calls, log, doing } = server
  const name = server.nameOf(pipe)
  const seen = new Set<number>()
  const take = (): ReturnType<Pipe['take']> => {
    const more = pipe.take()
    if (more !== 'gone') for (const { header } of more) seen.add(header.xid)
    return more
  }
  const waits = (reply: Reply): boolean =>
    pipe.write(probe(reply.message.header.xid, reply.message.size)) === -errno.EFAULT
  const unsaid = (): Reply[] => replies.filter((reply) => !seen.has(reply.message.header.xid) && waits(reply))
  let taken = take()
  if (taken === 'gone') return 'gone'
  const replies = lastReplies(calls, journalPath, name)
  if (unsaid().length > 0) {
    calls.sleep(queueAgainMs)
    const more = take()
    if (more === 'gone') return 'gone'
    taken = [...taken, ...more]
  }
  const carried = unsaid()
  const journal = new Journal(calls, journalPath, name, carried)
  server.instance.held(name)
  server.takeOver(name)
  doing.pipe = pipe
  log.notice(`holds ${quote(pipe.path)}`)
  // With few descriptors, a message that comes again may be queued behind those that were taken: these are answered
  // first.
  while (carried.length > 0 && pipe.isFull()) {
    if (!answerTaken(server, pipe, journal, taken)) return 'gone'
    taken = take()
    if (taken === 'gone') return 'gone'
    carried.splice(0, carried.length, ...unsaid())
  }
  for (const reply of carried) {
    // Nobody knows of whom it was, so its client may still be recorded: that is noted before the kernel goes on.
    if (reply.doubtful === true && reply.message.header.command === commands.remove) server.distrust('start')
    if (pipe.write(bytesOfReply(reply)) >= 0)
      log.notice(`message ${reply.message.header.xid} had no answer: it has one now`)
  }
  carried.length = 0
  return answerTaken(server, pipe, journal, taken) ? { pipe, journal } : 'gone'
}
