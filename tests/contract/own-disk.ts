/** A state directory on a small real file system of its own: a loop mount. */
import { execFileSync } from 'node:child_process'
import { closeSync, ftruncateSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import type { Server } from './server.ts'

export const fileSystems = {
  ext4: ['mkfs.ext4', ['-q', '-m', '0', '-O', '^has_journal'], 8],
  'ext4 with 1 KiB blocks': ['mkfs.ext4', ['-q', '-m', '0', '-b', '1024'], 16],
  'ext4 that tells no types': ['mkfs.ext4', ['-q', '-O', '^filetype,^has_journal'], 8],
  xfs: ['mkfs.xfs', ['-q', '-f'], 320],
  btrfs: ['mkfs.btrfs', ['-q', '-f'], 256],
} as const

/** Moves a server's state to a small file system of its own. */
export function onItsOwnDisk(s: Server, name: keyof typeof fileSystems): void {
  const [mkfs, options, mebibytes] = fileSystems[name]
  const image = join(s.nfsdDir, 'image')
  const file = openSync(image, 'w')
  ftruncateSync(file, mebibytes * 1024 * 1024)
  closeSync(file)
  execFileSync(mkfs, [...options, image], { stdio: 'pipe' })
  mkdirSync(s.stateDir)
  execFileSync('mount', ['-o', 'loop', image, s.stateDir])
  s.atEnd(() => {
    execFileSync('umount', [s.stateDir])
  })
}
