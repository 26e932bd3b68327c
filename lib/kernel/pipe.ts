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
import type { Written } from '../bytes.ts'
import { atFlags, type Calls, type Status } from '../syscalls/calls.ts'
import { errno } from '../syscalls/errno.ts'
import {
  answerTo,
  askedIn,
  headerSize,
  lengthPlace,
  needsLastByte,
  ownerField,
  ownerRoom,
  readHeader,
  readMessage,
  sizeOf,
  sizes,
  statusPlace,
  versionAt,
  xidPlace,
  type Asked,
} from '../upcall/message.ts'

/**
 * A file open at the pipe, and the message that was taken there. It is filled in anew for each message, and the memory
 * that it is read into is kept: a round would make and free dozens of objects.
 */
export class Taken {
  readonly header: { version: number; command: number; xid: number } = { version: 0, command: 0, xid: 0 }
  /** All that has been read, until it is {@link finish}ed. */
  bytes: Uint8Array
  /** What it asks, as far as that has been read; undefined for what can't be understood. */
  asked: Asked | undefined
  /** The size of its answer, as its version says; {@link finish} tells what it is. */
  size = 0
  /** Nothing of it is left in the pipe: should this process die, nobody gets it again. */
  whole = false
  /** What is still in the pipe says something: see {@link complete}. */
  lacksOwner = false
  readonly descriptor: number
  private readonly calls: Calls
  private room = roomFor(headerSize)
  /** So much of it has been read: until it is finished. */
  private got = 0

  constructor(calls: Calls, descriptor: number) {
    this.calls = calls
    this.descriptor = descriptor
    this.bytes = this.room.head
    this.asked = undefined
  }

  /**
   * Takes the next message, but for its last byte where that can wait.
   * @param version that it has most often, and its size: one read then takes all that is wanted of it.
   * @returns more than 0; 0 if there is none; less, if the pipe is gone.
   */
  take(version: number, size: number): number {
    if (this.room.size !== size) this.room = roomFor(size)
    const { room, header } = this
    const { head } = room
    const first = this.calls.read(this.descriptor, head)
    if (first <= 0) return first === interrupted ? this.take(version, size) : first
    header.version = head[0] ?? 0
    header.command = head[1] ?? 0
    header.xid = room.longs[xidPlace] ?? 0
    if (first !== size - 1 || header.version !== version) return this.takeOther(first)
    this.bytes = head
    this.got = first
    this.asked = askedIn(head, header, (room.shorts[lengthPlace] ?? 0) & 0xffff)
    this.size = size
    this.whole = false
    this.lacksOwner = version === 1 && needsLastByte(head)
    return first
  }

  /**
   * One that is not as long as was expected.
   * @param first so many bytes have been read.
   */
  private takeOther(first: number): number {
    const { head } = this.room
    // Its version says how long it is; an unknown one is read to its end.
    const size = first < headerSize ? undefined : sizeOf(this.header.version)
    const wanted = size === undefined ? anyMessage : size - 1
    const all = new Uint8Array(Math.max(first, wanted))
    all.set(head.subarray(0, first))
    const rest = first < head.length || first >= wanted ? 0 : this.read(all.subarray(first))
    if (rest < 0) return rest
    const bytes = all.slice(0, first + rest)
    // What is missing of a header counts as zero, not as what the last message had there.
    if (first < headerSize) Object.assign(this.header, readHeader(all))
    const isShort = size === undefined || bytes.length < size - 1
    this.bytes = bytes
    this.got = bytes.length
    this.asked = readMessage(bytes)
    this.size = isShort ? bytes.length : size
    // Its version has another size than was expected. If there was room for more, it has been read to its end.
    this.whole = isShort || (first >= size && first < head.length)
    this.lacksOwner = !this.whole && needsLastByte(bytes)
    return first
  }

  /**
   * Reads the last byte as well, and understands the message anew. Whoever does that has made sure that the message is
   * answered should this process die.
   */
  complete(): void {
    const bytes = new Uint8Array(this.size)
    bytes.set(this.bytes)
    const last = this.read(bytes.subarray(this.bytes.length))
    this.bytes = bytes.slice(0, this.bytes.length + Math.max(0, last))
    this.got = this.bytes.length
    this.asked = readMessage(this.bytes)
    this.whole = true
    this.lacksOwner = false
  }

  /**
   * Reads what is left in the pipe. From here on nobody else gets it.
   * @returns how long the message is; less than 0, if the pipe is gone.
   */
  finish(): number {
    if (this.whole) return this.got
    const last = this.calls.read(this.descriptor, this.room.rest)
    if (last >= 0) return this.got + last
    return last === interrupted ? this.finish() : last
  }

  /**
   * Its own bytes, where it is as long as was expected: the kernel looks at size, xid and status.
   * @param size of the message, which is finished.
   * @param version the answer to GetVersion.
   */
  answer(size: number, status: number, version: number | undefined): Uint8Array {
    const { room } = this
    if (this.bytes !== room.head || size !== room.size) return answerTo(this.header, size, status, version)
    room.shorts[statusPlace] = status
    if (version !== undefined) room.message[versionAt] = version
    return room.message
  }

  /**
   * One read(2): as much of one message as there is room for. Fewer bytes mean that the message has ended, and another
   * read would begin the next one.
   * @returns less than 0, if the pipe is gone.
   */
  private read(into: Uint8Array): number {
    for (;;) {
      const answer = this.calls.read(this.descriptor, into)
      if (answer !== interrupted) return answer
    }
  }
}

const interrupted = -errno.EINTR

/** Memory for messages of one size, and views of it. */
interface Room {
  readonly size: number
  readonly message: Uint8Array
  /** All but its last byte. */
  readonly head: Uint8Array
  /** The last byte, and what would follow it. */
  readonly rest: Uint8Array
  /** In the machine's order of bytes, as the kernel's numbers are. */
  readonly shorts: Int16Array
  readonly longs: Uint32Array
}

function roomFor(size: number): Room {
  const all = new ArrayBuffer(size + anyMessage)
  return {
    size,
    message: new Uint8Array(all, 0, size),
    head: new Uint8Array(all, 0, size - 1),
    rest: new Uint8Array(all, size - 1),
    shorts: new Int16Array(all, 0, lengthPlace + 1),
    longs: new Uint32Array(all, 0, headerSize / 4),
  }
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
  /** Says one name of a list. @returns how many bytes, or the negated errno. */
  readonly write: (bytes: Uint8Array) => number
  /** Says names of a list, from one to before another. @returns how many: see `writeEach` in calls.ts. */
  readonly writeEach: (entry: Uint8Array, names: readonly string[], from: number, until: number) => number
  /**
   * Reads links, and says the names of those that need no look, but for some: see `writeLinks` in calls.ts.
   * @param longest after so many milliseconds the caller says the rest
   */
  readonly writeLinks: (
    entry: Uint8Array,
    links: Required<Parameters<Calls['links']>>,
    excepted: string,
    longest: number,
  ) => Written | number | undefined
  /** Answers a message that is finished. @param version the answer to GetVersion. @returns as {@link write}. */
  readonly answer: (taken: Taken, size: number, status: number, version: number | undefined) => number
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
  // The engine splits quickly where it searches slowly: a regular expression would take 100 000 instructions.
  const limit = typeof text === 'string' ? Number.parseInt(text.split('Max open files')[1] ?? '') : NaN
  return Number.isNaN(limit) ? mostTaken : Math.max(1, Math.min(mostTaken, limit - keptFree))
}

/** A longer message than any that is known. */
const anyMessage = 4096

/** Opens the pipe. @returns undefined, where there is none. */
export function openPipe(calls: Calls, path: string): Pipe | undefined {
  const first = openFile(calls, path)
  if (first < 0) return undefined
  const status = calls.fstat(first)
  if (typeof status === 'object' && status.kind !== 'directory') return new OpenPipe(calls, path, first, status)
  calls.close(first)
  return undefined
}

function openFile(calls: Calls, path: string): number {
  const { O_RDWR, O_NONBLOCK, O_NOFOLLOW } = calls.flags
  return calls.openat(atFlags.AT_FDCWD, path, O_RDWR | O_NONBLOCK | O_NOFOLLOW, 0)
}

class OpenPipe implements Pipe {
  readonly path: string
  readonly status: Status
  private readonly calls: Calls
  private readonly first: number
  /** Between two rounds none of them has a message. */
  private readonly files: Taken[]
  /** How many of them had one when messages were taken last: the first ones. */
  private taken = 0
  private most: number | undefined
  /** The last message's: all of a server's have one, but for its first. */
  private version = 1
  private size = sizes[1] ?? headerSize

  constructor(calls: Calls, path: string, first: number, status: Status) {
    this.calls = calls
    this.path = path
    this.first = first
    this.status = status
    this.files = [new Taken(calls, first)]
    this.most = undefined
  }

  pollable(): number {
    return this.first
  }

  take(): Taken[] | 'gone' {
    const { files } = this
    const taken: Taken[] = []
    for (let at = 0; at < files.length || this.openAnother(); at++) {
      const file = files[at]
      if (file === undefined) break
      const first = file.take(this.version, this.size)
      if (first < 0) return 'gone'
      if (first === 0) break
      taken[at] = file
      if (file.header.version !== this.version) this.expect(file.header.version)
    }
    this.taken = taken.length
    return taken
  }

  private expect(version: number): void {
    const size = sizeOf(version)
    if (size === undefined) return
    this.version = version
    this.size = size
  }

  /** Opens one more. @returns whether it is the same pipe: its name may be another's by now. */
  private openAnother(): boolean {
    const { calls, path, status } = this
    this.most ??= mostOf(calls)
    if (this.files.length >= this.most) return false
    const descriptor = openFile(calls, path)
    if (descriptor < 0) return false
    const found = calls.fstat(descriptor)
    if (typeof found === 'number' || found.inode !== status.inode || found.device !== status.device) {
      calls.close(descriptor)
      return false
    }
    this.files.push(new Taken(calls, descriptor))
    return true
  }

  isFull(): boolean {
    return this.taken === this.files.length
  }

  write(bytes: Uint8Array): number {
    return this.calls.write(this.first, bytes)
  }

  writeEach(entry: Uint8Array, names: readonly string[], from: number, until: number): number {
    return this.calls.writeEach(this.first, entry, ownerField, ownerRoom, names, from, until)
  }

  writeLinks(
    entry: Uint8Array,
    links: Required<Parameters<Calls['links']>>,
    excepted: string,
    longest: number,
  ): Written | number | undefined {
    return this.calls.writeLinks(...links, this.first, entry, ownerField, ownerRoom, excepted, longest)
  }

  answer(taken: Taken, size: number, status: number, version: number | undefined): number {
    return this.calls.write(this.first, taken.answer(size, status, version))
  }

  close(): void {
    for (const { descriptor } of this.files) this.calls.close(descriptor)
  }
}
