/**
 * `selftest` measures how many clients this server can recover within its grace period. The program calls itself as the
 * kernel would, on a scratch directory inside `v4clients`, which is on the same disk.
 *
 * It reads and writes nothing of the real state, and tells the real kernel nothing.
 */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import { basename, join } from 'node:path'
import { removeSync } from 'fs-extra/esm'
import { failureFrom, report, storageFailure } from '../failure.ts'
import { openClients } from '../store/open-directories.ts'
import { holderName, lifeOf } from '../store/process.ts'
import {
  glanceAt,
  makeStateDirectory,
  stateDirectory as openStateDirectory,
  type StateDirectory,
} from '../store/state-directory.ts'
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { quote } from '../text.ts'
import { assertRoot, command, countIn, jsonOption } from './shared/command.ts'
import type { Context } from './shared/context.ts'
import { secondsIn } from './shared/kernel.ts'
import { print, printJson, textOfPath } from './shared/print.ts'
import { programCommand } from './shared/program.ts'
import { progress } from './shared/progress.ts'

/** Times in milliseconds, rates per second. */
interface Measured {
  readonly stateDirectory: string
  /** To make one entry in a directory, and sync the directory. */
  readonly barrier: { readonly medianMs: number; readonly p99Ms: number }
  /** Upcalls one after the other. */
  readonly single: { readonly upcallsPerSecond: number; readonly medianMs: number }
  /** Upcalls side by side, as the kernel makes them when clients return at once. */
  readonly parallel: { readonly ways: number; readonly upcallsPerSecond: number; readonly p99Ms: number }
  readonly graceSeconds: number
  /**
   * Clients that can return within one grace period: with a session each takes two upcalls, without one it takes one.
   */
  readonly recoverable: { readonly withSessions: number; readonly withoutSessions: number }
  readonly clients: number
}

export const selftestCommand = command(
  'selftest',
  'measure how many clients this server can recover in one grace period',
  (cli) =>
    cli
      .option('clients', { type: 'string', default: '160', describe: 'how many clients to simulate' })
      .option('json', jsonOption)
      .example('$0 selftest', 'in the configured state directory, for the configured grace time')
      .example('$0 selftest -s /mnt/new-disk --json', 'before moving the state directory there'),
  async ({ clients: word, json }, settings) => {
    process.umask(0o077)
    const clients = countIn(word, 'clients')
    const measured = await selftest(settings, clients)
    if (json) printJson(documentOf(measured))
    else print(`${describe(measured)}\n`)
    return 0
  },
)

const ways = 8
const singles = 20
const barriers = 50

/** @throws Failed storage, if the scratch directory can't be made or an upcall on it fails. */
async function selftest(
  { calls, stateDirectory, runDirectory, nfsdDirectory }: Context,
  clients: number,
): Promise<Measured> {
  const { path: scratch, forUpcalls, end } = makeScratch(openStateDirectory(calls, stateDirectory, runDirectory))
  for (const [signal, status] of [
    ['SIGHUP', 129],
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)
    process.once(signal, () => {
      end()
      process.exit(status)
    })
  try {
    const barrier = barrierOf(scratch)
    const call = upcallOn(forUpcalls)
    const owners = Array.from({ length: clients }, (_, i) => Buffer.from(`selftest ${i}`).toString('hex'))

    await call('init')
    const single: number[] = []
    const shown = progress('upcalls, one by one', singles)
    for (const owner of owners.slice(0, singles)) {
      single.push(await call('create', owner))
      shown(single.length)
    }
    await abreast(owners.slice(singles), 'recording clients', async (owner) => [await call('create', owner)])
    await call('gracedone', '0')

    await call('init')
    const recovery = await abreast(owners, 'clients come back', async (owner) => [
      await call('check', owner),
      await call('create', owner),
    ])
    const upcallsPerSecond = recovery.times.length / (recovery.ms / 1000)
    const graceSeconds = await graceTime(nfsdDirectory)
    return {
      stateDirectory,
      barrier,
      single: { upcallsPerSecond: round(1000 / mean(single)), medianMs: round(quantile(single, 0.5)) },
      parallel: { ways, upcallsPerSecond: round(upcallsPerSecond), p99Ms: round(quantile(recovery.times, 0.99)) },
      graceSeconds,
      recoverable: {
        withSessions: Math.floor((upcallsPerSecond / 2) * graceSeconds),
        withoutSessions: Math.floor(upcallsPerSecond * graceSeconds),
      },
      clients,
    }
  } finally {
    end()
  }
}

/** The result for programs (docs/json.md). */
const documentOf = ({
  stateDirectory,
  barrier,
  single,
  parallel,
  graceSeconds,
  recoverable,
  clients,
}: Measured): object => ({
  state_directory: textOfPath(stateDirectory),
  barrier: { median_ms: barrier.medianMs, p99_ms: barrier.p99Ms },
  single: { upcalls_per_second: single.upcallsPerSecond, median_ms: single.medianMs },
  parallel: { ways: parallel.ways, upcalls_per_second: parallel.upcallsPerSecond, p99_ms: parallel.p99Ms },
  grace_seconds: graceSeconds,
  recoverable: { with_sessions: recoverable.withSessions, without_sessions: recoverable.withoutSessions },
  clients,
})

/** The result for people. */
function describe(measured: Measured): string {
  const { barrier, single, parallel, graceSeconds, recoverable } = measured
  return [
    `state directory   ${quote(measured.stateDirectory)}`,
    `barrier           ${barrier.medianMs} ms (99 % within ${barrier.p99Ms} ms)`,
    `one by one        ${single.upcallsPerSecond} upcalls/s, ${single.medianMs} ms each`,
    `${parallel.ways} side by side    ${parallel.upcallsPerSecond} upcalls/s, 99 % within ${parallel.p99Ms} ms`,
    '',
    `Within ${graceSeconds} s of grace this server can recover about ${recoverable.withSessions} clients with sessions`,
    `(NFSv4.1 and later), or about ${recoverable.withoutSessions} without (NFSv4.0). The time of the kernel and the`,
    'network is not included.',
  ].join('\n')
}

/** A directory for one run. */
interface Scratch {
  /** Leads through an open directory, so it works whatever becomes of the real path. */
  readonly path: string
  /** The real path, for upcalls: they check themselves who can change the directories on it. */
  readonly forUpcalls: string
  readonly end: () => void
}

const scratchPrefix = 'selftest-'
const holder = 'holder'

/**
 * Makes it in `v4clients`, where only root can make or replace names: directories above it may belong to other users,
 * and what is removed with all its content must be ours. What a killed run has left is removed by the next one.
 */
function makeScratch(state: StateDirectory): Scratch {
  assertRoot('selftest')
  // It refuses a state directory that is missing: one that is made here would be on another disk than the one meant.
  glanceAt(state)
  try {
    const isNew = openClients(state) === undefined
    const clients = makeStateDirectory(state)
    const directory = `/proc/self/fd/${clients.descriptor}`
    for (const { name } of files.entriesOf(clients))
      if (name.startsWith(scratchPrefix) && isLeft(`${directory}/${name}`, state.anywhere))
        removeSync(`${directory}/${name}`)
    const path = fs.mkdtempSync(`${directory}/${scratchPrefix}`)
    fs.symlinkSync(holderName(clients), `${path}/${holder}`)
    return {
      path,
      forUpcalls: join(Buffer.from(state.clientsPath, 'latin1').toString(), basename(path)),
      end: () => {
        removeSync(path)
        if (isNew) removeIfUnused(state.clientsPath, clients)
      },
    }
  } catch (thrown) {
    throw storageFailure(`no scratch directory in ${quote(state.path)}: ${report(failureFrom(thrown)).line}`)
  }
}

/** Whether no process uses it any more. If it has no holder yet, it is still being made. */
const isLeft = (path: string, anywhere: Directory): boolean =>
  lifeOf(files.readLink(`${path}/${holder}`, anywhere) ?? '', holderName(anywhere), anywhere) === 'dead'

/** Removes `v4clients`, if it was made only for this run. */
function removeIfUnused(path: string, clients: Directory): void {
  const names = Array.from(files.entriesOf(clients), ({ name }) => name)
  if (names.some((name) => !name.startsWith('format-'))) return
  for (const name of names) files.remove(name, clients)
  files.removeIfEmpty(path, files.anywhere(clients.calls))
}

function barrierOf(scratch: string): Measured['barrier'] {
  const directory = fs.openSync(scratch, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY)
  const shown = progress('barriers', barriers)
  const times = Array.from({ length: barriers }, (_, i) => {
    fs.symlinkSync('barrier', join(scratch, `barrier-${i}`))
    const began = performance.now()
    fs.fsyncSync(directory)
    shown(i + 1)
    return performance.now() - began
  })
  fs.closeSync(directory)
  return { medianMs: round(quantile(times, 0.5)), p99Ms: round(quantile(times, 0.99)) }
}

/** Makes an upcall on the scratch state, as the kernel would. @returns its milliseconds */
const upcallOn =
  (scratch: string) =>
  (...words: readonly string[]): Promise<number> => {
    const [program, ...self] = programCommand()
    const began = performance.now()
    return new Promise((resolve, reject) => {
      spawn(
        program,
        [
          ...self,
          '-s',
          join(scratch, 'state'),
          '--nfsd-dir',
          join(scratch, 'no-kernel'),
          '--run-dir',
          join(scratch, 'run'),
          '--config',
          '/dev/null',
          ...words,
        ],
        {
          cwd: '/',
          env: { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' },
          stdio: 'ignore',
        },
      )
        .once('error', reject)
        .once('exit', (status, signal) => {
          if (status === 0) resolve(performance.now() - began)
          else reject(storageFailure(`an upcall failed: ${words[0] ?? ''}, ${status ?? signal ?? ''}`))
        })
    })
  }

/** Runs work for each owner, `ways` at a time. */
async function abreast(
  owners: readonly string[],
  what: string,
  work: (owner: string) => Promise<readonly number[]>,
): Promise<{ readonly ms: number; readonly times: readonly number[] }> {
  const queue = [...owners]
  const times: number[] = []
  const shown = progress(what, owners.length)
  const began = performance.now()
  await Promise.all(
    Array.from({ length: ways }, async () => {
      for (let owner = queue.pop(); owner !== undefined; owner = queue.pop()) {
        times.push(...(await work(owner)))
        shown(owners.length - queue.length)
      }
    }),
  )
  return { ms: performance.now() - began, times }
}

/** The kernel's grace time, or its default if that can't be read. */
async function graceTime(nfsdDirectory: string): Promise<number> {
  const seconds = await secondsIn(join(nfsdDirectory, 'nfsv4gracetime'))
  return typeof seconds === 'number' && seconds > 0 ? seconds : 90
}

const quantile = (values: readonly number[], q: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))] ?? 0
const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length
const round = (value: number): number => Math.round(value * 100) / 100
