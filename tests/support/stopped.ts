/**
 * A process that is stopped (SIGSTOP) after one of its calls, for as long as a test wants. What shall happen meanwhile
 * is done before it is woken, however busy the machine is.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import type { Environment } from './artefacts.ts'
import { until } from './until.ts'

/** In strace's terms: the number of the call among those of its name, on its thread. */
export interface Point {
  readonly name: string
  readonly nth: number
}

export interface Woken {
  readonly status: number | string
  readonly stderr: string
}

export interface Stopped {
  /** Whether it was stopped there, and has not ended before. */
  readonly fired: boolean
  /** Wakes it. @returns how it ended. */
  readonly wake: () => Promise<Woken>
  /** Kills it. */
  readonly kill: () => Promise<Woken>
}

/**
 * Starts a command, and waits until it is stopped, or has ended.
 * @param log a file for strace to write to.
 */
export async function stopped(
  command: readonly string[],
  env: Environment,
  log: string,
  { name, nth }: Point,
): Promise<Stopped> {
  const child = spawn(
    'strace',
    ['-f', '-y', '-o', log, '-e', `trace=${name}`, '-e', `inject=${name}:signal=SIGSTOP:when=${nth}`, ...command],
    { cwd: '/', env: { ...env }, stdio: ['ignore', 'ignore', 'pipe'] },
  )
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  let hasEnded = false
  const end = new Promise<Woken>((resolve) => {
    child.once('close', (code, signal) => {
      hasEnded = true
      resolve({ status: code ?? signal ?? 'lost', stderr })
    })
  })
  const seen = await until(
    `stopped in ${name}`,
    () => /^(\d+) +--- stopped by SIGSTOP/m.exec(textOf(log))?.[1] ?? (hasEnded && 'ended'),
  )
  const goesOn = async (by: NodeJS.Signals): Promise<Woken> => {
    const late = setTimeout(() => child.kill('SIGKILL'), 120_000)
    if (seen !== 'ended') process.kill(Number(seen), by)
    try {
      return await end
    } finally {
      clearTimeout(late)
    }
  }
  return { fired: seen !== 'ended', wake: () => goesOn('SIGCONT'), kill: () => goesOn('SIGKILL') }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'latin1')
  } catch {
    return ''
  }
}
