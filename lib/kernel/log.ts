/**
 * The program's log. The kernel gives an upcall no stderr, so lines go to the kernel's log, and from there to the
 * journal. Each line is one write(2), with a syslog priority in front (Documentation/ABI/testing/dev-kmsg). In the
 * foreground, or if there is no kernel log, lines go to stderr.
 */
import { bytesOf } from '../bytes.ts'
import { report, type Failure } from '../failure.ts'
import { atFlags, type Calls } from '../syscalls/calls.ts'
import { escaped } from '../text.ts'

export interface Log {
  readonly critical: (line: string) => void
  readonly error: (line: string) => void
  readonly warning: (line: string) => void
  /** For changes that an admin would want to see. */
  readonly notice: (line: string) => void
  /** Undefined, unless debugging is on: with `?.` the line is then not even made. */
  readonly debug: ((line: string) => void) | undefined
  /**
   * Logs why the program ends. @param verb what failed. @param cost what follows from that. @returns the exit status.
   */
  readonly failed: (failure: Failure, verb?: string, cost?: string) => number
}

export interface LogOptions {
  readonly foreground: boolean
  readonly debug: boolean
  /** Words that are no upcall: somebody typed them, and may read what is said through a pipe, as with ssh(1). */
  readonly typed?: boolean
}

export const kernelLog = '/dev/kmsg'

const name = 'nfsd-userland-helper'

/** Facility "daemon", syslog(3): the kernel does not let a process log as the kernel. */
const daemon = 3 << 3
const priorities = { critical: 2, error: 3, warning: 4, notice: 5, debug: 7 } as const

/** A record of the kernel's log holds about 1000 bytes (LOG_LINE_MAX). */
const longestLine = 900

export function openLog(calls: Calls, { foreground, debug, typed = false }: LogOptions): Log {
  const say = (priority: keyof typeof priorities, line: string): void => {
    // Words from outside have been quoted already. This makes sure that nothing else reaches a terminal.
    const safe = line.replace(/[^ -~]/g, escaped).slice(0, longestLine)
    if (foreground || !toKernelLog(calls, `<${daemon | priorities[priority]}>${name}: ${safe}\n`)) {
      toStderr(calls, `${name}: ${priority}: ${safe}\n`)
      return
    }
    // A person who typed the command should see why it failed.
    if (priorities[priority] <= priorities.error && (typed || calls.isTerminal(2)))
      toStderr(calls, `${name}: ${safe}\n`)
  }
  return {
    critical: (line) => {
      say('critical', line)
    },
    error: (line) => {
      say('error', line)
    },
    warning: (line) => {
      say('warning', line)
    },
    notice: (line) => {
      say('notice', line)
    },
    debug: debug
      ? (line) => {
          say('debug', line)
        }
      : undefined,
    failed: (failure, verb, cost) => {
      const { status, line } = report(failure)
      // That a client may not reclaim is no error.
      say(
        failure.kind === 'may-not-reclaim' ? 'warning' : 'error',
        `${verb === undefined ? '' : `${verb}: `}${line}${cost === undefined ? '' : `; ${cost}`}`,
      )
      return status
    },
  }
}

function toKernelLog(calls: Calls, line: string): boolean {
  const descriptor = calls.openat(atFlags.AT_FDCWD, kernelLog, calls.flags.O_WRONLY | calls.flags.O_NONBLOCK, 0)
  if (descriptor < 0) return false
  const written = calls.write(descriptor, bytesOf(line, calls.bytesInto))
  calls.close(descriptor)
  return written >= 0
}

/** If nobody reads stderr, there is still the exit status. */
const toStderr = (calls: Calls, line: string): void => void calls.write(2, bytesOf(line))
