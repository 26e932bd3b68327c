/**
 * `serve` is for the other way in which kernels ask. One process answers the messages of a pipe (lib/kernel/pipe.ts),
 * by the same transitions on the same state directory as an upcall.
 *
 * No fact is in the process's memory alone. If it is killed between any two calls, it leaves what an upcall would
 * leave, and the kernel asks the next process again. The kernel waits about a second for a process to hold a new pipe
 * (nfs4recover.c, cld_running), so opening the pipe is the first step. The kernel does not wake a reader when it
 * removes a pipe, so `serve` watches the directory.
 *
 * Before it reads the first message, it gives up the rights that it does not need, as an upcall does before it looks at
 * a client's name.
 */
import { Failed, failureFrom, report, storageFailure } from '../failure.ts'
import { openLog, type Log } from '../kernel/log.ts'
import { openPipe, type Pipe } from '../kernel/pipe.ts'
import type { Words } from '../settings/options.ts'
import { isMounted, pipefsAt, pipeIn } from '../settings/pipefs.ts'
import { settingsFrom, type Settings } from '../settings/settings.ts'
import { bootId, holderName } from '../store/process.ts'
import { makeRunDirectory, serveFiles, type ServeFiles } from '../store/run-directory.ts'
import { atFlags, pollEvents, type Calls } from '../syscalls/calls.ts'
import { errno, errorName } from '../syscalls/errno.ts'
import * as files from '../syscalls/files.ts'
import { quote } from '../text.ts'
import { serveOptionsFrom, type ServeOptions } from '../upcall/serve-options.ts'
import { anotherHas, claimOn } from './claim.ts'
import { confining } from './confined.ts'
import { currentPipe, type PipePlace, type ServedPipe } from './current-pipe.ts'
import type { KnownRecords } from './known-records.ts'
import { helperIsOurs, holderOf, watcherOf, whoStays, type Other } from './others.ts'
import { readinessTo, refuseUnlessPassed, type Readiness } from './readiness.ts'
import { tryAgain } from './retry.ts'
import { answerRound } from './round.ts'
import { serverFor, type Server } from './server.ts'
import { statusFileAt, type StatusFile } from './status-file.ts'

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
    if (options.readyDescriptor !== undefined) refuseUnlessPassed(calls, options.readyDescriptor)
    return answerUntilTold({ calls, settings, log, pipefs, options, environment })
  } catch (thrown) {
    return log.failed(failureFrom(thrown), 'serve')
  }
}

/** What this process was started with. */
interface Begun {
  readonly calls: Calls
  readonly settings: Settings
  readonly log: Log
  readonly pipefs: string
  readonly options: ServeOptions
  readonly environment: Environment
}

function answerUntilTold(begun: Begun): number {
  // This comes first, because the kernel may be waiting.
  const early = openPipe(begun.calls, pipeIn(begun.pipefs))
  const loop = loopFor(begun, early)
  try {
    run(loop, early)
    loop.server.intents.close()
    return 0
  } finally {
    loop.ready.stopping()
    loop.statusFile.remove()
  }
}

/** Makes sure that no other process answers, and gives up rights. @param early the pipe, if it exists already */
function loopFor(begun: Begun, early: Pipe | undefined): Loop {
  const { calls, settings, log, pipefs, options, environment } = begun
  const ready = readinessTo(calls, environment, options.readyDescriptor)
  const anywhere = files.anywhere(calls)
  const us = holderName(anywhere)
  const own = ownFiles(settings, anywhere, log)
  const directory = files.lookAtName(`${pipefs}/nfsd`, anywhere)
  if (directory !== undefined) refuseBeside(whoStays(calls, () => watcherOf(calls, directory)))
  if (early !== undefined) refuseBeside(whoStays(calls, () => holderOf(calls, early.status)))
  if (own !== undefined) claimRunDirectory(own.lock, begun)
  const claim = claimOn(calls, settings.stateDirectory, log)
  claim.take()
  claim.release()

  const signals = calls.endSignals()
  const mounts = calls.openat(atFlags.AT_FDCWD, '/proc/self/mountinfo', calls.flags.O_RDONLY, 0)
  const confine = confining(calls, settings, pipefs, log)
  confine()

  const statusFile = statusFileAt(calls, own?.status, us, settings.stateDirectory)
  const server = serverFor(
    { calls, settings, log, bootId: bootId(anywhere), holder: us, claim, unfinishedPath: own?.unfinished },
    options.maxVersion,
    statusFile,
  )
  if (early === undefined) lookForUntracked(server, settings, pipefs)
  const { untilGone } = options
  return { server, claim, ready, pipefs, journalPath: own?.replies, statusFile, untilGone, signals, mounts, confine }
}

function refuseBeside(other: Other | undefined): void {
  if (other === undefined) return
  throw new Failed({
    kind: 'unusable-at-start',
    what:
      `${quote(other.name)} (process ${other.process}) answers the kernel already: ` +
      'two would split its messages; end it first',
  })
}

/**
 * The files of this process in the run directory. Without them it can answer all the same. If it did not, the server
 * would go on without a tracker, and nobody would know which clients have left.
 * @returns undefined, if others can write to that directory: what they put there must not be believed
 */
function ownFiles(
  { runDirectory, stateDirectory }: Settings,
  anywhere: files.Directory,
  log: Log,
): ServeFiles | undefined {
  try {
    makeRunDirectory(runDirectory, anywhere)
    return serveFiles(runDirectory, stateDirectory, anywhere)
  } catch (thrown) {
    log.critical(
      `no note can be made in the run directory (${report(failureFrom(thrown)).line}): ` +
        'if this process is killed, a thread of the server may hang, ' +
        'and the next start will not know what could not be recorded',
    )
    return undefined
  }
}

/**
 * Locks the files in the run directory that belong to this state directory, from the process's start to its end,
 * whether there is a pipe or not (claim.ts).
 */
function claimRunDirectory(lock: string, { calls, settings: { runDirectory, stateDirectory }, log }: Begun): void {
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = calls.flags
  const descriptor = calls.openat(atFlags.AT_FDCWD, lock, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600)
  const answer = descriptor < 0 ? descriptor : calls.flock(descriptor)
  if (answer === -errno.EAGAIN) throw anotherHas(stateDirectory)
  if (answer >= 0) return
  // The run directory may be full. A server without a tracker would be worse than two processes that wait for one.
  log.warning(
    `no lock can be had in ${quote(runDirectory)} (${errorName(answer)}): ` +
      `make sure that no other serve uses ${quote(stateDirectory)}`,
  )
}

/**
 * Looks for a server that has threads and no pipe. It was started while no process answered, so it may grant anything,
 * and our records know nothing of it, unless it uses the helper.
 */
function lookForUntracked(server: Server, settings: Settings, pipefs: string): void {
  const { calls, log } = server
  const anywhere = files.anywhere(calls)
  const hasPipe = (): boolean => files.exists(pipeIn(pipefs), anywhere)
  // A server that is just starting waits for this process to hold its pipe, and `threads` can't be read until it has
  // started.
  if (!isMounted(calls, pipefs) || helperIsOurs(calls) || hasPipe()) return
  const threads = files.beginningOf(`${settings.nfsdDirectory}/threads`, anywhere)
  if (threads === undefined || !(Number(threads) > 0) || hasPipe()) return
  server.distrust('start')
  log.critical(
    'the NFS server was started without this program, and nothing is recorded of it: ' +
      'nobody may reclaim after its next start',
  )
}

interface Loop extends PipePlace {
  readonly ready: Readiness
  readonly statusFile: StatusFile
  readonly untilGone: boolean
  readonly signals: number
  readonly mounts: number
  readonly confine: () => void
}

/**
 * How long to wait, after a pipe's end, for a new one of the same start: the kernel falls back to version 0 at once.
 */
const successorMs = 500
/** How often to look for the directory while it can't be watched, and to try to report that it is. */
const lookMs = 1000

/**
 * How soon to retry a pipe that could not be opened, for example without a free descriptor: the kernel waits a second.
 */
const missedMs = 50

/** The time of what is never due. */
const never = Infinity

/** The events that poll(2) waits for: of the signals, the mounts, the watched directory, the pipe. */
const wanted = [POLLIN, POLLPRI, POLLIN, POLLIN]

/** How far away a time is, in milliseconds; -1, if it never comes. */
const until = (time: number, now: number): number => (time === never ? -1 : Math.max(0, Math.ceil(time - now)))

function run(loop: Loop, early: Pipe | undefined): void {
  const { server, ready, untilGone, signals, mounts } = loop
  const { calls, log } = server
  // Watched before the first look, so that no later change is missed.
  const watched = new WatchedDirectory(loop)
  if (watched.descriptor() < 0) log.warning(`no rpc_pipefs is mounted at ${quote(loop.pipefs)}: waiting for it`)
  const pipe = currentPipe(loop, early)
  pipe.look()
  if (pipe.served() === undefined) server.readBeforehand()
  let aliveAt = calls.monotonic()
  const waited = [signals, mounts, -1, -1]

  for (;;) {
    let watch = watched.descriptor()
    if (watch < 0) {
      watch = watched.renew()
      if (watch >= 0) pipe.look()
    }
    const isReported = watch >= 0 && ready.ready()

    const now = calls.monotonic()
    const goneAt = untilGone ? pipe.goneAt() : undefined
    if (goneAt !== undefined && now - goneAt >= successorMs) return
    const tryAt = server.unfinished.dueAt()
    const served = pipe.served()
    const isMissed = pipe.isMissed()
    const next = Math.min(
      isReported ? never : now + lookMs,
      isMissed ? now + missedMs : never,
      goneAt === undefined ? never : goneAt + successorMs,
      tryAt ?? never,
      server.instance.dueAt() ?? never,
      server.intents.dueAt(now) ?? never,
      served?.owed.dueAt(served) ?? never,
      ready.everyMs === undefined ? never : aliveAt + ready.everyMs,
    )
    waited[2] = watch
    waited[3] = served?.pipe.pollable() ?? -1
    const events = calls.poll(waited, wanted, until(next, now))
    if (events === -errno.EINTR) continue
    if (typeof events === 'number') throw storageFailure(`poll failed: ${errorName(events)}`)
    const told = events[0] ?? 0
    const mounted = events[1] ?? 0
    const changed = events[2] ?? 0
    const asked = events[3] ?? 0

    if (ready.everyMs !== undefined && calls.monotonic() >= aliveAt + ready.everyMs) {
      ready.alive()
      aliveAt = calls.monotonic()
    }
    const isGone = asked !== 0 && served !== undefined && !isAnswered(server, served, asked)
    if (isGone) pipe.release()
    if ((changed & POLLIN) !== 0) watched.drain()
    // mounts_poll (fs/proc_namespace.c) reports each change once.
    if ((mounted & (POLLPRI | POLLERR)) !== 0 || (changed & ~POLLIN) !== 0) watched.renew()
    if (isGone || changed !== 0 || mounted !== 0 || isMissed) pipe.look()
    if (told !== 0) {
      log.notice('told to end')
      return
    }
    const still = pipe.served()
    still?.owed.due(still)
    server.instance.due()
    if (tryAt !== undefined && tryAt <= calls.monotonic()) tryAgain(server)
    if (asked === 0) server.settleIntents(calls.monotonic())
    else if (pipe.served() !== undefined) server.intents.answered(now)
    server.known.settleIfDue()
  }
}

/** Answers the messages at the pipe. @returns false, if it is gone */
const isAnswered = (server: Server, { pipe, journal }: ServedPipe, events: number): boolean =>
  (events & failing) === 0 && answerRound(server, pipe, journal) !== 'gone'

const failing = POLLERR | POLLHUP

/** The directory in which the pipe appears, watched as long as rpc_pipefs is mounted. */
class WatchedDirectory {
  private readonly calls: Calls
  private readonly known: KnownRecords
  private readonly path: string
  private readonly confine: () => void
  private watch = -1

  constructor({ server: { calls, known }, pipefs, confine }: Loop) {
    this.calls = calls
    this.known = known
    this.path = `${pipefs}/nfsd`
    this.confine = confine
    this.renew()
  }

  /** The descriptor for poll(2); -1, if there is no such directory. */
  descriptor(): number {
    return this.watch
  }

  /** Watches the directory that is there now: another one may have been mounted. @returns {@link descriptor} */
  renew(): number {
    if (this.watch >= 0) this.calls.close(this.watch)
    this.watch = this.calls.watch(this.path)
    if (this.watch === -errno.EMFILE || this.watch === -errno.ENOSPC) {
      // A user has few, and the kernel waits a second for this one.
      this.known.giveUp()
      this.watch = this.calls.watch(this.path)
    }
    if (this.watch >= 0) this.confine()
    return this.watch
  }

  /** Discards the events. Their content does not matter, because the caller looks at the directory itself. */
  drain(): void {
    const bytes = new Uint8Array(4096)
    while (this.calls.read(this.watch, bytes) > 0);
  }
}
