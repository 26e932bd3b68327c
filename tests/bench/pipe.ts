/**
 * `serve` beside nfsdcld. Both serve an acted kernel's end of the pipe (tests/support/pipe), in turn, on the same slow
 * disk. What is measured is how long an nfsd thread waits, from queueing its message to the answer, by the clock of the
 * acted end.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { recordLine, recordName } from '../../lib/rules/record.ts'
import type { ClientOwner } from '../../lib/upcall/owner.ts'
import { compiled } from '../support/compiled.ts'
import { memoryOf, processorOf, runNfsdcld, running, runServe, type Daemon } from '../support/pipe/daemons.ts'
import type { Body, Command } from '../support/pipe/messages.ts'
import { startNfsd, type Nfsd } from '../support/pipe/nfsd.ts'
import { compilePipeEnd, startPipeEnd, type PipeEnd } from '../support/pipe/pipe-end.ts'
import { figures } from './figures.ts'
import { numbered, ownerPrefix } from './subjects.ts'
import { run } from './tools.ts'
import { barriers, type Bench, type Row } from './work.ts'

/** `floor` does the least that any tracker must do (pipe-floor.c). No tracker can take less time than that. */
const names = ['serve', 'floor', 'nfsdcld'] as const
type Name = (typeof names)[number]

/** Ratios to nfsdcld. */
const goals = {
  one: { 0: 0.7, 2: 0.5, 10: 0.45 },
  crowd: { 0: 0.3, 2: 0.1, 10: 0.08 },
  list: 1,
  memory: 1,
} as const

/** As many as a server has threads. */
const crowd = 16

interface Subject {
  readonly name: Name
  readonly end: PipeEnd
  readonly state: string
  /** Starts the daemon, which must not run yet, and a server. */
  readonly start: () => Promise<Nfsd>
  readonly daemon: () => Daemon
  readonly stop: () => Promise<void>
}

type Pair<T> = Record<Name, T>

/** The daemons, with state directories on the disk. What is in /run on a server is in memory here as well. */
async function withSubjects<T>({ path, disk }: Bench, work: (subjects: readonly Subject[]) => Promise<T>): Promise<T> {
  const room = mkdtempSync(join(path, 'pipe-'))
  const memory = mkdtempSync('/dev/shm/nfsd-userland-helper-bench-')
  const program = compilePipeEnd(memory)
  const subjects: Subject[] = []
  try {
    const floor = compiled(fileURLToPath(new URL('pipe-floor.c', import.meta.url)), join(memory, 'floor-program'))
    for (const name of names) subjects.push(await newSubject(name, { program, floor, room, memory }))
    return await work(subjects)
  } finally {
    disk?.slow(0)
    for (const { stop, end } of subjects) {
      await stop()
      await end.scrap()
    }
    rmSync(room, { recursive: true })
    rmSync(memory, { recursive: true })
  }
}

interface Rooms {
  /** The programs made from pipe-end.c and pipe-floor.c. */
  readonly program: string
  readonly floor: string
  readonly room: string
  readonly memory: string
}

async function newSubject(name: Name, { program, floor, room, memory }: Rooms): Promise<Subject> {
  const end = await startPipeEnd(program, join(memory, `${name}-pipes`))
  const state = join(room, name)
  mkdirSync(state)
  const runDir = join(memory, name)
  const machine = { dir: runDir, stateDir: state, nfsdDir: join(memory, 'nfsd'), runDir }
  for (const directory of [runDir, machine.nfsdDir]) mkdirSync(directory, { recursive: true })
  let daemon: Daemon | undefined
  let nfsd: Nfsd | undefined
  return {
    name,
    end,
    state,
    daemon: () => {
      if (daemon === undefined) throw new Error(`no ${name} runs`)
      return daemon
    },
    start: async () => {
      await nfsd?.stop()
      daemon ??=
        name === 'serve'
          ? runServe(machine, end.path)
          : name === 'floor'
            ? running([floor, end.path, state])
            : runNfsdcld(end.path, state)
      const ended = daemon.ended.then((how) => {
        throw new Error(`${name} ended with ${how}: ${daemon?.said() ?? ''}`)
      })
      ended.catch(() => undefined)
      nfsd = await Promise.race([startNfsd(end), ended])
      if (nfsd === undefined) throw new Error(`${name} did not take the pipe: ${daemon.said()}`)
      return nfsd
    },
    stop: async () => {
      await nfsd?.stop()
      await daemon?.stop()
      daemon = nfsd = undefined
    },
  }
}

/** @returns how long the slowest of these waited. @throws if one got another status than 0. */
async function waited(nfsd: Nfsd, command: Command, bodies: readonly Body[]): Promise<number> {
  let most = 0
  for (const { ended } of nfsd.send(command, ...bodies)) {
    const how = await ended
    if ('failed' in how || how.answer.readInt16LE(2) !== 0) throw new Error(`${command} was not done`)
    most = Math.max(most, how.ms)
  }
  return most
}

const client = (number: number): Body => ({ owner: Buffer.from(numbered(number)) })

const pair = <T>(value: () => T): Pair<T> => ({ serve: value(), floor: value(), nfsdcld: value() })

const rowOf = (work: string, took: Pair<readonly number[]>, goal?: number, unit: Row['unit'] = 'ms'): Row => ({
  work,
  unit,
  ours: figures(took.serve),
  base: figures(took.nfsdcld),
  baseIs: 'nfsdcld',
  ...(goal === undefined ? {} : { goal }),
})

const rowsOf = (work: string, took: Pair<readonly number[]>, goal?: number): Row[] => [
  rowOf(work, took, goal),
  rowOf(`${work}: the least`, { ...took, serve: took.floor }),
]

/** Single messages, and many that are queued at once. */
export async function pipe(bench: Bench): Promise<Row[]> {
  return withSubjects(bench, async (subjects) => {
    const rows: Row[] = []
    const servers: [Name, Nfsd][] = []
    for (const subject of subjects) servers.push([subject.name, await subject.start()])
    let number = 0
    // Some files are read, made and cached only once. That must not be counted for a message.
    for (const [, nfsd] of servers)
      for (let time = 0; time < 5; time++) await waited(nfsd, 'create', [client(number++)])
    for (const ms of barriers(bench)) {
      const took = { one: pair((): number[] => []), crowd: pair((): number[] => []), remove: pair((): number[] => []) }
      bench.disk?.slow(ms)
      // What takes the least time differs most from one time to the next.
      const rounds = bench.quick ? 10 : ms === 0 ? 300 : 60
      for (let round = 0; round < rounds; round++) {
        bench.progress.say(`pipe, +${ms} ms, round ${round}`)
        for (const [name, nfsd] of servers) {
          took.one[name].push(await waited(nfsd, 'create', [client(number)]))
          took.remove[name].push(await waited(nfsd, 'remove', [client(number)]))
          number++
        }
        if (round % 3 !== 0) continue
        for (const [name, nfsd] of servers)
          took.crowd[name].push(
            await waited(
              nfsd,
              'create',
              Array.from({ length: crowd }, () => client(number++)),
            ),
          )
      }
      rows.push(
        ...rowsOf(`pipe: one create, barrier +${ms} ms`, took.one, goals.one[ms]),
        rowOf(`pipe: ${crowd} creates at once, barrier +${ms} ms`, took.crowd, goals.crowd[ms]),
        ...rowsOf(`pipe: one remove, barrier +${ms} ms`, took.remove, goals.one[ms]),
      )
    }
    bench.disk?.slow(0)
    rows.push(rowOf('pipe: memory at rest (PSS)', memoryNow(subjects), goals.memory, 'MB'))
    bench.progress.say('pipe, at rest')
    // By then `serve` has emptied its intent log.
    await pause(6000)
    const before = subjects.map((subject) => processorOf(subject.daemon()))
    await pause(10_000)
    const used = pair((): number[] => [])
    for (const [index, subject] of subjects.entries())
      used[subject.name].push(processorOf(subject.daemon()) - (before[index] ?? 0))
    // If one used no time at all, there is no ratio.
    console.error(`  processor in 10 s at rest: serve ${used.serve[0] ?? 0} ms, nfsdcld ${used.nfsdcld[0] ?? 0} ms`)
    return rows
  })
}

const memoryNow = (subjects: readonly Subject[]): Pair<number[]> => {
  const memory = pair((): number[] => [])
  for (const subject of subjects) memory[subject.name].push(memoryOf(subject.daemon()))
  return memory
}

/** GraceStart with many names. If a server starts again within grace, it gets the same list again. */
export async function lists(bench: Bench): Promise<Row[]> {
  const rows: Row[] = []
  for (const count of [10_000, 100_000])
    rows.push(
      ...(await withSubjects(bench, async (subjects) => {
        const took = pair((): number[] => [])
        for (const subject of subjects) {
          await subject.start()
          await subject.stop()
          fill(subject, count, bench)
        }
        for (let repeat = 0; repeat < (bench.quick ? 2 : count < 100_000 ? 20 : 5); repeat++)
          for (const subject of subjects) {
            bench.progress.say(`GraceStart with ${count} names, ${subject.name}`)
            const nfsd = await subject.start()
            if (nfsd.version === 0) console.error(`  ${subject.name} gave the list of ${count} up: version 0`)
            else if (nfsd.list.length !== count)
              throw new Error(`${subject.name} named ${nfsd.list.length} of ${count}`)
            took[subject.name].push(nfsd.startMs)
          }
        const many = count.toLocaleString('en').replaceAll(',', ' ')
        return [
          ...rowsOf(`pipe: GraceStart with ${many} names`, took, goals.list),
          rowOf(`pipe: memory after it (PSS)`, memoryNow(subjects), undefined, 'MB'),
        ]
      })),
    )
  return rows
}

/** Adds records to the newest instance, while the daemon does not run. By messages it would take a day. */
function fill({ name, state }: Subject, count: number, { progress }: Bench): void {
  progress.say(`${count} records for ${name}`)
  if (name === 'nfsdcld') {
    const database = join(state, 'main.sqlite')
    const [current] = run('sqlite3', [database, "SELECT printf('%016x', current) FROM grace;"]).trim().split('\n')
    run('sqlite3', [
      database,
      `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ${count - 1})
      INSERT INTO "rec-${current ?? ''}" SELECT CAST(printf('${ownerPrefix}%07d', i) AS BLOB), NULL FROM n;`,
    ])
    return
  }
  if (name === 'floor') {
    writeFileSync(join(state, 'names'), String(count))
    return
  }
  const clients = join(state, 'v4clients')
  const newest = readdirSync(clients)
    .filter((entry) => /^\d+$/.test(entry))
    .sort((a, b) => Number(a) - Number(b))
    .at(-1)
  for (let number = 0; number < count; number++) {
    const owner = Buffer.from(numbered(number)) as Uint8Array as ClientOwner
    symlinkSync(recordLine(owner, { session: 'unknown', recorded: 1 }), join(clients, newest ?? '', recordName(owner)))
  }
}
