/**
 * The kernel's end of the pipe nfsd/cld, as pipe-end.c acts it. Here a test says what the kernel sends, and gets what a
 * daemon writes.
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { existsSync, linkSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { ensureDirSync } from 'fs-extra/esm'
import { compiled } from '../compiled.ts'
import { sizes, type Version } from './messages.ts'

/** How an nfsd thread's wait ended. */
export type Ended =
  /** @property ms from when the message was first queued to the answer, by pipe-end's clock. */
  { readonly answer: Buffer; readonly ms: number } | { readonly failed: 'EPIPE' | 'ETIMEDOUT' }

/** An nfsd thread that waits for an answer. */
export interface Waiter {
  /** The xid of its message. */
  readonly queued: Promise<number>
  /** Never resolves, if the message was read and nobody answers. */
  readonly ended: Promise<Ended>
  /** GraceStart's list so far, message by message. */
  readonly entries: readonly Buffer[]
}

export interface State {
  /** Open files that can read and write. */
  readonly readers: number
  readonly writers: number
  /** The xids of the messages that are unread, in order; that are partly read; and that are read and not answered. */
  readonly queued: readonly number[]
  readonly held: readonly number[]
  readonly unanswered: readonly number[]
}

export interface PipeEnd {
  /** The directory in place of rpc_pipefs. */
  readonly path: string
  /** A server starts: a new pipe, with a new inode, xids from 0, and version 1's size. */
  readonly make: () => void
  /** The pipe of a server that runs already. A daemon that is gone has answered GetVersion and GraceStart. */
  readonly makeNegotiated: (version: Version) => void
  /**
   * The pipe is removed at once, whatever is in it, as when rpc_pipefs is unmounted. A server that stops waits first:
   * see nfsd.ts.
   */
  readonly remove: () => void
  /** nfsd threads send these messages at one moment. A daemon that looks sees all of them, or none. */
  readonly ask: (...messages: readonly Uint8Array[]) => Waiter[]
  readonly state: () => Promise<State>
  /** Waits until a daemon has the pipe open. @returns false if none has after so many ms. */
  readonly opened: (withinMs: number) => Promise<boolean>
  /** Waits until the condition holds; it is tested after every change. @throws after `patienceMs`, with the state. */
  readonly until: (what: (state: State) => boolean) => Promise<State>
  /** What a daemon did that breaks the kernel: answers before the last byte was read. */
  readonly violations: readonly string[]
  /** Unmounts it, whoever has it open. */
  readonly scrap: () => Promise<void>
}

export interface Options {
  /** How long a message waits for a reader, in ms; 30 000 in the kernel. */
  readonly unreadMs?: number
  /** What happens to a message that was read and not answered when the last open file is closed: see pipe-end.c. */
  readonly orphans?: 'wait' | 'release'
  /** Names of a list that begin so are refused. */
  readonly refused?: string
}

/** Longer than any answer takes on a busy machine. */
export const patienceMs = 60_000

/** @returns why the fake pipe is not possible here, or undefined. */
export function pipeEndRefused(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root can mount it'
  return existsSync('/dev/fuse') ? undefined : 'there is no /dev/fuse'
}

/** Compiles the program. @param room a directory. @returns the program's path. */
export const compilePipeEnd = (room: string): string =>
  compiled(join(import.meta.dirname, 'pipe-end.c'), join(room, 'pipe-end'), ['fuse3'])

/**
 * @param program of {@link compilePipeEnd}.
 * @param path where it is mounted; made if it does not exist. At first it has no pipe.
 */
export async function startPipeEnd(
  program: string,
  path: string,
  { unreadMs = 30_000, orphans = 'wait', refused = '' }: Options = {},
): Promise<PipeEnd> {
  ensureDirSync(path)
  // In a session of its own: a key that interrupts the tests does not kill it. It sees the end of its input, and
  // unmounts.
  const child = spawn(program, [path, String(unreadMs), orphans, refused], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  })
  const end = new ActedPipeEnd(path, child)
  await end.mounted
  return end
}

class ActedPipeEnd implements PipeEnd {
  readonly path: string
  readonly violations: string[] = []
  /** @throws if it could not be mounted. */
  readonly mounted: Promise<void>
  private readonly child: ChildProcessByStdio<Writable, Readable, null>
  private readonly name: string
  private readonly gone: Promise<void>
  /** The messages that wait, by pipe-end's ids. */
  private readonly threads = new Map<string, Thread>()
  private threadsSoFar = 0
  private readonly listeners = new Set<() => void>()
  /** Who has asked for the state, in order. */
  private readonly waiting: ((state: State) => void)[] = []
  /** How many pipes were made. */
  private pipes = 0
  private readers = 0
  /** The size of a message, as it was negotiated. */
  private size: number = sizes[1]
  private isMounted = (): void => undefined

  constructor(path: string, child: ChildProcessByStdio<Writable, Readable, null>) {
    this.path = path
    this.name = join(path, 'nfsd/cld')
    this.child = child
    this.gone = new Promise((resolve, reject) => {
      child.once('error', reject).once('close', () => {
        resolve()
      })
    })
    child.stdin.on('error', () => undefined)
    const mounted = new Promise<void>((resolve) => {
      this.isMounted = resolve
    })
    const unmounted = this.gone.then(() => {
      throw new Error('pipe-end could not be mounted')
    })
    this.mounted = Promise.race([mounted, unmounted])
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.hear(line)
    })
  }

  make(): void {
    this.size = sizes[1]
    this.readers = 0
    this.pipes++
    linkSync(join(this.path, 'make'), this.name)
  }

  makeNegotiated(version: Version): void {
    this.make()
    this.size = sizes[version]
    this.say(`negotiated ${this.size}`)
  }

  remove(): void {
    unlinkSync(this.name)
  }

  ask(...messages: readonly Uint8Array[]): Waiter[] {
    const asked = messages.map((bytes) => {
      const id = String(this.threadsSoFar++)
      const thread = newThread(bytes[1] === 5)
      this.threads.set(id, thread)
      void thread.ended.then(() => this.threads.delete(id))
      return { id, bytes, thread }
    })
    this.say(`queue ${asked.map(({ id, bytes }) => `${id} ${Buffer.from(bytes).toString('hex')}`).join(' ')}`)
    return asked.map(({ thread }) => thread)
  }

  state(): Promise<State> {
    return new Promise((resolve) => {
      this.waiting.push(resolve)
      this.say('state')
    })
  }

  opened(withinMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const ends = (isOpen: boolean): void => {
        clearTimeout(timer)
        this.listeners.delete(look)
        resolve(isOpen)
      }
      const look = (): void => {
        if (this.readers > 0) ends(true)
      }
      const timer = setTimeout(() => {
        ends(false)
      }, withinMs)
      this.listeners.add(look)
      look()
    })
  }

  async until(what: (state: State) => boolean): Promise<State> {
    const until = performance.now() + patienceMs
    for (;;) {
      const now = await this.state()
      if (what(now)) return now
      if (performance.now() > until) throw new Error(`it never came to that: ${JSON.stringify(now)}`)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }

  async scrap(): Promise<void> {
    this.child.stdin.end()
    await this.gone
  }

  private say(line: string): void {
    this.child.stdin.write(`${line}\n`)
  }

  private hear(line: string): void {
    const [event = '', id = '', ...rest] = line.split(' ')
    const thread = this.threads.get(id)
    switch (event) {
      case 'mounted':
        this.isMounted()
        return
      case 'queued':
        thread?.isQueued(Number(rest[0]))
        break
      case 'entry':
        thread?.entries.push(padded(rest[0], this.size))
        return
      case 'answer':
        this.isAnswered(thread, padded(rest[1], this.size), Number(rest[0]) / 1e6)
        break
      case 'failed':
        thread?.hasEnded({ failed: rest[0] === 'EPIPE' ? 'EPIPE' : 'ETIMEDOUT' })
        break
      case 'early':
        this.violations.push(`message ${id} was answered before its last byte was read`)
        break
      case 'open':
        // A program that has ended may still have written something.
        if (Number(id) === this.pipes) this.readers = Number(rest[0])
        break
      case 'state':
        this.waiting.shift()?.(stateIn(line))
        return
      default:
        throw new Error(`pipe-end says ${line}`)
    }
    for (const listener of [...this.listeners]) listener()
  }

  private isAnswered(thread: Thread | undefined, answer: Buffer, ms: number): void {
    // GetVersion sets the size of the messages after it. Its own answer has version 1's.
    if (thread?.asksVersion === true && answer.readInt16LE(2) === 0)
      this.size = (answer[8] ?? 0) < 2 ? sizes[1] : sizes[2]
    thread?.hasEnded({ answer, ms })
  }
}

interface Thread extends Waiter {
  readonly asksVersion: boolean
  readonly entries: Buffer[]
  readonly isQueued: (xid: number) => void
  readonly hasEnded: (how: Ended) => void
}

function newThread(asksVersion: boolean): Thread {
  let isQueued: Thread['isQueued'] = () => undefined
  let hasEnded: Thread['hasEnded'] = () => undefined
  const queued = new Promise<number>((resolve) => {
    isQueued = resolve
  })
  const ended = new Promise<Ended>((resolve) => {
    hasEnded = resolve
  })
  return { asksVersion, entries: [], queued, ended, isQueued, hasEnded }
}

/** Trailing zeros are left out. */
function padded(hex = '', size: number): Buffer {
  const bytes = Buffer.alloc(size)
  bytes.write(hex, 'hex')
  return bytes
}

function stateIn(line: string): State {
  const [, readers, writers, queued = '', held = '', unanswered = ''] =
    /^state (\d+) (\d+) queued(.*) held(.*) unanswered(.*)$/.exec(line) ?? []
  const numbers = (text: string): number[] =>
    text
      .trim()
      .split(' ')
      .filter((word) => word !== '')
      .map(Number)
  return {
    readers: Number(readers),
    writers: Number(writers),
    queued: numbers(queued),
    held: numbers(held),
    unanswered: numbers(unanswered),
  }
}
