/**
 * An upcall's own end. The kernel waits for a usermode helper without a limit (UMH_WAIT_PROC), an nfsd thread held
 * meanwhile, so the helper bounds its life itself.
 *
 * Between system calls it is asked for: the upcall then fails with a status and a line. For a system call that does not
 * return, the executable has an alarm(2) behind it, which ends the process by SIGALRM, a failure too, and without a
 * line, since nothing of ours runs. What sleeps uninterruptibly in the kernel can't be ended by anybody; and Node has
 * no alarm(2), so the bundle has only the first.
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

/** From now on, by a clock that no step of the wall clock moves. */
export function startDeadline(calls: Calls): Deadline {
  calls.alarm(alarmSeconds)
  const began = calls.monotonic()
  return {
    assertTimeLeft: (doing) => {
      if (calls.monotonic() - began > deadlineSeconds * 1000) throw new Failed({ kind: 'out-of-time', doing })
    },
  }
}
