/**
 * Messages of a pipe that this program never saw: no process held the pipe for 30 s, or another program held it and
 * answered them. One of them may have been a Remove, and the kernel does not repeat it. Its client would stay recorded,
 * and could reclaim locks that other clients have had since.
 *
 * The kernel numbers its messages one by one (nfs4recover.c, alloc_cld_upcall). So a process that takes over a pipe
 * knows from the journal which number comes next. When a reader dies, the kernel's threads queue their messages again,
 * each in its own time: a number counts as lost only if it has not come some seconds after the pipe was opened. Once
 * all have come, nothing can be lost as long as the process lives. If a process is killed within these seconds, the
 * next one does not learn what is missing.
 */
import type { Header } from '../upcall/message.ts'

/** When a number that has not come counts as lost: much later than the kernel's threads queue their messages again. */
const lostAfterMs = 5000
/** More than the server has threads. If a gap is larger, some of its messages will not come again. */
const mostWaiting = 1024

export class Missed {
  /** Until this time, a missing number may still come. */
  readonly until: number
  /** No number after this one has been seen. */
  private latest: number
  private readonly missing = new Set<number>()
  private isLost = false
  private isBegun = false

  /**
   * @param last the latest number that was answered
   * @param now the time by the monotonic clock, when the pipe was opened
   */
  constructor(last: number, now: number) {
    this.latest = last
    this.until = now + lostAfterMs
  }

  /** Notes that a number has come. @returns whether nothing is missing, and nothing can be missing later */
  saw(xid: number): boolean {
    const ahead = (xid - this.latest) | 0
    if (ahead <= 0) this.missing.delete(xid)
    else {
      this.isBegun = true
      this.isLost ||= ahead > mostWaiting
      if (!this.isLost) for (let step = 1; step < ahead; step++) this.missing.add((this.latest + step) >>> 0)
      this.latest = xid
    }
    return this.isBegun && !this.isMissing()
  }

  isMissing(): boolean {
    return this.isLost || this.missing.size > 0
  }
}

/** The latest number of those that were answered; undefined, if there is none. */
export const latestOf = (answered: readonly { readonly header: Header }[]): number | undefined =>
  answered.reduce<number | undefined>(
    (latest, { header: { xid } }) => (latest === undefined || ((xid - latest) | 0) > 0 ? xid : latest),
    undefined,
  )
