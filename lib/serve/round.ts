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
import type { Pipe, Taken } from '../kernel/pipe.ts'
import { errno, errorName } from '../syscalls/errno.ts'
import { commands, inOrder } from '../upcall/message.ts'
import { carriedOut, status, type Answer } from './carry-out.ts'
import type { Journal, Reply } from './journal.ts'
import type { Server } from './server.ts'

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
  say(server, pipe, journal, carriedOut(server, pipe, completed(server, journal, batch)))

/**
 * Reads each message with an owner of 1024 bytes to its end, because it has no filler byte to leave unread. If this
 * process then dies, the next one answers that the message failed. All such messages of a batch are noted at once, and
 * only when it is the batch's turn, because only the journal's last rounds count.
 */
function completed(server: Server, journal: Journal, batch: readonly Taken[]): readonly Taken[] {
  let isLackingAny = false
  for (let at = 0; at < batch.length; at++) isLackingAny ||= batch[at]?.lacksOwner === true
  if (!isLackingAny) return batch
  const lacking = batch.filter(({ lacksOwner }) => lacksOwner)
  writeDown(
    server,
    journal,
    lacking.map((message): Reply => ({ message, status: status.storageFailed, doubtful: true })),
  )
  for (const taken of lacking) taken.complete()
  return batch
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
  lacksOwner || asked?.event === 'create' || asked?.event === 'remove' || asked?.event === 'check'

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
  const size = message.finish()
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
  (said !== 0 && unfinished.count() <= fewClients) || header.command === graceStart || header.command === graceDone

const { 'grace-start': graceStart, 'grace-done': graceDone } = commands
