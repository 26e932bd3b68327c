/** The other trackers, as they are: nfsdcltrack and nfsdcld of nfs-utils, and what they keep, through sqlite3(1). */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

/** One upcall of nfsdcltrack's. @returns its exit status. */
export function nfsdcltrack(storage: string, words: readonly string[], env: Readonly<Record<string, string>> = {}): number | null {
  const { status, error } = spawnSync('nfsdcltrack', ['-f', '-s', storage, ...words], { env: { PATH: path, ...env }, stdio: 'ignore' })
  if (error !== undefined) throw error
  return status
}

const path = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`

/** Runs SQL on a database file, and gives what sqlite3 prints. */
export function sql(database: string, statements: string): string {
  const { status, stdout, stderr, error } = spawnSync('sqlite3', ['-batch', database], { input: statements, encoding: 'utf8' })
  if (error !== undefined) throw error
  if (status !== 0) throw new Error(`sqlite3: ${stderr}`)
  return stdout
}

/**
 * Lets nfsdcld open its database, or make one, as it does when it starts. Nobody talks to it: it has no kernel here.
 * @returns what it says.
 */
export async function nfsdcldOpens(storage: string): Promise<string> {
  const pipes = `${storage}.pipefs`
  mkdirSync(storage, { recursive: true, mode: 0o700 })
  mkdirSync(join(pipes, 'nfsd'), { recursive: true })
  const daemon = spawn('nfsdcld', ['-F', '-d', '-p', pipes, '-s', storage], { env: { PATH: path }, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const stream of [daemon.stdout, daemon.stderr]) stream.setEncoding('latin1').on('data', (text: string) => { said += text })
  const ended = new Promise<void>((resolve, reject) => daemon.once('error', reject).once('close', () => { resolve() }))
  for (let waited = 0; !said.includes('Starting event dispatch') && waited < 20_000 && daemon.exitCode === null; waited += 20)
    await Promise.race([pause(20), ended])
  daemon.kill()
  await ended
  if (!existsSync(join(storage, 'main.sqlite'))) throw new Error(`nfsdcld made no database: ${said}`)
  return said
}
