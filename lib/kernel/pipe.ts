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
import { headerSize, needsLastByte, readHeader, sizeOf, type Header } from '../upcall/message.ts'
import type { Calls, Status } from '../syscalls/calls.ts'
import { atFlags } from '../syscalls/calls.ts'
import { errno } from '../syscalls/errno.ts'

/** A message, taken and not yet answered. */
export interface Taken {
  readonly descriptor: number
  readonly header: Header
  /** All that has been read. */
  readonly bytes: Uint8Array
  /** The size of its answer, as its version says; {@link Pipe.finish} tells what it is. */
  readonly size: number
  /** Nothing of it is left in the pipe: should this process die, nobody gets it again. */
  readonly whole: boolean
  /** What is still in the pipe says something: see {@link Pipe.complete}. */
  readonly lacksOwner: boolean
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
  /** Answers, or says one name of a list. @returns 0, or the negated errno. */
  readonly write: (bytes: Uint8Array) => number
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
  /** Those that have no message. */
  const free: number[] = [first]
  const all: number[] = [first]
  let most: number | undefined
  /** What is read first, and where it belongs goes on from here. */
  const room = new Uint8Array(anyMessage)
  /** As the last message was: all of a server's have one size, but for its first. */
  let expected = sizeOf(1) ?? headerSize

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
    all.push(descriptor)
    free.unshift(descriptor)
    return true
  }

  return {
    path,
    status,
    pollable: () => free.at(-1) ?? first,
    take: () => {
      const taken: Taken[] = []
      while (free.length > 0 || openAnother()) {
        const [descriptor = -1] = free
        const message = takeFrom(calls, descriptor, room, expected)
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
      const rest = readOnce(calls, taken.descriptor, bytes.subarray(taken.bytes.length))
      const length = taken.bytes.length + (rest === 'gone' ? 0 : rest)
      return { ...taken, bytes: bytes.slice(0, length), whole: true, lacksOwner: false }
    },
    finish: ({ descriptor, bytes, whole }) => {
      const rest = whole ? 0 : readOnce(calls, descriptor, room)
      free.unshift(descriptor)
      return rest === 'gone' ? 'gone' : bytes.length + rest
    },
    write: (bytes) => calls.write(first, bytes),
    close: () => {
      for (const descriptor of all) calls.close(descriptor)
    },
  }
}

/**
 * The next message, but for its last byte where that can wait.
 * @param expected the size that it has most often: one read then takes all that is wanted of it.
 */
function takeFrom(calls: Calls, descriptor: number, room: Uint8Array, expected: number): Taken | 'nothing' | 'gone' {
  const first = readOnce(calls, descriptor, room.subarray(0, expected - 1))
  if (first === 'gone') return 'gone'
  if (first === 0) return 'nothing'
  const header = readHeader(room)
  const size = first < headerSize ? undefined : sizeOf(header.version)
  // A message of an unknown version is read to its end, because its size is not known.
  const wanted = size === undefined ? anyMessage : size - 1
  const rest = first < expected - 1 || first >= wanted ? 0 : readOnce(calls, descriptor, room.subarray(first, wanted))
  if (rest === 'gone') return 'gone'
  const bytes = room.slice(0, first + rest)
  const isShort = size === undefined || bytes.length < size - 1
  // Its version has another size than was expected. If there was room for more, it has been read to its end.
  const whole = isShort || (first >= size && first < expected - 1)
  return {
    descriptor,
    header,
    bytes,
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
