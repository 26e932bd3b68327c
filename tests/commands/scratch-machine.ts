/**
 * A throw-away copy of this machine: its whole file system under a layer of memory, in a chroot and a mount namespace
 * of its own. Installing, configuring and purging there is real, and is discarded afterwards.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { removeSync } from 'fs-extra/esm'
import { root as repository } from '../support/artefacts.ts'

export interface Told {
  readonly status: number | null
  readonly output: string
}

const stage = `
set -e
mount -t tmpfs -o mode=755 layer "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /sys "$1/root/sys"
mount --rbind /dev "$1/root/dev"
mount --bind "$2" "$1/root$2"
mount --bind "$1/upper" "$1/root/mnt"
mount -t tmpfs run "$1/root/run"
exec chroot "$1/root" /bin/sh -euc "$3"
`

/** Runs a shell script there, as root. Its changes are below /mnt. */
export function onScratchMachine(script: string): Promise<Told> {
  const directory = mkdtempSync(join(tmpdir(), 'nfsd-userland-helper-machine-'))
  return new Promise<Told>((resolve, reject) => {
    const child = spawn(
      'unshare',
      ['--mount', '--propagation', 'private', '/bin/sh', '-c', stage, 'sh', directory, repository, script],
      {
        cwd: '/',
        env: {
          PATH: `/usr/sbin:/usr/bin:/sbin:/bin:${process.env['PATH'] ?? ''}`,
          DEBIAN_FRONTEND: 'noninteractive',
          LC_ALL: 'C.UTF-8',
        },
        stdio: ['ignore', 'pipe', 'pipe'],
        timeout: 600_000,
      },
    )
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text
      })
    child.once('error', reject)
    child.once('close', (status) => {
      resolve({ status, output })
    })
  }).finally(() => {
    removeSync(directory)
  })
}
