/**
 * A machine in memory that runs whole upcalls in process, from words to status. It has files, the parts of /proc that
 * the helper reads, the kernel's log, and the files of nfsd. It can be stopped at any call, and start again from what a
 * disk has kept.
 */
import { main } from '../../../lib/main.ts'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import type { Tree } from '../../proof/trees.ts'
import { memoryFiles, type MemoryFiles } from './files.ts'

/** Thrown to stop a process: nothing that it does afterwards has an effect. */
export class Stopped extends Error {}

/** How a process ended: its status, or a hook stopped it. */
export type Ending = number | 'stopped'

/** The ways to run a process. */
export interface Processes {
  /** One upcall, as a new process; the one before has ended. */
  readonly upcall: Upcall
  /** The same for a program that is not an upcall. */
  readonly program: (work: (calls: Calls) => number) => Ending
}

export interface Machine extends Processes {
  readonly files: MemoryFiles
  /** What was written to /dev/kmsg, each write as a line. */
  readonly log: string[]
  /** What v4_end_grace reads; undefined: there is no such file. */
  readonly kernel: { grace: 'running' | 'over' | undefined; askedToEnd: number; allowed: string }
  /** Other processes. Each runs from beginning to end while the first one has stopped, that is, in a hook. */
  readonly meanwhile: Processes
  /** Runs before each call of theirs, as {@link MemoryFiles.hooks} does for the first process. */
  readonly aside: { before: MemoryFiles['hooks']['before'] }
}

type Upcall = (words: readonly string[], environment?: Readonly<Record<string, string>>) => Ending

export const stateDirectory = '/var/lib/nfs'
export const nfsd = '/proc/fs/nfsd'
export const runDirectory = '/run'

const statOf = (id: number): string =>
  `${id} (nfsd-userland-h) R 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 ${id} 1 1\n`

const file = (bytes: string): Tree => new Map([['', { kind: 'file', bytes }]])
const directory: Tree = new Map([['', { kind: 'directory' }]])

/** Other processes have numbers that no process has otherwise. */
const firstOther = 1_000_000

/** A file system with what the helper reads of a system: its own process, the limits of a process, and the paths. */
export function systemInMemory(): MemoryFiles {
  const files = memoryFiles()
  files.plant(file('11111111-2222-3333-4444-555555555555\n'), '/proc/sys/kernel/random/boot_id')
  files.plant(file('00112233445566778899aabbccddeeff\n'), '/etc/machine-id')
  files.plant(
    file('Max open files            1024                 524288               files     \n'),
    '/proc/self/limits',
  )
  files.plant(new Map([['', { kind: 'link', target: 'pid:[4026531836]' }]]), '/proc/self/ns/pid')
  files.plant(file(statOf(1)), '/proc/1/stat')
  for (const path of [runDirectory, '/var/lib', nfsd]) files.plant(directory, path)
  return files
}

/**
 * @param state the contents of the state directory; undefined: it does not exist.
 * @param fault what is wrong with the system's calls.
 */
export function machineWith(state?: Tree, fault: (calls: Calls) => Partial<Calls> = () => ({})): Machine {
  const files = systemInMemory()
  const calls: Calls = { ...files.calls, ...fault(files.calls) }
  const log: string[] = []
  const kernel: Machine['kernel'] = { grace: undefined, askedToEnd: 0, allowed: '' }
  files.device(
    '/dev/kmsg',
    () => '',
    (text) => {
      log.push(text)
      return text.length
    },
  )
  files.device(
    `${nfsd}/allow_client`,
    () => '',
    (text) => {
      kernel.allowed += text
      return text.length
    },
  )
  if (state !== undefined) files.plant(state, stateDirectory)
  let others = firstOther

  const program: Processes['program'] = (work) => {
    if (kernel.grace === undefined) files.remove(`${nfsd}/v4_end_grace`)
    else
      files.device(
        `${nfsd}/v4_end_grace`,
        () => (kernel.grace === 'over' ? 'Y\n' : 'N\n'),
        (text) => {
          kernel.askedToEnd++
          kernel.grace = 'over'
          return text.length
        },
      )
    const id = ++files.process.id
    files.plant(file(statOf(id)), `/proc/${id}/stat`)
    const { before } = files.hooks
    const life: { stopped: boolean; mistake: unknown } = { stopped: false, mistake: undefined }
    // Code that catches it goes on without any effect.
    files.hooks.before = (made) => {
      if (life.stopped) throw new Stopped()
      try {
        return before(made)
      } catch (thrown) {
        life.stopped = true
        // An error of the test itself must not be taken for a failure of the program.
        if (!(thrown instanceof Stopped)) life.mistake = thrown
        throw thrown
      }
    }
    try {
      const status = work(calls)
      return life.stopped ? 'stopped' : status
    } catch (thrown) {
      if (life.stopped) return 'stopped'
      throw thrown
    } finally {
      files.hooks.before = before
      files.end()
      files.remove(`/proc/${id}/stat`)
      // eslint-disable-next-line @typescript-eslint/only-throw-error -- as it was thrown
      if (life.mistake !== undefined) throw life.mistake
    }
  }

  const aside: Machine['aside'] = { before: () => undefined }
  const meanwhile: Processes['program'] = (work) => {
    const ours = { ...files.hooks }
    Object.assign(files.hooks, { before: aside.before, answered: () => undefined })
    try {
      return files.meanwhile(() => {
        files.process.id = others++
        return program(work)
      })
    } finally {
      Object.assign(files.hooks, ours)
    }
  }
  const upcall =
    (by: Processes['program']): Upcall =>
    (words, environment = {}) =>
      by((own) => {
        const status = main(own, words, environment)
        if (status === undefined) throw new Error(`no upcall: ${words.join(' ')}`)
        return status
      })

  return {
    files,
    log,
    kernel,
    upcall: upcall(program),
    program,
    meanwhile: { upcall: upcall(meanwhile), program: meanwhile },
    aside,
  }
}
