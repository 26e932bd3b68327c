/** The other trackers, unchanged: nfsdcltrack and nfsdcld of nfs-utils, and their databases, through sqlite3(1). */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { ensureDirSync } from 'fs-extra/esm'
import { apart } from '../support/pipe/daemons.ts'
import { until } from '../support/until.ts'

/** One upcall of nfsdcltrack. @returns its exit status. */
export function nfsdcltrack(
  storage: string,
  words: readonly string[],
  env: Readonly<Record<string, string>> = {},
): number | null {
  const { status, error } = spawnSync('nfsdcltrack', ['-f', '-s', storage, ...words], {
    env: { PATH: path, ...env },
    stdio: 'ignore',
  })
  if (error !== undefined) throw error
  return status
}

const path = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`

/** Runs SQL on a database file. @returns what sqlite3 prints. */
export function sql(database: string, statements: string): string {
  const { status, stdout, stderr, error } = spawnSync('sqlite3', ['-batch', database], {
    input: statements,
    encoding: 'utf8',
  })
  if (error !== undefined) throw error
  if (status !== 0) throw new Error(`sqlite3: ${stderr}`)
  return stdout
}

/**
 * Lets nfsdcld open its database, or make one, as it does when it starts. No kernel asks it anything.
 * @returns what it prints.
 */
export async function nfsdcldOpens(storage: string): Promise<string> {
  const pipes = `${storage}.pipefs`
  ensureDirSync(storage, 0o700)
  ensureDirSync(join(pipes, 'nfsd'))
  const [unshare, ...words] = [...apart, 'nfsdcld', '-F', '-d', '-p', pipes, '-s', storage]
  const daemon = spawn(unshare, words, { env: { PATH: path }, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const stream of [daemon.stdout, daemon.stderr])
    stream.setEncoding('latin1').on('data', (text: string) => {
      said += text
    })
  const ended = new Promise<void>((resolve, reject) =>
    daemon.once('error', reject).once('close', () => {
      resolve()
    }),
  )
  await until('nfsdcld is ready, or has ended', () => /Starting event dispatch/.test(said) || daemon.exitCode !== null)
  daemon.kill()
  await ended
  if (!existsSync(join(storage, 'main.sqlite'))) throw new Error(`nfsdcld made no database: ${said}`)
  return said
}

/** Messages of the kernel's pipe to nfsdcld (include/uapi/linux/nfsd/cld.h, version 2): packed, all of one size. */
const message = { size: 1067, version: 2, graceStart: 4, inProgress: -115 }

/**
 * Starts nfsdcld and asks it who may reclaim, as the kernel does when its server starts. The pipe must work in both
 * directions, so it is a terminal, made by script(1) and set to raw mode.
 */
export async function nfsdcldTells(storage: string): Promise<Buffer[]> {
  const pipes = `${storage}.kernel`
  const name = join(pipes, 'terminal')
  ensureDirSync(join(pipes, 'nfsd'))
  const kernel = spawn('script', ['-qfc', `stty raw -echo && tty > ${name} && exec sleep 600`, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  let heard = Buffer.alloc(0)
  kernel.stdout.on('data', (bytes: Buffer) => {
    heard = Buffer.concat([heard, bytes])
  })
  const terminal = await until('a terminal', () => existsSync(name) && readFileSync(name, 'latin1').trim())
  symlinkSync(terminal, join(pipes, 'nfsd/cld'))
  const [unshare, ...words] = [...apart, 'nfsdcld', '-F', '-p', pipes, '-s', storage]
  const daemon = spawn(unshare, words, { env: { PATH: path }, stdio: 'ignore' })
  try {
    const ask = Buffer.alloc(message.size)
    ask.writeUInt8(message.version, 0)
    ask.writeUInt8(message.graceStart, 1)
    kernel.stdin.write(ask)
    const owners: Buffer[] = []
    for (;;) {
      const answer = await until('an answer', () => heard.length >= message.size && heard.subarray(0, message.size))
      heard = heard.subarray(message.size)
      const status = answer.readInt16LE(2)
      if (status === 0) return owners
      if (status !== message.inProgress) throw new Error(`nfsdcld answers ${status}`)
      owners.push(answer.subarray(10, 10 + answer.readUInt16LE(8)))
      // It has been read, so the next may come.
      kernel.stdin.write(answer)
    }
  } finally {
    daemon.kill()
    kernel.kill()
  }
}
