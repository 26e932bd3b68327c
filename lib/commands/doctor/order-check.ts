/** Checks whether the state directory is mounted before the NFS server starts. Only a mount of its own can be late. */
import fs from 'node:fs'
import * as files from '../../syscalls/files.ts'
import { oneLine, quote } from '../../text.ts'
import { bootedBySystemd } from '../shared/systemd.ts'
import { good, unknown, wrong, type Said } from './finding.ts'
import { mountOf, type Mount } from './mounts.ts'
import { shellWord, type Site } from './site.ts'
import { unitSettings } from './units.ts'

/** The names that distributions give to one service. */
const service = ['nfs-server.service', 'nfs-kernel-server.service']

export function mountOrder({ settings: { calls, stateDirectory } }: Site): Said {
  if (files.kindAt(stateDirectory, files.anywhere(calls)) !== 'directory')
    return unknown(
      'the state directory does not exist, so its mount is not known',
      'If it is on a mount of its own, that must be mounted before the NFS server starts.',
    )
  const mount = mountOf(stateDirectory)
  if (mount === undefined)
    return unknown(
      "the state directory's mount was not found",
      'If it is on a mount of its own, that must be mounted before the NFS server starts.',
    )
  if (mount.point === '/') return good('the state directory is on the root file system, which is always there')
  const where = `the state directory is on a mount of its own, ${quote(mount.point)}`
  if (!bootedBySystemd())
    return unknown(
      `${where}; this machine is not run by systemd`,
      'Your init system must mount it before the NFS server starts.',
    )
  if (
    unitSettings(service, 'RequiresMountsFor').some(
      (path) => path === mount.point || path.startsWith(`${mount.point}/`),
    )
  )
    return good(`${where}, and the NFS server waits for it (RequiresMountsFor)`)
  if (unitSettings(service, 'After').includes('local-fs.target') && isLocalFs(mount))
    return good(`${where}, and the NFS server starts after all local file systems of /etc/fstab`)
  const dropIn = '/etc/systemd/system/nfs-server.service.d/nfsd-userland-helper.conf'
  return wrong(
    `${where}, and nothing makes the NFS server wait for it`,
    'If the server starts first, it finds an empty directory below the mount, and no client may reclaim.',
    oneLine`
      mkdir -p ${dropIn.replace(/\/[^/]*$/, '')} && printf '[Unit]\\nRequiresMountsFor=%s\\n'
      ${shellWord(stateDirectory)} > ${dropIn} && systemctl daemon-reload
    `,
  )
}

/** Whether local-fs.target waits for the mount: it is in /etc/fstab, and neither optional nor on the network. */
function isLocalFs({ point }: Mount): boolean {
  const text = files.tolerating(['ENOENT', 'EACCES'], () => fs.readFileSync('/etc/fstab', 'latin1'), '')
  return text.split('\n').some((line) => {
    const [source = '', where, type = '', options = ''] = line.trim().split(/\s+/)
    if (source.startsWith('#') || where !== point || /^(?:nfs4?|cifs|smb3|ceph|glusterfs)$/.test(type)) return false
    return !options.split(',').some((option) => ['noauto', 'nofail', '_netdev', 'x-systemd.automount'].includes(option))
  })
}
