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
  critical(line: string): void
  error(line: string): void
  warning(line: string): void
  /** For changes that an admin would want to see. */
  notice(line: string): void
  /** Undefined, unless debugging is on: with `?.` the line is then not even made. */
  readonly debug: ((line: string) => void) | undefined
  /**
   * Logs why the program ends. @param verb what failed. @param cost what follows from that. @returns the exit status.
   */
  failed(failure: Failure, verb?: string, cost?: string): number
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

export const openLog = (calls: Calls, options: LogOptions): Log => new OpenLog(calls, options)

/** A class: six functions, made anew in each process, would be a sixtieth of a check. */
class OpenLog implements Log {
  readonly debug: Log['debug']
  private readonly calls: Calls
  private readonly options: LogOptions

  constructor(calls: Calls, options: LogOptions) {
    this.calls = calls
    this.options = options
    this.debug = options.debug
      ? (line) => {
          this.say('debug', line)
        }
      : undefined
  }

  critical(line: string): void {
    this.say('critical', line)
  }

  error(line: string): void {
    this.say('error', line)
  }

  warning(line: string): void {
    this.say('warning', line)
  }

  notice(line: string): void {
    this.say('notice', line)
  }

  failed(failure: Failure, verb?: string, cost?: string): number {
    const { status, line } = report(failure)
    // That a client may not reclaim is no error.
    this.say(
      failure.kind === 'may-not-reclaim' ? 'warning' : 'error',
      `${verb === undefined ? '' : `${verb}: `}${line}${cost === undefined ? '' : `; ${cost}`}`,
    )
    return status
  }

  private say(priority: keyof typeof priorities, line: string): void {
    const { calls } = this
    const { foreground, typed = false } = this.options
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
}

function toKernelLog(calls: Calls, line: string): boolean {
  const descriptor = calls.openat(atFlags.AT_FDCWD, kernelLog, calls.flags.O_WRONLY | calls.flags.O_NONBLOCK, 0)
  if (descriptor < 0) return false
  const written = calls.write(descriptor, bytesOf(line, calls.bytesInto))
  calls.close(descriptor)
  return written >= 0
}

/** If nobody reads stderr, there is still the exit status. */
const toStderr = (calls: Calls, line: string): void => void calls.write(2, bytesOf(line, calls.bytesInto))
