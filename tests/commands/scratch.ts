/** Roots for `install`, and how to call it. */
import { lstatSync, mkdtempSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { ensureDirSync, removeSync } from 'fs-extra/esm'
import { inForeground, type Artefact, type Said } from '../support/artefacts.ts'

/** The outline of a system, enough to see how it starts its services. */
export type System = 'systemd' | 'openrc' | 'sysvinit'

export function scratchRoot(system: System): string {
  const root = mkdtempSync(join(tmpdir(), 'nfsd-userland-helper-root-'))
  after(() => {
    removeSync(root)
  })
  for (const directory of {
    systemd: ['usr/lib/systemd/systemd'],
    openrc: ['sbin/openrc-run', 'etc/init.d'],
    sysvinit: ['etc/init.d'],
  }[system])
    ensureDirSync(join(root, directory))
  return root
}

/** The program's words, with a configuration of its own. */
export const say = (artefact: Artefact, ...words: readonly string[]): Promise<Said> =>
  inForeground(artefact, ['--config', '/dev/null', ...words], { PATH: process.env['PATH'] ?? '' })

/** Every path below, with what changes when it is written, to compare before and after. */
export const filesIn = (root: string): string[] =>
  (readdirSync(root, { recursive: true }) as string[]).sort().map((path) => {
    const { mode, ino, size, mtimeMs } = lstatSync(join(root, path))
    return `/${path} ${mode.toString(8)} ${ino} ${size} ${mtimeMs}`
  })
