/** How many barriers and system calls an upcall makes, counted by strace(1). */
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { spawnSync } from 'node:child_process'
import { reclaimAll, restarted } from './seeds.ts'
import { commandOf, names, newRoom, now, numbered, upcalls, type Name, type Room, type Upcall } from './subjects.ts'
import type { Bench } from './work.ts'

export interface Calls { readonly barriers: number; readonly all: number }
export interface CallsRow { readonly work: string; readonly calls: Readonly<Record<Name, Calls>> }

/** The life of one server, counted call by call: what each upcall finds is what the one before has left. */
export function calls(bench: Bench, strace: string): CallsRow[] {
  const room = newRoom(join(bench.path, 'calls'))
  const count = (work: string, upcall: Upcall, number = 0): CallsRow => {
    const of = (name: Name): Calls => counted(strace, name, room, upcall, number)
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
    const afterwards = [count('create', upcalls.create, 50), count('remove', upcalls.remove, 50), count('init', upcalls.init)]
    for (const name of names) now(name, room, upcalls.gracedone)
    return [...inGrace, ...atTheEnd, ...afterwards]
  } finally {
    rmSync(room.path, { recursive: true })
  }
}

function counted(strace: string, name: Name, room: Room, { environment, words }: Upcall, number: number): Calls {
  const table = join(room.path, 'strace')
  const owner = Buffer.from(numbered(number)).toString('hex').slice(-14)
  const [program, ...rest] = [strace, '-f', '-c', '-o', table, ...commandOf(name, room), ...words.map((word) => word.replace('@', owner))]
  const env = Object.fromEntries(environment.map((word) => word.split('=') as [string, string]))
  const { status } = spawnSync(program, rest, { env, cwd: '/', stdio: 'ignore' })
  if (status !== 0) throw new Error(`${name} ${words.join(' ')} under strace: status ${status ?? '?'}`)
  let [barriers, all] = [0, 0]
  for (const line of readFileSync(table, 'utf8').split('\n')) {
    // % time, seconds, usecs/call, calls, sometimes errors, name
    const [, calls, call] = /^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?([a-z]\w*)$/.exec(line) ?? []
    if (call === undefined || call === 'total') continue
    all += Number(calls)
    if (call === 'fsync' || call === 'fdatasync') barriers += Number(calls)
  }
  return { barriers, all }
}
