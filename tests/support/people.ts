/**
 * What the tests of commands for people share: files beside a state directory, who may reclaim, exports, and terminals.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { done, hex, mayNotReclaim, type Owner, type Server } from '../contract/server.ts'
import { settings } from './artefacts.ts'

/** A path beside the state directory. */
export const beside = (s: Server, name: string): string => join(s.stateDir, '..', name)

/** An owner whose bytes are no text, no file name and no path. */
export const odd = Buffer.from('two words\0/\xff', 'latin1')

/** Which of these may reclaim now. */
export async function mayReclaim(s: Server, ...owners: string[]): Promise<string[]> {
  const verdicts = await Promise.all(owners.map(async (owner) => (await s.check(owner, 'v4.1')).status))
  assert.ok(
    verdicts.every((status) => status === done || status === mayNotReclaim),
    verdicts.join(),
  )
  return owners.filter((_, at) => verdicts[at] === done)
}

/** Which of these may reclaim after the next start. This starts the server. */
export async function mayReclaimNext(s: Server, ...owners: string[]): Promise<string[]> {
  await s.init()
  return mayReclaim(s, ...owners)
}

/** A document with these clients, as `export` writes it. */
export const exportOf = (...owners: readonly Owner[]): string =>
  JSON.stringify({
    format: 'nfsd-userland-helper clients',
    version: 1,
    clients: owners.map((owner) => ({ owner_hex: hex(owner), session: true, recorded: 1 })),
  })

/** A command on a terminal of its own; what happens between its question and the answer; and the line that is typed. */
export function onTerminal(
  s: Server,
  words: readonly string[],
  meanwhile: () => unknown = () => undefined,
  answer = 'y',
): Promise<{ readonly status: number | null; readonly said: string }> {
  const line = [...s.artefact.command, ...settings(s.machine), ...words].join(' ')
  return new Promise((resolve, reject) => {
    const child = spawn('/usr/bin/script', ['-qec', line, '/dev/null'], {
      cwd: '/',
      env: { TERM: 'dumb' },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    let said = ''
    let answered = false
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (answered || !said.includes('[y/N]')) return
      answered = true
      Promise.resolve(meanwhile()).then(() => child.stdin.end(`${answer}\n`), reject)
    })
    child.once('error', reject)
    child.once('close', (status) => {
      resolve({ status, said })
    })
  })
}
