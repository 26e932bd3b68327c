/**
 * Is the server instance behind a pipe in our records?
 *
 * A server asks at one pipe from its start to its end, and its start is asked first. So a pipe is known by the instance that its
 * start began: the mark `pipe` beside that instance names it, in the state directory itself. It is there as soon as the
 * instance is, so it does not matter who was killed when, and another state directory does not have it.
 *
 * A pipe without it belongs to a server whose start somebody else answered (nfsdcld, until it was stopped), or whose clients left while
 * nobody heard of it (rpc_pipefs was mounted anew under it), or whose start could not be recorded. Of the clients that
 * our records have, any may have lost its lease since, and another may have had its lock. To go on as if nothing were
 * missing would be wrong twice: they could reclaim at the next start, and a client that comes now would be recorded in
 * an instance that ended long ago. So before anything is done for such a server, an instance is begun that stands for it: empty
 * and full (docs/protocol.md, an instance that nobody recorded). What is older counts no more. Whoever is recorded
 * from then on may reclaim, since we hear of each of them that leaves. Nobody reclaims who should not; who was known to the other
 * tracker alone loses its locks at the next start, and the log says so.
 *
 * What tells such a pipe from one that a start is about to ask at:
 * * GetVersion and GraceStart come first on a new pipe, with the numbers 0 and 1 (nfs4recover.c). A message about clients that is no
 *   number 0 shows that somebody has answered before.
 * * One that is number 0 is the first of a pipe of version 0, which the kernel makes when GraceStart was answered with an error,
 *   or died with its reader. Nobody has answered anything there, so the instance begins with it: it is a start like any other, and the
 *   same one as a start that was not finished.
 * * While nothing is asked, nothing is known. After two seconds it is noted in the run directory that a server runs whose start is
 *   not recorded. A start that is asked for at this very pipe takes that back; any other lets nobody reclaim. The same is noted
 *   when the pipe goes and nothing was ever asked, unless the kernel then turns to our helper.
 */
import { performUnseen, perform } from '../events/perform.ts'
import type { World } from '../events/world.ts'
import { errorCode } from '../failure.ts'
import type { Log } from '../kernel/log.ts'
import { mark, readMark, unmark } from '../store/marks.ts'
import { lookAt } from '../store/state-directory.ts'
import { forgetUnseen, nameOfStart, noteUnseen, type Marked } from '../store/untracked.ts'
import type { Calls } from '../syscalls/calls.ts'
import * as files from '../syscalls/files.ts'
import { helperIsOurs } from './others.ts'

export interface InstanceBehind {
  /** A pipe is held. @param name of it: no other has it. */
  readonly held: (name: string) => void
  /** It is no more. */
  readonly gone: () => void
  /** The kernel asks for a start, or is about to. */
  readonly starting: () => void
  /** The start is durable. @param goesOn the kernel makes a pipe of version 0 next, which belongs to the same instance. */
  readonly started: (goesOn: boolean) => void
  /** The start could not be recorded. */
  readonly notStarted: () => void
  /**
   * Before a message about clients is carried out, or tried again: makes sure that its instance is recorded.
   * @param first the number of the first of several messages; 'again', where none of them is new.
   * @throws what keeps the instance from being recorded: nothing may be done for this server then.
   */
  readonly assure: (first: number | 'again') => void
  /** Whether what is the current instance is this server's. */
  readonly isRecorded: () => boolean
  /** When something is to be done although nobody asks, in milliseconds of the clock that never steps. */
  readonly dueAt: () => number | undefined
  readonly due: () => void
}

/**
 * 'nobody': no pipe. 'unknown': the records do not have it, or could not be read, and nothing has been asked. 'unread': something
 * has been asked, and the records could not be read. 'unseen': its start is not recorded, and that has to be mended.
 */
type Known = 'nobody' | 'unknown' | 'starting' | 'unread' | 'unseen' | 'recorded'

/** The kernel asks at once when it sees that its pipe is held, and looks every 100 ms (cld_running). */
const quietMs = 2000
const againMs = 10_000

export function instanceBehind({
  calls,
  log,
  marked,
  withWorld,
  beginning,
  distrust,
}: {
  readonly calls: Calls
  readonly log: Log
  readonly marked: Marked
  readonly withWorld: <T>(work: (world: World) => T) => T
  readonly beginning: () => void
  /** Makes the next start let nobody reclaim. */
  readonly distrust: () => void
}): InstanceBehind {
  let pipe = ''
  let known: Known = 'nobody'
  let goesOn = false
  /** Nothing was asked before. */
  let isFirst = false
  let dueAt: number | undefined

  const isOurs = (): boolean =>
    withWorld(({ state }) => {
      if (state.clients() === undefined && files.kindAt(state.path, state.anywhere) === 'absent') return false
      const { instance } = lookAt(state)
      return 'start' in instance && readMark(state, instance.start, 'pipe') === pipe
    })
  const become = (now: Known): void => {
    known = now
    dueAt = now === 'unread' || now === 'unseen' ? calls.monotonic() + againMs : undefined
  }
  const knownAgain = (): void => {
    become('recorded')
    const failure = forgetUnseen(marked, pipe)
    if (failure !== undefined)
      log.critical(`it can't be taken back that the next start lets nobody reclaim (${failure})`)
  }
  const noted = (): string => {
    const failure = noteUnseen(marked, pipe)
    return failure === undefined ? '' : `, which can't be noted (${failure}): see to it`
  }
  /** Version 0 goes on with the instance of the pipe before. */
  const takeOver = (): void => {
    try {
      withWorld(({ state }) => {
        const { instance } = lookAt(state)
        if (!('start' in instance)) return
        unmark(state, instance.start, 'pipe')
        mark(state, instance.start, 'pipe', pipe)
      })
    } catch (thrown) {
      log.error(`should this process end now, the next one would not know the server's pipe: ${String(thrown)}`)
    }
  }
  const note = (): void => {
    dueAt = undefined
    log.critical(
      `the NFS server's start is not recorded: unless it is yet to come, nobody may reclaim after the next one${noted()}`,
    )
  }
  /** The start that the kernel asked for last, if it did not end: it was asked for at a pipe of this boot. */
  const unfinishedStart = (): string | undefined => {
    const [boot] = pipe.split('-').slice(-1)
    const name = nameOfStart(marked)
    return name?.startsWith('pipe-') === true && name.endsWith(`-${boot ?? ''}`) ? name : undefined
  }
  /** Nothing was asked here before: as if GraceStart had come. */
  const begin = (): void => {
    beginning()
    withWorld((world) => {
      perform(world, { event: 'start', kernelBootTime: undefined, askedBy: unfinishedStart() ?? pipe, pipe })
    })
  }
  const stand = (): void => {
    withWorld((world) => {
      performUnseen(world, pipe)
    })
    log.critical(
      'the NFS server was started without us: who was recorded before may not reclaim after its next start, who comes from now on may',
    )
  }
  const look = (): void => {
    if (known === 'unseen') return
    try {
      if (isOurs()) knownAgain()
    } catch (thrown) {
      if (known !== 'unread')
        log.critical(
          `whether the NFS server's start is recorded can't be read (${errorCode(thrown) ?? String(thrown)}): until it can, nobody may reclaim after the next one${noted()}`,
        )
      become('unread')
      throw thrown
    }
  }
  const mend = (): void => {
    look()
    if (known !== 'recorded') recorded(isFirst ? begin : stand)
  }
  const recorded = (work: () => void): void => {
    try {
      work()
    } catch (thrown) {
      isFirst = false
      if (known !== 'unseen')
        log.critical(`the NFS server's start is not recorded, and can't be (${errorCode(thrown) ?? String(thrown)})`)
      become('unseen')
      distrust()
      throw thrown
    }
    become('recorded')
  }
  return {
    held: (name) => {
      pipe = name
      become('unknown')
      if (goesOn) {
        goesOn = false
        takeOver()
        become('recorded')
        return
      }
      dueAt = calls.monotonic() + quietMs
      try {
        if (isOurs()) knownAgain()
      } catch {
        // What is asked first will show it.
      }
    },
    gone: () => {
      if (known === 'unknown' && dueAt !== undefined && !helperIsOurs(calls)) note()
      become('nobody')
    },
    starting: () => {
      if (known === 'unknown') become('starting')
    },
    started: (next) => {
      become('recorded')
      goesOn = next
    },
    notStarted: () => {
      isFirst = false
      become('unseen')
    },
    assure: (first) => {
      if (known === 'nobody' || known === 'recorded') return
      if (known === 'unknown' || known === 'starting') {
        if (first === 'again') return
        isFirst = first === 0 && known === 'unknown'
      }
      mend()
    },
    isRecorded: () => known === 'nobody' || known === 'recorded',
    dueAt: () => dueAt,
    due: () => {
      if (dueAt === undefined || dueAt > calls.monotonic()) return
      if (known === 'unknown') {
        note()
        return
      }
      try {
        mend()
      } catch {
        // Said once; tried again.
      }
    },
  }
}
