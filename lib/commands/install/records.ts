/**
 * Makes the directory of the records. A user who may write there decides which clients may reclaim, so from the
 * beginning only root may. Directories above it may be entered by all, because other services use /var/lib/nfs. An
 * existing directory keeps its owner and its mode: records that another user put there must not become root's. doctor
 * reports what is wrong with it.
 */
import fs from 'node:fs'
import { tolerating } from '../../syscalls/files.ts'
import { inDirectory, type Root } from '../shared/inside.ts'
import { textOfPath } from '../shared/print.ts'
import type { Report } from './report.ts'

const name = 'v4clients'
const mode = 0o700

export function placeRecords(
  root: Root,
  stateDirectory: string,
  { dryRun }: { readonly dryRun: boolean },
): Report['files'][number] {
  const outcome = inDirectory(root, stateDirectory, dryRun ? 'leave' : 'make', (directory) => {
    const at = directory.entry(name)
    const found = tolerating(['ENOENT'], () => fs.lstatSync(at), undefined)
    if (found !== undefined)
      return found.isDirectory() && found.uid === process.geteuid?.() && (found.mode & 0o7777) === mode
        ? 'unchanged'
        : 'kept'
    if (!dryRun) {
      fs.mkdirSync(at, mode)
      fs.fsyncSync(directory.descriptor)
    }
    return 'installed'
  })
  return { path: textOfPath(`${stateDirectory}/${name}`), outcome: outcome ?? 'installed' }
}
