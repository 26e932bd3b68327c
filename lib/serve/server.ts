/** What `serve` knows while it runs. None of it must outlive the process: a new one begins with what is on the disk. */
import type { Deadline } from '../kernel/deadline.ts'
import type { Log } from '../kernel/log.ts'
import { nfsdAt, type Nfsd } from '../kernel/nfsd.ts'
import type { Pipe } from '../kernel/pipe.ts'
import type { World } from '../events/world.ts'
import { isNoted, noteDirectory } from '../settings/last-start.ts'
import type { Settings } from '../settings/settings.ts'
import { closeAll, lookAgain } from '../store/open-directories.ts'
import { lookAt, legacyCounts, stateDirectory } from '../store/state-directory.ts'
import { serveFiles } from '../store/run-directory.ts'
import { distrust, distrustForGood, trustAgain } from '../store/untracked.ts'
import { legacyRecordOf, legacyRecordsIn, legacyTopIn, usualTop } from '../store/v4recovery.ts'
import type { Calls } from '../syscalls/calls.ts'
import * as files from '../syscalls/files.ts'
import type { ClientOwner } from '../upcall/owner.ts'
import type { Asked } from '../upcall/request.ts'
import type { Claim } from './claim.ts'
import { instanceBehind, type InstanceBehind } from './instance.ts'
import { keptAt } from './kept.ts'
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
  /**
   * One piece of work on the state directory, which may be another one, or on another disk, the next time: what stays
   * open in between is looked at again.
   */
  readonly withWorld: <T>(nfsd: Nfsd, work: (world: World) => T) => T
  /** A name for a server instance that no other has: its pipe's. */
  readonly nameOf: (pipe: Pipe) => string
  /** A server starts: notes where, as an upcall's start does. */
  readonly beginning: () => void
  /** Makes the next start let nobody reclaim: for good, or until what `serve` could not do is done. */
  readonly distrust: (why: 'start' | 'serve') => void
  /** This is done: what it failed of before no longer matters. */
  readonly settled: (request: Asked) => void
  /** A pipe of that name is held: goes on with what the process before could not do there. */
  readonly takeOver: (name: string) => void
  /** Keeps what could not be done for the process after this one: before the kernel is answered. */
  readonly keepUnfinished: () => void
  /** The MD5 names of clients that only the kernel's own tracker has recorded, as long as they count. */
  readonly hashes: () => Iterable<string>
  readonly legacyRecordOf: (owner: ClientOwner) => string | undefined
  readonly tellStatus: () => void
  /** The pipe is no more. @returns whether its server is neither, or makes another pipe. */
  readonly pipeGone: () => 'stopped' | 'goes on'
}

/** Nobody kills a server's tracker for being slow: the watchdog does, if an admin wants one. */
const noDeadline: Deadline = { assertTimeLeft: () => undefined }

export function serverFor(
  {
    calls,
    settings,
    log,
    bootId,
    holder,
    claim,
  }: { calls: Calls; settings: Settings; log: Log; bootId: string; holder: string; claim: Claim },
  maxVersion: number,
  statusFile: StatusFile,
): Server {
  const anywhere = files.anywhere(calls)
  const marked = { anywhere, runDirectory: settings.runDirectory, path: settings.stateDirectory }
  const nfsd = nfsdAt(calls, settings.nfsdDirectory)
  const { unfinished: keptPath } = serveFiles(settings.runDirectory, settings.stateDirectory, anywhere)
  const left = unfinished(() => calls.monotonic(), keptAt(calls, keptPath))
  const doing = nothingDone()
  // One and the same, most often: the kernel must hear each name once.
  const tops = [...new Set([legacyTopIn(settings.stateDirectory), usualTop])]
  /** Of the pipe that was held last. */
  let name = ''
  let distrusted = false

  const state = stateDirectory(calls, settings.stateDirectory, settings.runDirectory, holder)
  let isAtWork = false
  const usual: World = { calls, state, nfsd, log, deadline: noDeadline }
  const withWorld: Server['withWorld'] = (kernel, work) => {
    const world = kernel === nfsd ? usual : { ...usual, nfsd: kernel }
    if (isAtWork) return work(world)
    isAtWork = true
    try {
      const done = work(world)
      // The first work makes the directory.
      claim.take()
      if (doing.pipe === undefined) closeAll(state)
      else lookAgain(state)
      return done
    } catch (thrown) {
      closeAll(state)
      throw thrown
    } finally {
      isAtWork = false
    }
  }
  const beginning: Server['beginning'] = () => {
    try {
      noteDirectory(calls, settings)
    } catch (thrown) {
      if (isNoted(calls, settings)) throw thrown
    }
  }
  const distrustNow: Server['distrust'] = (why) => {
    if (why === 'serve') distrusted = true
    const failure = distrust(marked, why)
    if (failure !== undefined)
      log.critical(`nor can it be noted that nobody may reclaim after the next start (${failure}): see to it`)
  }
  const keep = (): void => {
    if (left.keep(name) === 'done') return
    log.error('what is left to do for clients could not be written to the run directory')
    distrustNow('start')
  }
  const instance = instanceBehind({
    calls,
    log,
    marked,
    withWorld: (work) => withWorld(nfsd, work),
    beginning,
    distrust: () => {
      distrustNow('start')
    },
  })
  return {
    calls,
    log,
    nfsd,
    maxVersion,
    doing,
    unfinished: left,
    instance,
    withWorld,
    nameOf: ({ status }) => `pipe-${status.device}-${status.inode}-${bootId}`,
    beginning,
    distrust: distrustNow,
    settled: (request) => {
      left.settle(request)
      if (!distrusted || left.all().some(({ event }) => event !== 'create')) return
      distrusted = false
      trustAgain(marked)
    },
    takeOver: (held) => {
      name = held
      // What this process has failed of itself is known.
      if (left.all().length > 0) return
      const found = left.takeOver(held)
      if (found?.some(isDangerous) === true) distrusted = true
      else if (!distrusted) distrustForGood(marked)
    },
    keepUnfinished: keep,
    hashes: () =>
      withWorld(nfsd, ({ state }) =>
        legacyCounts(lookAt(state)) ? new Set(tops.flatMap((top) => legacyRecordsIn(top, anywhere))) : [],
      ),
    legacyRecordOf: (owner) => {
      try {
        return legacyRecordOf(owner, tops, anywhere)
      } catch (thrown) {
        // A directory that can't be read lets nobody in, and must not keep the others from being answered.
        log.error(`can't read which clients the kernel's own tracker has recorded: ${String(thrown)}`)
        return undefined
      }
    },
    tellStatus: () => {
      doing.notRecorded = left.notRecorded()
      statusFile.write(doing)
    },
    pipeGone: () => {
      // What was to be recorded in an instance that never was, is not recorded in another.
      if (!instance.isRecorded()) left.clear()
      keep()
      doing.pipe = undefined
      doing.protocol = undefined
      closeAll(state)
      return instance.gone()
    },
  }
}
