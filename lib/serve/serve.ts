/**
 * `serve`: the other way in which kernels ask. One process answers the messages of a pipe (lib/kernel/pipe.ts), by the
 * same transitions on the same state directory as an upcall.
 *
 * The process alone holds no fact. If it is killed between any two calls, it leaves what an upcall would leave, and the
 * kernel asks the next process again. The kernel waits about a second for a process to hold a new pipe (nfs4recover.c,
 * cld_running), so opening the pipe is the first step. No reader is woken when a pipe is removed, so `serve` watches
 * the directory.
 *
 * Before it reads the first message, it gives up the rights that it does not need, as an upcall does before it looks at
 * a client's name.
 */
import { Failed, failureFrom } from '../failure.ts'
import { quote } from '../text.ts'
import { kernelLog, openLog, type Log } from '../kernel/log.ts'
import { openPipe, type Pipe } from '../kernel/pipe.ts'
import type { Words } from '../settings/options.ts'
import { settingsFrom, type Settings } from '../settings/settings.ts'
import { bootId, holderName } from '../store/process.ts'
import { makeRunDirectory, serveFiles } from '../store/run-directory.ts'
import { atFlags, pollEvents, type Calls, type Status } from '../syscalls/calls.ts'
import { answered, errno, errorName } from '../syscalls/errno.ts'
import * as files from '../syscalls/files.ts'
import { anotherHas, claimOn, type Claim } from './claim.ts'
import { beginJournal, bytesOfReply, lastReplies, type Journal, type Reply } from './journal.ts'
import { commands, probe } from '../upcall/message.ts'
import { serveOptionsFrom, type ServeOptions } from '../upcall/serve-options.ts'
import { helperIsOurs, holderOf, nfsdcldAt, type Other } from './others.ts'
import { isMounted, pipefsAt, pipeIn } from '../settings/pipefs.ts'
import { readinessTo, type Readiness } from './readiness.ts'
import { answerQueued, answerRound, answerTaken, tryAgain } from './round.ts'
import { serverFor, type Server } from './server.ts'
import { statusFileAt } from './status-file.ts'

type Environment = Readonly<Record<string, string | undefined>>

const { POLLIN, POLLPRI, POLLERR, POLLHUP } = pollEvents

/**
 * Answers messages until it is told to end, or, with `--until-gone`, until the pipe goes.
 * @returns the exit status.
 */
export function serve(calls: Calls, { given, rest }: Words, environment: Environment): number {
  calls.umask(0o077)
  let log = openLog(calls, { foreground: given.has('foreground'), debug: given.has('debug') })
  try {
    const options = serveOptionsFrom(rest)
    const settings = settingsFrom(calls, given)
    log = openLog(calls, settings)
    for (const complaint of settings.complaints) log.warning(complaint)
    const pipefs = pipefsAt(calls, given, options.pipefsDirectory)
    if (calls.poll([], [], 0) === -errno.ENOSYS) throw new Failed({ kind: 'needs-executable', word: 'serve' })
    return answerUntilTold(calls, settings, pipefs, options, environment, log)
  } catch (thrown) {
    return log.failed(failureFrom(thrown), 'serve')
  }
}

function answerUntilTold(
  calls: Calls,
  settings: Settings,
  pipefs: string,
  options: ServeOptions,
  environment: Environment,
  log: Log,
): number {
  // First of all: the kernel may be waiting.
  const early = openPipe(calls, pipeIn(pipefs))
  const ready = readinessTo(calls, environment, options.readyDescriptor)
  const anywhere = files.anywhere(calls)
  const us = holderName(anywhere)
  makeRunDirectory(settings.runDirectory, anywhere)
  const own = serveFiles(settings.runDirectory, settings.stateDirectory, anywhere)
  const directory = files.lookAtName(`${pipefs}/nfsd`, anywhere)
  if (directory !== undefined) refuseBeside(nfsdcldAt(calls, directory))
  if (early !== undefined) refuseBeside(holderOf(calls, early.status))
  claimRunDirectory(own.lock, settings.stateDirectory, calls)
  const claim = claimOn(calls, settings.stateDirectory, log)
  claim.take()
  claim.release()

  const signals = calls.endSignals()
  const mounts = calls.openat(atFlags.AT_FDCWD, '/proc/self/mountinfo', calls.flags.O_RDONLY, 0)
  const confine = confining(calls, settings, pipefs, log)
  confine()

  const statusFile = statusFileAt(calls, own.status, us, settings.stateDirectory)
  const server = serverFor(
    { calls, settings, log, bootId: bootId(anywhere), holder: us, claim },
    options.maxVersion,
    statusFile,
  )
  if (early === undefined) lookForUntracked(server, settings, pipefs)
  const loop: Loop = {
    server,
    claim,
    ready,
    pipefs,
    journalPath: own.replies,
    untilGone: options.untilGone,
    signals,
    mounts,
    confine,
  }
  try {
    run(loop, early)
    return 0
  } finally {
    ready.stopping()
    statusFile.remove()
  }
}

/**
 * Gives up rights as soon as rpc_pipefs is mounted, which is before any message is read. Not earlier: a right to a
 * directory (Landlock) does not extend to a file system that is mounted over it later, nor to the same one that is
 * unmounted and mounted again. A process that has none to what is there now ends, and the next one has it: what the
 * kernel asks comes again.
 * @returns a function that does so once, and later looks whether it still may work where it must.
 * @throws Failed, from that function, if it may not.
 */
function confining(calls: Calls, settings: Settings, pipefs: string, log: Log): () => void {
  const { stateDirectory } = settings
  let confinedTo: { readonly pipes: Status; readonly state: Status | undefined } | undefined
  return () => {
    const pipes = statusAt(calls, `${pipefs}/nfsd`)
    if (confinedTo === undefined) {
      if (pipes === undefined) return
      confinedTo = { pipes, state: statusAt(calls, stateDirectory) }
      const answer = calls.confine(
        [stateDirectory, settings.runDirectory],
        [settings.nfsdDirectory, kernelLog, pipefs],
        ['/'],
        'waits',
      )
      if (answer < 0) log.warning(`can't give up rights that it does not need: ${errorName(answer)}`)
      return
    }
    if (pipes !== undefined && !isSame(pipes, confinedTo.pipes)) throw mountedAnew(`rpc_pipefs at ${quote(pipefs)}`)
    if (isLost(calls, stateDirectory, confinedTo.state)) throw mountedAnew(quote(stateDirectory))
  }
}

function statusAt(calls: Calls, path: string): Status | undefined {
  const status = calls.fstatat(atFlags.AT_FDCWD, path, 0)
  return typeof status === 'number' ? undefined : status
}

const isSame = (one: Status, other: Status): boolean => one.device === other.device && one.inode === other.inode

/** A disk that is mounted again may have the same numbers. A rename that changes nothing tells: it needs the right. */
function isLost(calls: Calls, stateDirectory: string, before: Status | undefined): boolean {
  const clients = `${stateDirectory}/v4clients`
  if (calls.renameat(atFlags.AT_FDCWD, clients, atFlags.AT_FDCWD, clients) === -errno.EACCES) return true
  const now = statusAt(calls, stateDirectory)
  return before !== undefined && now !== undefined && !isSame(now, before)
}

/** In an rpc_pipefs that has the numbers of the one before. */
function mayNotOpen(calls: Calls, pipe: string): boolean {
  const { O_RDWR, O_NONBLOCK, O_NOFOLLOW } = calls.flags
  const descriptor = calls.openat(atFlags.AT_FDCWD, pipe, O_RDWR | O_NONBLOCK | O_NOFOLLOW, 0)
  if (descriptor >= 0) calls.close(descriptor)
  return descriptor === -errno.EACCES
}

const mountedAnew = (what: string): Failed =>
  new Failed({
    kind: 'storage',
    atStart: false,
    what: `${what} was mounted anew, and this process gave up the right to it: start it again`,
  })

function refuseBeside(other: Other | undefined): void {
  if (other === undefined) return
  throw new Failed({
    kind: 'storage',
    atStart: true,
    what:
      `${quote(other.name)} (process ${other.process}) answers the kernel already: ` +
      'two would split its messages; end it first',
  })
}

/**
 * What is in the run directory for a state directory is one process's, from its start to its end, be there a pipe or
 * not (claim.ts).
 */
function claimRunDirectory(lock: string, stateDirectory: string, calls: Calls): void {
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = calls.flags
  const descriptor = answered(calls.openat(atFlags.AT_FDCWD, lock, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600), 'open', lock)
  if (answered(calls.flock(descriptor), 'flock', lock, errno.EAGAIN) === 0) return
  throw anotherHas(stateDirectory)
}

/**
 * A server that has threads and no pipe was started while nobody answered: it may grant anything, and our records know
 * nothing of it, unless it has the helper as its tracker.
 */
function lookForUntracked(server: Server, settings: Settings, pipefs: string): void {
  const { calls, log } = server
  const anywhere = files.anywhere(calls)
  const hasPipe = (): boolean => files.exists(pipeIn(pipefs), anywhere)
  // A server that is just starting waits for us to hold its pipe, and whoever reads this file waits for that server.
  if (!isMounted(calls, pipefs) || helperIsOurs(calls) || hasPipe()) return
  const threads = files.beginningOf(`${settings.nfsdDirectory}/threads`, anywhere)
  if (threads === undefined || !(Number(threads) > 0) || hasPipe()) return
  server.distrust('start')
  log.critical(
    'the NFS server was started without this program, and nothing is recorded of it: ' +
      'nobody may reclaim after its next start',
  )
}

interface Loop {
  readonly server: Server
  readonly claim: Claim
  readonly ready: Readiness
  readonly pipefs: string
  readonly journalPath: string
  readonly untilGone: boolean
  readonly signals: number
  readonly mounts: number
  readonly confine: () => void
}

export interface Held {
  readonly pipe: Pipe
  readonly journal: Journal
}

/**
 * How long after a pipe's end a new one may come that belongs to the same start: the kernel falls back to version 0 at
 * once.
 */
const successorMs = 500
/** Where nothing tells of a change, it is looked for. */
const lookMs = 1000

/**
 * The kernel waits a second for its pipe to be held: one that could not be (no descriptor is free, say) is tried soon.
 */
const missedMs = 50

/** The pipe that is held, if there is one. */
interface Holding {
  readonly held: () => Held | undefined
  /** There is a pipe, and it could not be held. */
  readonly isMissed: () => boolean
  /** Looks what is at the pipe's place, and holds that. */
  readonly look: () => void
  /** Lets go of a pipe that is no more. */
  readonly release: () => void
  /** Since when there is none, where there was one; undefined while there is one, or never was. */
  readonly goneAt: () => number | undefined
}

function holding({ server, claim, ready, pipefs, journalPath }: Loop, early: Pipe | undefined): Holding {
  const { calls, log, doing } = server
  const path = pipeIn(pipefs)
  let opened = early
  let held: Held | undefined
  let isMissed = false
  let goneAt: number | undefined

  const release = (): void => {
    if (held === undefined) return
    server.pipeGone()
    held.pipe.close()
    held.journal.close()
    held = undefined
    claim.release()
    goneAt = calls.monotonic()
    doing.pipe = undefined
    doing.protocol = undefined
    log.notice('the pipe is gone: the NFS server has stopped')
  }
  const isReplaced = ({ pipe: { status } }: Held): boolean => {
    const now = calls.fstatat(atFlags.AT_FDCWD, path, atFlags.AT_SYMLINK_NOFOLLOW)
    return typeof now === 'number' || now.inode !== status.inode || now.device !== status.device
  }
  const take = (): Held | undefined => {
    // One that goes while it is taken may have had a successor before the directory was watched.
    for (let attempt = 0; attempt < 3; attempt++) {
      const pipe = opened ?? openPipe(calls, path)
      opened = undefined
      if (pipe === undefined) return undefined
      claim.take()
      const taken = hold(server, journalPath, pipe)
      if (taken !== 'gone') return taken
      server.pipeGone()
      claim.release()
      pipe.close()
      goneAt = calls.monotonic()
    }
    return undefined
  }
  return {
    held: () => held,
    isMissed: () => isMissed,
    look: () => {
      if (held !== undefined && isReplaced(held)) {
        // What it asked before it went is carried out; its answer may come too late.
        answerQueued(server, held.pipe, held.journal)
        release()
      }
      held ??= take()
      if (held !== undefined) goneAt = undefined
      const wasMissed = isMissed
      isMissed = held === undefined && files.exists(path, files.anywhere(calls))
      if (isMissed && mayNotOpen(calls, path)) throw mountedAnew(quote(path))
      if (isMissed && !wasMissed) log.error(`${quote(path)} is there, and can't be held yet`)
      server.tellStatus()
      ready.status(held === undefined ? 'waiting for the NFS server' : 'answering the NFS server')
    },
    release,
    goneAt: () => goneAt,
  }
}

/** What is waited for: when the first of these is due, in milliseconds from now; -1, if none ever is. */
const untilFirst = (...waits: readonly (number | undefined)[]): number => {
  const due = waits.filter((wait) => wait !== undefined)
  return due.length === 0 ? -1 : Math.max(0, Math.ceil(Math.min(...due)))
}

function run(loop: Loop, early: Pipe | undefined): void {
  const { server, ready, pipefs, untilGone, signals, mounts, confine } = loop
  const { calls, log } = server
  const directory = `${pipefs}/nfsd`
  // Before the first look: what comes later is told.
  let watch = calls.watch(directory)
  if (watch < 0) log.warning(`no rpc_pipefs is mounted at ${quote(pipefs)}: waiting for it`)
  else confine()
  const pipe = holding(loop, early)
  pipe.look()
  let aliveAt = calls.monotonic()

  for (;;) {
    if (watch < 0) {
      watch = calls.watch(directory)
      if (watch >= 0) {
        confine()
        pipe.look()
      }
    }
    if (watch >= 0) ready.ready()

    const now = calls.monotonic()
    const goneAt = untilGone ? pipe.goneAt() : undefined
    if (goneAt !== undefined && now - goneAt >= successorMs) return
    const tryAt = server.unfinished.dueAt()
    const lateAt = server.instance.dueAt()
    const wait = untilFirst(
      watch < 0 ? lookMs : undefined,
      pipe.isMissed() ? missedMs : undefined,
      goneAt === undefined ? undefined : goneAt + successorMs - now,
      tryAt === undefined ? undefined : tryAt - now,
      lateAt === undefined ? undefined : lateAt - now,
      ready.everyMs === undefined ? undefined : aliveAt + ready.everyMs - now,
    )
    const events = calls.poll(
      [signals, mounts, watch, pipe.held()?.pipe.pollable() ?? -1],
      [POLLIN, POLLPRI, POLLIN, POLLIN],
      wait,
    )
    if (events === -errno.EINTR) continue
    if (typeof events === 'number')
      throw new Failed({ kind: 'storage', atStart: false, what: `poll failed: ${errorName(events)}` })
    const [told = 0, mounted = 0, changed = 0, asked = 0] = events

    if (ready.everyMs !== undefined && calls.monotonic() >= aliveAt + ready.everyMs) {
      ready.alive()
      aliveAt = calls.monotonic()
    }
    const held = pipe.held()
    const isGone =
      held !== undefined &&
      asked !== 0 &&
      ((asked & (POLLERR | POLLHUP)) !== 0 || answerRound(server, held.pipe, held.journal) === 'gone')
    if (isGone) pipe.release()
    if ((changed & POLLIN) !== 0) drain(calls, watch)
    // mounts_poll (fs/proc_namespace.c) tells of each change once.
    if ((mounted & (POLLPRI | POLLERR)) !== 0 || (changed & ~POLLIN) !== 0) {
      if (watch >= 0) calls.close(watch)
      watch = calls.watch(directory)
      if (watch >= 0) confine()
    }
    if (isGone || changed !== 0 || mounted !== 0 || pipe.isMissed()) pipe.look()
    if (told !== 0) {
      log.notice('told to end')
      return
    }
    server.instance.due()
    if (tryAt !== undefined && tryAt <= calls.monotonic()) tryAgain(server)
  }
}

/** How long the kernel's threads may take to queue their messages again when a reader has died. */
const queueAgainMs = 200

/**
 * Takes a pipe, and what is queued there. It also gives the answers that the last `serve` wrote down and could not
 * give: the last byte of a message that is neither answered nor queued was read, and a thread waits for its answer. A
 * message that is queued again must not be answered before it is read, because older kernels then go on with a message
 * that no longer exists (lib/kernel/pipe.ts).
 */
export function hold(server: Server, journalPath: string, pipe: Pipe): Held | 'gone' {
  const { calls, log, doing } = server
  const name = server.nameOf(pipe)
  const seen = new Set<number>()
  const take = (): ReturnType<Pipe['take']> => {
    const more = pipe.take()
    if (more !== 'gone') for (const { header } of more) seen.add(header.xid)
    return more
  }
  const waits = (reply: Reply): boolean => pipe.write(probe(reply.header.xid, reply.size)) === -errno.EFAULT
  const unsaid = (): Reply[] => replies.filter((reply) => !seen.has(reply.header.xid) && waits(reply))
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
  const journal = beginJournal(calls, journalPath, name, carried)
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
    if (reply.doubtful === true && reply.header.command === commands.remove) server.distrust('start')
    if (pipe.write(bytesOfReply(reply)) >= 0) log.notice(`message ${reply.header.xid} had no answer: it has one now`)
  }
  carried.length = 0
  return answerTaken(server, pipe, journal, taken) ? { pipe, journal } : 'gone'
}

/** What has changed does not matter: it is looked at. */
function drain(calls: Calls, watch: number): void {
  const bytes = new Uint8Array(4096)
  while (calls.read(watch, bytes) > 0);
}
