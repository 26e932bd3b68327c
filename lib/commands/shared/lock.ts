/**
 * The state directory's lock for a person's command. An upcall goes on without it if it must. A command does not,
 * because a person can wait and try again.
 */
import { storageFailure } from '../../failure.ts'
import { locked } from '../../store/lock.ts'
import type { StateDirectory } from '../../store/state-directory.ts'

/** Runs `work` under the lock. @throws Failed storage, if the lock can't be taken: nothing has been done */
export const underLock = <T>(state: StateDirectory, work: () => T): T =>
  locked(
    state,
    {
      assertTimeLeft: () => undefined,
      passedBy: (because) => {
        throw storageFailure(`nothing changed: the state directory can't be locked: ${because}`)
      },
      stays: () => undefined,
    },
    work,
  )
