/**
 * The fake pipe behaves as real kernels did. Each expectation was seen on Linux 6.1, or comes from a newer source where
 * it says so. (rpc_pipe.c and nfs4recover.c are the same in 7.2; Debian's 6.12.118 takes no early answers, like the
 * newer source.)
 */
import assert from 'node:assert/strict'
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import {
  closeSync,
  constants,
  fstatSync,
  mkdtempSync,
  openSync,
  readSync,
  statSync,
  watch,
  writeSync,
  writevSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, it } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { removeSync } from 'fs-extra/esm'
import { compiled } from '../compiled.ts'
import { until } from '../until.ts'
import { runNfsdcld } from './daemons.ts'
import { answerTo, getVersion, inProgress, message, sizes, statusOf, xidOf } from './messages.ts'
import { answerOf, startNfsd } from './nfsd.ts'
import { compilePipeEnd, startPipeEnd, type Options, type PipeEnd, type Waiter } from './pipe-end.ts'

const room = mkdtempSync(join(tmpdir(), 'pipe-end-'))
let program = ''
let mounts = 0
const ends: PipeEnd[] = []
const watchers: ChildProcess[] = []
before(() => {
  program = compilePipeEnd(room)
})
after(async () => {
  for (const watcher of watchers) watcher.kill()
  for (const end of ends) await end.scrap()
  removeSync(room)
})

async function newEnd(options: Options = {}): Promise<PipeEnd> {
  const end = await startPipeEnd(program, join(room, `mount-${mounts++}`), options)
  ends.push(end)
  return end
}

const owner = (name: string): Buffer => Buffer.from(name)
const create = (name: string): Buffer => message(1, 'create', { owner: owner(name) })

/** An open file of a daemon. */
interface Opened {
  /** @returns what one read(2) gives. */
  readonly read: (room?: number) => Buffer
  readonly write: (bytes: Uint8Array) => number
  /** One writev(2). */
  readonly writeAll: (parts: readonly Uint8Array[]) => number
  readonly close: () => void
}

function open(end: PipeEnd): Opened {
  const descriptor = openSync(join(end.path, 'nfsd/cld'), constants.O_RDWR | constants.O_NONBLOCK)
  return {
    read: (room = 4096) => {
      const bytes = Buffer.alloc(room)
      return bytes.subarray(0, readSync(descriptor, bytes, 0, room, null))
    },
    write: (bytes) => writeSync(descriptor, bytes),
    writeAll: (parts) => writevSync(descriptor, parts),
    close: () => {
      closeSync(descriptor)
    },
  }
}

/** A pipe that a daemon has open. */
async function served(options: Options = {}): Promise<{ end: PipeEnd; daemon: Opened }> {
  const end = await newEnd(options)
  end.make()
  return { end, daemon: open(end) }
}

async function queued(...threads: readonly Waiter[]): Promise<number[]> {
  return Promise.all(threads.map(async ({ queued }) => queued))
}

interface Watcher {
  readonly line: () => Promise<string>
  readonly ask: (what: string) => Promise<string>
}

/** A program that watches, and answers each line with a line. */
function watcherAt(program: string, path: string): Watcher {
  const child = spawn(program, [path], { stdio: ['pipe', 'pipe', 'inherit'] })
  watchers.push(child)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const line = async (): Promise<string> => String((await lines.next()).value)
  const ask = (what: string): Promise<string> => {
    child.stdin.write(`${what}\n`)
    return line()
  }
  return { line, ask }
}

const fails = (code: string, call: () => unknown): void => {
  assert.throws(call, { code })
}

describe('a message in the pipe', () => {
  it('is read as a whole, or in parts by the same open file; a read of 0 bytes means that nothing is queued', async () => {
    const { end, daemon } = await served()
    assert.equal(daemon.read().length, 0)
    await queued(...end.ask(create('ann'), create('bob')))
    const whole = daemon.read()
    assert.equal(whole.length, sizes[1])
    assert.equal(daemon.read(8).length, 8)
    assert.equal(daemon.read().length, sizes[1] - 8)
    assert.equal(daemon.read().length, 0)
  })

  it('leaves the queue for the open file that began it, and the next open file gets the next', async () => {
    const { end, daemon } = await served()
    await queued(...end.ask(create('ann'), create('bob')))
    const other = open(end)
    assert.equal(xidOf(daemon.read(8)), 0)
    assert.equal(xidOf(other.read(8)), 1)
    assert.deepEqual((await end.state()).held, [0, 1])
    assert.equal(other.read().length, sizes[1] - 8)
    assert.deepEqual((await end.state()).unanswered, [1])
    other.close()
  })

  it('has an xid that counts from 0 on every new pipe', async () => {
    const { end, daemon } = await served()
    assert.deepEqual(await queued(...end.ask(create('ann'), create('bob'))), [0, 1])
    daemon.close()
    end.remove()
    end.make()
    assert.deepEqual(await queued(...end.ask(create('cal'))), [0])
  })
})

describe('an answer', () => {
  const asked = async (): Promise<{ end: PipeEnd; daemon: Opened; thread: Waiter; bytes: Buffer }> => {
    const { end, daemon } = await served()
    const [thread] = end.ask(create('ann'))
    assert.ok(thread)
    await thread.queued
    return { end, daemon, thread, bytes: daemon.read() }
  }

  it('releases the thread with its xid once, and a second one is EINVAL', async () => {
    const { end, daemon, thread, bytes } = await asked()
    assert.equal(daemon.write(answerTo(bytes, -121)), sizes[1])
    assert.equal(statusOf(await answerOf(thread)), -121)
    fails('EINVAL', () => daemon.write(answerTo(bytes, 0)))
    assert.deepEqual(end.violations, [])
  })

  it('of any other size is EINVAL', async () => {
    const { daemon, bytes } = await asked()
    for (const size of [1, 8, 1033, 1035, 1067])
      fails('EINVAL', () => daemon.write(Buffer.concat([bytes, Buffer.alloc(64)], size)))
  })

  it('to GetVersion sets the size of the messages after it', async () => {
    const { end, daemon } = await served()
    const [first] = end.ask(getVersion())
    await first?.queued
    daemon.write(answerTo(daemon.read(), 0, 2))
    await answerOf(first)
    const [next] = end.ask(message(2, 'create', { owner: owner('ann'), principal: Buffer.alloc(32, 7) }))
    await next?.queued
    const bytes = daemon.read()
    assert.equal(bytes.length, sizes[2])
    fails('EINVAL', () => daemon.write(bytes.subarray(0, 1034)))
    assert.equal(daemon.write(answerTo(bytes, 0)), sizes[2])
    assert.equal((await answerOf(next)).length, sizes[2])
  })

  it('with -EINPROGRESS shows whether a message is in flight: EFAULT if it is, EINVAL if not', async () => {
    const { daemon, thread, bytes } = await asked()
    const probe = answerTo(bytes, inProgress)
    fails('EFAULT', () => daemon.write(probe))
    const other = Buffer.from(probe)
    other[4] = 9
    fails('EINVAL', () => daemon.write(other))
    daemon.write(answerTo(bytes, 0))
    await thread.ended
    fails('EINVAL', () => daemon.write(probe))
  })

  it('before the last byte is read is taken by released kernels, which then fail: it is reported', async () => {
    const { end, daemon } = await served()
    const [thread] = end.ask(create('ann'))
    await thread?.queued
    const head = daemon.read(sizes[1] - 1)
    daemon.write(answerTo(Buffer.concat([head, Buffer.alloc(1)]), 0))
    await answerOf(thread)
    assert.equal(end.violations.length, 1)
  })

  it('before the last byte is read is EINVAL in the newest source', async () => {
    const { end, daemon } = await served({ orphans: 'release' })
    const [thread] = end.ask(create('ann'))
    await thread?.queued
    const head = daemon.read(sizes[1] - 1)
    const answer = answerTo(Buffer.concat([head, Buffer.alloc(1)]), 0)
    fails('EINVAL', () => daemon.write(answer))
    daemon.read()
    assert.equal(daemon.write(answer), sizes[1])
  })
})

describe("GraceStart's list", () => {
  it('is one write for each client, of any number, while a message is in flight', async () => {
    const { end, daemon } = await served()
    const [thread] = end.ask(message(1, 'graceStart'))
    await thread?.queued
    const asked = daemon.read()
    for (const name of ['ann', 'bob', 'ann']) {
      const entry = message(1, 'graceStart', { owner: owner(name) })
      asked.copy(entry, 4, 4, 8)
      daemon.write(answerTo(entry, inProgress))
    }
    for (const length of [0, 1025]) {
      const entry = message(1, 'graceStart', { owner: Buffer.alloc(1), length })
      asked.copy(entry, 4, 4, 8)
      fails('EINVAL', () => daemon.write(answerTo(entry, inProgress)))
    }
    daemon.write(answerTo(asked, 0))
    await answerOf(thread)
    assert.equal(thread?.entries.length, 3)
  })

  it('may have several names in one writev(2), of which those before a refused one are taken', async () => {
    const { end, daemon } = await served()
    const [thread] = end.ask(message(1, 'graceStart'))
    await thread?.queued
    const asked = daemon.read()
    const entries = (...names: string[]): Buffer[] =>
      names.map((name) => {
        const entry = message(1, 'graceStart', { owner: owner(name) })
        asked.copy(entry, 4, 4, 8)
        return Buffer.from(answerTo(entry, inProgress))
      })
    const many = Array.from({ length: 16 }, (_, at) => `client ${at}`)
    assert.equal(daemon.writeAll(entries(...many)), 16 * sizes[1])
    assert.equal(daemon.writeAll(entries('ann', 'bob', '', 'cy')), 2 * sizes[1])
    fails('EINVAL', () => daemon.writeAll(entries('', 'cy')))
    daemon.write(answerTo(asked, 0))
    await answerOf(thread)
    assert.deepEqual(
      thread?.entries.map((entry) => entry.subarray(10, 10 + entry.readUInt16LE(8)).toString()),
      [...many, 'ann', 'bob'],
    )
  })
})

describe('when a daemon ends', () => {
  it('the next daemon reads a partly read message from its first byte, with the same xid', async () => {
    const { end, daemon } = await served()
    const [thread] = end.ask(create('ann'))
    await thread?.queued
    const head = daemon.read(sizes[1] - 1)
    daemon.close()
    const next = open(end)
    const again = next.read()
    assert.deepEqual(again.subarray(0, head.length), head)
    next.write(answerTo(again, 0))
    assert.equal(statusOf(await answerOf(thread)), 0)
  })

  it('other readers get a partly read message, and queued messages keep their places', async () => {
    const { end, daemon } = await served()
    const other = open(end)
    await queued(...end.ask(create('ann'), create('bob')))
    daemon.read(8)
    daemon.close()
    assert.deepEqual((await end.state()).queued, [1, 0])
    assert.equal(xidOf(other.read()), 1)
    assert.equal(xidOf(other.read()), 0)
  })

  it('sixteen partly read messages are queued again in another order', async () => {
    const { end, daemon } = await served()
    daemon.close()
    const names = Array.from({ length: 16 }, (_, number) => create(`client ${number}`))
    await queued(...end.ask(...names))
    const files = names.map(() => open(end))
    for (const file of files) file.read(1033)
    for (const file of files) file.close()
    const next = open(end)
    const order = names.map(() => xidOf(next.read()))
    assert.deepEqual(order, [...order.slice(0, 15).sort((a, b) => b - a), 15])
  })

  it('a message that was read completely waits for ever, and any process may answer it', async () => {
    const { end, daemon } = await served({ unreadMs: 10 })
    const [thread] = end.ask(create('ann'))
    await thread?.queued
    const asked = daemon.read()
    daemon.close()
    // Time is the subject: longer than a message without a reader may wait.
    await pause(50)
    assert.deepEqual((await end.state()).unanswered, [0])
    const next = open(end)
    assert.equal(next.read().length, 0)
    next.write(answerTo(asked, 0))
    await answerOf(thread)
  })

  it('a message that was read completely fails with EPIPE in the newest source, when the last open file is closed', async () => {
    const { end, daemon } = await served({ orphans: 'release' })
    const other = open(end)
    const [thread] = end.ask(create('ann'))
    await thread?.queued
    daemon.read()
    daemon.close()
    assert.deepEqual((await end.state()).unanswered, [0])
    other.close()
    assert.deepEqual(await thread?.ended, { failed: 'EPIPE' })
  })

  it('messages that nobody reads in time fail with ETIMEDOUT, all at once; a reader in between does not stop the timer', async () => {
    const { end, daemon } = await served({ unreadMs: 2000 })
    daemon.close()
    for (let attempt = 1; ; attempt++) {
      const first = end.ask(create('ann'))
      const over: unknown[] = []
      void first[0]?.ended.then((how) => over.push(how))
      const reader = open(end)
      reader.close()
      // Time is the subject: the second message comes later, and before the first one's time is over. A machine that
      // stood still in between tries again.
      await pause(150)
      const second = end.ask(create('bob'))
      await second[0]?.queued
      const isInTime = over.length === 0
      assert.deepEqual(await first[0]?.ended, { failed: 'ETIMEDOUT' })
      if (isInTime) assert.deepEqual((await end.state()).queued, [], 'the second has no time of its own')
      assert.deepEqual(await second[0]?.ended, { failed: 'ETIMEDOUT' })
      if (isInTime) break
      assert.ok(attempt < 10, 'the second was never in time')
    }
  })
})

describe('when the server stops', () => {
  it('reads and writes are EPIPE, the old inode can not be opened, and the next pipe has another inode', async () => {
    const { end, daemon } = await served()
    const name = join(end.path, 'nfsd/cld')
    const kept = openSync(name, constants.O_RDWR)
    const { ino } = fstatSync(kept)
    const threads = end.ask(create('ann'), create('bob'))
    await queued(...threads)
    daemon.read(8)
    end.remove()
    for (const { ended } of threads) assert.deepEqual(await ended, { failed: 'EPIPE' })
    fails('EPIPE', () => daemon.read())
    fails('EPIPE', () => daemon.write(create('ann')))
    fails('ENXIO', () => openSync(`/proc/self/fd/${kept}`, constants.O_RDWR))
    end.make()
    assert.notEqual(statSync(name).ino, ino)
    closeSync(kept)
    daemon.close()
  })

  it('a watch on the directory reports it, and the next start', async () => {
    const { end, daemon } = await served()
    let changes = 0
    const watcher = watch(join(end.path, 'nfsd'), (event, name) => {
      if (event === 'rename' && name === 'cld') changes++
    })
    const seen = async (count: number): Promise<void> => {
      await until('the directory tells of it', () => changes >= count)
    }
    end.remove()
    await seen(1)
    end.make()
    await seen(2)
    watcher.close()
    daemon.close()
  })

  it('the directory reports only that the pipe was created, or removed: nobody has a new pipe open', async () => {
    const program = compiled(join(import.meta.dirname, 'events.c'), join(room, 'events'))
    const end = await newEnd()
    const { line, ask } = watcherAt(program, join(end.path, 'nfsd'))
    assert.equal(await line(), 'watches')
    end.make()
    assert.equal(await ask('what'), '100 cld;')
    end.remove()
    assert.equal(await ask('what'), '200 cld;')
  })

  it('no other process can make or remove a pipe', async () => {
    const { end, daemon } = await served()
    const name = join(end.path, 'nfsd/cld')
    const isRefused = (...command: readonly [string, ...string[]]): void => {
      const [program, ...words] = command
      assert.equal(spawnSync(program, words, { stdio: 'ignore' }).status, 1)
    }
    isRefused('touch', join(end.path, 'nfsd/other'))
    isRefused('rm', '-f', name)
    end.remove()
    isRefused('touch', name)
    isRefused('ln', join(end.path, 'make'), name)
    daemon.close()
  })
})

describe('readiness', () => {
  const readable = '1'
  const goneBad = '18'
  const nothing = '0'

  it('comes with a message, wakes a waiting process, and does not come when an empty pipe is removed', async () => {
    const ready = compiled(join(import.meta.dirname, 'ready.c'), join(room, 'ready'))
    const end = await newEnd()
    end.make()
    const { line, ask } = watcherAt(ready, join(end.path, 'nfsd/cld'))
    assert.equal(await line(), 'open')
    assert.equal(await ask('poll'), nothing)
    assert.equal(await ask('epoll 0'), nothing)
    const woken = ask('epoll 60000')
    // By then it usually waits. It is woken in either case.
    await pause(50)
    end.ask(create('ann'))
    assert.equal(await woken, readable)
    assert.equal(await ask('poll'), readable)
    const reader = open(end)
    reader.read()
    assert.equal(await ask('epoll 0'), nothing)
    end.remove()
    assert.equal(await ask('epoll 200'), nothing)
    assert.equal(await ask('poll'), goneBad)
    reader.close()
  })
})

describe('nfsdcld at this pipe', () => {
  it('is asked for its version and list, records clients, forgets them, and names them after a restart', async () => {
    const end = await newEnd()
    const storage = mkdtempSync(join(room, 'nfsdcld-'))
    const daemon = runNfsdcld(end.path, storage)
    const first = await startNfsd(end)
    assert.ok(first)
    assert.equal(first.version, 2)
    assert.deepEqual(first.list, [])
    const principal = Buffer.alloc(32, 0xab)
    const crowd = Array.from({ length: 16 }, (_, number) => ({ owner: owner(`Linux NFSv4.1 ${number}`) }))
    for (const thread of first.send('create', ...crowd, { owner: owner('ann'), principal }))
      assert.equal(statusOf(await answerOf(thread)), 0)
    assert.equal(await first.tell('remove', { owner: owner('Linux NFSv4.1 3') }), 0)
    await first.stop()
    const second = await startNfsd(end)
    const named = (second?.list ?? []).map(
      ({ owner, principal }) => `${owner.toString()} ${principal?.toString('hex') ?? ''}`,
    )
    const expected = [
      ...crowd.filter((_, number) => number !== 3).map(({ owner }) => `${owner.toString()} `),
      `ann ${principal.toString('hex')}`,
    ]
    assert.deepEqual(named.sort(), expected.sort())
    assert.equal(await second?.tell('create', { owner: owner('ann') }), 0)
    assert.equal(await second?.tell('graceDone'), 0)
    await second?.stop()
    await daemon.stop()
    assert.deepEqual(end.violations, [])
  })
})
