/**
 * Format 1 of the state directory, as release 0.1.0 wrote it. Two files defined the instance, and a rename of one over
 * the other ended grace. It is still read. The first upcall that changes anything converts it to format 2 (migrate.ts).
 */
import { instanceFromFiles, startFromText, type BootTime, type BootTimeFile, type Instance } from '../rules/instance.ts'
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { quote } from '../text.ts'
import type { Recorded } from './layout.ts'

/** Reads the files, and translates the marks to what they mean in format 2. */
export function lookAtFormat1(
  { path, anywhere }: { readonly path: string; readonly anywhere: Directory },
  { marks }: Pick<Recorded, 'marks'>,
): { readonly instance: Instance; readonly marks: Recorded['marks'] } {
  const root = files.openDirectory(path, anywhere, 'follow')
  if (typeof root !== 'object') return { instance: { kind: 'none' }, marks }
  try {
    // new_boot_time first: an end of grace renames it over boot_time, so one of the two reads sees the new instance.
    const newBootTime = readBootTime('new_boot_time', root)
    const instance = instanceFromFiles(readBootTime('boot_time', root), newBootTime)
    const current = 'start' in instance ? instance.start : undefined
    return {
      instance,
      // `partial` stayed until the end of grace was known to be durable.
      marks: (start, mark) =>
        mark === 'unconfirmed'
          ? marks(start, 'partial')
          : mark === 'full' || mark === 'partial'
            ? start === current && instance.kind === mark
            : marks(start, mark),
    }
  } finally {
    files.close(root)
  }
}

/** Reads one of the files. @throws the file system's error, if it exists and can't be read. */
export function readBootTime(file: BootTimeFile, root: Directory): BootTime {
  const content = files.readSmallFile(file, 32, root)
  if (content.kind === 'absent') return 'absent'
  if (content.kind === 'other') return { damaged: content.why }
  return startFromText(content.text) ?? { damaged: `it says ${quote(content.text)}` }
}
