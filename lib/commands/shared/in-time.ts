/**
 * Runs other programs, and reads files, within a time limit that always holds.
 *
 * Some of the kernel's files (nfsv4gracetime, nfsv4leasetime) are read under nfsd_mutex. A start or a stop of the
 * service holds it while it waits for an upcall. A reader then sleeps uninterruptibly: no signal reaches it, and if it
 * were a thread of ours, this process could not end. So a child reads the file, and is left behind when it takes too
 * long. It ends by itself once the kernel releases the mutex.
 */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import { errorCode } from '../../failure.ts'

export type Answer =
  | {
      readonly kind: 'ended'
      readonly status: number | NodeJS.Signals
      readonly stdout: string
      readonly stderr: string
    }
  | { readonly kind: 'silent' }
  | { readonly kind: 'not-started'; readonly why: string }

/** The directories of the system's own programs. */
export const systemPath = '/usr/sbin:/usr/bin:/sbin:/bin'
/** Where to look for programs without a PATH. */
const usualPath = `/usr/local/sbin:/usr/local/bin:${systemPath}`

/** Runs a program, and waits for it at most `limitMs`. Its environment is PATH, or exactly `env`. */
export function runProgram(
  program: string,
  words: readonly string[],
  { limitMs = 2000, env }: { readonly limitMs?: number; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<Answer> {
  return new Promise((resolve) => {
    const child = spawn(program, words, {
      cwd: '/',
      env: env === undefined ? { PATH: process.env['PATH'] ?? usualPath, LC_ALL: 'C' } : { ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const said = { stdout: '', stderr: '' }
    const enough = setTimeout(() => {
      child.kill('SIGKILL')
      child.stdout.destroy()
      child.stderr.destroy()
      child.unref()
      resolve({ kind: 'silent' })
    }, limitMs)
    child.stdout.setEncoding('latin1').on('data', (text: string) => {
      said.stdout += text
    })
    child.stderr.setEncoding('latin1').on('data', (text: string) => {
      said.stderr += text
    })
    child.once('error', (error) => {
      clearTimeout(enough)
      resolve({ kind: 'not-started', why: errorCode(error) ?? String(error) })
    })
    child.once('close', (status, signal) => {
      clearTimeout(enough)
      resolve({ kind: 'ended', status: status ?? signal ?? 'SIGKILL', ...said })
    })
  })
}

/** Reads a file that may never answer. @returns its text, or why there is none */
export async function readInTime(
  path: string,
): Promise<{ readonly text: string } | 'absent' | 'silent' | 'unreadable'> {
  if (!fs.existsSync(path)) return 'absent'
  const answer = await runProgram('cat', ['--', path])
  if (answer.kind === 'silent') return 'silent'
  return answer.kind === 'ended' && answer.status === 0 ? { text: answer.stdout } : 'unreadable'
}

/** Writes a line when it has started, and then each file's text, or null, on a line as soon as it is read. */
const reader = `
const fs = require('node:fs')
fs.writeSync(1, '\\n')
for (const path of JSON.parse(fs.readFileSync(0, 'latin1'))) {
  let text = null
  try { text = fs.readFileSync(path, 'latin1') } catch {}
  fs.writeSync(1, JSON.stringify(text) + '\\n')
}`

/** How long Node may take to start on a busy machine. */
const startMs = 20_000

/** After this many files that do not answer, the rest is not read. */
const mostSilent = 2

/**
 * Reads many small files, any of which may never answer. One child reads them all. If it does not get on for `limitMs`,
 * it is left behind, and another child continues with the next file.
 * @returns their texts, in order; undefined for one that can't be read.
 */
export async function readEachInTime(
  paths: readonly string[],
  limitMs = 2000,
): Promise<({ readonly text: string } | 'silent' | undefined)[]> {
  const texts: ({ readonly text: string } | 'silent' | undefined)[] = []
  for (let silent = 0; texts.length < paths.length;) {
    const read = await readSome(paths.slice(texts.length), limitMs)
    for (const text of read) texts.push(text === undefined ? undefined : { text })
    if (texts.length === paths.length) break
    texts.push('silent')
    if (++silent === mostSilent) while (texts.length < paths.length) texts.push('silent')
  }
  return texts
}

/** Reads files up to the first that does not answer. */
function readSome(paths: readonly string[], limitMs: number): Promise<(string | undefined)[]> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['-e', reader], { cwd: '/', env: {}, stdio: ['pipe', 'pipe', 'ignore'] })
    const texts: (string | undefined)[] = []
    let rest = ''
    const end = (): void => {
      clearTimeout(enough)
      child.kill('SIGKILL')
      child.stdin.destroy()
      child.stdout.destroy()
      child.unref()
      resolve(texts)
    }
    let enough = setTimeout(end, startMs)
    child.stdout.setEncoding('latin1').on('data', (more: string) => {
      clearTimeout(enough)
      enough = setTimeout(end, limitMs)
      const lines = (rest + more).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) if (line !== '') texts.push((JSON.parse(line) as string | null) ?? undefined)
    })
    child.once('error', end)
    child.once('close', end)
    child.stdin.on('error', () => undefined).end(JSON.stringify(paths), 'latin1')
  })
}
