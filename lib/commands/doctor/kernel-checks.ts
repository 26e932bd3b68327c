/** Checks which trackers the kernel offers, which one it uses, and what could take its place. */
import { constants, release } from 'node:os'
import { oneLine, quote } from '../../text.ts'
import type { KernelConfig } from '../shared/kernel-config.ts'
import { saidOfTracker } from '../shared/kernel-log.ts'
import { nfsdcldProcesses } from '../shared/processes.ts'
import { bootedBySystemd } from '../shared/systemd.ts'
import { doubtful, good, unknown, wrong, type Said } from './finding.ts'
import type { Site } from './site.ts'
import { replacingNfsdcld } from './take-over.ts'
import { isWantedBy, nfsServers, ourService, unitNamed, unitSettings } from './units.ts'

const useDaemon = 'systemctl unmask nfsdcld.service && systemctl restart nfs-server.service'
const useServe = 'nfsd-userland-helper install --tracker=serve && systemctl restart nfs-server.service'
const restart = 'systemctl restart nfs-server.service'

/** CONFIG_NFSD_LEGACY_CLIENT_TRACKING: since Linux 6.8 the kernel has usermode helpers only with it. */
export function support({ parameter, moduleLoaded, config, tracker }: Site): Said {
  const without = (what: string): Said =>
    tracker.serving !== undefined
      ? good('this kernel calls no helper, and serve answers at its pipe')
      : wrong(
          what,
          oneLine`
            Since Linux 6.8 the kernel calls a helper only if it was built with CONFIG_NFSD_LEGACY_CLIENT_TRACKING=y.
            Without it the kernel asks through a pipe, and if neither serve nor nfsdcld answers there, no client may
            reclaim.
          `,
          useServe,
        )
  if (parameter !== 'absent') return good('the kernel offers usermode client tracking')
  if (moduleLoaded)
    return without("nfsd is loaded, and has no parameter 'cltrack_prog': this kernel has no usermode client tracking")
  if (config === undefined)
    return unknown(
      oneLine`
        whether the kernel offers usermode client tracking is not known: nfsd is not loaded, and the kernel's
        configuration was not found
      `,
      'When nfsd is loaded, its parameter shows it.',
      'modprobe nfsd',
    )
  if (hasNoServer(config))
    return wrong(
      'this kernel was built without an NFS server (CONFIG_NFSD)',
      'Nothing calls a helper.',
      'boot a kernel with CONFIG_NFSD',
    )
  switch (config('CONFIG_NFSD_LEGACY_CLIENT_TRACKING')) {
    case 'y':
      return good('the kernel offers usermode client tracking (nfsd is not loaded)')
    case 'off':
      return without(
        'this kernel was built without usermode client tracking (CONFIG_NFSD_LEGACY_CLIENT_TRACKING is not set)',
      )
    default:
      return olderThan(6, 8)
        ? good('the kernel offers usermode client tracking, as all did before Linux 6.8 (nfsd is not loaded)')
        : without(
            oneLine`
              this kernel has no option CONFIG_NFSD_LEGACY_CLIENT_TRACKING: usermode client tracking was removed from it
            `,
          )
  }
}

/** Whether a kernel was built without an NFS server, and so asks no tracker. */
const hasNoServer = (config: KernelConfig): boolean => ['absent', 'off'].includes(config('CONFIG_NFSD'))

function olderThan(major: number, minor: number): boolean {
  const [ours = 0, oursMinor = 0] = release().split('.').map(Number)
  return ours < major || (ours === major && oursMinor < minor)
}

/** CONFIG_STATIC_USERMODEHELPER: the kernel runs one fixed program instead of every helper. */
export function staticHelper({ config }: Site): Said {
  if (config === undefined)
    return unknown(
      'whether the kernel redirects its helpers is not known: its configuration was not found',
      'With CONFIG_STATIC_USERMODEHELPER=y it would run one fixed program instead of any helper.',
    )
  if (config('CONFIG_STATIC_USERMODEHELPER') !== 'y') return good('the kernel runs helpers by their own names')
  const path = config('CONFIG_STATIC_USERMODEHELPER_PATH')
  const nothing = path === '' || path === 'absent'
  return wrong(
    nothing
      ? oneLine`
        the kernel runs no helper at all, and treats each as successful (CONFIG_STATIC_USERMODEHELPER with an empty
        path)
      `
      : `the kernel runs ${quote(path)} instead of every helper (CONFIG_STATIC_USERMODEHELPER)`,
    nothing
      ? "Every 'check' then means yes, so clients may reclaim that must not. Data will be corrupted."
      : 'The kernel never calls this program, unless that one calls it with the same words and environment.',
    useDaemon,
  )
}

/** While nfsdcld runs, the kernel never calls a helper. */
export function daemon(site: Site): Said {
  const { moduleLoaded, config } = site
  if (!moduleLoaded && config !== undefined && hasNoServer(config))
    return good('nfsdcld does not matter: this kernel has no NFS server that would ask it')
  const processes = nfsdcldProcesses()
  const { verdict } = support(site)
  if (verdict === 'wrong')
    return processes.length > 0
      ? good('nfsdcld is running, the only tracker that this kernel has')
      : wrong(
          'nfsdcld is not running, and this kernel has no other tracker',
          'No client may reclaim, and none is recorded.',
          useServe,
        )
  const why = oneLine`
    The kernel tries nfsdcld first, and uses a helper only if nfsdcld does not answer. Recovery then works, but with
    the records of nfsdcld. Choose one of the two.
  `
  if (processes.length > 0)
    return wrong(
      `nfsdcld is running (process ${processes.join(', ')})`,
      why,
      replacingNfsdcld(site, `systemctl mask --now nfsdcld.service && ${restart}`),
    )
  const unit = unitNamed('nfsdcld.service')
  if (unit === undefined) return good('nfsdcld is not running, and no unit starts it')
  if (unit === 'masked') return good('nfsdcld is not running, and its unit is masked')
  if (!bootedBySystemd())
    return good('nfsdcld is not running, and its unit needs systemd, which does not run this machine')
  if (serviceKeepsOut('nfsdcld.service'))
    return good(`nfsdcld is not running, and ${ourService} keeps the NFS server from starting it`)
  return wrong(
    `nfsdcld is not running, but ${unit.path} will start it with the NFS server`,
    why,
    // Where the kernel may call no helper, it needs something in nfsdcld's place.
    replacingNfsdcld(site, verdict === 'good' ? 'systemctl mask nfsdcld.service' : 'nfsd-userland-helper install'),
  )
}

/**
 * If the server wants two units, one of which conflicts with the other, systemd starts only that one, even if a
 * condition then keeps it from running.
 */
const serviceKeepsOut = (other: string): boolean =>
  typeof unitNamed(ourService) === 'object' &&
  unitSettings([ourService], 'Conflicts').includes(other) &&
  nfsServers.some((server) => isWantedBy(server, ourService))

/** Which tracker the kernel's server uses, according to the kernel's log. */
export function tracker(site: Site): Said {
  const { log } = site
  if (log === 'unreadable')
    return unknown(
      "the kernel's log can't be read",
      'It shows which tracker the server uses.',
      "journalctl -k -b | grep 'NFSD:.*client'",
    )
  const said = saidOfTracker(log)
  if (said === undefined)
    return unknown(
      "the kernel's log names no tracker: the NFS server has not started since boot, or the line was overwritten",
      'Each start of the server logs one line.',
      "journalctl -k -b | grep 'NFSD:.*client'",
    )
  const what = `the kernel logged: ${quote(said)}`
  if (said.includes('Using UMH upcall'))
    return good('the NFS server uses usermode client tracking since its last start')
  if (/Using (?:old )?nfsdcld/.test(said) && site.tracker.serving !== undefined)
    return good('the NFS server uses the pipe since its last start, and serve answers there')
  if (/Using (?:old )?nfsdcld/.test(said))
    return support(site).verdict === 'wrong'
      ? good('the NFS server uses nfsdcld since its last start, the only tracker that this kernel has')
      : wrong(
          what,
          'nfsdcld was running when the server started, so the kernel uses it instead of a helper.',
          replacingNfsdcld(site, `systemctl mask --now nfsdcld.service && ${restart}`),
        )
  if (said.includes('Using legacy'))
    return wrong(
      what,
      oneLine`
        The kernel could not run the helper, or the helper's 'init' failed, and it fell back to its own tracker in
        /var/lib/nfs/v4recovery. It does not call this program until the next start. If the helper ran, its own line in
        the kernel's log says more.
      `,
      restart,
    )
  const status = Number(/\((-?[0-9]+)\)/.exec(said)?.[1])
  return wrong(
    what,
    `The server runs without any tracker: no client may reclaim, and none is recorded. ${decoded(status)}`,
    remedy(status),
  )
}

function decoded(status: number): string {
  switch (status) {
    case -110:
      return oneLine`
        -110 is ETIMEDOUT: nfsdcld did not answer, and this kernel has no other tracker to fall back to
        (CONFIG_NFSD_LEGACY_CLIENT_TRACKING is off).
      `
    case -2:
      return oneLine`
        -2 is ENOENT: the program that cltrack_prog names does not exist, and neither does /var/lib/nfs/v4recovery.
      `
    case -22:
      return oneLine`
        -22 is EINVAL: this nfsd runs in a network namespace of its own (a container). The kernel calls helpers for the
        initial namespace only. In a container it asks only through the pipe: run serve or nfsdcld.
      `
    case -13:
      return oneLine`
        -13 is EACCES: the program that cltrack_prog names is not executable, or an empty name has switched it off.
      `
  }
  if (status > 255)
    return oneLine`
      ${status} is how the helper ended:
      ${(status & 127) === 0 ? `status ${status >> 8}` : `by signal ${status & 127}`}. Its own line in the log says why.
    `
  const name = Object.entries(constants.errno).find(([, errno]) => errno === -status)?.[0]
  return name === undefined ? '' : `${status} is ${name}.`
}

function remedy(status: number): string {
  if (status === -110) return useServe
  if (status === -22) return 'run nfsd-userland-helper serve inside the container'
  return restart
}

/** The nfsd file system: it shows that grace is over, and takes the request to end it. */
export function nfsdFiles({ settings: { nfsdDirectory }, kernel, moduleLoaded }: Site): Said {
  if (kernel.grace !== 'unknown') return good(`the kernel's nfsd file system is at ${nfsdDirectory}`)
  if (!moduleLoaded)
    return unknown(`there is no ${nfsdDirectory}/v4_end_grace: nfsd is not loaded`, 'The NFS server provides it.')
  return doubtful(
    `there is no ${nfsdDirectory}/v4_end_grace`,
    oneLine`
      Without it every grace period lasts its full time, and an end of grace that the kernel could not report stays
      unnoticed. nfsd-dir in nfs.conf sets the path.
    `,
    `mount -t nfsd nfsd ${nfsdDirectory}`,
  )
}
