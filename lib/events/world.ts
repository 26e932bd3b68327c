/** What a transition may use, and what it leaves to be done later. */
import type { Deadline } from '../kernel/deadline.ts'
import type { Log } from '../kernel/log.ts'
import type { Nfsd } from '../kernel/nfsd.ts'
import type { Start } from '../rules/instance.ts'
import type { StateDirectory } from '../store/state-directory.ts'
import type { Calls } from '../syscalls/calls.ts'
import type { Directory } from '../syscalls/files.ts'
import type { ClientOwner } from '../upcall/owner.ts'

export interface World {
  /** The system: files, clocks, and this process. */
  readonly calls: Calls
  readonly state: StateDirectory
  readonly nfsd: Nfsd
  readonly log: Log
  readonly deadline: Deadline
}

/** What remains to be done without the lock, after a transition was applied under it. */
export interface Settlement {
  /** Directories that must be on the disk before anything is answered. */
  readonly sync: readonly (Directory | undefined)[]
  /**
   * What comes after that: downcalls, and removals that must wait until the rest is durable. Throws Failed, if the
   * upcall must not succeed.
   */
  readonly then?: () => void
  /** The record that was put into its place, if one was. */
  readonly put?: Put | undefined
}

/** A client's record was put into an instance. */
export interface Put {
  readonly owner: ClientOwner
  readonly in: Start
  /**
   * The older instance that it was in. 'unreadable': it replaced what could not be understood, so that no older one
   * counted.
   */
  readonly from: Start | 'nowhere' | 'unreadable'
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
