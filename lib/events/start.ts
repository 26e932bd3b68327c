/**
 * A server instance starts.
 *
 * Every start begins a new partial instance, even a second one in a row (kernels 6.8 to 6.13 call `init` twice) and one
 * after a crash in grace. Clients that could reclaim still can, because a start adds a fact and changes none.
 *
 * An instance has started once its mark `partial` exists. Everything else is prepared before that, under names of the
 * new instance's own, and one barrier makes all of it durable. After a kill before the mark, what was made has no
 * effect. After a kill at any point before the end, the start has not succeeded. The mark in the run directory, which
 * is made first, then tells the next start that this instance ran without us (lib/store/untracked.ts).
 *
 * The new instance's start is greater than every start that is seen. Another start may commit meanwhile, so the
 * directory is read again after the commit. If the new instance is not the latest by then, another one overtook it. No
 * client was active in it, so it changes nothing, and a later one is begun.
 */
import { errorCode, Failed, failureFrom, report, storageFailure } from '../failure.ts'
import type { Allow } from '../kernel/nfsd.ts'
import { latestStart, nextStart, reclaimableIn, startFromName, type Start } from '../rules/instance.ts'
import { nameOf } from '../rules/record.ts'
import { forgetNotes } from '../store/begun.ts'
import { readBootTime } from '../store/format1.ts'
import { markOf, type Mark, type Recorded } from '../store/layout.ts'
import { migrate } from '../store/migrate.ts'
import { directoryOf } from '../store/open-directories.ts'
import { eachRecordIn } from '../store/records.ts'
import {
  clientsOf,
  legacyCounts,
  lookAt,
  makeStateDirectory,
  markFormat,
  setAside,
  syncStateDirectory,
  type StateDirectory,
} from '../store/state-directory.ts'
import { forgetUntracked, noteStart, type GraceEnd } from '../store/untracked.ts'
import { hasLegacyRecords, legacyTopIn, usualTop } from '../store/v4recovery.ts'
import { showStart } from '../store/views.ts'
import type { Calls } from '../syscalls/calls.ts'
import * as files from '../syscalls/files.ts'
import { counted, quote } from '../text.ts'
import type { KernelBootTime, Request } from '../upcall/request.ts'
import { completeCutShort } from './cut-short.ts'
import { endGrace, followUp, syncReclaimed } from './grace-end.ts'
import { sweep } from './sweep.ts'
import type { World } from './world.ts'

/** @param underLock runs its argument with the state directory's lock held. */
export function startInstance(
  world: World,
  { kernelBootTime, askedBy, pipe }: Request & { event: 'start' },
  underLock: <T>(work: () => T) => T,
): void {
  const { state, nfsd, log } = world
  const { ranUntracked, graceEnd, unmarked, marks } = noteStart(state, askedBy ?? kernelBootTime)
  if (unmarked !== undefined)
    log.warning(
      `no mark of this start could be made in ${quote(state.runDirectory)} (${unmarked}): ` +
        'if this start fails, or an upcall is killed, the next one will not know',
    )
  makeStateDirectory(state)
  const found = lookAt(state)
  if (found.instance.kind === 'none') syncStateDirectory(state)
  const damaged = setDamagedAside(world, found)
  if (!damaged) migrate(state, found)
  const seen = found.format === 1 ? lookAt(state) : found
  const { before, isComplete } = completeBefore(world, seen, graceEnd, marks.mark)
  const nothingProven = damaged || ranUntracked || !isComplete
  // Our records do not have the clients of the kernel's own tracker, so they can't show that no client is left.
  const waitsForLegacy =
    !nothingProven &&
    legacyCounts(before) &&
    [legacyTopIn(state.path), usualTop].some((top) => hasLegacyRecords(top, state.anywhere))
  const { start, after } = begin(world, before, underLock, {
    kernelBootTime,
    pipe,
    mayEndEarly: !waitsForLegacy,
    nothingProven,
    isInPresentFormat: !damaged,
  })
  if (nothingProven && !damaged)
    log.error('a server instance ran that could not be recorded, or only in part: nobody may reclaim in this instance')
  const unshown = showStart(state, start)
  if (unshown !== undefined) log.warning(`new_boot_time, which is for people only, could not be written: ${unshown}`)
  log.notice(`server instance ${start} started, in grace`)
  sweep(world, after)
  if (nfsd.takesAllowedClients()) allowClients(world, after)
  if (!isComplete) forgetNotes(state)
  // Last of all: to the kernel, a start that is killed, or hangs until its alarm, has failed, however much of it is
  // done.
  const remembered = forgetUntracked(marks)
  if (remembered !== undefined)
    log.error(
      `the mark of this start in ${quote(state.runDirectory)} can't be removed (${remembered}): ` +
        'nobody may reclaim after the next start',
    )
}

/** What a new instance must be like. */
interface Wanted {
  readonly kernelBootTime: KernelBootTime | undefined
  readonly pipe: string | undefined
  /** Grace may end as soon as every recorded client has reclaimed. */
  readonly mayEndEarly: boolean
  /** No existing record lets its client reclaim. */
  readonly nothingProven: boolean
  readonly isInPresentFormat: boolean
}

/** Begins an instance that is later than all others. Durable when it returns. */
function begin(
  { calls, state, deadline }: World,
  before: Recorded,
  underLock: <T>(work: () => T) => T,
  wanted: Wanted,
): { readonly start: Start; readonly after: Recorded } {
  for (let seen = before; ;) {
    deadline.assertTimeLeft('starting a server instance')
    const prepared = prepare(state, seen, calls.now(), wanted)
    const after = underLock(() => {
      commit(state, prepared)
      if (!wanted.isInPresentFormat) markFormat(clientsOf(state))
      return lookAt(state)
    })
    files.sync(clientsOf(state))
    if ('start' in after.instance && after.instance.start <= prepared.start) return { start: prepared.start, after }
    seen = after
  }
}

/** A new instance that is not committed yet, so it has no effect. */
interface Prepared {
  readonly start: Start
  /** An instance without records, which becomes full before this one starts. So no older record counts. */
  readonly boundary: Start | undefined
}

/** Makes a new instance's directory and marks. They need not be durable yet. */
function prepare(
  state: StateDirectory,
  seen: Recorded,
  nowMs: number,
  { kernelBootTime, pipe, mayEndEarly, nothingProven }: Wanted,
): Prepared {
  const boundary = nothingProven ? claimStart(state, seen, nowMs) : undefined
  const start = claimStart(state, seen, nowMs)
  const clients = clientsOf(state)
  if (boundary !== undefined) files.makeLink('-', markOf(boundary, 'untracked'), clients)
  if (kernelBootTime !== undefined) files.makeLink(kernelBootTime, markOf(start, 'grace_start'), clients)
  if (pipe !== undefined) files.makeLink(pipe, markOf(start, 'pipe'), clients)
  const marks: readonly Mark[] = mayEndEarly ? ['unconfirmed', 'may_end_early'] : ['unconfirmed']
  for (const mark of marks) files.makeLink('-', markOf(start, mark), clients)
  return { start, boundary }
}

/** Starts a prepared instance. Durable once `v4clients` is synced. */
function commit(state: StateDirectory, { start, boundary }: Prepared): void {
  const clients = clientsOf(state)
  if (boundary !== undefined) files.makeLink('-', markOf(boundary, 'full'), clients)
  files.makeLink('-', markOf(start, 'partial'), clients)
}

/** Makes the directory of a new instance. Its start is later than all that were seen, and no other process has it. */
function claimStart(state: StateDirectory, { instance, traces }: Recorded, nowMs: number): Start {
  const clients = makeStateDirectory(state)
  const seen = [...traces, ...('start' in instance ? [instance.start] : [])]
  for (;;) {
    const start = nextStart(nowMs, seen)
    if (start === undefined)
      throw storageFailure(`no start can be later than ${latestStart}: move that entry out of '${state.clientsPath}'`)
    if (files.makeDirectory(String(start), clients)) return start
    seen.push(start)
  }
}

/**
 * Begins a full instance for a running server whose start is not recorded. No older record counts any more. Clients
 * that are recorded from now on may reclaim after the next start. Durable when it returns. If it is killed before it
 * has made the mark `full`, what it has made has no effect.
 * @param pipe through which that server asks
 */
export function standForUnseen(world: World, pipe: string, underLock: <T>(work: () => T) => T): void {
  const { calls, state } = world
  makeStateDirectory(state)
  const found = lookAt(state)
  if (found.instance.kind === 'none') syncStateDirectory(state)
  const damaged = setDamagedAside(world, found)
  if (!damaged) migrate(state, found)
  for (let seen = lookAt(state); ;) {
    const start = claimStart(state, seen, calls.now())
    const clients = clientsOf(state)
    files.makeLink('-', markOf(start, 'untracked'), clients)
    files.makeLink(pipe, markOf(start, 'pipe'), clients)
    const after = underLock(() => {
      files.makeLink('-', markOf(start, 'full'), clients)
      if (damaged) markFormat(clients)
      return lookAt(state)
    })
    files.sync(clients)
    if ('start' in after.instance && after.instance.start <= start) break
    seen = after
  }
  forgetNotes(state)
  forgetUntracked(state)
}

/** The name that chooses one instance when several upcalls find a wiped state directory. */
const rebuilt = 'rebuilt'

/**
 * Begins a full instance if nothing is recorded, because the state directory was wiped under a running server. Durable
 * when it returns. If several upcalls do this, all begin the instance of the first. A start that comes meanwhile is
 * later than it.
 */
export function beginAnew({ calls, state, log }: World, kernelBootTime: KernelBootTime | undefined): void {
  makeStateDirectory(state)
  syncStateDirectory(state)
  const own = claimStart(state, lookAt(state), calls.now())
  const clients = clientsOf(state)
  if (kernelBootTime !== undefined) files.makeLink(kernelBootTime, markOf(own, 'grace_start'), clients)
  if (!files.makeLink(String(own), rebuilt, clients)) {
    files.removeIfEmpty(String(own), clients)
    files.remove(markOf(own, 'grace_start'), clients)
  }
  const start = startFromName(files.readLink(rebuilt, clients) ?? '')
  if (start === undefined) throw storageFailure(`'${state.clientsPath}/${rebuilt}' can't be understood: move it away`)
  files.makeDirectory(String(start), clients)
  files.makeLink('-', markOf(start, 'unconfirmed'), clients)
  if (lookAt(state).instance.kind === 'none') files.makeLink('-', markOf(start, 'full'), clients)
  files.sync(clients)
  log.error('nothing was recorded under a running server: a new instance begins, and earlier clients may not reclaim')
}

/**
 * In format 1, if one of the files that define the instance can't be understood, both are moved aside. A grace period
 * may have ended, so nobody may reclaim. @returns whether a file is damaged
 */
function setDamagedAside({ state, log }: World, { format, instance }: Recorded): boolean {
  const root = format === 1 ? files.openDirectory(state.path, state.anywhere, 'follow') : 'absent'
  if (typeof root !== 'object') return false
  const damaged = instance.kind === 'damaged' || typeof readBootTime('boot_time', root) === 'object'
  if (damaged)
    for (const file of ['boot_time', 'new_boot_time'])
      if (setAside(state, file, root, file) !== undefined)
        log.error(
          `${file} could not be understood: nobody may reclaim; it is kept in ${quote(`${state.clientsPath}/damaged`)}`,
        )
  files.close(root)
  return damaged
}

/**
 * Does what earlier upcalls should have done. If it can't be done, nobody knows who may reclaim, but the server needs a
 * tracker, so the start goes on.
 */
function completeBefore(
  world: World,
  found: Recorded,
  graceEnd: GraceEnd | undefined,
  mark: string | undefined,
): { readonly before: Recorded; readonly isComplete: boolean } {
  let isComplete = true
  const complete = (work: () => boolean): void => {
    try {
      if (!work()) isComplete = false
    } catch (thrown) {
      const failure = failureFrom(thrown)
      const isKnown = thrown instanceof Failed || errorCode(thrown) !== undefined
      // Not if the time or the memory is gone.
      if (failure.kind !== 'storage' || !isKnown) throw thrown
      isComplete = false
      world.log.error(`what earlier upcalls have begun can't be completed: ${report(failure).line}`)
    }
  }
  if (graceEnd !== undefined) complete(() => endAsNoted(world, found, graceEnd))
  const before = graceEnd === undefined ? found : lookAt(world.state)
  endBefore(world, before)
  complete(() => completeCutShort(world, before, { mark }))
  return { before, isComplete }
}

/**
 * Ends the grace of the last instance, if an upcall has noted that the kernel has ended it, and was killed or failed.
 * @returns false, if the note is not about the last instance
 */
function endAsNoted(world: World, { instance, marks }: Recorded, { start, legacyTop }: GraceEnd): boolean {
  // Another start may have ended it, and begun its own instance.
  if (start !== undefined && marks(start, 'full')) return true
  if (!('start' in instance) || instance.start !== start) return false
  // In format 1 no mark tells that it is full.
  if (instance.kind === 'full') return true
  syncReclaimed(world)
  endGrace(world, instance, legacyTop)
  return true
}

/** Completes the end of the last instance's grace, if the upcall that ended it died. */
function endBefore(world: World, { instance, marks }: Recorded): void {
  if (instance.kind !== 'full') return
  if (marks(instance.start, 'unasked'))
    world.log.error(`the kernel never said that the grace of server instance ${instance.start} was over`)
  if (!marks(instance.start, 'unconfirmed')) return
  files.sync(clientsOf(world.state))
  followUp(world, instance.start)
}

/** The downcall of the design of 2010: tells the kernel in advance who may reclaim. */
function allowClients({ state, nfsd, log, deadline }: World, { instance, starts }: Recorded): void {
  const reclaimable = reclaimableIn(instance, starts)
  const sayAll = (allow: Allow, links?: Calls['links']): void => {
    // Instances read so far that have any entry. Most often there is none, so there is nothing to look up in them.
    const filled: Start[] = []
    for (const start of reclaimable) {
      const found = eachRecordIn(
        state,
        start,
        // The newest entry decides, as it does for `check`.
        filled.length === 0
          ? allow
          : (owners, principal) =>
              allow(
                owners.filter((owner) => !hasEntry(state, filled, owner)),
                principal,
              ),
        (name) => {
          log.error(`record ${quote(name)} of instance ${start} can't be understood: it allows nothing`)
        },
        filled.length === 0 ? links : undefined,
      )
      if (found === 'enough') return
      if (found === 'all') filled.push(start)
    }
  }
  const count = nfsd.allowClients(sayAll, () => {
    deadline.assertTimeLeft('telling the kernel who may reclaim')
  })
  log.notice(`told the kernel that ${counted(count, 'client')} may reclaim`)
}

/** Whether one of these instances has an entry of that owner. @param owner each character a byte */
const hasEntry = (state: StateDirectory, starts: readonly Start[], owner: string): boolean =>
  starts.some((start) => {
    const directory = directoryOf(state, start)
    return directory !== undefined && files.lookAtName(nameOf(owner, directory.calls), directory) !== undefined
  })
