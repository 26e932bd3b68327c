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
import * as disk from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { lockName } from './layout.ts'
import { openClients } from './open-directories.ts'
import { lifeOf } from './process.ts'
import { holderOf, type StateDirectory } from './state-directory.ts'

/** How long a living holder is waited for: as long as the kernel's other clients may be made to wait. */
const longestWaitMs = 2000
/** How old the lock of a holder that can't be asked must be: proper-lockfile's default. */
const staleMs = 10_000

export interface LockOptions {
  /** Called before each wait; throws when the upcall is out of time. */
  readonly assertTimeLeft: () => void
  /** Told once, if the work is done without the lock. */
  readonly passedBy: (because: string) => void
}

/** Runs `work` while holding the lock, or without it as above. @returns what `work` returns. */
export function locked<T>(state: StateDirectory, options: LockOptions, work: () => T): T {
  // Without `v4clients` there is nothing to order. The work itself will report that it is missing.
  const clients = openClients(state)
  const release = clients === undefined ? undefined : held(clients, holderOf(state), options)
  try {
    return work()
  } finally {
    release?.()
  }
}

const held = (clients: Directory, us: string, options: LockOptions): (() => void) | undefined =>
  takeAtOnce(clients, us) ?? take(clients, us, options)

/**
 * Most often nobody holds it, and one call is all that it takes: proper-lockfile is asked only then when that fails.
 */
function takeAtOnce(clients: Directory, us: string): (() => void) | undefined {
  if (clients.calls.symlinkat(us, clients.descriptor, lockName) < 0) return undefined
  return () => {
    // Another process may have gone on without us, and may hold the lock now.
    if (disk.readLink(lockName, clients) === us) disk.remove(lockName, clients)
  }
}

function take(clients: Directory, us: string, { assertTimeLeft, passedBy }: LockOptions): (() => void) | undefined {
  const seam = lockedByLink(clients, us)
  const options = {
    lockfilePath: lockName,
    realpath: false,
    stale: staleMs,
    fs: seam.fs,
    onCompromised: () => undefined,
  }
  const mayWaitMore = waiting(clients.calls, assertTimeLeft)
  for (;;) {
    let failure: unknown
    let unlock: Unlock | undefined
    lock(clients.path, options, (error, release) => {
      failure = error
      unlock = release
    })
    if (unlock !== undefined) return releasing(unlock)
    const code = errorCode(failure)
    if (code !== 'ELOCKED') {
      passedBy(`it can't be made (${code ?? String(failure)})`)
      return undefined
    }
    if (!mayWaitMore()) {
      passedBy(`held for ${longestWaitMs / 1000} s by ${seam.holder() ?? 'another process'}`)
      return undefined
    }
  }
}

/** @returns what waits a little each time that it is called, and then says whether more waiting is allowed. */
function waiting(calls: Calls, assertTimeLeft: () => void): () => boolean {
  let giveUpAt: number | undefined
  return () => {
    assertTimeLeft()
    giveUpAt ??= calls.monotonic() + longestWaitMs
    // For about two milliseconds, and not all who wait for as long: by the clock, since Math.random begins alike in
    // each process.
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

/** What proper-lockfile asks of a file system, answered for one lock that is a symbolic link. */
function lockedByLink(
  clients: Directory,
  us: string,
): { readonly holder: () => string | undefined; readonly fs: object } {
  const holder = (): string | undefined => disk.readLink(lockName, clients)
  let seen: string | undefined
  let made = false
  const lastSign = (): Date => {
    if (made) return justNow()
    // Something that is not a link is nobody's lock. This throws, and the upcall goes on without it.
    seen = holder()
    if (seen === undefined) throw disk.missing(lockName)
    switch (lifeOf(seen, us, clients)) {
      case 'alive':
        return justNow()
      case 'dead':
        return new Date(0)
      case 'unknown':
        return new Date((disk.lookAtName(lockName, clients)?.mtime ?? 0) * 1000)
    }
  }
  return {
    holder,
    fs: {
      mkdir: (_: string, done: Done<void>) => {
        callBack(done, () => {
          disk.claimLink(us, lockName, clients)
          made = true
        })
      },
      stat: (_: string, done: Done<{ mtime: Date }>) => {
        callBack(done, () => ({ mtime: lastSign() }))
      },
      // Only the link that was judged or made here is removed: another process may have replaced it.
      rmdir: (_: string, done: Done<void>) => {
        callBack(done, () => {
          if (holder() === (made ? us : seen)) disk.remove(lockName, clients)
        })
      },
      utimes: (_: string, _accessed: Date, _modified: Date, done: Done<void>) => {
        done(null)
      },
    },
  }
}
