/**
 * Directories of the kernel's own tracker, each named by the MD5 of an owner: clients of which nothing else is known.
 */
import * as disk from '../../syscalls/files.ts'
import type { Directory } from '../../syscalls/files.ts'
import { legacyName } from '../../upcall/legacy-name.ts'

/** @returns what goes through the names, each time anew: there may be many. None, where there is no such directory. */
export const hashesIn = (path: string, anywhere: Directory): (() => Generator<string>) =>
  function* () {
    const top = disk.openDirectory(path, anywhere, 'follow')
    if (typeof top !== 'object') return
    try {
      for (const { name, kind } of disk.entriesOf(top))
        if (
          legacyName.test(name) &&
          (kind === 'directory' || (kind === 'unknown' && typeof disk.directoryAt(name, top) === 'object'))
        )
          yield name
    } finally {
      disk.close(top)
    }
  }
