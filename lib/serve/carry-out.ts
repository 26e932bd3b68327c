/**
 * What each message asks for: the event of `lib/events/` that it stands for, and the answer that follows from its
 * outcome. The kernel sends no message twice because of an answer, so what the storage refuses is noted for a retry.
 */
import { perform } from '../events/perform.ts'
import { errorCode, Failed, failureFrom, report } from '../failure.ts'
import type { Pipe, Taken } from '../kernel/pipe.ts'
import { errno } from '../syscalls/errno.ts'
import { longList } from '../upcall/message.ts'
import type { Asked as AskedOfInstance, ClientRequest } from '../upcall/request.ts'
import type { Reply } from './journal.ts'
import { listFor } from './list.ts'
import { attempt, currentInstance, tryAgain } from './retry.ts'
import type { Server } from './server.ts'
import type { Counted } from './status-file.ts'
import { isDangerous, isStorageFailure } from './unfinished.ts'

/**
 * The status in an answer. The values are nfsdcld's: the kernel only distinguishes 0 from the rest, except for
 * ETIMEDOUT in answer to GraceStart.
 */
export const status = {
  done: 0,
  storageFailed: -121 /* EREMOTEIO */,
  mayNotReclaim: -errno.EACCES,
  badMessage: -errno.EINVAL,
  unknownCommand: -errno.EOPNOTSUPP,
} as const

export interface Answer extends Reply {
  readonly message: Taken
}

const answerTo = (message: Taken, said: number, version?: number): Answer => ({ message, status: said, version })

/**
 * Carries out a batch: messages about clients, or one other message.
 * @returns their answers. What they promise is durable
 */
export function carriedOut(server: Server, pipe: Pipe, batch: readonly Taken[]): readonly Answer[] {
  const taken = batch[0]
  if (taken === undefined) return []
  switch (taken.asked?.event) {
    case 'create':
    case 'remove':
    case 'check':
      return ofClients(server, batch, taken.header.xid)
    case undefined:
      server.log.error(
        `can't understand a message: version ${taken.header.version}, command ${taken.header.command}, ` +
          `${taken.bytes.length} bytes`,
      )
      return [answerTo(taken, taken.whole ? status.unknownCommand : status.badMessage)]
    case 'version':
      server.instance.starting()
      return [answerTo(taken, status.done, server.maxVersion)]
    case 'grace-start':
      return [startInstance(server, pipe, taken)]
    case 'grace-done':
      return [answerTo(taken, endGrace(server, taken.header.xid))]
  }
}

/**
 * A server instance starts. Even if the storage fails, the answer is 0: after an error the kernel would use another
 * tracker. If the start is not durable, the list has no names, or only some of those whose records are durable, and
 * after the next start no client may reclaim. In the newest kernels, if a start was read completely and its reader
 * dies, it fails (EPIPE), and the kernel goes on in version 0.
 */
function startInstance(server: Server, pipe: Pipe, taken: Taken): Answer {
  const { log, doing } = server
  server.instance.starting()
  // A client whose Create failed gets its record in the instance in which it came.
  while (tryAgain(server));
  server.unfinished.clear()
  const { calls, nfsd, known } = server
  const list = listFor({ calls, pipe, log, nfsd, known }, taken, () => server.hashes())
  const name = server.nameOf(pipe)
  doing.graceStarted = Math.floor(server.calls.now() / 1000)
  doing.graceOver = undefined
  doing.protocol = taken.header.version
  try {
    server.beginning()
    server.withWorld(list.nfsd, (world) => {
      perform(world, { event: 'start', kernelBootTime: undefined, askedBy: name, pipe: name })
    })
  } catch (thrown) {
    log.critical(
      `the server starts, and that can't be recorded (${sentence(thrown)}): ` +
        'nobody may reclaim, now or after the next start',
    )
    server.instance.notStarted()
    server.distrust('start')
    count(server, 'grace_start', 'failed')
    doing.named = list.named()
    return answerTo(list.taken(), status.done)
  }
  server.instance.started(list.isGivenUp())
  count(server, 'grace_start', 'answered')
  doing.named = list.named()
  if (list.isGivenUp()) {
    log.warning('too many clients for a list: the kernel is told to ask for each that comes; grace lasts its full time')
    doing.protocol = 0
    return answerTo(list.taken(), status.storageFailed)
  }
  if (list.named() > longList) log.warning(`${list.named()} clients may reclaim: each costs the kernel's start time`)
  return answerTo(list.taken(), status.done)
}

function endGrace(server: Server, xid: number): number {
  const request: AskedOfInstance = { event: 'grace-done', kernelBootTime: undefined, legacyTop: undefined }
  server.doing.graceOver = Math.floor(server.calls.now() / 1000)
  try {
    server.instance.assure(xid)
    server.withWorld(server.nfsd, (world) => {
      perform(world, request)
    })
  } catch (thrown) {
    count(server, 'grace_done', 'failed')
    return failed(server, request, thrown)
  }
  server.settled(request)
  count(server, 'grace_done', 'answered')
  return status.done
}

/** Carries out messages about clients. @param first the number of the first of them */
function ofClients(server: Server, batch: readonly Taken[], first: number): readonly Answer[] {
  const requests: ClientRequest[] = []
  const answers: Answer[] = []
  for (let at = 0; at < batch.length; at++) {
    const taken = batch[at]
    const request = taken && requestOf(server, taken)
    if (request !== undefined) requests[requests.length] = request
  }
  const outcomes = attempt(server, requests, first)
  // The next of the requests.
  let next = 0
  for (let at = 0; at < batch.length; at++) {
    const taken = batch[at]
    const request = requests[next]
    if (taken === undefined) continue
    // Where a message asks nothing, the pipe went away while its owner was read.
    answers[at] =
      taken.asked === undefined || request === undefined
        ? answerTo(taken, status.badMessage)
        : answerTo(taken, statusOf(server, request, outcomes[next++]))
  }
  return answers
}

/** @param thrown why the request was not carried out; undefined, if it was */
function statusOf(server: Server, request: ClientRequest, thrown: unknown): number {
  const counted = server.doing.messages[request.event]
  if (thrown === undefined) {
    counted.answered++
    server.settled(request)
    return status.done
  }
  if (thrown instanceof Failed && thrown.failure.kind === 'may-not-reclaim') {
    counted.answered++
    server.log.failed(thrown.failure, request.event)
    return status.mayNotReclaim
  }
  counted.failed++
  return failed(server, request, thrown)
}

/**
 * Notes what the storage refused, for a retry. If its failure could let a client reclaim that must not, a mark is made
 * first: then the next start lets nobody reclaim.
 * @returns the status to answer with
 */
function failed(server: Server, request: AskedOfInstance, thrown: unknown): number {
  const { log } = server
  if (!isStorageFailure(thrown)) {
    log.failed(failureFrom(thrown), request.event)
    return status.badMessage
  }
  if (request.event === 'check') {
    // It is not retried: its client was refused. So it must not replace another request of that client.
    log.error(`check failed: ${sentence(thrown)}`)
    return status.storageFailed
  }
  if (isDangerous(request)) server.distrust('serve')
  const isKept = server.unfinished.add(request, server.instance.isRecorded() ? currentInstance(server) : undefined)
  if (!isKept && isDangerous(request)) server.distrust('start')
  log.error(`${request.event} failed, and is ${isKept ? '' : 'not '}tried again: ${sentence(thrown)}`)
  return status.storageFailed
}

/** The request that an upcall would make of a client's message; undefined, if it is none. */
function requestOf(server: Server, { asked }: Taken): ClientRequest | undefined {
  switch (asked?.event) {
    case 'create':
    case 'remove':
      return asked
    case 'check':
      // Treated like a client without a session: it may send nothing more, so its check must record it.
      server.doing.protocol = 0
      return {
        event: 'check',
        owner: asked.owner,
        session: 'no session',
        legacyRecord: server.legacyRecordOf(asked.owner),
      }
    default:
      return undefined
  }
}

function count(server: Server, what: Counted, outcome: 'answered' | 'failed'): void {
  server.doing.messages[what][outcome]++
}

const sentence = (thrown: unknown): string => errorCode(thrown) ?? report(failureFrom(thrown)).line
