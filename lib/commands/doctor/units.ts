/**
 * Reads systemd's units from their files. These say the same while the manager runs, before it does, and in a tree that
 * is not booted. The directories are in the order of systemd.unit(5): a file in an earlier one hides those in later
 * ones.
 */
import fs from 'node:fs'
import { join } from 'node:path'
import { tolerating } from '../../syscalls/files.ts'
import { namesIn } from '../shared/listing.ts'

const directories = [
  '/etc/systemd/system.control',
  '/run/systemd/system.control',
  '/run/systemd/transient',
  '/run/systemd/generator.early',
  '/etc/systemd/system',
  '/etc/systemd/system.attached',
  '/run/systemd/system',
  '/run/systemd/system.attached',
  '/run/systemd/generator',
  '/usr/local/lib/systemd/system',
  '/usr/lib/systemd/system',
  '/lib/systemd/system',
  '/run/systemd/generator.late',
]

export const ourService = 'nfsd-userland-helper.service'
/** The unit of the NFS server, and Debian's other name of it. */
export const nfsServers = ['nfs-server.service', 'nfs-kernel-server.service']

/** Where a unit is. A masked unit is a link to /dev/null, or an empty file. */
export function unitNamed(name: string): { readonly path: string } | 'masked' | undefined {
  for (const directory of directories) {
    const path = join(directory, name)
    const stats = tolerating(['ENOENT', 'ENOTDIR', 'ELOOP'], () => fs.statSync(path), undefined)
    if (stats !== undefined) return stats.isFile() && stats.size > 0 ? { path } : 'masked'
  }
  return undefined
}

/** All values of one key, from a unit with several names, and from its drop-ins. */
export function unitSettings(names: readonly string[], key: string): readonly string[] {
  const files = new Map<string, string>()
  for (const name of names) {
    const unit = unitNamed(name)
    if (unit === 'masked' || unit === undefined) continue
    files.set('', unit.path)
    break
  }
  for (const directory of directories)
    for (const name of names)
      for (const dropIn of namesIn(join(directory, `${name}.d`)))
        if (dropIn.endsWith('.conf') && !files.has(dropIn)) files.set(dropIn, join(directory, `${name}.d`, dropIn))
  const values: string[] = []
  for (const path of files.values()) {
    const text = tolerating(['ENOENT', 'EACCES', 'EISDIR'], () => fs.readFileSync(path, 'latin1'), '')
    for (const line of text.replaceAll(/\\\n/g, ' ').split('\n')) {
      const [, name, value] = /^\s*([A-Za-z]+)\s*=\s*(.*?)\s*$/.exec(line) ?? []
      if (name === key && value !== undefined)
        values.push(
          ...value
            .split(/\s+/)
            .filter((word) => word !== '')
            .map((word) => word.replace(/^"(.*)"$/, '$1')),
        )
    }
  }
  return values
}

/** Whether a link says that one unit starts with another. */
export const isWantedBy = (by: string, name: string): boolean =>
  ['/etc', '/run', '/usr/lib', '/lib'].some((top) =>
    ['wants', 'requires'].some(
      (how) => fs.lstatSync(`${top}/systemd/system/${by}.${how}/${name}`, { throwIfNoEntry: false }) !== undefined,
    ),
  )
