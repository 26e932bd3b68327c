/**
 * Reports that messages are answered, so that a script need not sleep and hope: to systemd (sd_notify(3)), and on a
 * descriptor that the caller passed.
 */
import { bytesOf } from '../bytes.ts'
import { Failed } from '../failure.ts'
import type { Calls } from '../syscalls/calls.ts'
import { errno } from '../syscalls/errno.ts'
import { anywhere, beginningOf } from '../syscalls/files.ts'

export interface Readiness {
  /**
   * Reports that messages are answered from now on. Later calls do nothing.
   * @returns false, if the receiver has no room for it now: to be called again
   */
  readonly ready: () => boolean
  /** Reports what is being done, for people. */
  readonly status: (line: string) => void
  readonly stopping: () => void
  /** How often {@link alive} must be called, in milliseconds; undefined, if no watchdog waits for it. */
  readonly everyMs: number | undefined
  readonly alive: () => void
}

type Environment = Readonly<Record<string, string | undefined>>

/** Flags of open(2), the same on every machine that this program is built for. */
const O_ACCMODE = 3
const O_CLOEXEC = 0o2000000

/**
 * Refuses a descriptor that the caller has not passed, or that can't be written. One that this process has opened has
 * the flag O_CLOEXEC; one that was passed can't have it, or it would have been closed when the program was executed.
 * @throws Failed bad-argument.
 */
export function refuseUnlessPassed(calls: Calls, descriptor: number): void {
  const information = beginningOf(`/proc/self/fdinfo/${descriptor}`, anywhere(calls))
  const octal = /^flags:\s*([0-7]+)$/m.exec(information ?? '')?.[1]
  const flags = octal === undefined ? undefined : parseInt(octal, 8)
  const isPassed =
    flags === undefined
      ? // Without /proc.
        typeof calls.fstat(descriptor) !== 'number'
      : (flags & O_CLOEXEC) === 0 && (flags & O_ACCMODE) !== 0
  if (!isPassed)
    throw new Failed({
      kind: 'bad-argument',
      why: '--ready-fd is no descriptor that was passed open for writing',
      word: String(descriptor),
    })
}

/** Connects now, because the process gives up its rights later. @param descriptor that of `--ready-fd` */
export function readinessTo(calls: Calls, environment: Environment, descriptor: number | undefined): Readiness {
  const path = environment['NOTIFY_SOCKET'] ?? ''
  const socket = /^[/@]./.test(path) ? calls.connect(path) : -1
  // It never waits: a supervisor that does not read must not hang the NFS server.
  const say = (text: string): number => (socket >= 0 ? calls.write(socket, bytesOf(text)) : 0)
  const watchdog = Number(/^[0-9]{1,12}$/.exec(environment['WATCHDOG_USEC'] ?? '')?.[0] ?? 0) / 1000
  const isMeant = [undefined, '', String(calls.processId())].includes(environment['WATCHDOG_PID'])
  let isReady = false
  return {
    ready: () => {
      if (isReady) return true
      if (say('READY=1') === -errno.EAGAIN) return false
      isReady = true
      if (descriptor === undefined) return true
      calls.write(descriptor, bytesOf('\n'))
      calls.close(descriptor)
      return true
    },
    status: (line) => {
      say(`STATUS=${line}`)
    },
    stopping: () => {
      say('STOPPING=1')
    },
    // Half of the watchdog's time, as sd_watchdog_enabled(3) advises.
    everyMs: socket >= 0 && watchdog > 0 && isMeant ? Math.max(100, Math.floor(watchdog / 2)) : undefined,
    alive: () => {
      say('WATCHDOG=1')
    },
  }
}
