/**
 * The time limit of an upcall. The kernel waits for a usermode helper without a limit (UMH_WAIT_PROC), and a thread of
 * nfsd waits with it. So the helper must end by itself.
 *
 * The deadline is checked between system calls. After it, the upcall fails with a status and a line. If a system call
 * does not return, alarm(2) ends the executable by SIGALRM. The kernel takes that for a failure too, but no line is
 * logged. Nothing can end a process that sleeps uninterruptibly in the kernel. Node has no alarm(2), so the bundle has
 * only the deadline.
 */
import { Failed } from '../failure.ts'
import type { Calls } from '../syscalls/calls.ts'

/** Longer than a busy hard disk takes for a barrier; shorter than a grace period. */
const deadlineSeconds = 30
/** The alarm is for what the deadline can't reach, so it comes later. */
const alarmSeconds = 45

export interface Deadline {
  /** @throws Failed out-of-time, naming what was being done. */
  readonly assertTimeLeft: (doing: string) => void
}

/** Starts the deadline and the alarm. The clock is monotonic. */
export function startDeadline(calls: Calls): Deadline {
  calls.alarm(alarmSeconds)
  const began = calls.monotonic()
  return {
    assertTimeLeft: (doing) => {
      if (calls.monotonic() - began > deadlineSeconds * 1000) throw new Failed({ kind: 'out-of-time', doing })
    },
  }
}
