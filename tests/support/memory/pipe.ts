/**
 * The kernel's end of the pipe nfsd/cld in memory (net/sunrpc/rpc_pipe.c, fs/nfsd/nfs4recover.c), in front of a table
 * of calls. Each open file has at most one message that is partly read. A message leaves the queue with its last byte.
 * Closing the file puts a partly read one back. tests/support/pipe has the same rules for real processes, which can be
 * killed.
 */
import { writeEach } from '../../../lib/bytes.ts'
import type { Calls, Status } from '../../../lib/syscalls/calls.ts'

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

interface Open {
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
export function kernelEnd(under: Calls, path: string, stands = { inode: 1, isThere: true, xids: 0 }): KernelEnd {
  let { inode, isThere, xids } = stands
  let queue: Message[] = []
  let inFlight: Message[] = []
  const files = new Map<number, Open & { readonly inode: number }>()
  let descriptors = 100_000

  const close = (descriptor: number): void => {
    const file = files.get(descriptor)
    files.delete(descriptor)
    // Each is queued again, to be read from its first byte, at the end of the queue. So the order is reversed.
    if (file?.message !== undefined && file.inode === inode) queue.push(file.message)
  }
  const status = (of: number): Status => ({ kind: 'other', uid: 0, mode: 0o600, mtime: 0, device: 99, inode: of })
  const read = (file: Open & { readonly inode: number }, into: Uint8Array): number => {
    if (file.inode !== inode || !isThere) return -EPIPE
    if (file.message === undefined) {
      file.message = queue.shift()
      file.at = 0
    }
    if (file.message === undefined) return 0
    const length = Math.min(into.length, file.message.bytes.length - file.at)
    into.set(file.message.bytes.subarray(file.at, file.at + length))
    file.at += length
    if (file.at === file.message.bytes.length) file.message = undefined
    return length
  }
  const write = (file: { readonly inode: number }, bytes: Uint8Array): number => {
    if (file.inode !== inode || !isThere) return -EPIPE
    const answer = Buffer.from(bytes)
    if (answer.length < 8) return -EINVAL
    const message = inFlight.find(({ xid }) => xid === answer.readUInt32LE(4))
    if (message === undefined || message.bytes.length !== answer.length) return -EINVAL
    if (answer.readInt16LE(2) === inProgress) {
      if (answer.readUInt8(1) !== graceStart) return -EFAULT
      if (answer.readUInt16LE(8) === 0) return -EINVAL
      message.entries.push(answer)
      return answer.length
    }
    const lies = queue.includes(message) || [...files.values()].some((open) => open.message === message)
    if (lies) throw new Error(`message ${message.xid} is answered before its last byte was read`)
    message.answer = answer
    inFlight = inFlight.filter((other) => other !== message)
    return answer.length
  }

  return {
    calls: {
      ...under,
      openat: (directory, name, flags, mode) => {
        if (name !== path) return under.openat(directory, name, flags, mode)
        if (!isThere) return -ENOENT
        files.set(++descriptors, { inode, message: undefined, at: 0 })
        return descriptors
      },
      fstat: (descriptor) => {
        const file = files.get(descriptor)
        return file === undefined ? under.fstat(descriptor) : status(file.inode)
      },
      fstatat: (directory, name, flags) =>
        name !== path ? under.fstatat(directory, name, flags) : isThere ? status(inode) : -ENOENT,
      read: (descriptor, into) => {
        const file = files.get(descriptor)
        return file === undefined ? under.read(descriptor, into) : read(file, into)
      },
      write: (descriptor, bytes) => {
        const file = files.get(descriptor)
        return file === undefined ? under.write(descriptor, bytes) : write(file, bytes)
      },
      writeEach: (descriptor, message, at, room, texts, from, until) => {
        const file = files.get(descriptor)
        const put = (): number => (file === undefined ? under.write(descriptor, message) : write(file, message))
        return writeEach(put, message, at, room, texts, from, until)
      },
      close: (descriptor) => {
        if (!files.has(descriptor)) return under.close(descriptor)
        close(descriptor)
        return 0
      },
    },
    ask: (bytes) => {
      const numbered = Buffer.from(bytes)
      // The kernel sends nothing shorter than a header.
      if (numbered.length >= 8) numbered.writeUInt32LE(xids, 4)
      const message: Message = { xid: xids++, bytes: numbered, entries: [], answer: undefined }
      queue.push(message)
      inFlight.push(message)
      return message
    },
    die: () => {
      for (const descriptor of [...files.keys()]) close(descriptor)
    },
    remove: (again) => {
      inode++
      isThere = again !== undefined
      xids = 0
      queue = []
      inFlight = []
    },
    mountAnew: () => {
      inode++
      queue = []
      inFlight = []
    },
    letAnotherAnswer: () => {
      for (const message of queue.splice(0)) {
        message.answer = Buffer.from(message.bytes)
        inFlight = inFlight.filter((other) => other !== message)
      }
    },
    holdBack: () => {
      const slow = queue.splice(0)
      return () => void queue.push(...slow)
    },
    orphans: () =>
      inFlight
        .filter((message) => !queue.includes(message) && ![...files.values()].some((open) => open.message === message))
        .map(({ xid }) => xid),
    queued: () => queue.map(({ xid }) => xid),
    copy: (otherCalls) => {
      if (queue.length + inFlight.length + files.size > 0) throw new Error('something is going on')
      return kernelEnd(otherCalls, path, { inode, isThere, xids })
    },
  }
}
