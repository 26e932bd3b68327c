/**
 * A disk that is as slow as one wishes: ext4 with a journal on a loop device over a file whose sync sleeps
 * (slow-disk.c). Every program pays for what it has the disk flush, however it makes its calls, and those that wait
 * together share a commit of the journal, as on any disk.
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { compiled } from '../support/compiled.ts'
import { run } from './tools.ts'

export interface SlowDisk {
  /** Where it is mounted. */
  readonly path: string
  /** Makes a barrier so much longer. */
  readonly slow: (barrierMs: number) => void
  /** How often it was flushed so far. */
  readonly flushes: () => number
  readonly scrap: () => void
}

/** A commit of ext4's journal flushes twice: before its last block, and after. */
const flushesOfABarrier = 2

/** Room for a million records of each kind, if need be; the file is sparse. */
const size = 4 * 2 ** 30
const inodes = 2_500_000

/** @returns why there can be none here, or undefined. */
export function slowDiskRefused(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root can mount it'
  return ['/dev/fuse', '/dev/loop-control']
    .filter((device) => !existsSync(device))
    .map((device) => `there is no ${device}`)[0]
}

/** @param room an empty directory of its own. */
export function makeSlowDisk(room: string): SlowDisk {
  const [program, image, files, path] = ['program', 'image', 'files', 'disk'].map((name) => join(room, name)) as [
    string,
    string,
    string,
    string,
  ]
  compiled(fileURLToPath(new URL('slow-disk.c', import.meta.url)), program, ['fuse3'])
  for (const directory of [files, path]) mkdirSync(directory)
  writeFileSync(image, '')
  truncateSync(image, size)

  const undo: (() => void)[] = []
  const scrap = (): void => {
    for (const step of undo.splice(0).reverse()) step()
  }
  try {
    // Its own session: a key that interrupts the benchmark must not take the disk from under a mounted file system.
    const server = spawn(program, [files, image], { stdio: 'ignore', detached: true })
    undo.push(() => void server.kill())
    const device = attached(join(files, 'image'))
    // Detaching takes its time.
    undo.push(() => {
      patiently(() => spawnSync('umount', [files]).status === 0)
    })
    const detach = (): void => {
      run('losetup', ['-d', device])
    }
    undo.push(detach)
    run('mkfs.ext4', ['-q', '-F', '-m', '0', '-N', String(inodes), '-E', 'lazy_itable_init=1,nodiscard', device])
    // Nothing else writes to it while it is measured.
    run('mount', ['-t', 'ext4', '-o', 'noinit_itable,commit=300', device, path])
    // While it is mounted this only says that the device goes with the mount.
    run('losetup', ['-d', device])
    undo.splice(undo.indexOf(detach), 1, () => {
      run('umount', [path])
    })
  } catch (thrown) {
    scrap()
    throw thrown
  }
  const slow = (barrierMs: number): void => {
    writeFileSync(join(files, 'flush-us'), String(Math.round((barrierMs * 1000) / flushesOfABarrier)))
  }
  return {
    path,
    slow,
    flushes: () => Number(readFileSync(join(files, 'flushes'), 'latin1')),
    scrap: () => {
      slow(0)
      scrap()
    },
  }
}

/** Attaches the image to a loop device, once it is there. */
function attached(image: string): string {
  patiently(() => existsSync(image))
  return run('losetup', ['-f', '--show', image]).trim()
}

function patiently(done: () => boolean): void {
  for (let attempt = 0; attempt < 100 && !done(); attempt++) spawnSync('sleep', ['0.05'])
}
