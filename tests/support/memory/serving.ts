/** One `serve` after another, in process, at a kernel's end in memory (pipe.ts); files are this machine's. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openLog } from '../../../lib/kernel/log.ts'
import { openPipe } from '../../../lib/kernel/pipe.ts'
import { answerQueued } from '../../../lib/serve/round.ts'
import { hold, type Held } from '../../../lib/serve/serve.ts'
import { serverFor, type Server } from '../../../lib/serve/server.ts'
import { holderName } from '../../../lib/store/process.ts'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import { anywhere } from '../../../lib/syscalls/files.ts'
import { nodeCalls } from '../../../lib/syscalls/node.ts'
import { kernelEnd, type KernelEnd } from './pipe.ts'

export interface Machine {
  readonly kernel: KernelEnd
  readonly directory: string
  lives: number
}

/** In memory, where there is some: nothing here is about the disk. */
export const newRoom = (name: string): string =>
  mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), `${name}-`))

let machines = 0
export function newMachine(room: string): Machine {
  const directory = join(room, String(machines++))
  const calls = nodeCalls()
  calls.mkdirat(-100, directory, 0o700)
  calls.mkdirat(-100, join(directory, 'run'), 0o700)
  return { kernel: kernelEnd(calls, join(directory, 'cld')), directory, lives: 0 }
}

export interface Life {
  readonly calls: Calls
  readonly server: Server
  readonly held: Held | 'gone'
}

/**
 * One process, which answers all that is queued. Its id is nobody's, it never sleeps, and what it says is not looked at.
 * @param change what is different about its calls.
 */
export function live(machine: Machine, change: (calls: Calls) => Partial<Calls> = () => ({})): Life {
  const { kernel, directory } = machine
  const id = 5_000_000 + machine.lives++
  const quiet: Calls = {
    ...kernel.calls,
    sleep: () => undefined,
    processId: () => id,
    write: (descriptor, bytes) => (descriptor === 2 ? bytes.length : kernel.calls.write(descriptor, bytes)),
  }
  const calls = { ...quiet, ...change(quiet) }
  const settings = {
    stateDirectory: join(directory, 'state'),
    runDirectory: join(directory, 'run'),
    nfsdDirectory: join(directory, 'nfsd'),
    configuration: undefined,
    foreground: true,
    debug: false,
    complaints: [],
  }
  const log = openLog(calls, settings)
  const server = serverFor({ calls, settings, log, bootId: 'boot', holder: holderName(anywhere(calls)) }, 2, {
    write: () => undefined,
    remove: () => undefined,
  })
  const pipe = openPipe(calls, join(directory, 'cld'))
  assert.ok(pipe)
  const held = hold(server, join(settings.runDirectory, 'replies'), pipe)
  if (held !== 'gone') answerQueued(server, held.pipe, held.journal)
  return { calls, server, held }
}

class Killed extends Error {}

/** {@link live}, killed before its call of that number, if it makes so many. Its files are closed then. */
export function liveUntil(machine: Machine, most: number): 'lives' | 'killed' {
  let made = 0
  try {
    live(machine, (calls) =>
      Object.fromEntries(
        Object.entries(calls).map(([name, call]: [string, unknown]) => [
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
    machine.kernel.die()
  }
}
