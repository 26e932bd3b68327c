/**
 * The benchmark mounts in a namespace of its own. However it ends, its mounts end with it: a loop device over a dead
 * file system would stay in everybody's list of mounts, and mkfs.btrfs then refuses any disk.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readlinkSync } from 'node:fs'

/** Whether this process mounts where the one that started it does not see it. */
export const hasMountsOfItsOwn = (): boolean =>
  readlinkSync('/proc/self/ns/mnt') !== readlinkSync(`/proc/${process.ppid}/ns/mnt`)

/**
 * Runs this program again, with the same words and with mounts of its own. If this process ends first, the other is
 * told by `disconnect`.
 *
 * @returns its exit status.
 */
export async function runWithMountsOfItsOwn(): Promise<number> {
  const words = ['--mount', process.execPath, ...process.execArgv, ...process.argv.slice(1)]
  const again = spawn('unshare', words, { stdio: ['inherit', 'inherit', 'inherit', 'ipc'] })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => again.kill(signal))
  const [status] = (await once(again, 'exit')) as [number | null]
  return status ?? 1
}
