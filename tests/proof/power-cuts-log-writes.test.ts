/**
 * Power cuts with a disk that has a cache. In an emulated machine, under a kernel of its own, the helper lives a random
 * life on a disk that logs every write, flush and acknowledgement (dm-log-writes). From the log, states are made in
 * which this disk can have been (disk-states.ts). They are mounted, and asked.
 *
 * This shows what no copy of an image shows: writes that were completed but not flushed are lost, reordered, or torn.
 * It does not show a disk that lies about its flushes.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { closeSync, openSync, readSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { blank, judge, type Event, type Memory, type Owner } from '../life/oracle.ts'
import { executable as built, artefacts, type Artefact } from '../support/artefacts.ts'
import { diskStates } from './disk-states.ts'
import { inPart, random, report, seconds, seed, type Row } from './figures.ts'
import { inGuest, onlyOn, upcallIn, type Subject } from './guest-upcalls.ts'
import { readLog, type Entry, type Write } from './log-writes.ts'
import { fileSystems, need, newDisk, type FileSystem, type LoopDisk } from './loop-disks.ts'
import { mutations, withMutant } from './mutants.ts'
import { randomLife } from './random-life.ts'
import { ann, bob, cal, create, dan, long, remember, remove, start } from './scenarios.ts'
import { readTree, type Tree } from './trees.ts'
import { disagreement, futuresByRule, observer } from './verdicts.ts'

const hasExecutable = artefacts().some(({ name }) => name === 'executable')
const clients: readonly Owner[] = [ann, bob, cal, dan, long]
const tried = fileSystems().filter((each) => each !== 'btrfs')
/**
 * Upcalls of a life. `lots`: how many random subsets of the cache are tried at each moment at which it is not empty.
 */
const upcalls: Record<'ext4' | 'xfs', number> = inPart ? { ext4: 12, xfs: 12 } : { ext4: 130, xfs: 200 }
const lots = 8

describe('the power goes, and of its cache the disk has written what it pleased', { skip: !hasExecutable }, () => {
  const rows: Row[] = []
  for (const fileSystem of inPart ? tried.slice(0, 1) : tried)
    it(`on ${fileSystem}: everything acknowledged before is kept, and nobody may reclaim who must not`, async () => {
      const began = performance.now()
      const life = await recordedLife(built, fileSystem, upcalls[fileSystem])
      const { states, disks, reordered, trees, violations } = await asked(life)
      const writes = life.entries.filter((entry) => entry.kind === 'write')
      rows.push({
        'file system': fileSystem,
        acknowledged: life.memories.length - 1,
        writes: writes.length,
        'of these FUA': writes.filter(({ durable }) => durable).length,
        flushes: life.entries.filter(({ kind }) => kind === 'flush').length,
        states,
        'different disks': disks,
        'of these reordered or torn': reordered,
        'different state directories': trees,
        violations: violations.length,
        seconds: seconds(began),
      })
      assert.deepEqual(violations, [])
    })
  after(() => {
    report({ technique: 'power-cuts-log-writes', rows })
  })
})

describe('a disk with a cache can show a loss', { skip: !hasExecutable || inPart }, () => {
  const rows: Row[] = []
  for (const fileSystem of tried) {
    it(`nfsdcltrack loses what it has acknowledged, on ${fileSystem}`, async () => {
      need('nfsdcltrack', 'nfs-kernel-server')
      const { acknowledged, states, lost } = await peerLosses('/usr/sbin/nfsdcltrack', fileSystem)
      rows.push({
        control: 'nfsdcltrack',
        'file system': fileSystem,
        acknowledged,
        states,
        'of these with a loss': lost,
      })
      assert.notEqual(lost, 0)
    })
    it(`the helper does where ${mutations['no barrier after an upcall'].what}, on ${fileSystem}`, async () => {
      const life = await withMutant('no barrier after an upcall', (broken) => recordedLife(broken, fileSystem, 40))
      const { states, violations } = await asked(life)
      rows.push({
        control: mutations['no barrier after an upcall'].what,
        'file system': fileSystem,
        acknowledged: life.memories.length - 1,
        states,
        'of these with a loss': violations.length,
      })
      assert.notEqual(violations.length, 0)
    })
  }
  after(() => {
    report({ technique: 'power-cuts-log-writes-controls', rows })
  })
})

interface Recording {
  /** The disk as it was before the life began. The reader of the recording removes it. */
  readonly disk: LoopDisk
  /** A mark in the log is the end of an upcall that was acknowledged, and judged by the rule. */
  readonly entries: readonly Entry[]
}

/** What a life on a disk needs: a place for the records, and a way to make an upcall, which returns its status. */
type Live = (
  stateDirectory: string,
  upcall: (subject: Subject, event: Event, bootTime?: string) => Promise<number>,
) => Promise<void>

async function record(fileSystem: FileSystem, program: string, live: Live): Promise<Recording> {
  const disk = newDisk(fileSystem)
  const original = disk.cut()
  const log = `${disk.image}.log`
  writeFileSync(log, '')
  truncateSync(log, 1 << 30)
  try {
    await inGuest([disk.image, log], [program], async ({ guest, programs }) => {
      const at = '/run/lab/disk'
      await guest.run(`
        modprobe -a dm-log-writes ${fileSystem}
        dmsetup create life --noudevrules --noudevsync --table "0 $(cat /sys/block/vda/size) log-writes /dev/vda /dev/vdb"
        mkdir ${at}
        mount -t ${fileSystem} /dev/dm-0 ${at}`)
      const mark = 'dmsetup message life 0 mark acknowledged'
      await live(
        `${at}/state`,
        async (subject, event, bootTime) =>
          (
            await upcallIn(
              guest,
              { ...subject, program: programs.get(subject.program) ?? '' },
              { event, bootTime },
              mark,
            )
          ).status,
      )
      await guest.run(`umount ${at}; dmsetup remove --noudevrules --noudevsync life; sync`)
    })
    return { disk: original, entries: readLog(log) }
  } catch (error) {
    original.scrap()
    throw error
  } finally {
    disk.scrap()
  }
}

interface RecordedLife extends Recording {
  /** What the rule remembers before the first upcall, and after each. */
  readonly memories: readonly Memory[]
  readonly violations: readonly string[]
}

async function recordedLife(artefact: Artefact, fileSystem: FileSystem, length: number): Promise<RecordedLife> {
  const [program = ''] = artefact.command
  const life = randomLife(random(seed(`a life on ${fileSystem}`)), clients)
  const memory = blank()
  const memories: Memory[] = [remember(memory)]
  const violations: string[] = []
  const recording = await record(fileSystem, program, async (stateDirectory, upcall) => {
    while (memories.length <= length) {
      const event = life.next(memory)
      const { statuses } = judge(memory, event)
      const status = await upcall({ program, options: onlyOn(stateDirectory) }, event, memory.bootTime)
      if (!statuses.includes(status)) violations.push(`${event.event} ended with ${status}`)
      memories.push(remember(memory))
    }
  })
  return { ...recording, memories, violations }
}

/** Makes every state, mounts it, and asks the helper about it. */
async function asked({ disk, entries, memories, violations: before }: RecordedLife): Promise<{
  readonly states: number
  readonly disks: number
  readonly reordered: number
  readonly trees: number
  readonly violations: readonly string[]
}> {
  const violations = [...before]
  const observe = observer(built, clients, 'power cut')
  const known = new Map<string, Tree | Error>()
  let states = 0,
    reordered = 0
  for (const { contents, cached, acknowledged, mount } of replayed(disk, entries)) {
    states++
    if (!known.has(contents) && cached) reordered++
    const tree = known.get(contents) ?? mount((top) => readTree(join(top, 'state')))
    known.set(contents, tree)
    // The next upcall may have begun. Then none or all of it is there.
    const allowed = memories.slice(acknowledged, acknowledged + 2).map((memory) => futuresByRule(memory, clients))
    const wrong = tree instanceof Error ? tree.message : disagreement(await observe.ask(tree), allowed, 'power cut')
    if (wrong !== undefined) violations.push(`after ${acknowledged} upcalls: ${wrong}`)
  }
  return { states, disks: known.size, reordered, trees: observe.seen(), violations }
}

interface Replayed {
  readonly contents: string
  /** Whether it contains a part of what was in the cache. */
  readonly cached: boolean
  /** How many upcalls were acknowledged before the cut. */
  readonly acknowledged: number
  /** Mounts a disk in this state, so that the file system recovers, and reads it. @throws if it can't be mounted. */
  readonly mount: <T>(look: (top: string) => T) => T | Error
}

function* replayed(disk: LoopDisk, entries: readonly Entry[]): Generator<Replayed> {
  const fd = openSync(disk.image, 'r+')
  const original = disk.cut()
  const originalFd = openSync(original.image, 'r')
  const put = (to: number, { at, bytes }: Write): void => {
    assert.equal(writeSync(to, bytes, 0, bytes.length, at), bytes.length)
  }
  let acknowledged = 0,
    done = 0
  try {
    const before = (at: number, length: number): Buffer => {
      const bytes = Buffer.alloc(length)
      readSync(originalFd, bytes, 0, length, at)
      return bytes
    }
    for (const { upTo, cached, contents } of diskStates(
      entries,
      before,
      random(seed('what of the cache was written')),
      lots,
    )) {
      for (const entry of entries.slice(done, upTo)) {
        if (entry.kind === 'write') put(fd, entry)
        if (entry.kind === 'mark' && entry.text === 'acknowledged') acknowledged++
      }
      done = upTo
      const mount: Replayed['mount'] = (look) => {
        const state = disk.cut()
        const stateFd = openSync(state.image, 'r+')
        for (const write of cached) put(stateFd, write)
        closeSync(stateFd)
        try {
          return look(state.mount())
        } catch (error) {
          return error instanceof Error ? error : new Error(String(error))
        } finally {
          state.scrap()
        }
      }
      yield { contents, cached: cached.length > 0, acknowledged, mount }
    }
  } finally {
    closeSync(fd)
    closeSync(originalFd)
    original.scrap()
    disk.scrap()
  }
}

/** In how many states the last create or remove that the peer has acknowledged is lost. */
async function peerLosses(
  peer: string,
  fileSystem: FileSystem,
): Promise<{ readonly acknowledged: number; readonly states: number; readonly lost: number }> {
  const owner = (n: number): Owner => Buffer.from(`client ${n}`).toString('hex')
  const events: Event[] = [start('1000')]
  for (let n = 0; n < 20; n++) events.push(create(owner(n), 'Y'), ...(n % 4 === 3 ? [remove(owner(n))] : []))
  const { disk, entries } = await record(fileSystem, peer, async (stateDirectory, upcall) => {
    for (const event of events)
      assert.equal(await upcall({ program: peer, options: `-f -s ${stateDirectory}` }, event, '1000'), 0)
  })
  let states = 0,
    lost = 0
  for (const { acknowledged, mount } of replayed(disk, entries)) {
    const last = events[acknowledged - 1],
      next = events[acknowledged]
    if (last === undefined || !('owner' in last)) continue
    // The next upcall may have begun. If it is about the same client, both answers may be right.
    if (next !== undefined && 'owner' in next && next.owner === last.owner) continue
    states++
    const status = mount(
      (top) => spawnSync(peer, ['-f', '-s', join(top, 'state'), 'check', last.owner], { stdio: 'ignore' }).status,
    )
    if ((status === 0) !== (last.event === 'create')) lost++
  }
  return { acknowledged: events.length, states, lost }
}
