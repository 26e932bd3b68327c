/** What a transition may use, and what it leaves to be done later. */
import type { Deadline } from '../kernel/deadline.ts'
import type { Log } from '../kernel/log.ts'
import type { Nfsd } from '../kernel/nfsd.ts'
import type { From } from '../rules/decide.ts'
import type { Start } from '../rules/instance.ts'
import { noteBegun, type BegunAbout } from '../store/begun.ts'
import type { StateDirectory } from '../store/state-directory.ts'
import type { Calls } from '../syscalls/calls.ts'
import type { Directory } from '../syscalls/files.ts'
import { quote } from '../text.ts'
import type { ClientOwner } from '../upcall/owner.ts'

export interface World {
  /** The system: files, clocks, and this process. */
  readonly calls: Calls
  readonly state: StateDirectory
  readonly nfsd: Nfsd
  readonly log: Log
  readonly deadline: Deadline
  /**
   * Whether this is an upcall: if it is killed, the kernel goes on, and only what it has noted tells that
   * (lib/store/begun.ts). The kernel asks `serve` again, and a person sees that a command has not ended.
   */
  readonly isUpcall: boolean
}

/** What remains to be done without the lock, after a transition was applied under it. */
export interface Settlement {
  /** It is no decision. */
  readonly kind?: undefined
  /** Directories that must be on the disk before anything is answered. */
  readonly sync: readonly (Directory | undefined)[]
  /**
   * What comes after that: downcalls, and removals that must wait until the rest is durable. Throws Failed, if the
   * upcall must not succeed.
   */
  readonly then?: (() => void) | undefined
  /** The record that was put into its place, if one was. */
  readonly put?: Put | undefined
  /**
   * The one change that this transition has made, as an intent log has it, in the one directory to be synced;
   * undefined, if it has made none, or more, or others.
   */
  readonly change?: string | undefined
}

/** A client's record was put into an instance. */
export interface Put {
  readonly owner: ClientOwner
  readonly in: Start
  readonly from: From
}

export const settled: Settlement = { sync: [] }

export const both = (first: Settlement, second: Settlement): Settlement =>
  first === settled
    ? second
    : {
        sync: [...first.sync, ...second.sync],
        then: () => {
          first.then?.()
          second.then?.()
        },
        put: second.put,
      }

/** Notes what an upcall is about to do, for the next start. If it can't be noted, it is done all the same. */
export function begins({ state, log, isUpcall }: World, begun: BegunAbout): void {
  const unnoted = isUpcall ? noteBegun(state, begun) : undefined
  if (unnoted !== undefined) log.warning(unnotedIn(state, unnoted))
}

/** @param why it can't be noted in the run directory what an upcall begins */
export const unnotedIn = ({ runDirectory }: StateDirectory, why: string): string =>
  `what this upcall begins can't be noted in ${quote(runDirectory)} (${why}): ` +
  'if it is killed, the next start will not know'
