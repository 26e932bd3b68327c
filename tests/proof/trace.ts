/**
 * One run of the helper under strace(1): which calls it makes that change a file system, and what happens if one of
 * them fails, is late, or is the last.
 *
 * strace counts `when=N` per call name and per thread. The helper makes only synchronous calls, so all that matter are
 * on one thread; `touching` lets a test assert that, and `fired` that the fault came where it was meant to come.
 */
import { spawn } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Artefact, Environment, Said } from '../support/artefacts.ts'

export interface Call {
  readonly name: string
  /** The how-manieth call of this name on its thread, from 1: strace's `when`. */
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
  /** strace's words: `signal=SIGKILL`, `error=EIO`, `delay_enter=300000`. */
  readonly what: string
  /** Every later call of the name as well. */
  readonly forGood?: boolean
}

const traced = [
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

let runs = 0

/** Runs the helper in the foreground under strace, with at most one fault. */
export function trace(artefact: Artefact, words: readonly string[], env: Environment, fault?: Fault): Promise<Traced> {
  const log = join(tmpdir(), `proof-trace-${process.pid}-${runs++}`)
  const inject =
    fault === undefined
      ? []
      : ['-e', `inject=${fault.call.name}:${fault.what}:when=${fault.call.nth}${fault.forGood === true ? '+' : ''}`]
  const command = [
    '-f',
    '-y',
    '-s',
    '8192',
    '-o',
    log,
    '-e',
    `trace=${traced}`,
    ...inject,
    ...artefact.command,
    '-f',
    ...words,
  ]
  const began = performance.now()
  return new Promise((resolve, reject) => {
    const child = spawn('strace', command, {
      cwd: '/',
      env: { ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 60_000,
      killSignal: 'SIGKILL',
    })
    const said = { stdout: '', stderr: '' }
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said.stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said.stderr += text
    })
    child.once('error', () => {
      reject(new Error("strace is missing: install the package 'strace'"))
    })
    child.once('close', (code, signal) => {
      const calls = callsIn(readFileSync(log, 'utf8'))
      rmSync(log)
      resolve({ status: code ?? signal ?? 'SIGKILL', ms: performance.now() - began, ...said, calls })
    })
  })
}

/** The calls of a log in the order in which they began. */
export function callsIn(log: string): Call[] {
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
      if (first !== undefined) whole.push({ thread, text: first.text + (resumed[1] ?? ''), at: first.at })
    } else if (rest.endsWith('<unfinished ...>'))
      begun.set(thread, { text: rest.slice(0, -'<unfinished ...>'.length), at })
    else whole.push({ thread, text: rest, at })
  }
  for (const [thread, { text, at }] of begun) whole.push({ thread, text: `${text} = ?`, at })
  whole.sort((a, b) => a.at - b.at)

  const counts = new Map<string, number>()
  const calls: Call[] = []
  const open = new Map<string, string>()
  for (const { thread, text } of whole) {
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
 * Names in open directories, by their paths: both programs reach the state directory by descriptors, the executable by
 * openat(2) and its like, the bundle by `/proc/self/fd`.
 */
function inFull(name: string, args: string, open: ReadonlyMap<string, string>): string {
  const byProc = args.replace(/"\/proc\/self\/fd\/(\d+)(?:\/\.)?(\/[^"]*)?"/g, (all, descriptor: string, rest = '') => {
    const directory = open.get(descriptor)
    return directory === undefined ? all : `"${directory}${String(rest)}"`
  })
  return /at2?$/.test(name) ? byProc.replace(/\d+<([^>]*)>, "(?!\/)((?:[^"\\]|\\.)*)"/g, '"$1/$2"') : byProc
}

const isUnder = (path: string, directory: string): boolean => path === directory || path.startsWith(`${directory}/`)

/** Opening changes something only if it may create or truncate; the rest of what is traced always does. */
const changes = ({ name, text }: Call): boolean =>
  name !== 'exit_group' && (name !== 'openat' || /O_CREAT|O_TRUNC/.test(text))

/** The calls that changed something under a directory, or made it durable: the points at which it can go wrong. */
export const changing = (calls: readonly Call[], directory: string): Call[] =>
  calls.filter(
    (call) => changes(call) && (call.result ?? -1) >= 0 && call.paths.some((path) => isUnder(path, directory)),
  )

/** The ids of the threads that touched anything under a directory. */
export const touching = (calls: readonly Call[], directory: string): Set<number> =>
  new Set(calls.filter(({ paths }) => paths.some((path) => isUnder(path, directory))).map(({ thread }) => thread))

/** What differs between two runs of one upcall: instances, process ids, times. */
const alike = (text: string, directory: string): string =>
  text
    .trim()
    .replaceAll(directory, '')
    .replace(/[0-9a-f]{64}/g, 'digest')
    .replace(/\d+\.\d+\.[0-9a-f]+\.[0-9a-f]+\.\d+/, 'holder')
    .replace(/%new-\d+-\d+/, '%new')
    .replace(/check=[0-9a-f]{8}/, '')
    .replace(/\b[0-9a-f]{12}\b/g, '#')
    .replace(/\d{4,}/g, '#')
    .replace(/^\d+</, '<')

/** Whether the fault came at the call it was meant for: killed in it, or told that it failed. */
export function fired({ calls, status }: Traced, { call, what }: Fault, was: string, is: string): boolean {
  const met = calls.find(
    ({ name, nth, thread }) => name === call.name && nth === call.nth && thread === calls[0]?.thread,
  )
  if (met === undefined || alike(met.text, is) !== alike(call.text, was)) return false
  if (what.startsWith('signal=SIGKILL')) return status === 'SIGKILL' && met.result === undefined
  return what.startsWith('error=') ? met.injected : true
}

/** One line for a report: the call and its last path, without what differs from run to run. */
export const briefly = ({ name, nth, paths }: Call, directory: string): string =>
  `${name}#${nth}(${(paths.at(-1) ?? '')
    .replace(directory, '')
    .replace(/[0-9a-f]{64}/g, 'D')
    .replace(/\d{9,}/g, 'T')})`
