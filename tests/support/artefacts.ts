/**
 * The two things that users run, and how the kernel runs them.
 *
 * The kernel gives its helper no open descriptor, not even 0, 1 and 2, no environment but its own variables,
 * and `/` to work in. Whatever is tested with more than that may fail on a real server.
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
  /** The same program where it takes its wall clock from WALL_CLOCK, seconds since 1970: see {@link clockAt}. */
  readonly withOtherClock: readonly string[]
}

export const root = join(import.meta.dirname, '../..')

/** Architectures, by Debian's names, whose executables can be tested here: what runs them, by qemu's name of it. */
const emulators: Readonly<Record<string, string>> = {
  arm64: 'aarch64',
  armhf: 'arm',
  ppc64el: 'ppc64le',
  riscv64: 'riscv64',
  s390x: 's390x',
}

/**
 * EXECUTABLE_FOR=arm64 has the executable for another architecture tested (npm run build -- --arch=arm64), in an
 * emulator.
 */
const foreign = process.env['EXECUTABLE_FOR'] ?? ''
const emulator = foreign === '' ? [] : [`/usr/bin/qemu-${emulators[foreign] ?? foreign}-static`]

export const executable: Artefact = {
  name: 'executable',
  command: [...emulator, join(root, 'dist', foreign, 'nfsd-userland-helper')],
  // Nothing can be loaded into a static executable: the build links another one, with tests/support/wall-clock.c.
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

/** The artefacts to test: both, or the one that ARTEFACT names. One that should be there and is not is an error. */
export function artefacts(): readonly Artefact[] {
  const wanted = process.env['ARTEFACT'] ?? ''
  const chosen = [executable, bundle].filter(({ name }) => wanted === '' || wanted === name)
  if (chosen.length === 0) throw new Error(`ARTEFACT=${wanted}: there are 'executable' and 'bundle'`)
  for (const { command } of chosen)
    if (!existsSync(command.at(-1) ?? ''))
      throw new Error(`${command.at(-1) ?? ''} is missing: run 'npm run build' first, which says what it needs`)
  return chosen
}

/** A machine for the helper: where its state is, and what it takes for the kernel's nfsd file system. */
export interface Machine {
  readonly dir: string
  readonly stateDir: string
  readonly nfsdDir: string
  readonly runDir: string
}

/** The one whose directories are, or are to be, in `dir`. */
export const machineIn = (dir: string): Machine => ({
  dir,
  stateDir: join(dir, 'state'),
  nfsdDir: join(dir, 'nfsd'),
  runDir: join(dir, 'run'),
})

/** A fresh one. Its state directory does not exist yet, and its nfsd file system is empty. */
export function newMachine(where = tmpdir()): Machine {
  const machine = machineIn(mkdtempSync(join(where, 'nfsd-userland-helper-')))
  mkdirSync(machine.nfsdDir)
  return machine
}

export const scrap = (machine: Machine): void => {
  removeSync(machine.dir)
}

/** Nothing of the real machine plays a part: not its state, not its kernel, not its configuration. */
export const settings = (machine: Machine): readonly string[] => [
  '-s',
  machine.stateDir,
  ...settingsBy('/dev/null', machine),
]

/** The same, but for where the state is: that is for this configuration to say. */
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

/** What a test that forgot a setting leaves there tells upcalls of the real machine about a start that never was. */
export function leftRealMachineAlone(): void {
  const left = inRealRunDirectory().filter((name) => !wereThere.has(name))
  if (left.length > 0) throw new Error(`left in ${realRunDirectory}: ${left.join(', ')}`)
}

/** The variable that gives an artefact another wall clock. It stands in for a clock that nobody may turn in a test. */
export const clockAt = (seconds: number): Environment => ({ WALL_CLOCK: String(seconds) })

/** What is run for an artefact. */
const commandOf = ({ command, withOtherClock }: Artefact, env: Environment): readonly string[] =>
  env['WALL_CLOCK'] === undefined ? command : withOtherClock

export interface Ending {
  /** The exit status, or the name of the signal that ended it. */
  readonly status: number | NodeJS.Signals
  readonly ms: number
}

/**
 * What `env` and the shell say when there is nothing to run, or it is being written at the moment. No status of ours.
 */
const notStarted: readonly number[] = [125, 126, 127]

/** Longer than the helper may ever take. The kernel has no limit; a test must. */
const patience = 60_000

/**
 * One upcall as the kernel makes it. Node can't start a child without descriptors, and a shell adds a variable or two
 * of its own: so a shell closes them, and `env -i` leaves what the kernel passes. The two cost about 2 ms.
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

/** The same words from a person's hand: descriptors are there, and what the helper logs goes to stderr (`-f`). */
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
