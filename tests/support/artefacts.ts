/**
 * The two programs that users run, and how the kernel runs them.
 *
 * The kernel gives its helper no open descriptor, not even 0, 1 and 2, no environment except its own variables, and `/`
 * as working directory. A program that is tested with more may still fail on a real server.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { removeSync } from 'fs-extra/esm'
import { options } from '../../lib/settings/options.ts'

export type Environment = Readonly<Record<string, string>>

export interface Artefact {
  readonly name: 'executable' | 'bundle'
  readonly command: readonly string[]
  /** The same program, but with its wall clock from WALL_CLOCK, in seconds since 1970: see {@link clockAt}. */
  readonly withOtherClock: readonly string[]
}

export const root = join(import.meta.dirname, '../..')

/** Architectures, by Debian's names, whose executables can be tested here, each with qemu's name of it. */
const emulators: Readonly<Record<string, string>> = {
  arm64: 'aarch64',
  armhf: 'arm',
  ppc64el: 'ppc64le',
  riscv64: 'riscv64',
  s390x: 's390x',
}

/**
 * With EXECUTABLE_FOR=arm64, the tests run the executable for that architecture (npm run build -- --arch=arm64), in an
 * emulator.
 */
const foreign = process.env['EXECUTABLE_FOR'] ?? ''
const emulator = foreign === '' ? [] : [`/usr/bin/qemu-${emulators[foreign] ?? foreign}-static`]

export const executable: Artefact = {
  name: 'executable',
  command: [...emulator, join(root, 'dist', foreign, 'nfsd-userland-helper')],
  // Nothing can be preloaded into a static executable, so the build links another one, with tests/support/wall-clock.c.
  withOtherClock: [...emulator, join(root, '.cache/engine/other-clock', foreign, 'nfsd-userland-helper')],
}
export const bundle: Artefact = {
  name: 'bundle',
  command: [process.execPath, join(root, 'dist/nfsd-userland-helper.cjs')],
  withOtherClock: [
    process.execPath,
    `--require=${join(root, 'tests/support/wall-clock.cjs')}`,
    join(root, 'dist/nfsd-userland-helper.cjs'),
  ],
}

/** The artefacts to test: both, or the one that ARTEFACT names. It is an error if one of them is missing. */
export function artefacts(): readonly Artefact[] {
  const wanted = process.env['ARTEFACT'] ?? ''
  const chosen = [executable, bundle].filter(({ name }) => wanted === '' || wanted === name)
  if (chosen.length === 0) throw new Error(`ARTEFACT=${wanted}: there are 'executable' and 'bundle'`)
  for (const { command } of chosen)
    if (!existsSync(command.at(-1) ?? ''))
      throw new Error(`${command.at(-1) ?? ''} is missing: run 'npm run build' first, which says what it needs`)
  return chosen
}

/**
 * What leaves a state to an artefact, or asks about the state that it left. A state directory means the same to both,
 * and Node starts slowly.
 */
export const quickest = (subject: Artefact): Artefact =>
  subject.name === 'bundle' ? (artefacts().find(({ name }) => name === 'executable') ?? subject) : subject

/** A machine for the helper: its state directory, and what it takes for the kernel's nfsd file system. */
export interface Machine {
  readonly dir: string
  readonly stateDir: string
  readonly nfsdDir: string
  readonly runDir: string
}

/** The machine with its directories in `dir`, which need not exist yet. */
export const machineIn = (dir: string): Machine => ({
  dir,
  stateDir: join(dir, 'state'),
  nfsdDir: join(dir, 'nfsd'),
  runDir: join(dir, 'run'),
})

/** A new machine. Its state directory does not exist yet, and its nfsd file system is empty. */
export function newMachine(where = tmpdir()): Machine {
  const machine = machineIn(mkdtempSync(join(where, 'nfsd-userland-helper-')))
  mkdirSync(machine.nfsdDir)
  return machine
}

export const scrap = (machine: Machine): void => {
  removeSync(machine.dir)
}

/** Keeps everything of the real machine out: its state, its kernel, its configuration. */
export const settings = (machine: Machine): readonly string[] => [
  '-s',
  machine.stateDir,
  ...settingsBy('/dev/null', machine),
]

/** The same, except for the state directory, which this configuration sets. */
export const settingsBy = (configuration: string, { nfsdDir, runDir }: Machine): readonly string[] => [
  '--config',
  configuration,
  '--nfsd-dir',
  nfsdDir,
  '--run-dir',
  runDir,
]

const realRunDirectory = options['run-dir'].usual
const inRealRunDirectory = (): string[] => (existsSync(realRunDirectory) ? readdirSync(realRunDirectory) : [])
const wereThere = new Set(inRealRunDirectory())

/** Without this, a test that forgets a setting would note a start there, and mislead upcalls of the real machine. */
export function leftRealMachineAlone(): void {
  const left = inRealRunDirectory().filter((name) => !wereThere.has(name))
  if (left.length > 0) throw new Error(`left in ${realRunDirectory}: ${left.join(', ')}`)
}

/** The variable that sets an artefact's wall clock, because a test must not set the machine's. */
export const clockAt = (seconds: number): Environment => ({ WALL_CLOCK: String(seconds) })

/** The command that runs an artefact. */
const commandOf = ({ command, withOtherClock }: Artefact, env: Environment): readonly string[] =>
  env['WALL_CLOCK'] === undefined ? command : withOtherClock

export interface Ending {
  /** The exit status, or the name of the signal that ended it. */
  readonly status: number | NodeJS.Signals
  readonly ms: number
}

/**
 * The statuses of `env` and the shell if the program is missing, or is being written at the moment. The helper has no
 * such status.
 */
const notStarted: readonly number[] = [125, 126, 127]

/** Longer than the helper may ever take, on any machine. The kernel sets no limit, but a test must. */
const patience = 300_000

/**
 * One upcall as the kernel makes it. Node can't start a child without descriptors, and a shell adds variables of its
 * own. So a shell closes the descriptors, and `env -i` leaves what the kernel passes. The two cost about 2 ms.
 */
export function asKernel(artefact: Artefact, words: readonly string[], env: Environment): Promise<Ending> {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  const closed = 'exec /usr/bin/env -i "$@" 0<&- 1>&- 2>&-'
  const began = performance.now()
  return new Promise((resolve, reject) => {
    const child = spawn('/bin/sh', ['-c', closed, 'sh', ...variables, ...commandOf(artefact, env), ...words], {
      cwd: '/',
      env: {},
      stdio: 'ignore',
      timeout: patience,
      killSignal: 'SIGKILL',
    })
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      if (code !== null && notStarted.includes(code))
        reject(new Error(`could not be started (is it being built?): ${artefact.command.join(' ')}`))
      else resolve({ status: code ?? signal ?? 'SIGKILL', ms: performance.now() - began })
    })
  })
}

export interface Said extends Ending {
  readonly stdout: string
  readonly stderr: string
}

/** The same words as typed by a person: descriptors are open, and the helper logs to stderr (`-f`). */
export function inForeground(artefact: Artefact, words: readonly string[], env: Environment): Promise<Said> {
  const [program = '', ...rest] = [...commandOf(artefact, env), '-f', ...words]
  const began = performance.now()
  return new Promise((resolve, reject) => {
    const child = spawn(program, rest, {
      cwd: '/',
      env: { ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: patience,
      killSignal: 'SIGKILL',
    })
    const said = { stdout: '', stderr: '' }
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said.stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said.stderr += text
    })
    child.once('error', reject)
    child.once('close', (code, signal) => {
      resolve({ status: code ?? signal ?? 'SIGKILL', ms: performance.now() - began, ...said })
    })
  })
}
