/**
 * Where the records will be. Whoever may write there decides who may reclaim, so it is root's alone from the beginning.
 * What is above it is for all to enter: other services live in /var/lib/nfs. One that exists keeps its owner and its
 * mode: records that somebody else put there must not become root's. doctor says what is wrong with it.
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
