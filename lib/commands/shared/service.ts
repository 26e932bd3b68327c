/**
 * Finds out whether a server runs here, before work that is right only while none does.
 *
 * `threads` is read under nfsd_mutex, which a start and a stop hold while they wait for an upcall. So it must be read
 * without our lock. Then reading only waits until the start or stop is complete, and that is the state that matters.
 */
import fs from 'node:fs'
import { join } from 'node:path'
import { errorCode } from '../../failure.ts'

/** How many threads nfsd has; 0, if it does not run, or is not even loaded. */
export function nfsdThreads(nfsdDirectory: string): number {
  try {
    return Number.parseInt(fs.readFileSync(join(nfsdDirectory, 'threads'), 'latin1'), 10) || 0
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT' || errorCode(thrown) === 'ENOTDIR') return 0
    throw thrown
  }
}
