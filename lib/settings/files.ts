/**
 * The files of the configuration, read whole or not at all.
 *
 * The configuration says where clients are recorded. If one that can't be read, or is damaged, counted as empty, an
 * upcall would record its client in another directory, where no later start looks. So a file that does not exist is no
 * error, and every other failure is thrown.
 */
import { Failed, storageFailure } from '../failure.ts'
import { atFlags, type Calls } from '../syscalls/calls.ts'
import { errno, errorName } from '../syscalls/errno.ts'
import { namesOf } from '../syscalls/files.ts'
import { quote } from '../text.ts'

const here = atFlags.AT_FDCWD

/** No real configuration is longer. The limit keeps a device or a pipe in its place from being read without end. */
const most = 1 << 20
const pageSize = 8192

/** The configuration can't be used. */
export const refused = (file: string, why: string): Failed => storageFailure(`configuration ${quote(file)} ${why}`)

/** @returns its text, each character a byte. @throws Failed, if it can't be read completely. */
export function readConfiguration(calls: Calls, file: string): { readonly text: string } | 'absent' | 'directory' {
  // Opening a pipe must not wait for its other end.
  const descriptor = calls.openat(here, file, calls.flags.O_RDONLY | calls.flags.O_NONBLOCK, 0)
  if (descriptor === -errno.ENOENT) return 'absent'
  if (descriptor < 0) throw refused(file, `can't be read: ${errorName(descriptor)}`)
  let text = ''
  for (;;) {
    const page = calls.readText(descriptor, pageSize)
    if (typeof page === 'string' && page !== '' && text.length <= most) {
      text += page
      continue
    }
    calls.close(descriptor)
    if (page === -errno.EISDIR) return 'directory'
    if (typeof page === 'number') throw refused(file, `can't be read: ${errorName(page)}`)
    break
  }
  if (text.length > most) throw refused(file, 'is longer than 1 MiB')
  if (holds(text, '\0')) throw refused(file, 'is damaged: it contains a NUL byte')
  return { text }
}

/**
 * Whether `text` contains `part`. The executable's engine splits ten times as fast as it searches, which saves a tenth
 * of a check.
 */
export const holds = (text: string, part: string): boolean => text.split(part).length > 1

/**
 * A file's drop-ins, `FILE.d/*.conf`, in the order in which nfs-utils reads them: numbers by value, as versionsort(3)
 * has it.
 */
export function dropInsOf(calls: Calls, file: string): string[] {
  const directory = `${file}.d`
  const descriptor = calls.openat(here, directory, calls.flags.O_RDONLY | calls.flags.O_DIRECTORY, 0)
  if (descriptor === -errno.ENOENT) return []
  if (descriptor < 0) throw refused(directory, `can't be read: ${errorName(descriptor)}`)
  const names: string[] = []
  for (;;) {
    const some = calls.entries(descriptor)
    if (typeof some === 'number') throw refused(directory, `can't be read: ${errorName(some)}`)
    if (some === '') break
    names.push(...namesOf(some))
  }
  calls.close(descriptor)
  const byVersion = (name: string): string => name.replace(/\d+/g, (digits) => digits.padStart(20, '0'))
  return names
    .filter((name) => name.endsWith('.conf') && !name.startsWith('.'))
    .sort((one, other) => (byVersion(one) < byVersion(other) ? -1 : 1))
    .map((name) => `${directory}/${name}`)
}
