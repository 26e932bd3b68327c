/**
 * Reports that messages are answered, so that a script need not sleep and hope: to systemd (sd_notify(3)), and on a
 * descriptor that the caller passed.
 */
import { bytesOf } from '../bytes.ts'
import type { Calls } from '../syscalls/calls.ts'

export interface Readiness {
  /** Reports that messages are answered from now on. Later calls do nothing. */
  readonly ready: () => void
  /** Reports what is being done, for people. */
  readonly status: (line: string) => void
  readonly stopping: () => void
  /** How often {@link alive} must be called, in milliseconds; undefined, if no watchdog waits for it. */
  readonly everyMs: number | undefined
  readonly alive: () => void
}

type Environment = Readonly<Record<string, string | undefined>>

/** Connects now, because the process gives up its rights later. @param descriptor that of `--ready-fd` */
export function readinessTo(calls: Calls, environment: Environment, descriptor: number | undefined): Readiness {
  const path = environment['NOTIFY_SOCKET'] ?? ''
  const socket = /^[/@]./.test(path) ? calls.connect(path) : -1
  const say = (text: string): void => {
    if (socket >= 0) calls.write(socket, bytesOf(text))
  }
  const watchdog = Number(/^[0-9]{1,12}$/.exec(environment['WATCHDOG_USEC'] ?? '')?.[0] ?? 0) / 1000
  const isMeant = [undefined, '', String(calls.processId())].includes(environment['WATCHDOG_PID'])
  let isReady = false
  return {
    ready: () => {
      if (isReady) return
      isReady = true
      say('READY=1')
      if (descriptor === undefined) return
      calls.write(descriptor, bytesOf('\n'))
      calls.close(descriptor)
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
