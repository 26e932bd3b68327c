/**
 * The journal of replies: the answers that `serve` is about to give.
 *
 * After the last byte of a message is read and before it is answered, no other process would get the message. If this
 * process died then, an nfsd thread would wait for ever (in kernels without the in-flight fix; 7.2 is one). So the
 * answer is written down before that byte is read. The next `serve` that finds the same pipe writes it again: the
 * kernel takes it (and releases a thread), or answers EINVAL (it had the answer already). The journal need not survive
 * a power cut, because the kernel that waits does not. So it is in the run directory, and costs one write(2) a round.
 */
import { atFlags, type Calls } from '../syscalls/calls.ts'
import { answered, errno } from '../syscalls/errno.ts'
import { anywhere, openOurs, writeWhole } from '../syscalls/files.ts'
import { answerTo, type Header } from '../upcall/message.ts'

const here = atFlags.AT_FDCWD

/** Which message is answered. */
export interface Answered {
  readonly header: Header
  readonly size: number
}

export interface Reply {
  readonly message: Answered
  /** 0, or a negated errno. */
  readonly status: number
  /** The answer to GetVersion. */
  readonly version?: number | undefined
  /** The answer is given only because the process died, so a client that is gone may stay recorded. */
  readonly doubtful?: boolean
}

/** The text in a line before the message's number (after the round) and after it, and the values that it is made of. */
interface Parts {
  readonly protocol: number
  readonly size: number
  readonly status: number
  readonly version: number | undefined
  readonly doubtful: boolean
  readonly begin: string
  readonly end: string
}

function partsOf({ message: { header, size }, status, version, doubtful = false }: Reply): Parts {
  const { version: protocol, command } = header
  const begin = ` ${protocol} ${command} `
  const end = ` ${size} ${status} ${version ?? '-'} ${doubtful ? 'doubtful' : 'sure'}\n`
  return { protocol, size, status, version, doubtful, begin, end }
}

/** A longer journal is replaced by a new one. */
const longest = 1 << 16

export class Journal {
  private readonly calls: Calls
  private readonly path: string | undefined
  private readonly pipe: string
  /** Answers of the last journal that the kernel may not have: each round repeats them. */
  readonly owed: ReadonlyMap<number, Reply>
  /** Whether there are any: to ask for the size of a map takes longer. */
  isOwing: boolean
  /** Whether the last answers could not be written down. */
  isFailing = false
  private descriptor = -1
  private length = 0
  private round = 0
  /** Of the last text's length. Most texts have the same, so this is used again. */
  private bytes = new Uint8Array(0)
  /** The parts of each command's last line, which most lines share. Making them anew takes 9000 instructions. */
  private readonly last: (Parts | undefined)[] = []
  /** The same as {@link owed}. */
  private readonly answers: Map<number, Reply>

  /**
   * @param path undefined, if there is no place for it: then nothing is written down
   * @param pipe the pipe's name: its device, its inode and the boot
   * @param owed replies of the last journal that the kernel does not have yet
   */
  constructor(calls: Calls, path: string | undefined, pipe: string, owed: readonly Reply[] = []) {
    this.calls = calls
    this.path = path
    this.pipe = pipe
    this.answers = new Map(owed.map((reply) => [reply.message.header.xid, reply]))
    this.owed = this.answers
    this.isOwing = owed.length > 0
    if (path === undefined) return
    try {
      this.begin(path, this.linesOf(this.round, owed))
    } catch (thrown) {
      this.failed(thrown)
    }
  }

  /**
   * Writes replies down, so that they survive this process, but not a power cut.
   * @returns 0, or the negated errno: then the journal lacks these answers, which matters only if this process dies
   * before it has given them
   */
  note(replies: readonly Reply[]): number {
    const { path, owed } = this
    // A message that was taken again has an answer of its own.
    if (this.isOwing) for (const { message } of replies) this.settle(message.header.xid)
    if (path === undefined) return 0
    try {
      const round = ++this.round
      const own = this.linesOf(round, replies)
      const lines = this.isOwing ? this.linesOf(round, [...owed.values()]) + own : own
      if (this.length > longest) this.begin(path, lines)
      else this.append(path, lines)
      this.isFailing = false
      return 0
    } catch (thrown) {
      this.isFailing = true
      return this.failed(thrown)
    }
  }

  /** The kernel has the answer to a message, or waits for it no longer. */
  settle(xid: number): void {
    this.answers.delete(xid)
    this.isOwing = this.answers.size > 0
  }

  close(): void {
    if (this.descriptor >= 0) this.calls.close(this.descriptor)
    if (this.path !== undefined) this.calls.unlinkat(here, this.path, 0)
  }

  /**
   * Replaces the file: all answers in the old one have been given, but for those that are in the new one's first lines
   * too.
   */
  private begin(path: string, lines: string): void {
    const { calls } = this
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = calls.flags
    if (this.descriptor >= 0) calls.close(this.descriptor)
    this.descriptor = -1
    const staged = `${path}.new`
    answered(calls.unlinkat(here, staged, 0), 'unlink', staged, errno.ENOENT)
    const opened = calls.openat(here, staged, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
    this.descriptor = answered(opened, 'open', staged)
    this.length = 0
    this.append(path, `${this.pipe}\n${lines}`)
    answered(calls.renameat(here, staged, here, path), 'rename', staged)
  }

  private linesOf(round: number, replies: readonly Reply[]): string {
    let lines = ''
    for (let at = 0; at < replies.length; at++) {
      const reply = replies[at]
      if (reply === undefined) continue
      const { header, size } = reply.message
      let last = this.last[header.command]
      if (
        last?.status !== reply.status ||
        last.protocol !== header.version ||
        last.size !== size ||
        last.version !== reply.version ||
        last.doubtful !== (reply.doubtful === true)
      )
        last = this.last[header.command] = partsOf(reply)
      lines += String(round) + last.begin + String(header.xid) + last.end
    }
    return lines
  }

  private append(path: string, text: string): void {
    if (this.bytes.length !== text.length) this.bytes = new Uint8Array(text.length)
    this.calls.bytesInto(text, this.bytes, 0)
    writeWhole(this.calls, this.descriptor, this.bytes, path)
    this.length += text.length
  }

  /** A file that could not be written completely is replaced the next time. @returns the negated errno */
  private failed(thrown: unknown): number {
    if (!(thrown instanceof Error && 'errno' in thrown && typeof thrown.errno === 'number')) throw thrown
    this.length = Infinity
    return thrown.errno
  }
}

/**
 * The replies that were written down last for a pipe. They are those of two rounds, because the last round may have
 * been cut short, and the one before it may have noted the same messages. A probe tells which of them the kernel still
 * waits for.
 */
export function lastReplies(calls: Calls, path: string | undefined, pipe: string): readonly Reply[] {
  if (path === undefined) return []
  const [first, ...lines] = textAt(calls, path).split('\n')
  if (first !== pipe) return []
  const replies = lines.flatMap((line) => {
    const [, round, version, command, xid, size, status, answer, sure] = shape.exec(line) ?? []
    return round === undefined
      ? []
      : [
          {
            round,
            message: {
              header: { version: Number(version), command: Number(command), xid: Number(xid) },
              size: Number(size),
            },
            status: Number(status),
            version: answer === '-' ? undefined : Number(answer),
            doubtful: sure === 'doubtful',
          },
        ]
  })
  const last = Number(replies.at(-1)?.round)
  const latest = new Map<number, Reply>()
  for (const { round, ...reply } of replies) if (Number(round) >= last - 1) latest.set(reply.message.header.xid, reply)
  return [...latest.values()]
}

function textAt(calls: Calls, path: string): string {
  const descriptor = openOurs(path, anywhere(calls))
  if (descriptor < 0) return ''
  let text = ''
  for (;;) {
    const page = calls.readText(descriptor, pageSize)
    if (typeof page === 'number' || page === '' || text.length > 2 * longest) break
    text += page
  }
  calls.close(descriptor)
  return text
}

/** The most that readText returns at once. */
const pageSize = 8192

const shape = /^(\d+) (\d+) (\d+) (\d+) (\d+) (-?\d+) (-|\d) (sure|doubtful)$/

export const bytesOfReply = ({ message, status, version }: Reply): Uint8Array<ArrayBuffer> =>
  answerTo(message.header, message.size, status, version)
