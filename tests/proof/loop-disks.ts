/**
 * Real file systems on images in memory, mounted through loop devices; and copies of an image at one moment, mounted as
 * after a power cut. Needs root, and the file systems' tools.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ensureDirSync, removeSync } from 'fs-extra/esm'
import { scratch } from './verdicts.ts'

export type FileSystem = 'ext4' | 'xfs' | 'btrfs'

const packages: Record<FileSystem, string> = { ext4: 'e2fsprogs', xfs: 'xfsprogs', btrfs: 'btrfs-progs' }
/** The smallest size for each, in MiB. */
const sizes: Record<FileSystem, number> = { ext4: 24, xfs: 320, btrfs: 160 }
const makeOptions: Record<FileSystem, readonly string[]> = {
  ext4: ['-q', '-F', '-m', '0'],
  xfs: ['-q', '-f'],
  btrfs: ['-q', '-f', '-m', 'single', '-d', 'single'],
}
// No automatic commit may help within the seconds before a cut.
const mountOptions: Record<FileSystem, string> = {
  ext4: 'loop,commit=300',
  xfs: 'loop,nouuid',
  btrfs: 'loop,commit=300',
}

/** All three, or those that FILE_SYSTEMS names. */
export function fileSystems(): readonly FileSystem[] {
  const wanted = process.env['FILE_SYSTEMS']?.split(' ')
  const all: readonly FileSystem[] = ['ext4', 'xfs', 'btrfs']
  if (process.getuid?.() !== 0) {
    console.log('# not root: nothing is mounted, so no power is cut')
    return []
  }
  return all.filter((each) => wanted === undefined || wanted.includes(each))
}

/** Installs what is missing, or says what to install. */
export function need(command: string, inPackage: string): void {
  const paths = ['/usr/sbin', '/sbin', '/usr/bin', '/bin', '/usr/local/bin', '/usr/local/sbin']
  if (paths.some((path) => existsSync(join(path, command)))) return
  try {
    execFileSync('apt-get', ['install', '-y', '--no-install-recommends', inPackage], {
      stdio: 'ignore',
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    })
  } catch {
    throw new Error(`${command} is missing: install the package '${inPackage}'`)
  }
}

export interface LoopDisk {
  readonly image: string
  /** Mounts it. @returns the mount point. */
  readonly mount: () => string
  readonly unmount: () => void
  /** A copy of the image, as a disk of its own: what the file system has written so far, and nothing else. */
  readonly cut: () => LoopDisk
  readonly unfill: () => void
  readonly scrap: () => void
}

/** An empty one, of the smallest size, or with the defaults of mkfs. */
export function newDisk(fileSystem: FileSystem, of: 'smallest' | 'usual' = 'smallest'): LoopDisk {
  need(`mkfs.${fileSystem}`, packages[fileSystem])
  const dir = scratch()
  const image = join(dir, 'image')
  execFileSync('truncate', ['-s', `${of === 'usual' ? Math.max(512, sizes[fileSystem]) : sizes[fileSystem]}M`, image])
  const options =
    of === 'usual' ? makeOptions[fileSystem].filter((word) => /^-[qFf]$/.test(word)) : makeOptions[fileSystem]
  execFileSync(`mkfs.${fileSystem}`, [...options, image], { stdio: 'ignore' })
  return diskFrom(fileSystem, dir)
}

function diskFrom(fileSystem: FileSystem, dir: string): LoopDisk {
  const image = join(dir, 'image')
  const at = join(dir, 'mounted')
  let mounted = false
  const unmount = (): void => {
    if (!mounted) return
    execFileSync('umount', [at])
    mounted = false
  }
  return {
    image,
    mount: () => {
      ensureDirSync(at)
      execFileSync('mount', ['-t', fileSystem, '-o', mountOptions[fileSystem], image, at])
      mounted = true
      return at
    },
    unmount,
    cut: () => {
      const copy = scratch()
      execFileSync('cp', ['--sparse=auto', image, join(copy, 'image')])
      return diskFrom(fileSystem, copy)
    },
    unfill: () => {
      for (const name of readdirSync(at)) if (name.startsWith('fill-')) rmSync(join(at, name))
      execFileSync('sync', ['-f', at])
    },
    scrap: () => {
      unmount()
      removeSync(dir)
    },
  }
}
