/** The two trackers that can serve the fake pipe: this program, and nfsdcld of nfs-utils. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { executable, settings, type Machine } from '../artefacts.ts'
import { until } from '../until.ts'

export interface Daemon {
  readonly pid: number
  /**
   * What has been read so far of what it wrote to stderr: all of it, once it has {@link ended}. An answer in the pipe
   * may be read before a line that was written before it: see {@link says}.
   */
  readonly said: () => string
  /** Waits until it has said this. @throws if it ends without, or never says it, with what it has said. */
  readonly says: (line: RegExp) => Promise<void>
  /** How it ended: its exit status, or the name of a signal. */
  readonly ended: Promise<number | NodeJS.Signals>
  readonly signal: (signal: NodeJS.Signals) => void
  /** Ends it by SIGTERM. @returns {@link ended}. */
  readonly stop: () => Promise<number | NodeJS.Signals>
  /** Ends it by SIGKILL. */
  readonly kill: () => Promise<number | NodeJS.Signals>
}

export interface Serve extends Daemon {
  /** Resolves when it reports that it is ready (`--ready-fd`), or has ended. @returns whether it is ready. */
  readonly ready: Promise<boolean>
}

/** The command that runs this program at a fake pipe, for a wrapper such as strace(1). */
export const serveWords = (machine: Machine, pipes: string, more: readonly string[] = []): readonly string[] => [
  ...executable.command,
  '-f',
  ...settings(machine),
  'serve',
  '--pipefs-dir',
  pipes,
  ...more,
]

/**
 * @param pipes the directory in place of rpc_pipefs.
 * @param more further options of `serve`.
 * @param env its whole environment.
 */
export function runServe(
  machine: Machine,
  pipes: string,
  more: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Serve {
  return running(serveWords(machine, pipes, ['--ready-fd', '3', ...more]), env)
}

/**
 * @param pipes the directory in place of rpc_pipefs. @param storage the directory of its database, which must exist.
 */
export const runNfsdcld = (pipes: string, storage: string): Daemon => running(nfsdcldWords(pipes, storage))

export const nfsdcldWords = (pipes: string, storage: string): readonly string[] => [
  '/usr/sbin/nfsdcld',
  '-F',
  '-p',
  pipes,
  '-s',
  storage,
]

/**
 * Runs in a network namespace of its own, as in a container: this program looks for nfsdcld only in its own namespace,
 * and other tests run one.
 */
export const apart: readonly string[] = ['/usr/bin/unshare', '--net']

/** Runs a daemon, or a wrapper around one, {@link apart} from others. It reports on descriptor 3 that it is ready. */
export function running(
  command: readonly string[],
  env: Readonly<Record<string, string>> = {},
  wrapper: readonly string[] = apart,
): Serve {
  const [program = '', ...words] = [...wrapper, ...command]
  const child = spawn(program, words, { cwd: '/', env: { ...env }, stdio: ['ignore', 'ignore', 'pipe', 'pipe'] })
  let said = ''
  child.stderr?.setEncoding('latin1').on('data', (text: string) => {
    said += text
  })
  const ended = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.once('error', reject).once('close', (code, signal) => {
      resolve(code ?? signal ?? 'SIGKILL')
    })
  })
  const ready = new Promise<boolean>((resolve) => {
    child.stdio[3]?.once('data', () => {
      resolve(true)
    })
    void ended.then(() => {
      resolve(false)
    })
  })
  const end = (signal: NodeJS.Signals): Promise<number | NodeJS.Signals> => {
    child.kill(signal)
    return ended
  }
  let isOver = false
  const over = (): void => {
    isOver = true
  }
  ended.then(over, over)
  return {
    pid: child.pid ?? 0,
    said: () => said,
    says: async (line) => {
      await until(
        `it says ${String(line)}`,
        () => line.test(said) || isOver,
        () => `but: ${said}`,
      )
      if (!line.test(said)) throw new Error(`it has ended, and has not said ${String(line)}, but: ${said}`)
    },
    ended,
    ready,
    signal: (signal) => void child.kill(signal),
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
  }
}

/** Its share of the machine's memory, in MB. Shared pages count in part. */
export function memoryOf({ pid }: Daemon): number {
  const [, kilobytes] = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1')) ?? []
  return Number(kilobytes) / 1024
}

/** How long its main thread has run on a processor, in ms. */
export const processorOf = ({ pid }: Daemon): number =>
  Number(readFileSync(`/proc/${pid}/schedstat`, 'latin1').split(' ')[0]) / 1e6
