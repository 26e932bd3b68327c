/**
 * Rounds at the pipe when something is scarce: bytes of a message to hold back, descriptors, or room in the run
 * directory.
 */
import assert from 'node:assert/strict'
import { basename, dirname } from 'node:path'
import { describe, it } from 'node:test'
import { perform } from '../../../lib/events/perform.ts'
import { openPipe } from '../../../lib/kernel/pipe.ts'
import { currentPipe } from '../../../lib/serve/current-pipe.ts'
import { Journal, lastReplies, type Reply } from '../../../lib/serve/journal.ts'
import { tryAgain } from '../../../lib/serve/retry.ts'
import { answerQueued } from '../../../lib/serve/round.ts'
import type { Server } from '../../../lib/serve/server.ts'
import { atFlags } from '../../../lib/syscalls/calls.ts'
import { errno } from '../../../lib/syscalls/errno.ts'
import { writeLinksBy } from '../../../lib/syscalls/node.ts'
import type { ClientOwner } from '../../../lib/upcall/owner.ts'
import { stateDirectory } from '../../support/memory/machine.ts'
import type { AskedMessage } from '../../support/memory/pipe.ts'
import {
  copyOf,
  die,
  journalPath,
  live,
  liveUntil,
  newMachine,
  pipePath,
  type Life,
  type Machine,
} from '../../support/memory/serving.ts'
import { message, statusOf, type Command, type Version } from '../../support/pipe/messages.ts'

const { AT_FDCWD } = atFlags

const ask = ({ kernel }: Machine, version: Version, command: Command, owner?: string): AskedMessage =>
  kernel.ask(message(version, command, owner === undefined ? {} : { owner: Buffer.from(owner) }))

/** A new server, of version 1. @returns who may reclaim. */
function starts(machine: Machine): string[] {
  machine.kernel.remove('again')
  ask(machine, 1, 'getVersion')
  const start = ask(machine, 1, 'graceStart')
  live(machine)
  die(machine)
  return start.entries
    .map((entry) =>
      entry
        .subarray(10, 10 + entry.readUInt16LE(8))
        .toString()
        .slice(0, 5),
    )
    .sort()
}

/** The newest instance's directory. */
const instancePath = ({ files }: Machine): string | undefined =>
  [...files.tree(stateDirectory).keys()]
    .filter((path) => /^v4clients\/[0-9]+$/.test(path))
    .sort()
    .map((path) => `${stateDirectory}/${path}`)
    .at(-1)

const statusIn = ({ answer }: AskedMessage): number | undefined => (answer === undefined ? undefined : statusOf(answer))
const long = (letter: string): string => letter.repeat(1024)

describe('owners of 1024 bytes in version 1, of whose messages no byte can be left unread', () => {
  it('on both sides of an end of grace: if serve is killed at any call, no thread waits for ever, and what was answered holds', () => {
    const begun = newMachine()
    starts(begun)
    for (let at = 0; ; at++) {
      const machine = copyOf(begun)
      const creates = ['a', 'b'].map((letter) => ask(machine, 1, 'create', long(letter)))
      ask(machine, 1, 'graceDone')
      creates.push(...['c', 'd'].map((letter) => ask(machine, 1, 'create', long(letter))))
      const how = liveUntil(machine, at)
      live(machine)
      die(machine)
      assert.deepEqual(machine.kernel.orphans(), [], `killed before call ${at}: a thread waits for ever`)
      const listed = starts(machine)
      creates.forEach((create, nth) => {
        assert.ok([0, -121].includes(statusIn(create) ?? 1), `killed before call ${at}: ${statusIn(create)}`)
        if (statusIn(create) === 0) assert.ok(listed.includes('abcd'.charAt(nth).repeat(5)), `killed before call ${at}`)
      })
      if (how === 'lives') break
    }
  })

  it('that are removed: if it is not known whether they were, nobody may reclaim after the next start', () => {
    let unknown = 0
    const begun = newMachine()
    starts(begun)
    for (const letter of ['a', 'b']) ask(begun, 1, 'create', long(letter))
    ask(begun, 1, 'graceDone')
    live(begun)
    die(begun)
    for (let at = 0; ; at++) {
      const machine = copyOf(begun)
      const remove = ask(machine, 1, 'remove', long('a'))
      const how = liveUntil(machine, at)
      live(machine)
      die(machine)
      const listed = starts(machine)
      if (statusIn(remove) === 0) assert.deepEqual(listed, ['bbbbb'], `killed before call ${at}`)
      else {
        unknown++
        assert.deepEqual(listed, [], `killed before call ${at}`)
      }
      if (how === 'lives') break
    }
    assert.ok(unknown > 0, 'it was never killed between')
  })
})

describe('a process that may open few files', () => {
  const many = 20
  for (const limit of [66, 80])
    it(`(${limit}) answers all that is queued, and keeps enough for the work`, () => {
      const machine = newMachine()
      starts(machine)
      const creates = Array.from({ length: many }, (_, nth) => ask(machine, 2, 'create', `client ${nth}`))
      const pipes = new Set<number>()
      let most = 0
      live(machine, (calls) => ({
        readText: (descriptor, length) => {
          const text = calls.readText(descriptor, length)
          return typeof text === 'string' ? text.replace(/^(Max open files +)\S+/m, `$1${limit}`) : text
        },
        openat: (directory, name, flags, mode) => {
          const isPipe = name === pipePath
          if (isPipe && pipes.size >= limit - 10) return -errno.EMFILE
          const descriptor = calls.openat(directory, name, flags, mode)
          if (isPipe && descriptor >= 0) pipes.add(descriptor)
          most = Math.max(most, pipes.size)
          return descriptor
        },
      }))
      assert.deepEqual(creates.map(statusIn), Array<number>(many).fill(0))
      assert.ok(most < limit - 50, `${most} of ${limit} are open for the pipe`)
    })

  it('killed at any call, and followed by one with the same limit: nothing is answered before it is read, and no thread waits for ever', () => {
    const few = (calls: Life['calls']): Partial<Life['calls']> => ({
      readText: (descriptor, length) => {
        const text = calls.readText(descriptor, length)
        return typeof text === 'string'
          ? text.replace(/^(Max open files +)\S+/m, (_, name: string) => `${name}66`)
          : text
      },
    })
    const begun = newMachine()
    starts(begun)
    for (let at = 0; ; at++) {
      const machine = copyOf(begun)
      const creates = Array.from({ length: 5 }, (_, nth) => ask(machine, 1, 'create', `client ${nth}`))
      const how = liveUntil(machine, at, few)
      live(machine, few)
      die(machine)
      assert.deepEqual(machine.kernel.orphans(), [], `killed before call ${at}`)
      assert.deepEqual(creates.map(statusIn), [0, 0, 0, 0, 0], `killed before call ${at}`)
      if (how === 'lives') break
    }
  })

  it('answers message by message, if it can open only one for the pipe', () => {
    const machine = newMachine()
    starts(machine)
    const creates = Array.from({ length: 3 }, (_, nth) => ask(machine, 2, 'create', `client ${nth}`))
    let opened = 0
    live(machine, (calls) => ({
      openat: (directory, name, flags, mode) =>
        name === pipePath && opened++ > 0 ? -errno.EMFILE : calls.openat(directory, name, flags, mode),
    }))
    assert.deepEqual(creates.map(statusIn), [0, 0, 0])
  })
})

it('a run directory without room for the journal hangs no thread', () => {
  const machine = newMachine()
  starts(machine)
  const creates = Array.from({ length: 3 }, (_, nth) => ask(machine, 2, 'create', `client ${nth}`))
  const full = new Set<number>()
  live(machine, (calls) => ({
    openat: (directory, name, flags, mode) => {
      const descriptor = calls.openat(directory, name, flags, mode)
      if (name.startsWith(journalPath)) full.add(descriptor)
      else full.delete(descriptor)
      return descriptor
    },
    write: (descriptor, bytes) => (full.has(descriptor) ? -errno.ENOSPC : calls.write(descriptor, bytes)),
  }))
  assert.deepEqual(creates.map(statusIn), [0, 0, 0])
})

it('a journal is started anew before it gets long, and keeps the last round', () => {
  const { files } = newMachine()
  const journal = new Journal(files.calls, journalPath, 'pipe')
  const reply = (xid: number) => ({
    message: { header: { version: 1, command: 0, xid }, size: 1034 },
    status: 0,
  })
  for (let xid = 0; xid < 10_000; xid++) assert.equal(journal.note([reply(xid)]), 0)
  const node = files.tree(dirname(journalPath)).get(basename(journalPath))
  assert.ok(node?.kind === 'file' && node.bytes.length < 100_000)
  assert.equal(lastReplies(files.calls, journalPath, 'pipe').at(-1)?.message.header.xid, 9999)
})

it('a journal that is started anew has the round for which it was, as soon as it has its name', () => {
  const { files } = newMachine()
  const { calls } = files
  let xid = 0
  const named: boolean[] = []
  const journal = new Journal(
    {
      ...calls,
      renameat: (from, old, to, name) => {
        if (xid > 0) named.push(lastReplies(calls, old, 'pipe').at(-1)?.message.header.xid === xid)
        return calls.renameat(from, old, to, name)
      },
    },
    journalPath,
    'pipe',
  )
  while (named.length < 3)
    journal.note([{ message: { header: { version: 1, command: 0, xid: ++xid }, size: 1034 }, status: 0 }])
  assert.deepEqual(named, [true, true, true])
})

it('a message of almost any length, and of any command, ends no process, and those after it are answered', () => {
  const machine = newMachine()
  starts(machine)
  // Not one byte short of a known size: such a message can't be told from one of which a byte is left.
  for (const length of [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 100, 1032, 1035, 1065, 1068, 4095, 4096])
    for (const command of [0, 1, 3, 5, 255]) {
      const bytes = Buffer.alloc(length, 'x')
      bytes.set([2, command].slice(0, length))
      machine.kernel.ask(bytes)
      const create = ask(machine, 2, 'create', `after ${length}`)
      live(machine)
      die(machine)
      assert.equal(statusIn(create), 0, `${length} bytes`)
    }
})

it('a journal describes each answer completely, whatever the last one was', () => {
  const { files } = newMachine()
  const journal = new Journal(files.calls, journalPath, 'pipe')
  let xid = 0
  const reply = (version: number, command: number, size: number, status: number, more = {}): Reply => ({
    message: { header: { version, command, xid: xid++ }, size },
    status,
    ...more,
  })
  const replies = [
    reply(1, 5, 1034, 0, { version: 2 }),
    reply(1, 5, 1034, 0, { version: 1 }),
    reply(2, 255, 1067, -95),
    reply(2, 0, 1067, 0),
    reply(2, 0, 1067, -121),
    reply(2, 0, 1067, -121, { doubtful: true }),
    reply(2, 0, 1067, -121),
    reply(1, 0, 1067, -121),
    reply(1, 0, 1034, -121),
    reply(1, 1, 1034, -121),
    reply(1, 0, 1034, 0),
  ]
  for (const one of replies) {
    assert.equal(journal.note([one]), 0)
    assert.deepEqual(lastReplies(files.calls, journalPath, 'pipe').at(-1), {
      version: undefined,
      doubtful: false,
      ...one,
    })
  }
})

it('if the last round of a journal is incomplete, the round before counts too', () => {
  const { files } = newMachine()
  const bytes =
    'pipe\n7 1 0 4 1034 0 - sure\n8 1 0 5 1034 -121 - doubtful\n8 1 1 6 1034 -121 - doubtful\n9 1 0 5 1034 0 - sure\n9 1 1 6 10'
  files.plant(new Map([['', { kind: 'file', bytes }]]), journalPath)
  assert.deepEqual(
    lastReplies(files.calls, journalPath, 'pipe').map(({ message, status }) => [message.header.xid, status]),
    [
      [5, 0],
      [6, -121],
    ],
  )
  assert.deepEqual(lastReplies(files.calls, journalPath, 'another pipe'), [])
})

it('a check that fails is not tried again, and removes nothing that is left to do for its client', () => {
  const machine = newMachine()
  starts(machine)
  let isBroken = false
  const { server, held } = live(machine, (calls) => ({
    openat: (directory, name, flags, mode) =>
      isBroken && name.startsWith(stateDirectory) ? -errno.EIO : calls.openat(directory, name, flags, mode),
  }))
  assert.ok(held !== 'gone')
  isBroken = true
  const asked = [ask(machine, 1, 'remove', 'ann'), ask(machine, 1, 'check', 'ann')]
  answerQueued(server, held.pipe, held.journal)
  assert.deepEqual(asked.map(statusIn), [-121, -121])
  assert.deepEqual(
    server.unfinished.all().map(({ event }) => event),
    ['remove'],
  )
})

it('a create that failed is not tried again in the instance of a later upcall: its client has not come back', () => {
  const machine = newMachine()
  starts(machine)
  let isBroken = false
  const { server, held } = live(machine, (calls) => ({
    symlinkat: (text, directory, name) =>
      isBroken && name === 'ann' ? -errno.EIO : calls.symlinkat(text, directory, name),
  }))
  assert.ok(held !== 'gone')
  isBroken = true
  const create = ask(machine, 1, 'create', 'ann')
  answerQueued(server, held.pipe, held.journal)
  assert.equal(statusIn(create), -121)
  isBroken = false
  server.withWorld(server.nfsd, (world) => {
    perform(world, { event: 'start', kernelBootTime: '7' })
  })
  tryAgain(server)
  assert.deepEqual(server.unfinished.all(), [])
  die(machine)
  assert.deepEqual(starts(machine), [])
})

const lastPart = (path: string): string => path.slice(path.lastIndexOf('/') + 1)

describe('a directory of the state directory, which stays open from one round to the next', () => {
  it('is looked up again: if another process has replaced it, the next record is in the new one', () => {
    const machine = newMachine()
    starts(machine)
    const { server, held } = live(machine)
    assert.ok(held !== 'gone')
    const creates = [ask(machine, 1, 'create', 'ann')]
    answerQueued(server, held.pipe, held.journal)
    const [path = '', aside] = [instancePath(machine), `${stateDirectory}/aside`]
    const { calls } = machine.files
    assert.equal(calls.renameat(AT_FDCWD, path, AT_FDCWD, aside), 0)
    assert.equal(calls.mkdirat(AT_FDCWD, path, 0o700), 0)
    creates.push(ask(machine, 1, 'create', 'bob'))
    answerQueued(server, held.pipe, held.journal)
    assert.deepEqual(creates.map(statusIn), [0, 0])
    assert.deepEqual(
      [path, aside].map((directory) => [...machine.files.tree(directory).keys()].filter((name) => name !== '')),
      [['bob'], ['ann']],
    )
  })

  it('is given up when it is wiped: the next record is in a new one in its place', () => {
    const machine = newMachine()
    starts(machine)
    const { server, held } = live(machine)
    assert.ok(held !== 'gone')
    const creates = [ask(machine, 1, 'create', 'ann')]
    answerQueued(server, held.pipe, held.journal)
    const [clients, aside] = [`${stateDirectory}/v4clients`, `${stateDirectory}/aside`]
    assert.equal(machine.files.calls.renameat(AT_FDCWD, clients, AT_FDCWD, aside), 0)
    creates.push(ask(machine, 1, 'create', 'bob'))
    answerQueued(server, held.pipe, held.journal)
    assert.deepEqual(creates.map(statusIn), [0, 0])
    assert.deepEqual(
      [clients, aside].map((directory) =>
        [...machine.files.tree(directory).keys()].filter((name) => /(?:ann|bob)$/.test(name)).map(lastPart),
      ),
      [['bob'], ['ann']],
    )
  })

  it('is refused as soon as others may write to it', () => {
    const machine = newMachine()
    starts(machine)
    let mode = 0o700
    const { server, held } = live(machine, (calls) => ({
      fstat: (descriptor) => {
        const status = calls.fstat(descriptor)
        return typeof status === 'object' && status.kind === 'directory' ? { ...status, mode } : status
      },
      identityAt: (directory, name) => `${calls.identityAt(directory, name)} ${mode}`,
    }))
    assert.ok(held !== 'gone')
    const creates = [ask(machine, 1, 'create', 'ann')]
    answerQueued(server, held.pipe, held.journal)
    mode = 0o770
    creates.push(ask(machine, 1, 'create', 'bob'))
    answerQueued(server, held.pipe, held.journal)
    assert.deepEqual(creates.map(statusIn), [0, -121])
  })

  it('is closed with the pipe, so that its disk can be unmounted', () => {
    const machine = newMachine()
    starts(machine)
    const open = new Map<number, string>()
    const { server, held } = live(machine, (calls) => ({
      openat: (directory, name, flags, mode) => {
        const descriptor = calls.openat(directory, name, flags, mode)
        if (descriptor >= 0) open.set(descriptor, name)
        return descriptor
      },
      close: (descriptor) => {
        open.delete(descriptor)
        return calls.close(descriptor)
      },
    }))
    assert.ok(held !== 'gone')
    ask(machine, 1, 'create', 'ann')
    answerQueued(server, held.pipe, held.journal)
    const isOfState = (name: string): boolean => name.startsWith(stateDirectory) || /^[0-9]+$/.test(name)
    assert.deepEqual([...open.values()].filter(isOfState), [
      `${stateDirectory}/v4clients`,
      lastPart(instancePath(machine) ?? ''),
    ])
    server.pipeGone()
    assert.deepEqual([...open.values()].filter(isOfState), [])
  })
})

it('when the pipe goes, the log says whether the server has stopped, or makes another pipe for version 0', () => {
  const machine = newMachine()
  starts(machine)
  for (let count = 0; count < 2; count++) ask(machine, 1, 'create', `client ${count}`)
  live(machine)
  die(machine)
  machine.kernel.remove('again')
  let [now, said] = [0, '']
  const { server } = live(machine, (calls) => {
    // Each look at the clock is six seconds later, which count as three: after the first name the rest is said apart,
    // and a list in two parts takes too long.
    const monotonic = (): number => (now += 6000)
    return {
      monotonic,
      writeLinks: writeLinksBy({ ...calls, monotonic }),
      write: (descriptor, bytes) => {
        if (descriptor === 2) said += Buffer.from(bytes).toString('latin1')
        return calls.write(descriptor, bytes)
      },
    }
  })
  const claim = { take: () => undefined, release: () => undefined }
  const ready = { status: () => undefined }
  const current = currentPipe({ server, claim, ready, pipefs: dirname(dirname(pipePath)), journalPath })
  current.look()
  const served = current.served()
  assert.ok(served)
  ask(machine, 1, 'getVersion')
  const start = ask(machine, 1, 'graceStart')
  answerQueued(server, served.pipe, served.journal)
  assert.equal(statusIn(start), -121)
  said = ''
  machine.kernel.remove('again')
  current.look()
  assert.match(said, /the pipe is gone: the NFS server makes another one, .* \(version 0\)/)
  assert.doesNotMatch(said, /has stopped/)
  said = ''
  machine.kernel.remove()
  current.look()
  assert.match(said, /the pipe is gone: the NFS server has stopped/)
})

it('the status file is written when a pipe comes or goes, and not each time something is mounted', () => {
  const machine = newMachine()
  starts(machine)
  die(machine)
  let writes = 0
  const { server } = live(machine)
  const counting = { ...server, tellStatus: () => writes++ }
  Object.setPrototypeOf(counting, server)
  const claim = { take: () => undefined, release: () => undefined }
  const ready = { status: () => undefined }
  const current = currentPipe({ server: counting, claim, ready, pipefs: dirname(dirname(pipePath)), journalPath })
  const looks = (times: number): number => {
    const before = writes
    for (let time = 0; time < times; time++) current.look()
    return writes - before
  }
  assert.equal(looks(1000), 1)
  machine.kernel.remove('again')
  assert.equal(looks(1000), 1)
  machine.kernel.remove()
  assert.equal(looks(1000), 1)
})

it('in version 0 an end of grace carries a time, which is not taken for an owner', () => {
  const machine = newMachine()
  const done = machine.kernel.ask(message(1, 'graceDone', { bootTime: 0x6000_0400n }))
  const pipe = openPipe(machine.kernel.calls, pipePath)
  const taken = pipe?.take()
  assert.ok(taken !== undefined && taken !== 'gone')
  assert.deepEqual(
    taken.map(({ header, lacksOwner, whole }) => [header.xid, lacksOwner, whole]),
    [[done.xid, false, false]],
  )
})

/** A machine on which ann is recorded, and whose disk refuses everything as long as it is told so. */
function withBrokenDisk(): { readonly machine: Machine; readonly life: Life; readonly disk: { isBroken: boolean } } {
  const machine = newMachine()
  starts(machine)
  ask(machine, 1, 'create', 'ann')
  const disk = { isBroken: false }
  const life = live(machine, (calls) => ({
    openat: (directory, name, flags, mode) =>
      disk.isBroken && name.startsWith(stateDirectory) ? -errno.EIO : calls.openat(directory, name, flags, mode),
    unlinkat: (directory, name, flags) =>
      disk.isBroken && name === 'ann' ? -errno.EIO : calls.unlinkat(directory, name, flags),
    fsync: (descriptor) => (disk.isBroken ? -errno.EIO : calls.fsync(descriptor)),
  }))
  disk.isBroken = true
  return { machine, life, disk }
}

describe('what the disk has refused', () => {
  it('is tried again together: dozens of clients share a barrier, and messages come in between', () => {
    const { machine, life, disk } = withBrokenDisk()
    const { server, held, calls } = life
    assert.ok(held !== 'gone')
    const creates = Array.from({ length: 150 }, (_, nth) => ask(machine, 1, 'create', `client ${nth}`))
    answerQueued(server, held.pipe, held.journal)
    assert.ok(creates.every((create) => statusIn(create) === -121))
    assert.equal(tryAgain(server), false)
    disk.isBroken = false
    const rounds: number[] = []
    for (let goesOn = true; goesOn;) {
      goesOn = tryAgain(server)
      rounds.push(server.unfinished.count())
      if (goesOn) assert.ok((server.unfinished.dueAt() ?? Infinity) <= calls.monotonic(), 'the next is due at once')
    }
    assert.ok(rounds.length > 1 && rounds.length < 10, String(rounds))
    die(machine)
    assert.equal(starts(machine).length, 151)
  })

  it('does not keep others from being tried again, if it is refused for ever', () => {
    const { machine, life, disk } = withBrokenDisk()
    const { server, held } = life
    assert.ok(held !== 'gone')
    ask(machine, 1, 'create', 'bob')
    answerQueued(server, held.pipe, held.journal)
    const [bob] = server.unfinished.all()
    assert.ok(bob)
    server.unfinished.add({ event: 'remove', owner: Buffer.from('cid') as unknown as ClientOwner }, undefined)
    server.unfinished.putOff(bob)
    assert.deepEqual(
      server.unfinished.next(1).map((request) => 'owner' in request && Buffer.from(request.owner).toString()),
      ['cid'],
    )
    disk.isBroken = false
    tryAgain(server)
    assert.equal(server.unfinished.count(), 0)
  })

  /** @returns how many removes of clients with names of this length fit. */
  const fill = (server: Server, length: number): number => {
    for (let count = 0; ; count++) {
      const owner = Buffer.from(`client ${count}`.padEnd(length, '.')) as unknown as ClientOwner
      if (!server.unfinished.add({ event: 'remove', owner }, 1)) return count
    }
  }

  it('has a limit, so that nobody exhausts the memory of serve by clients with long names', () => {
    const { life } = withBrokenDisk()
    assert.ok(fill(life.server, 1024) < 5000)
  })

  it('and is a remove beyond this limit, lets nobody reclaim after the next start, even if all that was kept is done', () => {
    const { machine, life, disk } = withBrokenDisk()
    const { server, held } = life
    assert.ok(held !== 'gone')
    fill(server, 1024)
    fill(server, 1)
    const remove = ask(machine, 1, 'remove', 'ann')
    answerQueued(server, held.pipe, held.journal)
    assert.equal(statusIn(remove), -121)
    disk.isBroken = false
    while (tryAgain(server));
    assert.equal(server.unfinished.count(), 0)
    die(machine)
    assert.deepEqual(starts(machine), [])
  })
})
