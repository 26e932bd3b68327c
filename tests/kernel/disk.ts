// A guest's disk: a sparse file with a new file system, made on the host.
import { execFileSync } from 'node:child_process'
import { rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export type FileSystem = 'ext4' | 'xfs'

/** mkfs.xfs makes nothing smaller than 300 MB; a small ext4 with few inodes is quickly full, which one story needs. */
const megabytes = { ext4: 96, xfs: 320 }
const make = { ext4: ['mkfs.ext4', '-q', '-F', '-N', '1024'], xfs: ['mkfs.xfs', '-q', '-f'] } as const

export function blankDisk(directory: string, name: string, type: FileSystem): string {
  const disk = join(directory, `${name}.disk`)
  rmSync(disk, { force: true })
  writeFileSync(disk, '')
  truncateSync(disk, megabytes[type] << 20)
  const [command, ...words] = make[type]
  execFileSync(command, [...words, disk], {
    env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` },
  })
  return disk
}
