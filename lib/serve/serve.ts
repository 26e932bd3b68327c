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
import { Failed, failureFrom, storageFailure } from '../failure.ts'
import { openLog, type Log } from '../kernel/log.ts'
import { openPipe, type Pipe } from '../kernel/pipe.ts'
import type { Words } from '../settings/options.ts'
import { isMounted, pipefsAt, pipeIn } from '../settings/pipefs.ts'
import { settingsFrom, type Settings } from '../settings/settings.ts'
import { bootId, holderName } from '../store/process.ts'
import { makeRunDirectory, serveFiles } from '../store/run-directory.ts'
import { atFlags, pollEvents, type Calls } from '../syscalls/calls.ts'
import { answered, errno, errorName } from '../syscalls/errno.ts'
import * as files from '../syscalls/files.ts'
import { quote } from '../text.ts'
import { serveOptionsFrom, type ServeOptions } from '../upcall/serve-options.ts'
import { anotherHas, claimOn } from './claim.ts'
import { confining } from './confined.ts'
import { currentPipe, type CurrentPipe, type PipePlace } from './current-pipe.ts'
import { helperIsOurs, holderOf, nfsdcldAt, type Other } from './others.ts'
import { readinessTo, type Readiness } from './readiness.ts'
import { answerRound, tryAgain } from './round.ts'
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
  // First of all: the kernel may be waiting.
  const early = openPipe(begun.calls, pipeIn(begun.pipefs))
  const loop = loopFor(begun, early)
  try {
    run(loop, early)
    return 0
  } finally {
    loop.ready.stopping()
    loop.statusFile.remove()
  }
}

/** Makes sure that nobody else answers, and gives up rights. @param early the pipe, if it is there already. */
function loopFor({ calls, settings, log, pipefs, options, environment }: Begun, early: Pipe | undefined): Loop {
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
  const { untilGone } = options
  return { server, claim, ready, pipefs, journalPath: own.replies, statusFile, untilGone, signals, mounts, confine }
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

interface Loop extends PipePlace {
  readonly ready: Readiness
  readonly statusFile: StatusFile
  readonly untilGone: boolean
  readonly signals: number
  readonly mounts: number
  readonly confine: () => void
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

/** What is never due. */
const never = Infinity

/** What poll(2) waits for: at the signals, the mounts, the watched directory, the pipe. */
const wanted = [POLLIN, POLLPRI, POLLIN, POLLIN]

/** How long a time is away, in milliseconds; -1, if it never comes. */
const until = (time: number, now: number): number => (time === never ? -1 : Math.max(0, Math.ceil(time - now)))

function run(loop: Loop, early: Pipe | undefined): void {
  const { server, ready, untilGone, signals, mounts } = loop
  const { calls, log } = server
  // Before the first look: what comes later is told.
  const watched = new WatchedDirectory(loop)
  if (!watched.isThere()) log.warning(`no rpc_pipefs is mounted at ${quote(loop.pipefs)}: waiting for it`)
  const pipe = currentPipe(loop, early)
  pipe.look()
  let aliveAt = calls.monotonic()

  for (;;) {
    if (!watched.isThere()) {
      watched.renew()
      if (watched.isThere()) pipe.look()
    }
    if (watched.isThere()) ready.ready()

    const now = calls.monotonic()
    const goneAt = untilGone ? pipe.goneAt() : undefined
    if (goneAt !== undefined && now - goneAt >= successorMs) return
    const tryAt = server.unfinished.dueAt()
    const next = Math.min(
      watched.isThere() ? never : now + lookMs,
      pipe.isMissed() ? now + missedMs : never,
      goneAt === undefined ? never : goneAt + successorMs,
      tryAt ?? never,
      server.instance.dueAt() ?? never,
      ready.everyMs === undefined ? never : aliveAt + ready.everyMs,
    )
    const events = calls.poll(
      [signals, mounts, watched.descriptor(), pipe.served()?.pipe.pollable() ?? -1],
      wanted,
      until(next, now),
    )
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
    const isGone = asked !== 0 && !isAnswered(server, pipe, asked)
    if (isGone) pipe.release()
    if ((changed & POLLIN) !== 0) watched.drain()
    // mounts_poll (fs/proc_namespace.c) tells of each change once.
    if ((mounted & (POLLPRI | POLLERR)) !== 0 || (changed & ~POLLIN) !== 0) watched.renew()
    if (isGone || changed !== 0 || mounted !== 0 || pipe.isMissed()) pipe.look()
    if (told !== 0) {
      log.notice('told to end')
      return
    }
    server.instance.due()
    if (tryAt !== undefined && tryAt <= calls.monotonic()) tryAgain(server)
  }
}

/** Answers what is asked at the pipe. @returns false, if it is gone. */
function isAnswered(server: Server, current: CurrentPipe, events: number): boolean {
  const served = current.served()
  if (served === undefined) return true
  if ((events & (POLLERR | POLLHUP)) !== 0) return false
  return answerRound(server, served.pipe, served.journal) !== 'gone'
}

/** The directory that the pipe comes into, watched as long as rpc_pipefs is mounted. */
class WatchedDirectory {
  private readonly calls: Calls
  private readonly path: string
  private readonly confine: () => void
  private watch = -1

  constructor({ server: { calls }, pipefs, confine }: Loop) {
    this.calls = calls
    this.path = `${pipefs}/nfsd`
    this.confine = confine
    this.renew()
  }

  isThere(): boolean {
    return this.watch >= 0
  }

  /** What poll(2) waits for; -1 where it is not there. */
  descriptor(): number {
    return this.watch
  }

  /** Another one may be mounted there. */
  renew(): void {
    if (this.watch >= 0) this.calls.close(this.watch)
    this.watch = this.calls.watch(this.path)
    if (this.watch >= 0) this.confine()
  }

  /** What has changed does not matter: it is looked at. */
  drain(): void {
    const bytes = new Uint8Array(4096)
    while (this.calls.read(this.watch, bytes) > 0);
  }
}
