/**
 * One round takes all queued messages, carries them out in the order in which the kernel sent them, makes them durable
 * with one barrier, and answers.
 *
 * 1. The kernel keeps a message until its last byte is read. That byte is read when what the message asks for is
 *    durable. If the process dies before that, the next one gets the message and carries it out again: every transition
 *    may be repeated.
 * 2. The journal covers the moment between that read and the answer (journal.ts).
 * 3. After a crash, messages come again in another order, so each round is sorted by xid. Messages about clients share
 *    a barrier. A start and an end of grace are handled alone, because their effect depends on what came before.
 */
import { perform, performTogether } from '../events/perform.ts'
import { errorCode, Failed, failureFrom, report } from '../failure.ts'
import type { Pipe, Taken } from '../kernel/pipe.ts'
import { lookAt } from '../store/state-directory.ts'
import { errno, errorName } from '../syscalls/errno.ts'
import { commands, inOrder, longList } from '../upcall/message.ts'
import type { Asked as AskedOfInstance, ClientRequest } from '../upcall/request.ts'
import type { Journal, Reply } from './journal.ts'
import { listFor } from './list.ts'
import type { Server } from './server.ts'
import type { Counted } from './status-file.ts'
import { isDangerous, isStorageFailure } from './unfinished.ts'

/**
 * The status in an answer. The values are nfsdcld's: the kernel only distinguishes 0 from the rest, except for
 * ETIMEDOUT in answer to GraceStart.
 */
const status = {
  done: 0,
  storageFailed: -121 /* EREMOTEIO */,
  mayNotReclaim: -errno.EACCES,
  badMessage: -errno.EINVAL,
  unknownCommand: -errno.EOPNOTSUPP,
} as const

interface Answer extends Reply {
  readonly message: Taken
}

const answerTo = (message: Taken, said: number, version?: number): Answer => ({ message, status: said, version })

/**
 * Answers the messages that are queued now; poll(2) reports later ones. When it returns, whatever was answered with 0
 * survives a power cut.
 * @returns 'gone', if the pipe no longer exists
 */
export function answerRound(server: Server, pipe: Pipe, journal: Journal): 'answered' | 'empty' | 'gone' {
  const queued = pipe.take()
  if (queued === 'gone') return 'gone'
  if (queued.length === 0) return 'empty'
  return answerTaken(server, pipe, journal, queued) ? 'answered' : 'gone'
}

/** Answers round after round, until nothing is queued. */
export function answerQueued(server: Server, pipe: Pipe, journal: Journal): void {
  while (answerRound(server, pipe, journal) === 'answered');
}

/** Answers messages that have been taken. @returns false, if the pipe is gone. */
export function answerTaken(server: Server, pipe: Pipe, journal: Journal, taken: readonly Taken[]): boolean {
  server.instance.asked(taken, pipe)
  if (taken.length === 1) return answerBatch(server, pipe, journal, taken)
  return batches(taken).every((batch) => answerBatch(server, pipe, journal, batch))
}

/** @returns false, if the pipe is gone. */
const answerBatch = (server: Server, pipe: Pipe, journal: Journal, batch: readonly Taken[]): boolean =>
  say(server, pipe, journal, carriedOut(server, pipe, completed(server, pipe, journal, batch)))

/**
 * Reads each message with an owner of 1024 bytes to its end, because it has no filler byte to leave unread. If this
 * process then dies, the next one answers that the message failed. All such messages of a batch are noted at once, and
 * only when it is the batch's turn, because only the journal's last rounds count.
 */
function completed(server: Server, pipe: Pipe, journal: Journal, batch: readonly Taken[]): readonly Taken[] {
  let isLackingAny = false
  for (let at = 0; at < batch.length; at++) isLackingAny ||= batch[at]?.lacksOwner === true
  if (!isLackingAny) return batch
  const lacking = batch.filter(({ lacksOwner }) => lacksOwner)
  writeDown(
    server,
    journal,
    lacking.map((message): Reply => ({ message, status: status.storageFailed, doubtful: true })),
  )
  return batch.map((taken) => (taken.lacksOwner ? pipe.complete(taken) : taken))
}

/**
 * Writes replies to the journal. If that fails, for example because the run directory is full, it only reports that,
 * and not again for each round: to wait would certainly hang the kernel, while a kill at this moment is unlikely.
 */
function writeDown({ log }: Server, journal: Journal, replies: readonly Reply[]): void {
  const { isFailing } = journal
  const failure = journal.note(replies)
  if (failure < 0 === isFailing) return
  if (isFailing) log.notice('answers can be written to the journal again')
  else
    log.error(
      `can't write answers to the journal (${errorName(failure)}): a kill now would hang a thread of the server`,
    )
}

const isOfClient = ({ asked, lacksOwner }: Taken): boolean =>
  lacksOwner || asked?.command === 'create' || asked?.command === 'remove' || asked?.command === 'check'

/**
 * Puts messages into the order in which they were sent. Consecutive messages about clients are one batch, and each
 * other message is a batch of its own.
 */
function batches(taken: readonly Taken[]): readonly (readonly Taken[])[] {
  const all: Taken[][] = []
  let ofClients: Taken[] | undefined
  for (const one of taken.slice().sort((one, other) => inOrder(one.header, other.header))) {
    const isOne = isOfClient(one)
    if (isOne && ofClients !== undefined) ofClients.push(one)
    else all.push([one])
    ofClients = isOne ? all.at(-1) : undefined
  }
  return all
}

function carriedOut(server: Server, pipe: Pipe, batch: readonly Taken[]): readonly Answer[] {
  const taken = batch[0]
  if (taken === undefined) return []
  switch (taken.asked?.command) {
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
    case 'create':
    case 'remove':
    case 'check':
      return ofClients(server, batch, taken.header.xid)
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
  const list = listFor({ calls: server.calls, pipe, log, nfsd: server.nfsd }, taken, () => server.hashes())
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
  const asking: Taken[] = []
  const requests: ClientRequest[] = []
  const answers: Answer[] = []
  for (let at = 0; at < batch.length; at++) {
    const taken = batch[at]
    if (taken === undefined) continue
    const request = requestOf(server, taken)
    if (request === undefined) {
      // The pipe went away while the owner was read.
      answers.push(answerTo(taken, status.badMessage))
      continue
    }
    asking.push(taken)
    requests.push(request)
  }
  const outcomes = attempt(server, requests, first)
  for (let at = 0; at < requests.length; at++) {
    const taken = asking[at]
    const request = requests[at]
    if (taken !== undefined && request !== undefined)
      answers.push(answerTo(taken, statusOf(server, request, outcomes[at])))
  }
  return answers
}

/** @param thrown why the request was not carried out; undefined, if it was */
function statusOf(server: Server, request: ClientRequest, thrown: unknown): number {
  if (thrown === undefined) {
    count(server, request.event, 'answered')
    server.settled(request)
    return status.done
  }
  if (thrown instanceof Failed && thrown.failure.kind === 'may-not-reclaim') {
    count(server, request.event, 'answered')
    server.log.failed(thrown.failure, request.event)
    return status.mayNotReclaim
  }
  count(server, request.event, 'failed')
  return failed(server, request, thrown)
}

/**
 * Carries out requests. @returns the outcome of each: undefined, or why it failed. If none could be tried, the reason
 * is the outcome of all
 */
function attempt(server: Server, requests: readonly ClientRequest[], first: number | 'again'): readonly unknown[] {
  try {
    server.instance.assure(first)
    return server.withWorld(server.nfsd, (world) => performTogether(world, requests))
  } catch (thrown) {
    return requests.map(() => thrown)
  }
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

/** The current instance; undefined, if there is none, or the disk can't be read. */
function currentInstance(server: Server): number | undefined {
  try {
    return server.withWorld(server.nfsd, ({ state }) => {
      const { instance } = lookAt(state)
      return 'start' in instance ? instance.start : undefined
    })
  } catch {
    return undefined
  }
}

/** So many requests are retried together, with one barrier. Messages that come meanwhile wait no longer than that. */
const mostTogether = 64

/**
 * Retries what the storage refused, but not in another instance that an upcall has begun meanwhile: there it would
 * record a client that has not come back, or end a grace period that is not over.
 * @returns whether to go on: the storage works again, and more is left
 */
export function tryAgain(server: Server): boolean {
  const { unfinished, log } = server
  const requests = unfinished.next(mostTogether)
  if (requests.length === 0) return false
  if (isNotAssured(server)) {
    unfinished.postpone()
    return false
  }
  const current = currentInstance(server)
  const due: AskedOfInstance[] = []
  for (const request of requests)
    if (unfinished.isOfAnother(request, current)) {
      server.settled(request)
      log.warning(`${request.event}, which had failed, is not tried again: another server instance has begun`)
    } else due.push(request)
  let works = due.length < requests.length
  const outcomes = outcomesOf(server, due)
  for (const request of due) {
    const outcome = outcomes.get(request)
    if (outcome !== undefined && isStorageFailure(outcome)) {
      unfinished.putOff(request)
      continue
    }
    works = true
    server.settled(request)
    log.notice(`${request.event}, which had failed, is done`)
  }
  if (works) unfinished.hasten()
  else unfinished.postpone()
  server.keepUnfinished()
  const goesOn = works && unfinished.count() > 0
  if (!goesOn) server.tellStatus()
  return goesOn
}

/** Carries out requests of different clients, and an end of grace. @returns why those that failed did */
function outcomesOf(server: Server, requests: readonly AskedOfInstance[]): ReadonlyMap<AskedOfInstance, unknown> {
  const ofClients = requests.filter((request) => request.event === 'create' || request.event === 'remove')
  const failures = attempt(server, ofClients, 'again')
  const outcomes = new Map<AskedOfInstance, unknown>(ofClients.map((request, at) => [request, failures[at]]))
  // Last, so that a kill in between leaves no client without its record in a full instance.
  for (const request of requests)
    if (request.event === 'grace-done')
      outcomes.set(
        request,
        outcomeOf(() => {
          server.withWorld(server.nfsd, (world) => {
            perform(world, request)
          })
        }),
      )
  return outcomes
}

const isNotAssured = ({ instance }: Server): boolean =>
  outcomeOf(() => {
    instance.assure('again')
  }) !== undefined

function outcomeOf(work: () => void): unknown {
  try {
    work()
    return undefined
  } catch (thrown) {
    return thrown
  }
}

/** The request that an upcall would make of a client's message. The pipe tells nothing of sessions and boot times. */
function requestOf(server: Server, { asked }: Taken): ClientRequest | undefined {
  switch (asked?.command) {
    case 'create':
      return {
        event: 'create',
        owner: asked.owner,
        session: 'unknown',
        principal: asked.principal,
        kernelBootTime: undefined,
      }
    case 'remove':
      return { event: 'remove', owner: asked.owner }
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

/** Writes the answers to the journal, then gives them. */
function say(server: Server, pipe: Pipe, journal: Journal, answers: readonly Answer[]): boolean {
  server.keepUnfinished()
  writeDown(server, journal, answers)
  for (let at = 0; at < answers.length; at++) {
    const answer = answers[at]
    if (answer !== undefined && !saidOne(server, pipe, answer)) return false
  }
  const first = answers[0]
  if (first !== undefined && isWorthTelling(server, first)) server.tellStatus()
  return true
}

/** @returns false, if the pipe is gone. */
function saidOne({ log }: Server, pipe: Pipe, { message, status: said, version }: Answer): boolean {
  const size = pipe.finish(message)
  if (size < 0) return false
  const outcome = pipe.answer(message, size, said, version)
  if (outcome === -errno.EPIPE) return false
  if (outcome < 0) log.warning(`the kernel did not wait for the answer to message ${message.header.xid}`)
  return true
}

/** More clients than this take long to write into the status file: then only {@link tryAgain} does it. */
const fewClients = 100

/** Whether a person would want to see this in the status file at once. */
const isWorthTelling = ({ unfinished }: Server, { message: { header }, status: said }: Answer): boolean =>
  (said !== 0 && unfinished.count() <= fewClients) ||
  header.command === commands['grace-start'] ||
  header.command === commands['grace-done']

function count(server: Server, what: Counted, outcome: 'answered' | 'failed'): void {
  server.doing.messages[what][outcome]++
}

const sentence = (thrown: unknown): string => errorCode(thrown) ?? report(failureFrom(thrown)).line
