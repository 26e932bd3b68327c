/**
 * The kernel's pipe for client tracking, `nfsd/cld` of rpc_pipefs (net/sunrpc/rpc_pipe.c).
 *
 * A message stays the pipe's until its last byte is read: if the reader dies before, the kernel queues the message
 * again, and the next reader gets it from its first byte. So a message is *taken* by reading all but its last byte, and
 * *finished* by reading that one, when what it asks is durable. Each open file has its own message, so as many are open
 * as messages were ever taken at once. Between rounds none of them has one, or it could not be polled. Two programs
 * that hold one pipe split its messages between them.
 *
 * read(2) never waits, and gives 0 where nothing is queued. write(2) takes whole messages. Once the pipe is gone both
 * give EPIPE.
 */
import {
  answers,
  headerSize,
  needsLastByte,
  readHeader,
  readMessage,
  sizeOf,
  type Asked,
  type Header,
} from '../upcall/message.ts'
import type { Calls, Status } from '../syscalls/calls.ts'
import { atFlags } from '../syscalls/calls.ts'
import { errno } from '../syscalls/errno.ts'

/** A message, taken and not yet answered. */
export interface Taken {
  readonly file: OpenFile
  readonly header: Header
  /** All that has been read: until it is finished. */
  readonly bytes: Uint8Array
  /** What it asks, as far as that has been read; undefined for what can't be understood. */
  readonly asked: Asked | undefined
  /** The size of its answer, as its version says; {@link Pipe.finish} tells what it is. */
  readonly size: number
  /** Nothing of it is left in the pipe: should this process die, nobody gets it again. */
  readonly whole: boolean
  /** What is still in the pipe says something: see {@link Pipe.complete}. */
  readonly lacksOwner: boolean
}

/** A file open at the pipe. The message that it has is in memory of its own: each new one would be allocated. */
interface OpenFile {
  readonly descriptor: number
  /** As long as what is read of most messages. */
  room: Uint8Array
}

export interface Pipe {
  readonly path: string
  readonly status: Status
  /** A descriptor that tells by poll(2) whether a message is queued, as long as none is taken. */
  readonly pollable: () => number
  /** All messages that are queued. @returns 'gone', if the pipe is no more. */
  readonly take: () => Taken[] | 'gone'
  /** Whether every file that could be opened has a message: then more may be queued that {@link take} has not seen. */
  readonly isFull: () => boolean
  /**
   * Reads the last byte of an owner. Whoever does that has made sure that the message is answered should this process
   * die.
   */
  readonly complete: (taken: Taken) => Taken
  /**
   * Reads the rest of a message. From here on nobody else gets it.
   * @returns its size, or 'gone' if nobody waits any more.
   */
  readonly finish: (taken: Taken) => number | 'gone'
  /** Says one name of a list. @returns how many bytes, or the negated errno. */
  readonly write: (bytes: Uint8Array) => number
  /** Answers. @param answer of the message ({@link answers}). @returns as {@link write}. */
  readonly answer: (...answer: Parameters<ReturnType<typeof answers>>) => number
  readonly close: () => void
}

/** No server has as many threads, each of which may wait for one message. */
const mostTaken = 512
/** Descriptors that are left for the work itself: the state directory's instances, the log, the run directory. */
const keptFree = 64

/** How many messages can be taken at once: the process may have been given few descriptors (RLIMIT_NOFILE). */
function mostOf(calls: Calls): number {
  const descriptor = calls.openat(atFlags.AT_FDCWD, '/proc/self/limits', calls.flags.O_RDONLY, 0)
  if (descriptor < 0) return mostTaken
  const text = calls.readText(descriptor, 8192)
  calls.close(descriptor)
  const [, limit] = (typeof text === 'string' ? /^Max open files +([0-9]+)/m.exec(text) : undefined) ?? []
  return limit === undefined ? mostTaken : Math.max(1, Math.min(mostTaken, Number(limit) - keptFree))
}

/** A longer message than any that is known. */
const anyMessage = 4096

/** Opens the pipe. @returns undefined, where there is none. */
export function openPipe(calls: Calls, path: string): Pipe | undefined {
  const { O_RDWR, O_NONBLOCK, O_NOFOLLOW } = calls.flags
  const open = (): number => calls.openat(atFlags.AT_FDCWD, path, O_RDWR | O_NONBLOCK | O_NOFOLLOW, 0)
  const first = open()
  if (first < 0) return undefined
  const status = calls.fstat(first)
  if (typeof status === 'number' || status.kind === 'directory') {
    calls.close(first)
    return undefined
  }
  const fileAt = (descriptor: number): OpenFile => ({ descriptor, room: new Uint8Array(0) })
  /** Those that have no message. */
  const free = [fileAt(first)]
  const all = [...free]
  let most: number | undefined
  /** For the rest of a message. */
  const rest = new Uint8Array(anyMessage)
  /** As the last message was: all of a server's have one size, but for its first. */
  let expected = sizeOf(1) ?? headerSize
  const answerOf = answers()

  /** Opens one more. @returns whether it is the same pipe: its name may be another's by now. */
  const openAnother = (): boolean => {
    most ??= mostOf(calls)
    if (all.length >= most) return false
    const descriptor = open()
    if (descriptor < 0) return false
    const found = calls.fstat(descriptor)
    if (typeof found === 'number' || found.inode !== status.inode || found.device !== status.device) {
      calls.close(descriptor)
      return false
    }
    const file = fileAt(descriptor)
    all.push(file)
    free.unshift(file)
    return true
  }

  return {
    path,
    status,
    pollable: () => free.at(-1)?.descriptor ?? first,
    take: () => {
      const taken: Taken[] = []
      while (free.length > 0 || openAnother()) {
        const file = free[0]
        if (file === undefined) break
        const message = takeFrom(calls, file, expected)
        if (message === 'gone') return 'gone'
        if (message === 'nothing') break
        free.shift()
        expected = sizeOf(message.header.version) ?? expected
        taken.push(message)
      }
      return taken
    },
    isFull: () => free.length === 0,
    complete: (taken) => {
      const bytes = new Uint8Array(taken.size)
      bytes.set(taken.bytes)
      const last = readOnce(calls, taken.file.descriptor, bytes.subarray(taken.bytes.length))
      const read = bytes.slice(0, taken.bytes.length + (last === 'gone' ? 0 : last))
      return { ...taken, bytes: read, asked: readMessage(read), whole: true, lacksOwner: false }
    },
    finish: ({ file, bytes, whole }) => {
      const last = whole ? 0 : readOnce(calls, file.descriptor, rest)
      free.unshift(file)
      return last === 'gone' ? 'gone' : bytes.length + last
    },
    write: (bytes) => calls.write(first, bytes),
    answer: (header, size, said, version) => calls.write(first, answerOf(header, size, said, version)),
    close: () => {
      for (const { descriptor } of all) calls.close(descriptor)
    },
  }
}

/**
 * The next message, but for its last byte where that can wait.
 * @param expected the size that it has most often: one read then takes all that is wanted of it.
 */
function takeFrom(calls: Calls, file: OpenFile, expected: number): Taken | 'nothing' | 'gone' {
  if (file.room.length !== expected - 1) file.room = new Uint8Array(expected - 1)
  const { descriptor, room } = file
  const first = readOnce(calls, descriptor, room)
  if (first === 'gone') return 'gone'
  if (first === 0) return 'nothing'
  const header = readHeader(room)
  const size = first < headerSize ? undefined : sizeOf(header.version)
  if (size === expected && first === size - 1) {
    const asked = readMessage(room, header)
    return { file, header, bytes: room, asked, size, whole: false, lacksOwner: needsLastByte(room) }
  }
  // A message of an unknown version is read to its end, because its size is not known.
  const wanted = size === undefined ? anyMessage : size - 1
  const all = new Uint8Array(Math.max(first, wanted))
  all.set(room.subarray(0, first))
  const rest = first < expected - 1 || first >= wanted ? 0 : readOnce(calls, descriptor, all.subarray(first))
  if (rest === 'gone') return 'gone'
  const bytes = all.slice(0, first + rest)
  const isShort = size === undefined || bytes.length < size - 1
  // Its version has another size than was expected. If there was room for more, it has been read to its end.
  const whole = isShort || (first >= size && first < expected - 1)
  return {
    file,
    header,
    bytes,
    asked: readMessage(bytes),
    size: isShort ? bytes.length : size,
    whole,
    lacksOwner: !whole && needsLastByte(bytes),
  }
}

/**
 * One read(2): as much of one message as there is room for. Fewer bytes mean that the message has ended, and another
 * read would begin the next one.
 */
function readOnce(calls: Calls, descriptor: number, room: Uint8Array): number | 'gone' {
  for (;;) {
    const answer = calls.read(descriptor, room)
    if (answer >= 0) return answer
    if (answer !== -errno.EINTR) return 'gone'
  }
}
