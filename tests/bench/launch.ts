/** Reads the launcher's output. */
import { run } from './tools.ts'

export interface Launch {
  readonly rounds: number
  /** The number of processes of a command in a round, and how many of them run at a time. */
  readonly count: number
  readonly parallel: number
  /** The number in the client owner of the first process. */
  readonly first: number
  /** After how many milliseconds memory is read and the round ended; 0: never. */
  readonly memoryAfterMs?: number
}

export interface Measured {
  readonly wallMs: number
  readonly processorMs: number
  readonly peakKb: number
  readonly proportionalKb: number
  /** How many of the round's processes ended with another status than 0. */
  readonly failed: number
}

/** Runs each command in turn, round by round. @throws if a process that runs alone does not end with status 0. */
export function launch(launcher: string, what: Launch, commands: readonly (readonly string[])[]): Measured[][] {
  const { rounds, count, parallel, first, memoryAfterMs = 0 } = what
  const words = commands.flatMap((command, index) => (index === 0 ? command : ['//', ...command]))
  const output = run(launcher, [...[rounds, count, parallel, first, memoryAfterMs, 0].map(String), ...words])
  const measured: Measured[][] = commands.map(() => [])
  for (const line of output.trim().split('\n')) {
    const [command = -1, wallNs = 0, peakKb = 0, proportionalKb = 0, bad = 0, busyNs = 0] = line.split(' ').map(Number)
    // In a storm, the peer may fail because its database is locked. That is a result.
    if (bad > 0 && parallel === 1) throw new Error(`${bad} failed: ${commands[command]?.join(' ') ?? line}`)
    measured[command]?.push({ wallMs: wallNs / 1e6, processorMs: busyNs / 1e6, peakKb, proportionalKb, failed: bad })
  }
  return measured
}
