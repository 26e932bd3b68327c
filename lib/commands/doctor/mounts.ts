/** Finds the mount that a directory is on: /proc/self/mountinfo, proc(5). */
import fs from 'node:fs'
import * as files from '../../syscalls/files.ts'
import { nodePath } from '../shared/print.ts'

export interface Mount {
  readonly point: string
  readonly type: string
  /** `major:minor`; no real device for btrfs, and for file systems without one. */
  readonly device: string
  readonly options: ReadonlySet<string>
}

/**
 * The mount that holds a directory. It is found by the mount id of a descriptor, because a device does not identify a
 * bind mount or a btrfs.
 */
export function mountOf(directory: string): Mount | undefined {
  const descriptor = fs.openSync(nodePath(directory), fs.constants.O_RDONLY | fs.constants.O_DIRECTORY)
  try {
    const id = /^mnt_id:\s*([0-9]+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${descriptor}`, 'latin1'))?.[1]
    const lines = fs.readFileSync('/proc/self/mountinfo', 'latin1').split('\n')
    const line = lines.find((candidate) => candidate.startsWith(`${id ?? '?'} `))
    return line === undefined ? undefined : parse(line)
  } finally {
    fs.closeSync(descriptor)
  }
}

/** `id parent major:minor root POINT OPTIONS [optional...] - TYPE SOURCE SUPER-OPTIONS` */
function parse(line: string): Mount | undefined {
  const [before = '', after = ''] = line.split(' - ')
  const [, , device, , point, options] = before.split(' ')
  const [type, , superOptions] = after.split(' ')
  if (device === undefined || point === undefined || type === undefined) return undefined
  return {
    point: unescape(point),
    type,
    device,
    options: new Set([...(options ?? '').split(','), ...(superOptions ?? '').split(',')]),
  }
}

/**
 * Whether an ext4 has a journal: then its sysfs directory names the thread that writes it. Undefined, if that can't be
 * seen.
 */
export function hasJournal({ device }: Mount): boolean | undefined {
  const link = files.tolerating(['ENOENT', 'EINVAL'], () => fs.readlinkSync(`/sys/dev/block/${device}`), '')
  const file = `/sys/fs/ext4/${link.slice(link.lastIndexOf('/') + 1)}/journal_task`
  const thread = files.tolerating(['ENOENT', 'ENOTDIR', 'EACCES'], () => fs.readFileSync(file, 'latin1'), undefined)
  return thread === undefined ? undefined : /^[0-9]/.test(thread)
}

const unescape = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
