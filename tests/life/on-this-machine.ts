/** A place on this machine, in which lives run with a built program. */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  asKernel,
  clockAt,
  inForeground,
  newMachine,
  scrap,
  settings,
  type Artefact,
  type Ending,
  type Environment,
  type Machine,
} from '../support/artefacts.ts'
import { changes, named, trace } from '../support/strace.ts'
import { Progress } from './halfway.ts'
import type { Point } from './life.ts'
import type { Owner } from './oracle.ts'
import { escaped } from './owners.ts'
import type { Command, Hindrance, Place } from './play.ts'

interface Killed extends Pick<Ending, 'status'> {
  readonly progress: Progress
  /** The call, if it came to that. */
  readonly killedBefore: string | undefined
}

export interface PlaceHere extends Place {
  readonly machine: Machine
  /** An upcall that is killed before one of its calls. */
  readonly killed: (words: readonly string[], env: Environment, clock: number, at: Point) => Promise<Killed>
}

export function onThisMachine(artefact: Artefact): PlaceHere {
  const machine = newMachine()
  const legacyTop = join(machine.stateDir, 'v4recovery')
  const upcall: Place['upcall'] = (words, env, clock) =>
    asKernel(artefact, [...settings(machine), ...words], { ...env, ...clockAt(clock) })
  return {
    machine,
    upcall,
    hindered: async (how, words, env, clock) => {
      if (how === 'no place for records')
        return withoutPlace(machine, async () => (await upcall(words, env, clock)).status)
      return interfered(artefact, tracing[how], [...settings(machine), ...words], { ...env, ...clockAt(clock) })
    },
    killed: async (words, env, clock, { name, nth }) => {
      const options = ['-e', `inject=${name === 'fsync' ? name : named(name)}:signal=SIGKILL:when=${nth}`]
      const given = { ...env, ...clockAt(clock) }
      const { status, calls } = await trace(artefact, [...settings(machine), ...words], given, { options })
      const progress = new Progress(machine.stateDir, machine.runDir)
      for (const call of calls.filter(changes)) {
        progress.comesTo(call)
        if ((call.result ?? -1) >= 0) progress.hasMade(call)
      }
      const last = calls.at(-1)
      const isKilled = typeof status !== 'number'
      return {
        status,
        progress,
        killedBefore:
          isKilled && last !== undefined
            ? `${last.name} ${last.paths.join(' ')}`.replaceAll(machine.dir, '')
            : undefined,
      }
    },
    command: (command) =>
      inForeground(artefact, [...settings(machine), ...wordsFor(machine, command)], {
        PATH: process.env['PATH'] ?? '',
      }),
    readKernel: (file) => {
      const path = join(machine.nfsdDir, file)
      return existsSync(path) ? readFileSync(path, 'latin1') : undefined
    },
    writeKernel: (file, text) => {
      writeFileSync(join(machine.nfsdDir, file), text)
    },
    legacyTop,
    legacyRecord: (owner) => join(legacyTop, md5Of(owner)),
    makeLegacyRecord: (path) => {
      mkdirSync(path, { recursive: true, mode: 0o700 })
    },
    shown: (word) => word.replace(machine.dir, ''),
    scrap: () => {
      scrap(machine)
    },
  }
}

export const md5Of = (owner: Owner): string => createHash('md5').update(Buffer.from(owner, 'hex')).digest('hex')

/** What another machine's `export` writes of one client. */
const exportOf = (owner: Owner): string =>
  JSON.stringify({
    format: 'nfsd-userland-helper clients',
    version: 1,
    clients: [{ owner_hex: owner, session: false, recorded: 0 }],
    match_only: [],
  })

function wordsFor(machine: Machine, command: Command): readonly string[] {
  switch (command.verb) {
    case 'expire':
    case 'allow':
      return [command.verb, '--yes', escaped(command.owner, 'hex')]
    case 'import': {
      const source = join(machine.dir, 'clients.json')
      writeFileSync(source, exportOf(command.owner))
      return ['import', '--yes', source]
    }
    case 'prune':
      return ['prune', '--yes', '--unseen', '1']
    case 'verify':
      return ['verify', '--repair', '--yes']
    case 'export':
      return ['export']
  }
}

/** Does some work while a file stands in place of the state directory. */
async function withoutPlace<T>({ stateDir }: Machine, work: () => Promise<T>): Promise<T> {
  const [place, away] = [join(stateDir, 'v4clients'), join(stateDir, 'v4clients.away')]
  mkdirSync(stateDir, { recursive: true })
  if (existsSync(place)) renameSync(place, away)
  writeFileSync(place, '')
  const done = await work()
  rmSync(place)
  if (existsSync(away)) renameSync(away, place)
  return done
}

/**
 * In strace's terms. The process is killed in its first fsync(2), so nothing that it has done is known to be durable.
 */
const tracing: Readonly<Record<Exclude<Hindrance, 'no place for records'>, readonly string[]>> = {
  'killed in its first barrier': ['-e', 'trace=fsync', '-e', 'inject=fsync:signal=SIGKILL:when=1'],
  'no rename works': ['-e', 'trace=rename,renameat,renameat2', '-e', 'inject=rename,renameat,renameat2:error=EIO'],
}

function interfered(
  { withOtherClock }: Artefact,
  how: readonly string[],
  words: readonly string[],
  env: Environment,
): Promise<Ending['status']> {
  return new Promise((resolve, reject) => {
    const child = spawn('strace', ['-f', '-o', '/dev/null', ...how, ...withOtherClock, ...words], {
      cwd: '/',
      env: { ...env },
      stdio: 'ignore',
    })
    child.once('error', () => {
      reject(new Error("strace is missing: install the package 'strace'"))
    })
    child.once('exit', (code, signal) => {
      resolve(code ?? signal ?? 'SIGKILL')
    })
  })
}
