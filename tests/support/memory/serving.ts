/** One `serve` after another, in process, with the kernel's end of the pipe (pipe.ts) and a file system in memory. */
import assert from 'node:assert/strict'
import { openLog } from '../../../lib/kernel/log.ts'
import { openPipe } from '../../../lib/kernel/pipe.ts'
import { beginServing, type ServedPipe } from '../../../lib/serve/current-pipe.ts'
import { giveOwed } from '../../../lib/serve/owed.ts'
import { serverFor, type Server } from '../../../lib/serve/server.ts'
import { holderName } from '../../../lib/store/process.ts'
import { serveFiles } from '../../../lib/store/run-directory.ts'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import { anywhere } from '../../../lib/syscalls/files.ts'
import type { MemoryFiles } from './files.ts'
import { nfsd, runDirectory, stateDirectory, systemInMemory } from './machine.ts'
import { kernelEnd, type KernelEnd } from './pipe.ts'

/** The path of the pipe in rpc_pipefs, and that of `serve`'s journal. */
export const pipePath = '/run/rpc_pipefs/nfsd/cld'
export const journalPath = `${runDirectory}/replies`

export interface Machine {
  readonly kernel: KernelEnd
  readonly files: MemoryFiles
  lives: number
}

export function newMachine(): Machine {
  const files = systemInMemory()
  return { kernel: kernelEnd(files.calls, pipePath), files, lives: 0 }
}

/** A copy of this machine. No process may run, and all messages must have been answered. */
export function copyOf({ kernel, files, lives }: Machine): Machine {
  const copy = files.copy()
  return { kernel: kernel.copy(copy.calls), files: copy, lives }
}

/** The process ends: its files are closed, and with them its end of the pipe. */
export function die({ kernel, files }: Machine): void {
  kernel.die()
  files.end()
}

export interface Life {
  readonly calls: Calls
  readonly server: Server
  readonly held: ServedPipe | 'gone'
}

/** A process that answers all queued messages, and gives what the last one owed. */
export function live(
  machine: Machine,
  change: (calls: Calls) => Partial<Calls> = () => ({}),
  runs = runDirectory,
): Life {
  const life = begin(machine, change, runs)
  if (life.held !== 'gone') giveOwed(life.server, life.held)
  return life
}

/**
 * A process that answers the messages that are queued when it begins. Its process id is made up, it never sleeps, and
 * its log is ignored.
 * @param change calls that behave differently.
 */
export function begin(
  machine: Machine,
  change: (calls: Calls) => Partial<Calls> = () => ({}),
  runs = runDirectory,
): Life {
  const { kernel } = machine
  const id = 5_000_000 + machine.lives++
  const quiet: Calls = {
    ...kernel.calls,
    sleep: () => undefined,
    processId: () => id,
    write: (descriptor, bytes) => (descriptor === 2 ? bytes.length : kernel.calls.write(descriptor, bytes)),
  }
  const calls = { ...quiet, ...change(quiet) }
  const settings = {
    stateDirectory,
    runDirectory: runs,
    nfsdDirectory: nfsd,
    configuration: undefined,
    foreground: true,
    debug: false,
    complaints: [],
  }
  const log = openLog(calls, settings)
  const claim = { take: () => undefined, release: () => undefined }
  const root = anywhere(calls)
  const unfinishedPath = serveFiles(runs, stateDirectory, root).unfinished
  const server = serverFor(
    { calls, settings, log, bootId: 'boot', holder: holderName(root), claim, unfinishedPath },
    2,
    {
      write: () => undefined,
      remove: () => undefined,
    },
  )
  const pipe = openPipe(calls, pipePath)
  assert.ok(pipe)
  const held = beginServing(server, journalPath, pipe)
  return { calls, server, held }
}

class Killed extends Error {}

/** {@link live}, killed before call number `at`, if it makes so many. Then its files are closed. */
export function liveUntil(
  machine: Machine,
  most: number,
  change: (calls: Calls) => Partial<Calls> = () => ({}),
): 'lives' | 'killed' {
  let made = 0
  try {
    live(machine, (calls) =>
      Object.fromEntries(
        Object.entries({ ...calls, ...change(calls) }).map(([name, call]: [string, unknown]) => [
          name,
          typeof call !== 'function' || ['now', 'monotonic', 'processId', 'userId', 'sleep'].includes(name)
            ? call
            : (...words: unknown[]): unknown => {
                if (made >= most) throw new Killed()
                made++
                return (call as (...words: unknown[]) => unknown)(...words)
              },
        ]),
      ),
    )
    return 'lives'
  } catch (thrown) {
    if (!(thrown instanceof Killed)) throw thrown
    return 'killed'
  } finally {
    die(machine)
  }
}
