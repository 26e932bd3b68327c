/**
 * Other programs, asked with a time limit that holds whatever they do.
 *
 * Some files of the kernel's (nfsv4gracetime, nfsv4leasetime) are read under nfsd_mutex, which a start or a stop of the
 * service holds while it waits for an upcall. Whoever reads them then sleeps uninterruptibly: no signal reaches it, and a
 * thread of ours that did would keep us from ending. So a child reads, and is left behind when it takes too long. It ends
 * by itself once the kernel lets go.
 */
import { spawn } from 'node:child_process'
import { errorCode } from '../failure.ts'
import fs from 'node:fs'

export type Answer =
  | { readonly kind: 'ended'; readonly status: number | NodeJS.Signals; readonly stdout: string; readonly stderr: string }
  | { readonly kind: 'silent' }
  | { readonly kind: 'not-started'; readonly why: string }

/** Where programs are, for whoever has no PATH. */
export const usualPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Runs a program, and waits for it at most `patienceMs`. It has PATH in its environment, or exactly what `env` says. */
export function ask(
  program: string,
  words: readonly string[],
  { patienceMs = 2000, env }: { readonly patienceMs?: number; readonly env?: Readonly<Record<string, string>> } = {},
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
    }, patienceMs)
    child.stdout.setEncoding('latin1').on('data', (text: string) => { said.stdout += text })
    child.stderr.setEncoding('latin1').on('data', (text: string) => { said.stderr += text })
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

/** A file whose reading may never end: its text, or why there is none. */
export async function readPatiently(path: string): Promise<{ readonly text: string } | 'absent' | 'silent' | 'unreadable'> {
  if (!fs.existsSync(path)) return 'absent'
  const answer = await ask('cat', ['--', path])
  if (answer.kind === 'silent') return 'silent'
  return answer.kind === 'ended' && answer.status === 0 ? { text: answer.stdout } : 'unreadable'
}
