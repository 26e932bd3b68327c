/**
 * Upcalls on a disk of an emulated machine, under a kernel of its own: tests/kernel/guest.ts. A shell of the guest runs
 * them like nfsd, except for the descriptors, and with options that keep them to their disk.
 */
import { copyFileSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { removeSync } from 'fs-extra/esm'
import { boot, type Guest, type Outcome } from '../kernel/guest.ts'
import { image } from '../kernel/image.ts'
import { upcallFor, type Happening } from './scenarios.ts'

/**
 * A helper's path in a guest, and the options that keep it to a disk: `-f -s DIR`, which both programs understand, and
 * more.
 */
export interface Subject {
  readonly program: string
  readonly options: string
}

export const onlyOn = (stateDirectory: string): string =>
  `-f -s ${stateDirectory} --nfsd-dir /run/lab/no-nfsd --config /dev/null`

// An interrupted test must not leave its machines running.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))

/** A guest, and for each program a copy under the root that the two share: the original may be built anew meanwhile. */
export interface Laboratory {
  readonly guest: Guest
  readonly programs: ReadonlyMap<string, string>
}

/** Boots, works, and switches off: without notice to the guest, if the work has not done so. */
export async function inGuest<T>(
  disks: readonly string[],
  programs: readonly string[],
  work: (laboratory: Laboratory) => Promise<T>,
): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'nfsd-userland-helper-guest-'))
  try {
    const copies = new Map<string, string>()
    for (const program of programs)
      if (!copies.has(program)) {
        const copy = join(directory, `helper-${copies.size}`)
        copyFileSync(program, copy)
        copies.set(program, copy)
      }
    const guest = await boot(image(), { name: 'guest', directory, disks })
    try {
      await guest.run('mkdir /run/lab/no-nfsd')
      return await work({ guest, programs: copies })
    } finally {
      await guest.kill()
    }
  } finally {
    removeSync(directory)
  }
}

/** `then`: what the same shell does when the upcall has ended, with its status in $status. */
export async function upcallIn(
  guest: Guest,
  { program, options }: Subject,
  { event, bootTime }: Happening,
  then = '',
): Promise<Outcome> {
  const { words, env } = upcallFor(event, bootTime)
  const variables = Object.entries(env)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ')
  return guest.attempt(
    `
    env -i ${variables} ${program} ${options} ${words.join(' ')}
    status=$?
    ${then}
    exit $status`,
    120,
  )
}
