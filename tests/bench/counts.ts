/**
 * Counts that need no clock, and are the same in each run: barriers and system calls (strace), instructions (valgrind),
 * bytes.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { removeSync } from 'fs-extra/esm'
import { executable } from '../support/artefacts.ts'
import { reclaimAll, restarted } from './seeds.ts'
import {
  commandOf,
  names,
  newRoom,
  now,
  numbered,
  removeRoom,
  steady,
  upcalls,
  type Name,
  type Upcall,
} from './subjects.ts'
import { find } from './tools.ts'
import type { Bench } from './work.ts'

export interface Calls {
  readonly barriers: number
  readonly all: number
}
export interface CallsRow {
  readonly work: string
  readonly calls: Readonly<Record<Name, Calls>>
}

export interface Count {
  readonly what: string
  readonly unit: string
  readonly ours: number
  readonly nfsdcltrack?: number
  /** The goal: at most this. */
  readonly goal?: number
}

const goals = { calls: 55, check: 2.6, create: 3.2, megabytes: 2 } as const

/** The life of one server, counted call by call: each upcall finds the state that the one before has left. */
export function calls(bench: Bench, strace: string): CallsRow[] {
  const room = newRoom(join(bench.path, 'calls'))
  const count = (work: string, upcall: Upcall, number = 0): CallsRow => {
    const of = (name: Name): Calls =>
      callsOf([...commandOf(name, room), ...wordsOf(upcall, number)], upcall, {
        strace,
        table: join(room.path, 'strace'),
      })
    return { work, calls: { executable: of('executable'), bundle: of('bundle'), nfsdcltrack: of('nfsdcltrack') } }
  }
  try {
    for (const name of names) restarted(name, room, 10, bench.progress)
    const inGrace = [
      count('check (4.1)', upcalls.check, 1),
      count('check (4.0, the record moves)', upcalls.promotingCheck, 2),
      count('create (4.1, in grace, reclaims)', upcalls.createInGrace, 3),
    ]
    for (const name of names) reclaimAll(name, room)
    const atTheEnd = [count('gracedone, all reclaimed', upcalls.gracedone)]
    const afterwards = [
      count('create', upcalls.create, 50),
      count('remove', upcalls.remove, 50),
      count('init', upcalls.init),
    ]
    for (const name of names) now(name, room, upcalls.gracedone)
    return [...inGrace, ...atTheEnd, ...afterwards]
  } finally {
    removeRoom(room)
  }
}

export function counts(bench: Bench, callRows: readonly CallsRow[]): Count[] {
  const createCalls = callRows.find(({ work }) => work === 'create')?.calls
  const valgrind = find('valgrind')
  return [
    ...(createCalls === undefined
      ? []
      : [
          {
            what: 'system calls of a create',
            unit: '',
            ours: createCalls.executable.all,
            nfsdcltrack: createCalls.nfsdcltrack.all,
            goal: goals.calls,
          },
        ]),
    ...(valgrind === undefined ? [] : instructions(bench, valgrind)),
    {
      what: 'size of the executable',
      unit: 'MB',
      ours: statSync(executable.command[0] ?? '').size / 1e6,
      goal: goals.megabytes,
    },
  ]
}

function instructions(bench: Bench, valgrind: string): Count[] {
  const room = newRoom(join(bench.path, 'instructions'))
  try {
    for (const name of ['executable', 'nfsdcltrack'] as const) restarted(name, room, 10, bench.progress)
    const millions = (command: readonly string[], upcall: Upcall | undefined, number = 0): number => {
      const log = join(room.path, 'callgrind')
      // Only the sum at the end of its output is wanted.
      ended(
        [
          valgrind,
          '--tool=callgrind',
          '--callgrind-out-file=/dev/null',
          `--log-file=${log}`,
          ...command,
          ...(upcall === undefined ? [] : wordsOf(upcall, number)),
        ],
        upcall?.environment ?? [],
      )
      return Number(/Collected : (\d+)/.exec(readFileSync(log, 'latin1'))?.[1]) / 1e6
    }
    const of = (what: string, upcall: Upcall, number: number, goal?: number): Count => ({
      what: `instructions of ${what}`,
      unit: 'million',
      ours: millions(commandOf('executable', room), upcall, number),
      nfsdcltrack: millions(commandOf('nfsdcltrack', room), upcall, number),
      ...(goal === undefined ? {} : { goal }),
    })
    const inGrace = of('a check (4.1)', upcalls.check, 1, goals.check)
    for (const name of ['executable', 'nfsdcltrack'] as const) {
      removeSync(room.state(name))
      mkdirSync(room.state(name))
      steady(name, room)
    }
    return [
      inGrace,
      of('a create', upcalls.create, 50, goals.create),
      ...Object.entries(bench.floors).map(([what, program]) => ({
        what: `instructions of ${what}`,
        unit: 'million',
        ours: millions([program], undefined),
      })),
    ]
  } finally {
    removeRoom(room)
  }
}

/** One upcall's numbers, from a table of strace's. */
function callsOf(
  command: readonly string[],
  { environment }: Upcall,
  { strace, table }: { readonly strace: string; readonly table: string },
): Calls {
  ended([strace, '-f', '-c', '-o', table, ...command], environment)
  let [barriers, all] = [0, 0]
  for (const line of readFileSync(table, 'utf8').split('\n')) {
    // % time, seconds, usecs/call, calls, sometimes errors, name
    const [, times, call] = /^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?([a-z]\w*)$/.exec(line) ?? []
    if (call === undefined || call === 'total') continue
    all += Number(times)
    if (call === 'fsync' || call === 'fdatasync') barriers += Number(times)
  }
  return { barriers, all }
}

function wordsOf({ words }: Upcall, number: number): string[] {
  const owner = Buffer.from(numbered(number)).toString('hex').slice(-14)
  return words.map((word) => word.replace('@', owner))
}

function ended([program = '', ...words]: readonly string[], environment: readonly string[]): void {
  const env = Object.fromEntries(environment.map((word) => word.split('=') as [string, string]))
  const { status } = spawnSync(program, words, { env, cwd: '/', stdio: 'ignore' })
  if (status !== 0) throw new Error(`${program} ${words.join(' ')}: status ${status ?? '?'}`)
}
