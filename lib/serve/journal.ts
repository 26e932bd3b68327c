/**
 * The journal of replies: what is about to be answered.
 *
 * After the last byte of a message is read and before it is answered, no other process would get the message. If this
 * process died then, an nfsd thread would wait for ever (in kernels without the in-flight fix; 7.2 is one). So the
 * answer is written down before that byte is read. The next `serve` that finds the same pipe writes it again: the
 * kernel takes it (and releases a thread), or answers EINVAL (it had the answer already). The journal need not survive
 * a power cut, because the kernel that waits does not. So it is in the run directory, and costs one write(2) a round.
 */
import { atFlags, type Calls } from '../syscalls/calls.ts'
import { answered, errno } from '../syscalls/errno.ts'
import { writeWhole } from '../syscalls/files.ts'
import { answerTo, type Header } from '../upcall/message.ts'

const here = atFlags.AT_FDCWD

export interface Reply {
  readonly header: Header
  readonly size: number
  /** 0, or a negated errno. */
  readonly status: number
  /** The answer to GetVersion. */
  readonly version?: number | undefined
  /** Said only because the process died: then a client may stay recorded that is gone. */
  readonly doubtful?: boolean
}

export interface Journal {
  /**
   * Written when it returns, as far as this machine runs on.
   * @returns 0, or the negated errno. What is answered then has no journal, which matters only if we die at that
   * moment.
   */
  readonly note: (replies: readonly Reply[]) => number
  readonly close: () => void
}

function linesOf(round: number, replies: readonly Reply[]): string {
  let lines = ''
  for (const { header, size, status, version, doubtful } of replies)
    lines +=
      `${round} ${header.version} ${header.command} ${header.xid} ${size} ` +
      `${status} ${version ?? '-'} ${doubtful === true ? 'doubtful' : 'sure'}\n`
  return lines
}

/** A journal that is longer than this is begun anew. */
const longest = 1 << 16

/**
 * @param pipe names the pipe: its device, its inode and the boot.
 * @param carried replies of the journal before that the kernel does not have yet: each round writes them again, as long
 * as they are in this list.
 */
export function beginJournal(calls: Calls, path: string, pipe: string, carried: readonly Reply[] = []): Journal {
  let descriptor = -1
  let length = 0
  let round = 0
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = calls.flags
  /** As long as the last text: most are. */
  let room = new Uint8Array(0)
  const append = (text: string): void => {
    if (room.length !== text.length) room = new Uint8Array(text.length)
    calls.bytesInto(text, room, 0)
    writeWhole(calls, descriptor, room, path)
    length += text.length
  }
  const begin = (): void => {
    if (descriptor >= 0) calls.close(descriptor)
    descriptor = -1
    // A new file in the place of the old one: what the old one says has been answered.
    const staged = `${path}.new`
    answered(calls.unlinkat(here, staged, 0), 'unlink', staged, errno.ENOENT)
    descriptor = answered(calls.openat(here, staged, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600), 'open', staged)
    length = 0
    append(`${pipe}\n${linesOf(round, carried)}`)
    answered(calls.renameat(here, staged, here, path), 'rename', staged)
  }
  /** A file that could not be written whole is begun anew the next time. */
  const attempt = (work: () => void): number => {
    try {
      work()
      return 0
    } catch (thrown) {
      if (!(thrown instanceof Error && 'errno' in thrown && typeof thrown.errno === 'number')) throw thrown
      length = Infinity
      return thrown.errno
    }
  }
  attempt(begin)
  return {
    note: (replies) =>
      attempt(() => {
        if (length > longest) begin()
        round++
        append(carried.length === 0 ? linesOf(round, replies) : linesOf(round, carried) + linesOf(round, replies))
      }),
    close: () => {
      if (descriptor >= 0) calls.close(descriptor)
      calls.unlinkat(here, path, 0)
    },
  }
}

/**
 * The replies that were written down last for a pipe: those of two rounds, because the last round may have been cut
 * short, over messages that the one before had noted. The kernel tells which of them it waits for.
 */
export function lastReplies(calls: Calls, path: string, pipe: string): readonly Reply[] {
  const [first, ...lines] = textAt(calls, path).split('\n')
  if (first !== pipe) return []
  const replies = lines.flatMap((line) => {
    const [, round, version, command, xid, size, status, answer, sure] = shape.exec(line) ?? []
    return round === undefined
      ? []
      : [
          {
            round,
            header: { version: Number(version), command: Number(command), xid: Number(xid) },
            size: Number(size),
            status: Number(status),
            version: answer === '-' ? undefined : Number(answer),
            doubtful: sure === 'doubtful',
          },
        ]
  })
  const last = Number(replies.at(-1)?.round)
  const latest = new Map<number, Reply>()
  for (const { round, ...reply } of replies) if (Number(round) >= last - 1) latest.set(reply.header.xid, reply)
  return [...latest.values()]
}

function textAt(calls: Calls, path: string): string {
  const descriptor = calls.openat(here, path, calls.flags.O_RDONLY | calls.flags.O_NOFOLLOW, 0)
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

/** The most that a call of readText gives. */
const pageSize = 8192

const shape = /^(\d+) (\d) (\d+) (\d+) (\d+) (-?\d+) (-|\d) (sure|doubtful)$/

export const bytesOfReply = ({ header, size, status, version }: Reply): Uint8Array<ArrayBuffer> =>
  answerTo(header, size, status, version)
