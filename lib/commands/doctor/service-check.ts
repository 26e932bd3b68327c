/**
 * Checks, if the kernel needs the service, whether it starts before the NFS server, and may write to the state
 * directory.
 */
import { quote } from '../../text.ts'
import { nfsdcldRuns } from '../shared/processes.ts'
import { bootedBySystemd } from '../shared/systemd.ts'
import { good, unknown, wrong, type Said } from './finding.ts'
import { shellWord, type Site } from './site.ts'
import { isWantedBy, nfsServers as servers, ourService as name, unitNamed, unitSettings } from './units.ts'

const notNeeded = 'no service is needed: the kernel calls the helper, nfsdcld runs, or nfsd is not loaded'
const again = 'nfsd-userland-helper install && systemctl try-restart nfsd-userland-helper.service'

export function service({ settings: { stateDirectory }, parameter, moduleLoaded }: Site): Said {
  const unit = unitNamed(name)
  const needed = moduleLoaded && parameter === 'absent' && !nfsdcldRuns()
  if (!bootedBySystemd())
    return needed
      ? unknown(
          'this machine is not run by systemd',
          'Your init system must start the program before the NFS server, and restart it when it ends.',
        )
      : good(notNeeded)
  if (unit === undefined || unit === 'masked')
    return needed
      ? wrong(
          unit === 'masked' ? `${name} is masked` : `there is no ${name}`,
          'This kernel calls no helper, so a process must hold its pipe before the NFS server starts.',
          unit === 'masked' ? `systemctl unmask ${name}` : 'nfsd-userland-helper install',
        )
      : good(notNeeded)
  if (!within(stateDirectory, unitSettings([name], 'ReadWritePaths')))
    return wrong(
      `${name} may not write to the state directory, ${quote(stateDirectory)}`,
      'It was installed for another state directory. So no client can be recorded through the pipe.',
      again,
    )
  if (!within(stateDirectory, unitSettings([name], 'RequiresMountsFor')))
    return wrong(
      `${name} does not wait until the state directory is mounted, ${quote(stateDirectory)}`,
      'If it starts first, it finds an empty directory below the mount, and no client may reclaim.',
      again,
    )
  if (!unitSettings([name], 'Before').some((before) => servers.includes(before)))
    return wrong(
      `${name} does not start before the NFS server`,
      'When its server starts, the kernel waits about one second until a process holds the pipe, and never again.',
      again,
    )
  if (needed && ![...servers, 'multi-user.target'].some((by) => isWantedBy(by, name)))
    return wrong(
      `${name} is not started with the NFS server`,
      'This kernel calls no helper, so a process must hold its pipe before the NFS server starts.',
      `systemctl enable ${shellWord(name)}`,
    )
  return good('the service that serves the pipe starts before the NFS server, and may write to the state directory')
}

/**
 * Whether a path is at or below one of the allowed paths. A path with blanks or `%` is quoted or escaped in the unit,
 * and is not checked here: the service itself reports a fault.
 */
const within = (path: string, allowed: readonly string[]): boolean =>
  /\s|%/.test(path) ||
  allowed
    .map((word) => word.replace(/^[-+:]+/, ''))
    .some((allowedPath) => path === allowedPath || path.startsWith(`${allowedPath.replace(/\/$/, '')}/`))
