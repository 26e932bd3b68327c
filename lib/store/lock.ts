/**
 * The state directory's lock: it orders upcalls, and safety does not depend on it (docs/locking.md).
 *
 * proper-lockfile manages it; its `fs` option defines what "held" and "stale" mean here. The lock is a symbolic link
 * that names its holder. It is stale exactly when that holder is dead, whatever any clock says. A holder on another
 * machine (a shared state directory) can't be checked, so it is judged by time, as proper-lockfile does.
 *
 * Its limits: an upcall goes on without the lock after two seconds if the holder is stopped, and the holder is not
 * alone when it goes on. If the lock can't be made (full or read-only disk), upcalls go on without it. Each transition
 * is right even so.
 */
import { lock, type Done, type Unlock } from 'proper-lockfile/lib/lockfile.js'
import { errorCode } from '../failure.ts'
import type { Calls } from '../syscalls/calls.ts'
import { errno } from '../syscalls/errno.ts'
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { lockName } from './layout.ts'
import { openClients } from './open-directories.ts'
import { lifeOf } from './process.ts'
import { holderOf, type StateDirectory } from './state-directory.ts'

/** The first waits of a process that finds the lock held: each is twice the one before. */
const shortestWaitMs = 0.25
const longestOfFirstWaitsMs = 2
/** How long to wait for a holder that is alive: other clients may have to wait as long for the kernel. */
const longestWaitMs = 2000
/** The age at which a lock counts as stale if its holder can't be checked: proper-lockfile's default. */
const staleMs = 10_000

export interface LockOptions {
  /** Called before each wait; throws when the upcall is out of time. */
  assertTimeLeft(): void
  /** Called once, if the work is done without the lock. */
  passedBy(because: string): void
  /** Called if the work is done, and the lock can't be removed. It orders, and guards nothing, so the work counts. */
  stays(because: string): void
}

/** Runs `work` with the lock held, or without it in the cases above. @returns what `work` returns. */
export function locked<T>(state: StateDirectory, options: LockOptions, work: () => T): T {
  // Without `v4clients` there is nothing to order. The work itself will report that it is missing.
  const clients = openClients(state)
  const release = clients === undefined ? undefined : held(clients, holderOf(state), options)
  try {
    return work()
  } finally {
    try {
      release?.()
    } catch (thrown) {
      const code = errorCode(thrown)
      if (code === undefined) throw thrown
      options.stays(code)
    }
  }
}

/**
 * Most often nobody holds the lock, or a holder that is done in less than a millisecond. To read proper-lockfile, which
 * is in another piece of the program, takes four times as many instructions as a whole create.
 */
function held(clients: Directory, us: string, options: LockOptions): (() => void) | undefined {
  for (let waitMs = shortestWaitMs; ; waitMs *= 2) {
    const answer = clients.calls.symlinkat(us, clients.descriptor, lockName)
    if (answer >= 0) break
    if (answer !== -errno.EEXIST || waitMs > longestOfFirstWaitsMs) return take(clients, us, options)
    clients.calls.sleep(waitMs)
  }
  return () => {
    // Another process may have gone on without us, and may hold the lock now.
    if (files.readLink(lockName, clients) === us) files.remove(lockName, clients)
  }
}

function take(clients: Directory, us: string, options: LockOptions): (() => void) | undefined {
  const seam = lockedByLink(clients, us)
  const lockfile = {
    lockfilePath: lockName,
    realpath: false,
    stale: staleMs,
    fs: seam.fs,
    onCompromised: () => undefined,
  }
  const mayWaitMore = waiting(clients.calls, options)
  for (;;) {
    let failure: unknown
    let unlock: Unlock | undefined
    lock(clients.path, lockfile, (error, release) => {
      failure = error
      unlock = release
    })
    if (unlock !== undefined) return releasing(unlock)
    const code = errorCode(failure)
    if (code !== 'ELOCKED') {
      options.passedBy(`it can't be made (${code ?? String(failure)})`)
      return undefined
    }
    if (!mayWaitMore()) {
      options.passedBy(`held for ${longestWaitMs / 1000} s by ${seam.holder() ?? 'another process'}`)
      return undefined
    }
  }
}

/** @returns a function that waits a little, and then says whether the caller may wait again. */
function waiting(calls: Calls, options: LockOptions): () => boolean {
  let giveUpAt: number | undefined
  return () => {
    options.assertTimeLeft()
    giveUpAt ??= calls.monotonic() + longestWaitMs
    // About two milliseconds, but not the same for all who wait. The clock gives the difference, because Math.random
    // gives the same numbers in each process.
    calls.sleep(1 + 2 * (calls.monotonic() % 1))
    return calls.monotonic() < giveUpAt
  }
}

const releasing = (unlock: Unlock) => (): void => {
  let failure: unknown
  unlock((error) => {
    failure = error
  })
  if (failure instanceof Error) throw failure
}

function callBack<T>(done: Done<T>, work: () => T): void {
  let result: T
  try {
    result = work()
  } catch (thrown) {
    done(thrown)
    return
  }
  done(null, result)
}

// eslint-disable-next-line house/walls -- proper-lockfile compares it with the engine's own clock
const justNow = (): Date => new Date()

/** How far the clocks of two machines with one disk may differ. */
const clocksDifferMs = 120_000

/** When the lock was made, in milliseconds; 0 if that time has not come yet: then it would hold until it comes. */
function madeAt(clients: Directory): number {
  const at = (files.lookAtName(lockName, clients)?.mtime ?? 0) * 1000
  return at > clients.calls.now() + clocksDifferMs ? 0 : at
}

/** What proper-lockfile asks of a file system, answered for one lock that is a symbolic link. */
function lockedByLink(
  clients: Directory,
  us: string,
): { readonly holder: () => string | undefined; readonly fs: object } {
  const holder = (): string | undefined => files.readLink(lockName, clients)
  let seen: string | undefined
  let made = false
  const lastSign = (): Date => {
    if (made) return justNow()
    // If something other than a link is there, it is no lock. This throws, and the upcall goes on without the lock.
    seen = holder()
    if (seen === undefined) throw files.missing(lockName)
    switch (lifeOf(seen, us, clients)) {
      case 'alive':
        return justNow()
      case 'dead':
        return new Date(0)
      case 'unknown':
        return new Date(madeAt(clients))
    }
  }
  return {
    holder,
    fs: {
      mkdir: (_: string, done: Done<void>) => {
        callBack(done, () => {
          files.claimLink(us, lockName, clients)
          made = true
        })
      },
      stat: (_: string, done: Done<{ mtime: Date }>) => {
        callBack(done, () => ({ mtime: lastSign() }))
      },
      // Only the link that was judged or made here is removed: another process may have replaced it.
      rmdir: (_: string, done: Done<void>) => {
        callBack(done, () => {
          if (holder() === (made ? us : seen)) files.remove(lockName, clients)
        })
      },
      utimes: (_: string, _accessed: Date, _modified: Date, done: Done<void>) => {
        done(null)
      },
    },
  }
}
