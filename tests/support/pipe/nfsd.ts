/** What nfsd does at its end of the pipe (fs/nfsd/nfs4recover.c): its start, its clients' events, its stop. */
import type { Daemon } from './daemons.ts'
import {
  entryOf,
  getVersion,
  message,
  statusOf,
  versionOf,
  type Body,
  type Command,
  type Entry,
  type Version,
} from './messages.ts'
import type { Ended, PipeEnd, Waiter } from './pipe-end.ts'

/** A server that runs with a tracker at the pipe. */
export interface Nfsd {
  /** 0: the tracker refused GraceStart, and the kernel uses Check. */
  readonly version: 0 | Version
  /** Who may reclaim: GraceStart's list as it came. */
  readonly list: readonly Entry[]
  /** How long GraceStart took, in ms. Whoever starts the server waits for it. */
  readonly startMs: number
  /** One nfsd thread for each of these bodies sends a message of this kind, all at one moment. */
  readonly send: (command: Command, ...bodies: readonly Body[]) => Waiter[]
  /** The same for messages of any kinds. */
  readonly sendAll: (messages: readonly (readonly [Command, Body])[]) => Waiter[]
  /** One message. @returns the answer's status. @throws if it is not answered. */
  readonly tell: (command: Command, body?: Body) => Promise<number>
  /** Waits until all messages are answered, and then removes the pipe. */
  readonly stop: () => Promise<void>
}

/** `cld_running` waits for one second, but this machine may be busier than a server. */
const readerWithinMs = 60_000

/**
 * A server starts: it makes the pipe, waits for a reader, and asks for the version and the list. Like the kernel, it
 * goes on without a list in version 0 if GraceStart is answered with an error. If the list is empty, it reports the end
 * of grace at once.
 *
 * @param tracker stands still while the pipe is exchanged: a kernel takes no time for that, and this process may.
 * @returns undefined if nobody opened the pipe, or GraceStart's answer was -110: then there is no tracking, and the
 * pipe is gone.
 */
export async function startNfsd(end: PipeEnd, tracker?: () => Daemon): Promise<Nfsd | undefined> {
  end.make()
  if (!(await end.opened(readerWithinMs))) {
    end.remove()
    return undefined
  }
  const told = await end.ask(getVersion())[0]?.ended
  // Any other error means version 1.
  const version =
    told !== undefined && 'answer' in told && statusOf(told.answer) === 0 && versionOf(told.answer) >= 2 ? 2 : 1
  const [thread] = end.ask(message(version, 'graceStart'))
  const ended = await thread?.ended
  const [status, startMs] =
    ended === undefined || 'failed' in ended
      ? [ended?.failed === 'ETIMEDOUT' ? -110 : -32, Number.NaN]
      : [statusOf(ended.answer), ended.ms]
  if (status === 0) {
    const list = (thread?.entries ?? []).map(entryOf)
    const nfsd = running(end, version, list, startMs)
    if (list.length === 0) await nfsd.tell('graceDone')
    return nfsd
  }
  if (status !== -110) tracker?.().signal('SIGSTOP')
  end.remove()
  if (status === -110) return undefined
  end.make()
  tracker?.().signal('SIGCONT')
  return running(end, 0, [], startMs)
}

/** A server that runs already, and whose daemon is gone or about to be replaced: see {@link PipeEnd.makeNegotiated}. */
export function runningNfsd(end: PipeEnd, version: Version): Nfsd {
  end.makeNegotiated(version)
  return running(end, version, [], Number.NaN)
}

function running(end: PipeEnd, version: 0 | Version, list: readonly Entry[], startMs: number): Nfsd {
  const unanswered = new Set<Promise<Ended>>()
  const sendAll: Nfsd['sendAll'] = (messages) => {
    const sent = end.ask(...messages.map(([command, body]) => message(version === 2 ? 2 : 1, command, body)))
    for (const { ended } of sent) {
      unanswered.add(ended)
      void ended.then(() => unanswered.delete(ended))
    }
    return sent
  }
  const send: Nfsd['send'] = (command, ...bodies) => sendAll(bodies.map((body) => [command, body]))
  return {
    version,
    list,
    startMs,
    send,
    sendAll,
    tell: async (command, body = {}) => statusOf(await answerOf(send(command, body)[0])),
    stop: async () => {
      await Promise.all(unanswered)
      end.remove()
    },
  }
}

/** @throws if the wait ended without an answer. */
export async function answerOf(thread: Waiter | undefined): Promise<Buffer> {
  const ended = await thread?.ended
  if (ended === undefined || 'failed' in ended) throw new Error(`not answered: ${ended?.failed ?? 'not asked'}`)
  return ended.answer
}
