/**
 * The kernel's end of the pipe nfsd/cld in memory (net/sunrpc/rpc_pipe.c, fs/nfsd/nfs4recover.c), in front of a table
 * of calls. Each open file has at most one message that is partly read. A message leaves the queue with its last byte.
 * Closing the file puts a partly read one back. tests/support/pipe has the same rules for real processes, which can be
 * killed.
 */
import { writeEach } from '../../../lib/bytes.ts'
import type { Calls, Status } from '../../../lib/syscalls/calls.ts'
import { writeLinksBy } from '../../../lib/syscalls/node.ts'

const [ENOENT, EFAULT, EINVAL, EPIPE] = [2, 14, 22, 32]
const inProgress = -115
const graceStart = 4

interface Message {
  readonly xid: number
  readonly bytes: Buffer
  /** What was written for it: the entries of a list, then the answer. */
  readonly entries: Buffer[]
  answer: Buffer | undefined
}

/** An open file of the pipe. */
interface File {
  readonly inode: number
  message: Message | undefined
  at: number
}

export interface KernelEnd {
  /** The given `calls`, with the pipe added. */
  readonly calls: Calls
  /** nfsd asks. @returns the message, which gets its answer later. */
  readonly ask: (bytes: Buffer) => Message
  /** The process ends: its files are closed, in the order in which it opened them. */
  readonly die: () => void
  /** The pipe is removed; @param again and a new one takes its place. */
  readonly remove: (again?: 'again') => void
  /**
   * rpc_pipefs is mounted again under a server that runs: the pipe has a new inode, and xids continue. Messages without
   * an answer have failed.
   */
  readonly mountAnew: () => void
  /** Another program reads all queued messages and answers 0. Then it closes the pipe. */
  readonly letAnotherAnswer: () => void
  /** After this, messages that failed are queued again only when a test says so, as if their threads were slow. */
  readonly holdBack: () => () => void
  /**
   * Messages that were read completely and have no answer. If no process knows of them, their nfsd threads wait for
   * ever.
   */
  readonly orphans: () => readonly number[]
  readonly queued: () => readonly number[]
  /** A copy of this kernel, for another machine. All messages must have been answered. */
  readonly copy: (under: Calls) => KernelEnd
}

export type { Message as AskedMessage }

/** @param path of the pipe. */
export function kernelEnd(
  under: Calls,
  path: string,
  stands: Stands = { inode: 1, isThere: true, xids: 0 },
): KernelEnd {
  const pipe = new Pipe(stands)
  return {
    calls: { ...under, ...pipe.calls(under, path) },
    ask: (bytes) => pipe.ask(bytes),
    die: () => {
      pipe.closeAll()
    },
    remove: (again) => {
      pipe.remove(again !== undefined)
    },
    mountAnew: () => {
      pipe.begin()
    },
    letAnotherAnswer: () => {
      pipe.letAnotherAnswer()
    },
    holdBack: () => pipe.holdBack(),
    orphans: () => pipe.orphans(),
    queued: () => pipe.queued(),
    copy: (otherCalls) => kernelEnd(otherCalls, path, pipe.stands()),
  }
}

/** What a pipe without messages is. */
interface Stands {
  readonly inode: number
  readonly isThere: boolean
  readonly xids: number
}

class Pipe {
  private inode: number
  private isThere: boolean
  private xids: number
  private queue: Message[] = []
  private inFlight: Message[] = []
  private readonly files = new Map<number, File>()
  private descriptors = 100_000

  constructor({ inode, isThere, xids }: Stands) {
    this.inode = inode
    this.isThere = isThere
    this.xids = xids
  }

  /** The calls for the pipe. Those for other files go on to `under`. */
  calls(under: Calls, path: string): Partial<Calls> {
    const { files } = this
    const or = <T>(descriptor: number, ours: (file: File) => T, otherwise: () => T): T => {
      const file = files.get(descriptor)
      return file === undefined ? otherwise() : ours(file)
    }
    const put = (descriptor: number, bytes: Uint8Array): number =>
      or(
        descriptor,
        (file) => this.write(file, bytes),
        () => under.write(descriptor, bytes),
      )
    const putEach: Calls['writeEach'] = (descriptor, message, ...texts) =>
      writeEach(() => put(descriptor, message), message, ...texts)
    return {
      openat: (directory, name, flags, mode) =>
        name === path ? this.open() : under.openat(directory, name, flags, mode),
      fstat: (descriptor) =>
        or<Status | number>(
          descriptor,
          ({ inode }) => statusOf(inode),
          () => under.fstat(descriptor),
        ),
      fstatat: (directory, name, flags) =>
        name !== path ? under.fstatat(directory, name, flags) : this.isThere ? statusOf(this.inode) : -ENOENT,
      read: (descriptor, into) =>
        or(
          descriptor,
          (file) => this.read(file, into),
          () => under.read(descriptor, into),
        ),
      write: put,
      writeEach: putEach,
      writeLinks: writeLinksBy({ ...under, writeEach: putEach }),
      close: (descriptor) =>
        or(
          descriptor,
          () => this.close(descriptor),
          () => under.close(descriptor),
        ),
    }
  }

  ask(bytes: Buffer): Message {
    const numbered = Buffer.from(bytes)
    // The kernel sends nothing shorter than a header.
    if (numbered.length >= 8) numbered.writeUInt32LE(this.xids, 4)
    const message: Message = { xid: this.xids++, bytes: numbered, entries: [], answer: undefined }
    this.queue.push(message)
    this.inFlight.push(message)
    return message
  }

  closeAll(): void {
    for (const descriptor of [...this.files.keys()]) this.close(descriptor)
  }

  remove(isReplaced: boolean): void {
    this.begin()
    this.isThere = isReplaced
    this.xids = 0
  }

  /** The pipe has a new inode. Messages without an answer have failed. */
  begin(): void {
    this.inode++
    this.queue = []
    this.inFlight = []
  }

  letAnotherAnswer(): void {
    for (const message of this.queue.splice(0)) {
      message.answer = Buffer.from(message.bytes)
      this.inFlight = this.inFlight.filter((other) => other !== message)
    }
  }

  holdBack(): () => void {
    const slow = this.queue.splice(0)
    return () => void this.queue.push(...slow)
  }

  orphans(): readonly number[] {
    return this.inFlight.filter((message) => !this.isUnread(message)).map(({ xid }) => xid)
  }

  queued(): readonly number[] {
    return this.queue.map(({ xid }) => xid)
  }

  stands(): Stands {
    const { queue, inFlight, files, inode, isThere, xids } = this
    if (queue.length + inFlight.length + files.size > 0) throw new Error('something is going on')
    return { inode, isThere, xids }
  }

  private open(): number {
    if (!this.isThere) return -ENOENT
    this.files.set(++this.descriptors, { inode: this.inode, message: undefined, at: 0 })
    return this.descriptors
  }

  private close(descriptor: number): 0 {
    const file = this.files.get(descriptor)
    this.files.delete(descriptor)
    // Each is queued again, to be read from its first byte, at the end of the queue. So the order is reversed.
    if (file?.message !== undefined && file.inode === this.inode) this.queue.push(file.message)
    return 0
  }

  private read(file: File, into: Uint8Array): number {
    if (!this.isOpen(file)) return -EPIPE
    if (file.message === undefined) {
      file.message = this.queue.shift()
      file.at = 0
    }
    if (file.message === undefined) return 0
    const length = Math.min(into.length, file.message.bytes.length - file.at)
    into.set(file.message.bytes.subarray(file.at, file.at + length))
    file.at += length
    if (file.at === file.message.bytes.length) file.message = undefined
    return length
  }

  private write(file: File, bytes: Uint8Array): number {
    if (!this.isOpen(file)) return -EPIPE
    const answer = Buffer.from(bytes)
    if (answer.length < 8) return -EINVAL
    const message = this.inFlight.find(({ xid }) => xid === answer.readUInt32LE(4))
    if (message === undefined || message.bytes.length !== answer.length) return -EINVAL
    if (answer.readInt16LE(2) === inProgress) {
      if (answer.readUInt8(1) !== graceStart) return -EFAULT
      if (answer.readUInt16LE(8) === 0) return -EINVAL
      message.entries.push(answer)
      return answer.length
    }
    if (this.isUnread(message)) throw new Error(`message ${message.xid} is answered before its last byte was read`)
    message.answer = answer
    this.inFlight = this.inFlight.filter((other) => other !== message)
    return answer.length
  }

  private isOpen({ inode }: File): boolean {
    return inode === this.inode && this.isThere
  }

  /** Whether its last byte has not been read. */
  private isUnread(message: Message): boolean {
    return this.queue.includes(message) || [...this.files.values()].some((open) => open.message === message)
  }
}

const statusOf = (inode: number): Status => ({ kind: 'other', uid: 0, mode: 0o600, mtime: 0, device: 99, inode })
