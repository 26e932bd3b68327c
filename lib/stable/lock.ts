/**
 * The state directory's lock: order among upcalls, never safety (docs/locking.md).
 *
 * proper-lockfile keeps it; its `fs` option is where it learns what "held" and "stale" mean here. The lock is a symbolic
 * link that names its holder, and it is stale exactly when that holder is dead, whatever any clock says. A holder on
 * another machine (a shared state directory) can't be asked, and is judged by time, as proper-lockfile does.
 *
 * What it does not promise: a holder that is stopped for good is passed by after two seconds, and finds itself not alone
 * when it wakes; a lock that can't be made (full or read-only disk) is done without. Each transition is right even so.
 */
import { errorCode } from '../failure.ts'
import * as disk from './disk.ts'

/** How long a living holder is waited for: as long as the kernel's other clients may be made to wait. */
const patienceMs = 2000
/** How old the lock of a holder that can't be asked must be: proper-lockfile's default. */
const staleMs = 10_000

export interface LockOptions {
  /** Called before each wait; throws when the upcall is out of time. */
  readonly assertTimeLeft: () => void
  /** Told once, if the work is done without the lock. */
  readonly passedBy: (because: string) => void
}

/** Runs `work` while holding the lock, or without it as above. @returns what `work` returns. */
export function locked<T>(stateDirectory: string, options: LockOptions, work: () => T): T {
  const release = take(stateDirectory, options)
  try {
    return work()
  } finally {
    release?.()
  }
}

function take(stateDirectory: string, { assertTimeLeft, passedBy }: LockOptions): (() => void) | undefined {
  const path = `${stateDirectory}/nfsd-userland-helper.lock`
  const us = holderName()
  const seam = lockedByLink(path, us)
  // Loaded only where a lock is taken: most checks take none.
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- an import would be evaluated at start
  const { lock } = require('proper-lockfile/lib/lockfile.js') as Lockfile
  const options = { lockfilePath: path, realpath: false, stale: staleMs, fs: seam.fs, onCompromised: () => undefined }
  const patience = waiting(assertTimeLeft)
  for (;;) {
    let failure: unknown
    let unlock: Unlock | undefined
    lock(stateDirectory, options, (error, release) => {
      failure = error
      unlock = release
    })
    if (unlock !== undefined) return releasing(unlock)
    const code = errorCode(failure)
    // No state directory: the work itself will say so.
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    if (code !== 'ELOCKED') {
      passedBy(`it can't be made (${code ?? String(failure)})`)
      return undefined
    }
    if (!patience()) {
      passedBy(`held for ${patienceMs / 1000} s by ${seam.holder() ?? 'somebody'}`)
      return undefined
    }
  }
}

/** @returns what waits a little each time that it is called, and then says whether there is any patience left. */
function waiting(assertTimeLeft: () => void): () => boolean {
  let giveUpAt: number | undefined
  return () => {
    assertTimeLeft()
    giveUpAt ??= performance.now() + patienceMs
    // Without giving up the thread: nothing else is to run in between.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1 + Math.random() * 2)
    return performance.now() < giveUpAt
  }
}

/**
 * proper-lockfile's core, which its other two ways of calling wrap: it calls back as soon as its file system does, and ours
 * does at once. Its own adapter for synchronous calls would cost an upcall half as much again as the lock.
 */
interface Lockfile {
  readonly lock: (file: string, options: object, done: (error: unknown, unlock?: Unlock) => void) => void
}
type Unlock = (done: Done<void>) => void
type Done<T> = (error: unknown, result?: T) => void

const releasing = (unlock: Unlock) => (): void => {
  let failure: unknown
  unlock((error) => { failure = error })
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

/** What proper-lockfile asks of a file system, answered for one lock that is a symbolic link. */
function lockedByLink(path: string, us: string): { readonly holder: () => string | undefined; readonly fs: object } {
  const holder = (): string | undefined => disk.tolerating(['EINVAL'], () => disk.readLink(path), undefined)
  let seen: string | undefined
  let made = false
  const lastSign = (): Date => {
    if (made) return new Date()
    // What is no link is nobody's lock: this throws, and the upcall goes on without.
    seen = disk.readLink(path)
    if (seen === undefined) throw disk.missing(path)
    switch (lifeOf(seen, us)) {
      case 'alive':
        return new Date()
      case 'dead':
        return new Date(0)
      case 'unknown':
        return disk.changedAt(path)
    }
  }
  return {
    holder,
    fs: {
      mkdir: (_: string, done: Done<void>) => {
        callBack(done, () => {
          disk.claimLink(us, path)
          made = true
        })
      },
      stat: (_: string, done: Done<{ mtime: Date }>) => { callBack(done, () => ({ mtime: lastSign() })) },
      // Only the link that was judged, or made, is taken away: somebody else may have been quicker.
      rmdir: (_: string, done: Done<void>) => { callBack(done, () => { if (holder() === (made ? us : seen)) disk.remove(path) }) },
      utimes: (_: string, _accessed: Date, _modified: Date, done: Done<void>) => { done(null) },
    },
  }
}

/**
 * A process, named so that nobody else is ever called the same: its id and start time, and the boot, the machine and
 * the process-id namespace that they are counted in. Under 60 bytes, so that the link needs no block.
 */
function holderName(): string {
  const us = process.pid
  const space = disk.readLink('/proc/self/ns/pid')?.slice('pid:['.length, -1) ?? '0'
  const boot = firstDigits('/proc/sys/kernel/random/boot_id')
  const machine = firstDigits('/etc/machine-id')
  return [us, startTimeOf(us) ?? 0, boot, machine, space].join('.')
}

const firstDigits = (path: string): string =>
  (disk.beginningOf(path) ?? '').replaceAll('-', '').slice(0, 12).trim() || '0'

/** A process's start in clock ticks since boot (proc(5), stat, field 22); undefined if it is gone, or a zombie. */
function startTimeOf(processId: number): number | undefined {
  const stat = disk.beginningOf(`/proc/${processId}/stat`)
  // The command's name may hold anything, so fields are counted from its closing parenthesis.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? ['Z']
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : Number(fields[19])
}

function lifeOf(holder: string, us: string): 'alive' | 'dead' | 'unknown' {
  const [id, startTime, boot, machine, space] = holder.split('.')
  const [, , ourBoot, ourMachine, ourSpace] = us.split('.')
  if (machine === undefined || machine !== ourMachine || boot === '0' || ourBoot === '0') return 'unknown'
  if (boot !== ourBoot) return 'dead'
  if (space !== ourSpace) return 'unknown'
  return startTimeOf(Number(id)) === Number(startTime) ? 'alive' : 'dead'
}
