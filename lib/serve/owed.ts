/**
 * Answers that the last `serve` wrote down, and to whose messages the kernel still waits for one. Such a message is one
 * of two kinds, and the pipe does not tell which:
 * * Its last byte was read, so nobody gets it again. Its nfsd thread waits for ever, unless it gets the answer.
 * * It was not read to its end. When the reader died, the kernel woke its thread, and that queues it again. An answer
 *   before that must not be given: the thread takes it for one to the message that it queues, and goes on, and the
 *   message, which is on its stack, stays in the queue (nfs4recover.c, __cld_pipe_upcall; kernels without the in-flight
 *   fix).
 *
 * So an answer is given when the thread must have run. That is so if no process on the machine is about to run but this
 * one: the kernel counts them (/proc/loadavg), and a thread on its way into the queue waits for nothing but a
 * processor. On a machine that is always busy it counts as so after five seconds, many times what a thread waits for a
 * processor. Nobody but the one thread waits for that, because other messages are answered meanwhile. A message that
 * is read meanwhile is answered as any other. The next process begins its five seconds anew: this one may have read the
 * message and died, and then its thread was woken again.
 *
 * Other messages need not wait for those that come late, although they then are carried out in another order than that
 * of the xids. Of one client the kernel has no two in flight, unless one is the Remove of an earlier client of the same
 * name (it expires none that is in use). If that Remove comes last, the client has no record, and may be refused after
 * the next start. If the Create comes last, it has one, and the kernel will report when this client is gone. A Create
 * that comes after an end of grace is recorded in the full instance. So no client gets a record that it must not have.
 * If a thread takes longer than five seconds, its number counts as lost (missed.ts).
 */
import type { Pipe } from '../kernel/pipe.ts'
import { atFlags, type Calls } from '../syscalls/calls.ts'
import { errno } from '../syscalls/errno.ts'
import { commands, probe } from '../upcall/message.ts'
import { bytesOfReply, type Journal, type Reply } from './journal.ts'
import { answerQueued } from './round.ts'
import type { Server } from './server.ts'

/** A pipe whose messages are answered, and the journal of its answers. */
export interface Answering {
  readonly pipe: Pipe
  readonly journal: Journal
}

/** Also in a container that counts its own processes only. Much longer than a thread waits on an idle machine. */
const atLeastMs = 200
const atMostMs = 5000
const everyMs = 50

export class Owed {
  private readonly server: Server
  private readonly since: number
  private next: number

  constructor(server: Server) {
    this.server = server
    this.since = server.calls.monotonic()
    this.next = this.since + atLeastMs
  }

  /** When to call {@link due}; undefined, if nothing is owed. */
  dueAt({ journal }: Answering): number | undefined {
    return journal.isOwing ? this.next : undefined
  }

  due(at: Answering): void {
    if (!at.journal.isOwing) return
    const { calls } = this.server
    const now = calls.monotonic()
    if (now < this.next) return
    this.next = now + everyMs
    if (now - this.since >= atMostMs || isAlone(calls)) giveOwed(this.server, at)
  }
}

/** Whether the kernel still waits for the answer to a message. */
export const isWaitedFor = ({ pipe }: Pick<Answering, 'pipe'>, { message: { header, size } }: Reply): boolean =>
  pipe.write(probe(header.xid, size)) === -errno.EFAULT

/** Answers what is queued, and then gives the answers that are still owed. */
export function giveOwed(server: Server, at: Answering): void {
  const { pipe, journal } = at
  answerQueued(server, pipe, journal)
  for (const [xid, reply] of journal.owed) {
    if (isWaitedFor(at, reply)) {
      // Its owner is not known any more, so its client may still be recorded. That is noted before the kernel goes on.
      if (reply.doubtful === true && reply.message.header.command === commands.remove) server.distrust('start')
      if (pipe.write(bytesOfReply(reply)) >= 0) server.log.notice(`message ${xid} had no answer: it has one now`)
    }
    journal.settle(xid)
  }
}

/** Whether no other process or thread of the kernel runs, or waits for a processor. */
function isAlone(calls: Calls): boolean {
  const descriptor = calls.openat(atFlags.AT_FDCWD, '/proc/loadavg', calls.flags.O_RDONLY, 0)
  if (descriptor < 0) return false
  const text = calls.readText(descriptor, 128)
  calls.close(descriptor)
  return typeof text === 'string' && / 1\/\d+ /.test(text)
}
