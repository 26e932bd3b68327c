/** What the benchmark needs of the machine. It installs nothing, and says what is missing. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const packages = {
  '/usr/sbin/nfsdcltrack': 'nfs-kernel-server',
  gcc: 'gcc libc6-dev',
  sqlite3: 'sqlite3',
  // For the slow disk.
  fusermount3: 'fuse3 libfuse3-dev',
  'pkg-config': 'pkg-config',
  'mkfs.ext4': 'e2fsprogs',
  losetup: 'mount',
} as const

/** The path of a command, or undefined. */
export function find(command: string): string | undefined {
  const { status, stdout } = spawnSync(
    '/bin/sh',
    ['-c', 'PATH=$PATH:/usr/sbin:/sbin; command -v "$1"', 'sh', command],
    { encoding: 'utf8' },
  )
  return status === 0 ? stdout.trim() : undefined
}

/** The command that would install what is missing, or undefined if nothing is. */
export function missing(): string | undefined {
  const wanted = Object.entries(packages)
    .filter(([command]) => find(command) === undefined)
    .map(([, name]) => name)
  return wanted.length === 0 ? undefined : `apt-get install ${wanted.join(' ')}`
}

/** The kernel's nfsd runs here. Then the peer, whose downcall has one fixed path, would end a real grace period. */
export const serverRuns = (): boolean => existsSync('/proc/fs/nfsd/v4_end_grace')

/** Runs a command to its end. @throws with its output if it fails. */
export function run(command: string, words: readonly string[], input = ''): string {
  const { status, stdout, stderr, error } = spawnSync(command, [...words], {
    encoding: 'utf8',
    input,
    maxBuffer: 1 << 26,
  })
  if (status !== 0) throw new Error(`${command} ${words.join(' ')}: ${error?.message ?? stderr}`)
  return stdout
}

/** Compiles the launcher into `room`. */
export function compileLauncher(room: string): string {
  const launcher = join(room, 'launch')
  run('gcc', ['-O2', '-o', launcher, fileURLToPath(new URL('launch.c', import.meta.url))])
  return launcher
}
