/**
 * What is measured. Each piece of work has state directories of its own. The subjects are run in turn, A B A B, as
 * whole processes, so that whatever else the machine does affects all of them. Goals are ratios of medians of the same
 * run. They are reported, not asserted.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { figures, type Figures } from './figures.ts'
import type { Floor } from './floor.ts'
import { launch, type Launch, type Measured } from './launch.ts'
import type { Progress } from './progress.ts'
import { age, fill, reclaimAll, restarted } from './seeds.ts'
import type { SlowDisk } from './slow-disk.ts'
import {
  asLaunched,
  names,
  newRoom,
  removeRoom,
  steady,
  upcalls,
  type Name,
  type Room,
  type Upcall,
} from './subjects.ts'

export interface Row {
  readonly work: string
  readonly unit: 'ms' | 'MB'
  readonly ours: Figures
  readonly bundle?: Figures
  /** What our figure is divided by: that of nfsdcltrack, or ours in other circumstances. */
  readonly base: Figures
  readonly baseIs: 'nfsdcltrack' | 'nfsdcld' | 'our own'
  /** The goal: the ratio should be at most this. */
  readonly goal?: number
  /** How many upcalls did not succeed: ours, and those of nfsdcltrack. */
  readonly failed?: readonly [number, number]
  /** For the plots. */
  readonly tag?: string
}

export interface Bench {
  /** Where the state directories are. */
  readonly path: string
  readonly launcher: string
  /** The disk that they are on; undefined, if it is one of the machine's own, which can't be slowed. */
  readonly disk: SlowDisk | undefined
  /** Programs that are built as ours is, but do nothing. */
  readonly floors: Readonly<Record<Floor, string>>
  /** The program made from create-floor.c. */
  readonly createFloor: string
  readonly quick: boolean
  readonly progress: Progress
}

type Barrier = 0 | 2 | 10

/** Only the disk of slow-disk.ts can be slowed. */
export const barriers = ({ disk }: Bench): readonly Barrier[] => (disk === undefined ? [0] : [0, 2, 10])

/** Ratios to nfsdcltrack. */
const goals = {
  create: { 0: 0.65, 2: 0.52, 10: 0.5 },
  storm: { 0: 0.38, 2: 0.13, 10: 0.1 },
  check: 0.75,
  createAmong: { 100_000: 0.25, 1_000_000: 0.04 },
  checkAmongMillion: 1.1,
  memory: 0.6,
  memoryOfMany: 0.55,
} as const

function inRoom<T>({ path }: Bench, name: string, work: (room: Room) => T): T {
  const room = newRoom(join(path, name))
  try {
    return work(room)
  } finally {
    removeRoom(room)
  }
}

/** Does some work while each barrier takes that much longer. */
function slowed<T>({ disk }: Bench, ms: number, work: () => T): T {
  disk?.slow(ms)
  try {
    return work()
  } finally {
    disk?.slow(0)
  }
}

function inTurn(bench: Bench, room: Room, what: Launch, upcall: Upcall): Record<Name, Measured[]> {
  const pair = (first: Name, from: number): Measured[][] =>
    launch(
      bench.launcher,
      { ...what, first: from },
      [first, 'nfsdcltrack' as const].map((name) => asLaunched(name, room, upcall)),
    )
  // The bundle and nfsdcltrack have turns of their own. A process that is ten times as large displaces much of the
  // processor's caches, which would slow the next one.
  const [executable = [], nfsdcltrack = []] = pair('executable', what.first)
  const [bundle = []] = pair('bundle', what.first + what.rounds * what.count * names.length)
  return { executable, bundle, nfsdcltrack }
}

const wall = (measured: readonly Measured[]): Figures => figures(measured.map(({ wallMs }) => wallMs))

const againstPeer = ({
  executable,
  bundle,
  nfsdcltrack,
}: Record<Name, Measured[]>): Pick<Row, 'unit' | 'ours' | 'bundle' | 'base' | 'baseIs'> => ({
  unit: 'ms',
  ours: wall(executable),
  bundle: wall(bundle),
  base: wall(nfsdcltrack),
  baseIs: 'nfsdcltrack',
})

export function creates(bench: Bench): Row[] {
  return barriers(bench).flatMap((ms) =>
    inRoom(bench, 'create', (room) => {
      bench.progress.say(`one create, +${ms} ms`)
      for (const name of names) steady(name, room)
      const what: Launch = { rounds: bench.quick ? 15 : 200, count: 1, parallel: 1, first: 0 }
      const work = `one create, barrier +${ms} ms`
      return slowed(bench, ms, () => [
        {
          work,
          ...againstPeer(inTurn(bench, room, what, upcalls.create)),
          goal: goals.create[ms],
          tag: 'create',
        },
        { work: `${work}: the least`, ...leastAgainstPeer(bench, room, what) },
      ])
    }),
  )
}

/** The time of create-floor.c, measured in turn with nfsdcltrack. */
function leastAgainstPeer(bench: Bench, room: Room, what: Launch): Pick<Row, 'unit' | 'ours' | 'base' | 'baseIs'> {
  const place = join(room.path, 'least')
  mkdirSync(place)
  const unasked = { ...what, first: what.first + 2 * what.rounds * what.count * names.length }
  const [least = [], peer = []] = launch(bench.launcher, unasked, [
    [bench.createFloor, place, '@'],
    asLaunched('nfsdcltrack', room, upcalls.create),
  ])
  return { unit: 'ms', ours: wall(least), base: wall(peer), baseIs: 'nfsdcltrack' }
}

export function checks(bench: Bench): Row[] {
  return inRoom(bench, 'check', (room) => {
    bench.progress.say('one check')
    for (const name of names) restarted(name, room, 10, bench.progress)
    const measured = inTurn(
      bench,
      room,
      { rounds: bench.quick ? 15 : 200, count: 1, parallel: 1, first: 0 },
      upcalls.checkOfTen,
    )
    return [{ work: 'one check (4.1)', ...againstPeer(measured), goal: goals.check, tag: 'check' }]
  })
}

/** The part that the runtime takes before the first line of ours. */
export function floors(bench: Bench): Row[] {
  return inRoom(bench, 'floor', (room) => {
    bench.progress.say('the floor')
    const made = Object.entries(bench.floors)
    restarted('nfsdcltrack', room, 10, bench.progress)
    const one: Launch = { rounds: bench.quick ? 15 : 200, count: 1, parallel: 1, first: 0 }
    const took = launch(bench.launcher, one, [
      ...made.map(([, file]) => [file]),
      asLaunched('nfsdcltrack', room, upcalls.checkOfTen),
      asLaunched('nfsdcltrack', room, upcalls.create),
    ])
    const [check, create] = took.slice(made.length).map(wall)
    if (check === undefined || create === undefined) throw new Error('the peer was not measured')
    return made.flatMap(([name], index): Row[] => {
      const ours = wall(took[index] ?? [])
      return [
        { work: `${name}, to a check`, unit: 'ms', ours, base: check, baseIs: 'nfsdcltrack' },
        { work: `${name}, to a create`, unit: 'ms', ours, base: create, baseIs: 'nfsdcltrack' },
      ]
    })
  })
}

export function storms(bench: Bench): Row[] {
  return barriers(bench).flatMap((ms) =>
    inRoom(bench, 'storm', (room) => {
      bench.progress.say(`storm, +${ms} ms`)
      for (const name of names) steady(name, room)
      const what: Launch = { rounds: bench.quick ? 2 : 5, count: 160, parallel: 8, first: 0 }
      const failures = (of: readonly Measured[]): number => of.reduce((sum, { failed }) => sum + failed, 0)
      const work = `160 creates, 8 at once, barrier +${ms} ms`
      return slowed(bench, ms, (): Row[] => {
        const measured = inTurn(bench, room, what, upcalls.create)
        return [
          {
            work,
            ...againstPeer(measured),
            failed: [failures(measured.executable), failures(measured.nfsdcltrack)],
            goal: goals.storm[ms],
            tag: 'storm',
          },
          { work: `${work}: the least`, ...leastAgainstPeer(bench, room, what) },
        ]
      })
    }),
  )
}

/** A create in grace and a check, in the middle of many clients that have not reclaimed yet. */
export function amongMany(bench: Bench): Row[] {
  const rounds = bench.quick ? 10 : 30
  return inRoom(bench, 'ten', (ten) => {
    restarted('executable', ten, 10, bench.progress)
    return [10, 100_000, ...(bench.quick ? [] : [1_000_000])].flatMap((count) =>
      inRoom(bench, 'many', (room): Row[] => {
        for (const name of ['executable', 'nfsdcltrack'] as const) restarted(name, room, count, bench.progress)
        bench.progress.say(`check among ${count}`)
        const check = count === 10 ? upcalls.checkOfTen : upcalls.check
        const one: Launch = { rounds, count: 1, parallel: 1, first: count / 2 }
        const [many = [], few = []] = launch(bench.launcher, one, [
          asLaunched('executable', room, check),
          asLaunched('executable', ten, upcalls.checkOfTen),
        ])
        bench.progress.say(`create among ${count}`)
        // These clients were not checked above, so nothing about them is in memory yet.
        const [ours = [], peers = []] = launch(
          bench.launcher,
          { ...one, first: one.first + rounds },
          (['executable', 'nfsdcltrack'] as const).map((name) => asLaunched(name, room, upcalls.createInGrace)),
        )
        const among = `among ${count.toLocaleString('en').replaceAll(',', ' ')} records`
        const createRow: Row = {
          work: `create (4.1, in grace) ${among}`,
          unit: 'ms',
          ours: wall(ours),
          base: wall(peers),
          baseIs: 'nfsdcltrack',
          tag: `among ${count}`,
        }
        if (count === 10) return [createRow]
        const checkRow: Row = {
          work: `check ${among}, to our own among 10`,
          unit: 'ms',
          ours: wall(many),
          base: wall(few),
          baseIs: 'our own',
        }
        return count === 1_000_000
          ? [
              { ...createRow, goal: goals.createAmong[count] },
              { ...checkRow, goal: goals.checkAmongMillion },
            ]
          : [{ ...createRow, goal: goals.createAmong[100_000] }, checkRow]
      }),
    )
  })
}

/** A server's start and its end of grace, with few and with many clients, if all or none have reclaimed. */
export function startsAndEnds(bench: Bench): Row[] {
  const repeats = bench.quick ? 2 : 5
  const subjects = ['executable', 'nfsdcltrack'] as const
  return [10, 100_000].flatMap((count) => {
    const took = { init: [] as Measured[][], all: [] as Measured[][], none: [] as Measured[][] }
    const once = (room: Room, upcall: Upcall): Measured[] =>
      launch(
        bench.launcher,
        { rounds: 1, count: 1, parallel: 1, first: 0 },
        subjects.map((name) => asLaunched(name, room, upcall)),
      ).flat()
    inRoom(bench, 'reclaimed', (room) => {
      for (const name of subjects) {
        steady(name, room)
        fill(name, room, count, bench.progress)
      }
      for (let repeat = 0; repeat < repeats; repeat++) {
        bench.progress.say(`init and gracedone with ${count} records`)
        for (const name of subjects) age(name, room)
        took.init.push(once(room, upcalls.init))
        for (const name of subjects) reclaimAll(name, room)
        took.all.push(once(room, upcalls.gracedone))
      }
    })
    for (let repeat = 0; repeat < repeats; repeat++)
      inRoom(bench, 'unreclaimed', (room) => {
        for (const name of subjects) restarted(name, room, count, bench.progress)
        took.none.push(once(room, upcalls.gracedone))
      })
    const row = (work: string, measured: readonly Measured[][]): Row => {
      const of = (index: number): Figures => wall(measured.flatMap((pair) => pair.slice(index, index + 1)))
      return {
        work: `${work} ${count.toLocaleString('en').replaceAll(',', ' ')} records`,
        unit: 'ms',
        ours: of(0),
        base: of(1),
        baseIs: 'nfsdcltrack',
      }
    }
    return [
      row('init with', took.init),
      row('gracedone, all reclaimed,', took.all),
      row('gracedone, none reclaimed,', took.none),
    ]
  })
}

const megabytes = (kilobytes: readonly number[]): Figures => figures(kilobytes.map((kb) => kb / 1024))

/** The most memory that one upcall has, and what 64 have together while they all wait for a very slow disk. */
export function memory(bench: Bench): Row[] {
  return inRoom(bench, 'memory', (room) => {
    bench.progress.say('memory')
    for (const name of names) steady(name, room)
    const one = inTurn(bench, room, { rounds: bench.quick ? 3 : 10, count: 1, parallel: 1, first: 0 }, upcalls.create)
    const peak = (name: Name): Figures => megabytes(one[name].map(({ peakKb }) => peakKb))
    // The barrier takes longer than everything else. So all are still there when their memory is read.
    const many = slowed(bench, 12_000, () =>
      names.map((name) =>
        launch(bench.launcher, { rounds: 1, count: 64, parallel: 64, first: 1000, memoryAfterMs: 6000 }, [
          asLaunched(name, room, upcalls.create),
        ]).flat(),
      ),
    )
    const [ours = [], bundle = [], peer = []] = many.map((measured) =>
      measured.map(({ proportionalKb }) => proportionalKb),
    )
    return [
      {
        work: 'memory of one create, at most',
        unit: 'MB',
        ours: peak('executable'),
        bundle: peak('bundle'),
        base: peak('nfsdcltrack'),
        baseIs: 'nfsdcltrack',
        goal: goals.memory,
      },
      ...(bench.disk === undefined
        ? []
        : [
            {
              work: 'memory of 64 creates at once (PSS)',
              unit: 'MB',
              ours: megabytes(ours),
              bundle: megabytes(bundle),
              base: megabytes(peer),
              baseIs: 'nfsdcltrack',
              goal: goals.memoryOfMany,
            } as const,
          ]),
    ]
  })
}
