/**
 * The state directory as the commands for people see it: what it says of the instance. What it says of the clients is
 * in recorded-clients.ts, what else is in it in oddities.ts.
 */
import { storageFailure } from '../../failure.ts'
import { reclaimableIn, type Start } from '../../rules/instance.ts'
import { markNames, type Mark, type Recorded } from '../../store/layout.ts'
import { bootTimeOf, legacyCounts, lookAt, stateDirectory, type StateDirectory } from '../../store/state-directory.ts'
import { graceGoesOn, ranUntracked } from '../../store/untracked.ts'
import * as disk from '../../syscalls/files.ts'
import { quote } from '../../text.ts'
import type { KernelBootTime } from '../../upcall/request.ts'
import type { Context } from './context.ts'

export interface Survey extends Pick<Recorded, 'instance' | 'starts' | 'traces' | 'format'> {
  readonly state: StateDirectory
  /** The kernel's boot time of its nfsd that the current instance's start was told, if it was. */
  readonly kernelBootTime: KernelBootTime | undefined
  /** Marks of the current instance. */
  readonly marks: Readonly<Record<Mark, boolean>>
  /** The instances in which a record lets its client reclaim, now or after the next start, newest first. */
  readonly counting: readonly Start[]
  /**
   * A server instance ran that could not be recorded, or only in part: nobody may reclaim after the next start,
   * whatever the records say.
   */
  readonly untracked: boolean
  /** Nor may anybody now: no record means anything. */
  readonly allVoid: boolean
  /** Whether clients of the kernel's own tracker may reclaim, now or after the next start, unless `allVoid`. */
  readonly legacyCounts: boolean
}

export type Where = Pick<Context, 'calls' | 'stateDirectory' | 'runDirectory'>

/**
 * Everything but the records.
 * @param state where it has been opened already.
 * @throws Failed, if the state directory is missing or not ours alone; the file system's errors.
 */
export function survey(
  { calls, stateDirectory: path, runDirectory }: Where,
  state = stateDirectory(calls, path, runDirectory),
): Survey {
  assertMayLook(state)
  const { instance, starts, traces, marks, format } = lookAt(state)
  const current = 'start' in instance ? instance.start : undefined
  const has = (mark: Mark): boolean => current !== undefined && marks(current, mark)
  const untracked = ranUntracked(state)
  const allVoid = untracked && !(instance.kind === 'partial' && graceGoesOn(state))
  return {
    state,
    instance,
    starts,
    traces,
    format,
    kernelBootTime: current === undefined ? undefined : bootTimeOf(state, current),
    marks: Object.fromEntries(markNames.map((mark) => [mark, has(mark)])) as Record<Mark, boolean>,
    // What is recorded before the first start counts from then on.
    counting: allVoid
      ? []
      : instance.kind === 'none' && format === 2
        ? [...starts].reverse()
        : reclaimableIn(instance, starts),
    untracked,
    allVoid,
    legacyCounts: legacyCounts({ instance, marks }),
  }
}

/** Records are for root's eyes only; for anybody else they would only seem to belong to the wrong user. */
function assertMayLook({ clientsPath, anywhere }: StateDirectory): void {
  const found = disk.directoryAt(clientsPath, anywhere)
  if (typeof found === 'object' && found.uid === 0 && anywhere.calls.userId() !== 0)
    throw storageFailure(`${quote(clientsPath)} belongs to root, and only root may look at it`)
}
