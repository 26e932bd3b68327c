/**
 * Directories of the kernel's own tracker, each named by the MD5 of an owner. Nothing else is known of these clients.
 */
import * as files from '../../syscalls/files.ts'
import type { Directory } from '../../syscalls/files.ts'
import { legacyName } from '../../upcall/legacy-name.ts'

/**
 * @returns a function that reads the names, each time again, because there may be many; none, if there is no such
 * directory
 */
export const hashesIn = (path: string, anywhere: Directory): (() => Generator<string>) =>
  function* () {
    const top = files.openDirectory(path, anywhere, 'follow')
    if (typeof top !== 'object') return
    try {
      for (const { name, kind } of files.entriesOf(top))
        if (
          legacyName.test(name) &&
          (kind === 'directory' || (kind === 'unknown' && typeof files.directoryAt(name, top) === 'object'))
        )
          yield name
    } finally {
      files.close(top)
    }
  }
