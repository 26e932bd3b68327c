/**
 * What the state directory says of the instance, for the commands for people. The clients are in recorded-clients.ts,
 * everything else is in oddities.ts.
 */
import { storageFailure } from '../../failure.ts'
import { reclaimableIn, type Instance, type Start } from '../../rules/instance.ts'
import { notesOf, type BegunAbout, type Note } from '../../store/begun.ts'
import { markNames, type Mark, type Recorded } from '../../store/layout.ts'
import { bootTimeOf, legacyCounts, glanceAt, stateDirectory, type StateDirectory } from '../../store/state-directory.ts'
import { graceGoesOn, isMarked, unrecordedGraceEnd } from '../../store/untracked.ts'
import * as files from '../../syscalls/files.ts'
import { quote } from '../../text.ts'
import type { KernelBootTime } from '../../upcall/request.ts'
import type { Context } from './context.ts'

export interface Survey extends Pick<Recorded, 'starts' | 'traces' | 'format'> {
  /** As the next start will see it: full, if its grace is over and that is noted, but not recorded yet. */
  readonly instance: Instance
  /** As it is recorded. */
  readonly recorded: Instance
  readonly state: StateDirectory
  /** The boot time that the kernel gave for the current instance's start, if it gave one. */
  readonly kernelBootTime: KernelBootTime | undefined
  /** Marks of the current instance. */
  readonly marks: Readonly<Record<Mark, boolean>>
  /** The instances in which a record lets its client reclaim, now or after the next start, the newest first. */
  readonly counting: readonly Start[]
  /**
   * A server instance ran that was not recorded, or only in part: after the next start no client may reclaim, whatever
   * the records say.
   */
  readonly untracked: boolean
  /** No client may reclaim now either: no record has any effect. */
  readonly allVoid: boolean
  /** What upcalls have begun, and not promised, by the name of the client's record. The next start completes it. */
  readonly begun: ReadonlyMap<string, BegunAbout>
  /** That of upcalls that were killed. */
  readonly cutShort: readonly BegunAbout[]
  /** Whether clients of the kernel's own tracker may reclaim, now or after the next start, unless `allVoid`. */
  readonly legacyCounts: boolean
}

export type Where = Pick<Context, 'calls' | 'stateDirectory' | 'runDirectory'>

/** A record that an upcall has just put into place counts while that upcall runs. */
const isOver = ({ begun, goesOn }: Note): boolean => begun.kind === 'remove' || !goesOn

/** An instance as the next start will see it: full, if its grace is over and that is noted, but not recorded yet. */
export const atNextStart = (state: StateDirectory, instance: Instance): Instance =>
  'start' in instance && instance.start === unrecordedGraceEnd(state)?.start
    ? { kind: 'full', start: instance.start }
    : instance

/**
 * Reads everything but the records.
 * @param state the state directory, if it is open already
 * @throws Failed, if the state directory is missing or not ours alone; the file system's errors.
 */
export function survey(
  { calls, stateDirectory: path, runDirectory }: Where,
  state = stateDirectory(calls, path, runDirectory),
): Survey {
  assertMayLook(state)
  const { instance: recorded, starts, traces, marks, format } = glanceAt(state)
  const graceEnd = unrecordedGraceEnd(state)
  const instance = atNextStart(state, recorded)
  const isEnded = instance !== recorded
  const { notes, unknown } = notesOf(state)
  const current = 'start' in instance ? instance.start : undefined
  const has = (mark: Mark): boolean => current !== undefined && marks(current, mark)
  const untracked = isMarked(state) || unknown.length > 0 || (graceEnd !== undefined && !isEnded)
  const allVoid = untracked && !(instance.kind === 'partial' && graceGoesOn(state))
  return {
    state,
    instance,
    recorded,
    starts,
    traces,
    format,
    kernelBootTime: current === undefined ? undefined : bootTimeOf(state, current),
    marks: Object.fromEntries(markNames.map((mark) => [mark, has(mark)])) as Record<Mark, boolean>,
    // Records that are made before the first start count from then on.
    counting: allVoid
      ? []
      : instance.kind === 'none' && format === 2
        ? [...starts].reverse()
        : reclaimableIn(instance, starts),
    untracked,
    allVoid,
    begun: new Map(notes.filter(isOver).map(({ path, begun }) => [path.slice(path.lastIndexOf('/') + 1), begun])),
    cutShort: notes.filter(({ goesOn }) => !goesOn).map(({ begun }) => begun),
    legacyCounts: !(isEnded && recorded.kind === 'partial') && legacyCounts({ instance, marks }),
  }
}

/** Only root may read the records. To another user they would seem to belong to the wrong owner. */
function assertMayLook({ clientsPath, anywhere }: StateDirectory): void {
  const found = files.directoryAt(clientsPath, anywhere)
  if (typeof found === 'object' && found.uid === 0 && anywhere.calls.userId() !== 0)
    throw storageFailure(`${quote(clientsPath)} belongs to root, and only root may look at it`)
}
