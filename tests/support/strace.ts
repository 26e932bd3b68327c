/**
 * The helper under strace(1): which calls it makes, and what happens if one of them fails, is delayed, or is its last,
 * or if it is stopped just before one.
 *
 * strace counts `when=N` for each call name and each thread. The helper makes only synchronous calls, so all calls that
 * matter are on one thread. With `touching` a test asserts that, and with `fired` that the fault hit the intended call.
 */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, renameSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { copySync, removeSync } from 'fs-extra/esm'
import type { Server } from '../contract/server.ts'
import { inForeground, machineIn, settings, type Artefact, type Environment, type Said } from './artefacts.ts'
import { stopped, type Point, type Woken } from './stopped.ts'

export interface Call {
  readonly name: string
  /** The number of the call among those of this name on its thread, from 1: strace's `when`. */
  readonly nth: number
  readonly thread: number
  /** The arguments as strace prints them. */
  readonly text: string
  /** The paths among the arguments: strings and descriptors. */
  readonly paths: readonly string[]
  /** The return value; undefined if the call never returned. */
  readonly result: number | undefined
  readonly injected: boolean
}

export interface Traced extends Said {
  readonly calls: readonly Call[]
}

export interface Fault {
  readonly call: Call
  /** In strace's terms: `signal=SIGKILL`, `error=EIO`, `delay_enter=300000`. */
  readonly what: string
  /** Whether every later call of the name is hit as well. */
  readonly forGood?: boolean
}

const changingCalls = [
  'openat',
  'mkdir',
  'mkdirat',
  'rmdir',
  'unlink',
  'unlinkat',
  'rename',
  'renameat',
  'renameat2',
  'symlink',
  'symlinkat',
  'link',
  'linkat',
  'write',
  'writev',
  'pwrite64',
  'pwritev',
  'ftruncate',
  'truncate',
  'chmod',
  'fchmod',
  'fsync',
  'fdatasync',
  'sync_file_range',
  'exit_group',
].join(',')

/** Runs an artefact's command under strace(1). @returns what it wrote, and strace's log. */
async function underStrace(
  artefact: Artefact,
  options: readonly string[],
  words: readonly string[],
  env: Environment,
): Promise<Said & { readonly log: string }> {
  const directory = mkdtempSync(join(tmpdir(), 'strace-'))
  const log = join(directory, 'log')
  const strace = ['/usr/bin/strace', '-f', '-y', '-s', '8192', '-o', log, ...options]
  const traced = {
    ...artefact,
    command: [...strace, ...artefact.command],
    withOtherClock: [...strace, ...artefact.withOtherClock],
  }
  try {
    const said = await inForeground(traced, words, env)
    return { ...said, log: readFileSync(log, 'latin1') }
  } finally {
    removeSync(directory)
  }
}

interface Interference {
  readonly fault?: Fault | undefined
  /** Calls to trace beside those that may change something. */
  readonly also?: readonly string[]
  /** More options of strace. */
  readonly options?: readonly string[]
}

/** The most bytes of a text that strace shows: the model of a disk (../proof/power-loss.ts) needs all of it. */
const longest = String(1 << 18)

/** Runs the helper, with at most one fault. */
export async function trace(
  artefact: Artefact,
  words: readonly string[],
  env: Environment,
  { fault, also = [], options = [] }: Interference = {},
): Promise<Traced> {
  const inject =
    fault === undefined
      ? []
      : ['-e', `inject=${fault.call.name}:${fault.what}:when=${fault.call.nth}${fault.forGood === true ? '+' : ''}`]
  const told = [changingCalls, ...also].join(',')
  const { log, ...said } = await underStrace(
    artefact,
    ['-s', longest, '-e', `trace=${told}`, ...inject, ...options],
    words,
    env,
  )
  return { ...said, calls: callsIn(log) }
}

/** A call as strace prints it, descriptors with their paths. */
export interface Line {
  readonly thread: number
  readonly text: string
}

/**
 * Runs one upcall on a server. @returns its system calls in the order in which they began.
 * @param options more options of strace, such as an injection.
 */
export async function traced(
  { artefact, machine }: Server,
  words: readonly string[],
  env: Environment = {},
  options: readonly string[] = [],
): Promise<Said & { readonly calls: readonly Line[] }> {
  const { log, ...said } = await underStrace(artefact, options, [...settings(machine), ...words], env)
  return { ...said, calls: linesIn(log) }
}

/**
 * The lines of a log, one for each call. strace may split a call in two, if another thread's comes between: it is
 * joined again.
 */
function linesIn(log: string): Line[] {
  const begun = new Map<number, { text: string; at: number }>()
  const whole: { thread: number; text: string; at: number }[] = []
  for (const [at, line] of log.split('\n').entries()) {
    const [, id, rest = ''] = /^(\d+)\s+(.*)$/.exec(line) ?? []
    if (id === undefined || /^[-+]{3}/.test(rest)) continue
    const thread = Number(id)
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest)
    if (resumed !== null) {
      const first = begun.get(thread)
      begun.delete(thread)
      const rest = (resumed[1] ?? '').replace(/^\)\s+=/, ') =')
      if (first !== undefined) whole.push({ thread, text: first.text + rest, at: first.at })
    } else if (rest.endsWith('<unfinished ...>'))
      begun.set(thread, { text: rest.slice(0, -'<unfinished ...>'.length).trimEnd(), at })
    else whole.push({ thread, text: rest, at })
  }
  for (const [thread, { text, at }] of begun) whole.push({ thread, text: `${text} = ?`, at })
  whole.sort((a, b) => a.at - b.at)
  return whole
}

/** The calls of a log in the order in which they began. */
export function callsIn(log: string): Call[] {
  const counts = new Map<string, number>()
  const calls: Call[] = []
  const open = new Map<string, string>()
  for (const { thread, text } of linesIn(log)) {
    const [, name, given, result = '?', opened] = /^(\w+)\((.*?)\)?\s+= (-?\d+|\?)(?:<([^>]*)>)?/s.exec(text) ?? []
    if (name === undefined || given === undefined) continue
    const args = inFull(name, given, open)
    if (name === 'openat' && opened !== undefined) open.set(result, opened)
    const key = `${thread} ${name}`
    const nth = (counts.get(key) ?? 0) + 1
    counts.set(key, nth)
    calls.push({
      name,
      nth,
      thread,
      text: args,
      paths: [...args.matchAll(/"((?:[^"\\]|\\.)*)"|\d+<([^>]*)>/g)].map(
        ([, string, descriptor]) => string ?? descriptor ?? '',
      ),
      result: result === '?' ? undefined : Number(result),
      injected: text.includes('(INJECTED)'),
    })
  }
  return calls
}

/**
 * Resolves names in open directories to paths. Both programs reach the state directory through descriptors: the
 * executable by openat(2) and its like, the bundle by `/proc/self/fd`.
 */
function inFull(name: string, args: string, open: ReadonlyMap<string, string>): string {
  const byProc = args.replace(/"\/proc\/self\/fd\/(\d+)(?:\/\.)?(\/[^"]*)?"/g, (all, descriptor: string, rest = '') => {
    const directory = open.get(descriptor)
    return directory === undefined ? all : `"${directory}${String(rest)}"`
  })
  return /at2?$/.test(name) ? byProc.replace(/\d+<([^>]*)>, "(?!\/)((?:[^"\\]|\\.)*)"/g, '"$1/$2"') : byProc
}

const isUnder = (path: string, directory: string): boolean => path === directory || path.startsWith(`${directory}/`)

/** Opening a file changes something only if it may create or truncate. All other traced calls do. */
export const changes = ({ name, text }: Call): boolean =>
  name !== 'exit_group' && (name !== 'openat' || /O_CREAT|O_TRUNC/.test(text))

/** The calls that changed something under a directory, or made it durable: the points at which it can go wrong. */
export const changing = (calls: readonly Call[], directory: string): Call[] =>
  calls.filter(
    (call) => changes(call) && (call.result ?? -1) >= 0 && call.paths.some((path) => isUnder(path, directory)),
  )

/** The ids of the threads that touched anything under a directory. */
export const touching = (calls: readonly Call[], directory: string): Set<number> =>
  new Set(calls.filter(({ paths }) => paths.some((path) => isUnder(path, directory))).map(({ thread }) => thread))

/** The first text among the arguments of a call, with the bytes for which strace's escapes stand. */
export function textIn(args: string): string | undefined {
  const escaped = /(?<=^|, )"((?:[^"\\]|\\.)*)"(\.\.\.)?/.exec(args)
  if (escaped?.[2] !== undefined) throw new Error('strace has cut a text short')
  return escaped?.[1]?.replace(/\\([0-7]{1,3}|.)/g, (_, what: string) =>
    /^[0-7]/.test(what) ? String.fromCharCode(parseInt(what, 8)) : (escapes[what] ?? what),
  )
}
const escapes: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', v: '\v', f: '\f' }

/** Replaces what differs between two runs of one upcall: instances, process ids, times. */
const alike = (text: string, directory: string): string =>
  text
    .trim()
    .replaceAll(directory, '')
    // Of the notes of upcalls.
    .replaceAll(encodeURIComponent(directory), '')
    .replace(/[0-9a-f]{64}/g, 'digest')
    .replace(/\d+\.\d+\.[0-9a-f]+\.[0-9a-f]+\.\d+/, 'holder')
    .replace(/%new-\d+-\d+/, '%new')
    .replace(/\/fd\/\d+/g, '/fd/#')
    // A process id may have one digit.
    .replace(/\/proc\/\d+/g, '/proc/#')
    .replace(/\d{13}\.\d+\./g, '#.')
    .replace(/check=[0-9a-f]{8}/, '')
    .replace(/\b[0-9a-f]{12}\b/g, '#')
    .replace(/\d{4,}/g, '#')
    .replace(/^\d+</, '<')

/** Whether the fault hit the intended call: the process was killed in it, or got the error. */
export function fired({ calls, status }: Traced, { call, what }: Fault, was: string, is: string): boolean {
  const met = calls.find(
    ({ name, nth, thread }) => name === call.name && nth === call.nth && thread === calls[0]?.thread,
  )
  if (met === undefined || alike(met.text, is) !== alike(call.text, was)) return false
  if (what.startsWith('signal=SIGKILL')) return status === 'SIGKILL' && met.result === undefined
  return what.startsWith('error=') ? met.injected : true
}

/**
 * Strikes a call. Node makes a call of the same name more or less in some runs, so where another one was struck, the
 * neighbours are tried.
 * @param run strikes a call; `isPoint` tells whether it was the one that is meant, and its result says so in `isThere`
 */
export async function struckAt<Run extends { readonly isThere: boolean }>(
  point: Call,
  run: (call: Call, isPoint: (traced: Traced, what: string, was: string, is: string) => boolean) => Promise<Run>,
): Promise<Run> {
  const at = (nth: number): Promise<Run> => {
    const call = { ...point, nth }
    return run(call, (traced, what, was, is) => fired(traced, { call, what }, was, is))
  }
  let last = await at(point.nth)
  for (const beside of [0, -1, 1, -2, 2]) {
    if (last.isThere) break
    last = await at(Math.max(1, point.nth + beside))
  }
  return last
}

/** One line for a report: the call and its last path, without what differs from run to run. */
export const briefly = ({ name, nth, paths }: Call, directory: string): string =>
  `${name}#${nth}(${(paths.at(-1) ?? '')
    .replace(directory, '')
    .replace(/[0-9a-f]{64}/g, 'D')
    .replace(/\d{9,}/g, 'T')})`

/** Calls that both programs make on their one working thread, equally often in each run. */
const regular = 'openat,readlink,readlinkat,symlink,symlinkat,mkdir,mkdirat,unlink,unlinkat,rename,renameat,fsync'

/**
 * Starts an upcall that is stopped just before one of its calls, and waits until it is. The call before that one is
 * found by running the same upcall on a copy of the server.
 * @param at by the oldest POSIX name of the call, which also counts the variant that takes a directory.
 * @returns a function that wakes it and tells how it ended.
 */
export async function stoppedBefore(
  s: Server,
  words: readonly string[],
  env: Environment,
  { name, nth }: Point,
): Promise<() => Promise<Woken>> {
  const directory = mkdtempSync(join(tmpdir(), 'stopped-'))
  s.atEnd(() => {
    removeSync(directory)
  })
  const twin = machineIn(directory)
  for (const part of ['state', 'nfsd', 'run'])
    if (existsSync(join(s.machine.dir, part))) copySync(join(s.machine.dir, part), join(directory, part))
  // The directory of notes is named after the state directory.
  const notesOf = (stateDirectory: string): string =>
    join(directory, 'run', `begun-${encodeURIComponent(stateDirectory)}`)
  if (existsSync(notesOf(s.stateDir))) renameSync(notesOf(s.stateDir), notesOf(twin.stateDir))
  const { log } = await underStrace(s.artefact, ['-e', `trace=${regular}`], [...settings(twin), ...words], env)
  const calls = callsIn(log)
  const wanted = calls.filter((call) => [name, `${name}at`].includes(call.name))[nth - 1]
  const before = calls
    .filter(({ thread }) => thread === wanted?.thread)
    .findLast((_, at, all) => all[at + 1] === wanted)
  assert.ok(before, `no call before ${name}`)
  const command = [...s.artefact.command, '-f', ...settings(s.machine), ...words]
  const { fired, wake } = await stopped(command, env, join(directory, 'stopped'), before)
  assert.ok(fired, `not stopped before ${name}`)
  return wake
}

/** System calls by their oldest POSIX names. The executable uses the variants that take a directory. */
export const named = (...calls: readonly string[]): string => calls.flatMap((call) => [call, `${call}at`]).join()

/** Whether a line is such a call with this name, in any directory, that succeeded. */
export const isCall = (text: string, call: string, name: string): boolean =>
  new RegExp(`^${call}(?:at)?\\(`).test(text) && new RegExp(`[/"]${name}"(?:, 0)?\\) += 0`).test(text)

/**
 * The barriers of an upcall: what it synced, as paths below the state directory. The directory of the kernel's own
 * tracker is left out: a machine may have one (nfs-kernel-server makes it), and it is synced if something may have been
 * removed from it.
 */
export const barriers = (s: Server, calls: readonly Line[]): string[] =>
  calls
    .map(({ text }) => /^f(?:data)?sync\(\d+<([^>]*)>/.exec(text)?.[1])
    .filter((path) => path !== undefined)
    .filter((path) => !path.endsWith('/v4recovery'))
    .map((path) => path.replace(s.stateDir, '').replace(/^$/, '/'))

/** The calls that name something in the state directory. */
export const onState = (s: Server, calls: readonly Line[]): Line[] =>
  calls.filter(({ text }) => text.includes(s.stateDir))
