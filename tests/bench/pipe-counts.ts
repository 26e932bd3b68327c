/**
 * Instructions at the pipe (valgrind): of one Create, of one of 16 that are queued at once, of one Create and its
 * Remove, and of one name of GraceStart's list. Each is the difference of two lives, of which one has a hundred more of
 * these. So what a start takes is not in it. The figures differ by up to a twentieth from run to run. This needs no
 * slow disk and no idle machine: unshare -m tsx tests/bench/pipe-counts.ts
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { recordLine, recordName } from '../../lib/rules/record.ts'
import type { ClientOwner } from '../../lib/upcall/owner.ts'
import { machineIn } from '../support/artefacts.ts'
import { running, serveWords, type Daemon } from '../support/pipe/daemons.ts'
import type { Command } from '../support/pipe/messages.ts'
import { startNfsd, type Nfsd } from '../support/pipe/nfsd.ts'
import { compilePipeEnd, startPipeEnd } from '../support/pipe/pipe-end.ts'
import { numbered } from './subjects.ts'
import { find } from './tools.ts'

const crowd = 16
const [few, many] = [10, 110]

/** What a life asks repeatedly after a start, and how many of what is counted are in one `ask`. */
const works = {
  'one Create': { ask: (nfsd: Nfsd, at: number) => all(nfsd, 'create', at, 1), each: 1 },
  'one of 16 Creates at once': { ask: (nfsd: Nfsd, at: number) => all(nfsd, 'create', at * crowd, crowd), each: crowd },
  'one Create and its Remove': {
    ask: async (nfsd: Nfsd, at: number) => {
      await all(nfsd, 'create', at, 1)
      await all(nfsd, 'remove', at, 1)
    },
    each: 1,
  },
} as const

async function all(nfsd: Nfsd, command: Command, from: number, count: number): Promise<void> {
  const bodies = Array.from({ length: count }, (_, at) => ({ owner: Buffer.from(numbered(from + at)) }))
  for (const { ended } of nfsd.send(command, ...bodies)) {
    const how = await ended
    if ('failed' in how || how.answer.readInt16LE(2) !== 0) throw new Error(`${command} was not done`)
  }
}

const valgrind = find('valgrind')
if (valgrind === undefined) throw new Error('apt-get install valgrind')
const memory = mkdtempSync('/dev/shm/nfsd-userland-helper-bench-')
try {
  const program = compilePipeEnd(memory)
  for (const [what, { ask, each }] of Object.entries(works)) {
    const life = async (times: number): Promise<number> =>
      instructions(program, async (start) => {
        const [nfsd] = await start('counted')
        for (let at = 0; at < times; at++) await ask(nfsd, at)
      })
    say(what, (await life(many)) - (await life(few)), (many - few) * each)
  }
  const list = async (names: number): Promise<number> =>
    instructions(program, async (start, stateDir) => {
      const [nfsd, daemon] = await start('not counted')
      await nfsd.stop()
      await daemon.stop()
      fill(stateDir, names)
      const [again] = await start('counted')
      if (again.list.length !== names) throw new Error(`${again.list.length} names of ${names}`)
    })
  say('one name of the list', (await list(10 * many)) - (await list(10 * few)), 10 * (many - few))
} finally {
  rmSync(memory, { recursive: true })
}

function say(what: string, instructions: number, times: number): void {
  console.log(`${what}: ${(instructions / times / 1000).toFixed(1)} thousand instructions`)
}

/** @param live gets a function that starts `serve`, counted or not, and a server. @returns the counted instructions. */
async function instructions(
  program: string,
  live: (start: (how: 'counted' | 'not counted') => Promise<[Nfsd, Daemon]>, stateDir: string) => Promise<void>,
): Promise<number> {
  const room = mkdtempSync(join(memory, 'life-'))
  const end = await startPipeEnd(program, join(room, 'pipes'))
  const machine = machineIn(room)
  for (const directory of [machine.stateDir, machine.nfsdDir]) mkdirSync(directory)
  const log = join(room, 'callgrind')
  const words = serveWords(machine, end.path)
  const counting = [valgrind ?? '', '--tool=callgrind', '--callgrind-out-file=/dev/null', `--log-file=${log}`]
  let last: [Nfsd, Daemon] | undefined
  try {
    await live(async (how) => {
      const daemon = running(how === 'counted' ? [...counting, ...words] : words)
      const nfsd = await startNfsd(end)
      if (nfsd === undefined) throw new Error(`nobody took the pipe: ${daemon.said()}`)
      return (last = [nfsd, daemon])
    }, machine.stateDir)
    await last?.[0].stop()
  } finally {
    await last?.[1].stop()
    await end.scrap()
  }
  const [, sum] = /Collected : (\d+)/.exec(readFileSync(log, 'latin1')) ?? []
  rmSync(room, { recursive: true })
  return Number(sum)
}

/** Adds records to the newest instance, while `serve` does not run. */
function fill(stateDir: string, count: number): void {
  const clients = join(stateDir, 'v4clients')
  const starts = readdirSync(clients).filter((name) => /^\d+$/.test(name))
  const newest = starts.sort((one, other) => Number(one) - Number(other)).at(-1) ?? ''
  for (let number = 0; number < count; number++) {
    const owner = Buffer.from(numbered(number)) as Uint8Array as ClientOwner
    const line = recordLine(owner, { session: 'unknown', recorded: 1_795_328_616 })
    symlinkSync(line, join(clients, newest, recordName(owner)))
  }
}
