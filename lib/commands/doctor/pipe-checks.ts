/** Checks the pipe: whether it exists, which process answers at it, and which clients it forgets (docs/kernels.md). */
import { counted, oneLine, quote } from '../../text.ts'
import { longList } from '../../upcall/message.ts'
import { showOwner } from '../../upcall/owner.ts'
import { nfsdcldRuns } from '../shared/processes.ts'
import { forgetsVersion40, sayHolders, sayTracker, strangersAt } from '../shared/tracker.ts'
import { doubtful, good, wrong, type Said } from './finding.ts'
import type { Site } from './site.ts'
import { replacingNfsdcld } from './take-over.ts'

const restart = 'systemctl restart nfs-server.service'
const installServe = `nfsd-userland-helper install --tracker=serve && ${restart}`

/** One process must hold the pipe before the server starts, and only one. */
export function pipe(site: Site): Said {
  const { tracker, parameter, moduleLoaded } = site
  const { kind, holders, serving, pipefs } = tracker
  const strangers = strangersAt(tracker)
  switch (kind) {
    case 'pipe':
      if (strangers.length > 0 && strangers.length < holders.length)
        return wrong(
          `the pipe is held by ${sayHolders(holders)}`,
          'Each message goes to one of them, so neither knows all clients. Stop the other process.',
          `systemctl mask --now nfsdcld.service && ${restart}`,
        )
      if (strangers.length > 0)
        return wrong(
          `${sayHolders(strangers)} answers at the pipe, not a serve of this state directory`,
          'Its records decide about recovery, not the records here.',
          replacingNfsdcld(site, installServe),
        )
      return holders.length > 0
        ? good(`the NFS server took ${sayTracker(tracker)}`)
        : wrong(
            'the NFS server has a pipe, but no process holds it',
            'Each new client, and each start and stop of the server, waits 30 s for an answer, and gets none.',
            'systemctl restart nfsd-userland-helper.service',
          )
    case 'none':
      return wrong(
        'the NFS server runs without a tracker',
        oneLine`
          No process held the pipe when the server started, so its clients are not recorded, and none may reclaim after
          its next start. Start serve before the server.
        `,
        installServe,
      )
    case 'helper':
    case 'own':
      return good('the NFS server does not use the pipe')
    case 'no-server':
    case 'unknown':
      if (parameter !== 'absent') return good('the kernel calls the helper, so the pipe is not needed')
      if (!moduleLoaded && serving === undefined) return good('nfsd is not loaded, and no pipe is there yet')
      if (serving === undefined && nfsdcldRuns()) return good('nfsdcld waits for the pipe')
      if (serving === undefined)
        return wrong(
          'this kernel calls no helper, and no serve is waiting for its pipe',
          'When its server starts, the kernel waits about one second until a process holds the pipe, and never again.',
          installServe,
        )
      return pipefs.mounted
        ? good(sayTracker(tracker))
        : wrong(
            `serve is waiting, but no rpc_pipefs is mounted at ${quote(pipefs.path)}`,
            'Without it there is no pipe.',
            `mount -t rpc_pipefs sunrpc ${pipefs.path}`,
          )
    default:
      return kind satisfies never
  }
}

/** Clients that serve could not record, and clients that the pipe can't keep. */
export function pipeClients({ tracker, kernel }: Site): Said {
  const { kind, serving } = tracker
  if (kind !== 'pipe') return good('no clients come through the pipe')
  if (serving !== undefined && serving.notRecorded.length > 0)
    return wrong(
      `the records of ${counted(serving.notRecorded.length, 'client')} can't be written`,
      oneLine`
        The kernel asks only once, so serve keeps trying. Repair the state directory: until then these clients can not
        reclaim after a restart.
      `,
      'nfsd-userland-helper doctor --expect-recovery',
    )
  const old = kernel.live === 'unknown' ? [] : kernel.live.clients.filter(({ minorVersion }) => minorVersion === 0)
  const [first] = old
  if (first !== undefined && forgetsVersion40(tracker))
    return doubtful(
      oneLine`
        ${counted(old.length, 'NFSv4.0 client')} will lose locks at the second restart from now:
        ${showOwner(first.owner)}${old.length > 1 ? ` and ${old.length - 1} more` : ''}
      `,
      oneLine`
        Through the pipe the kernel does not report that an NFSv4.0 client has reclaimed, so the client is not recorded
        again. This is so with nfsdcld too. Mount with NFSv4.1 or later.
      `,
    )
  if ((serving?.named ?? 0) > longList)
    return doubtful(
      `the kernel was told ${serving?.named ?? 0} clients`,
      oneLine`
        With more than ${longList} clients, newer kernels need seconds to minutes to read the list, and the server
        waits. Drop clients that are gone for good: nfsd-userland-helper prune.
      `,
    )
  return good('all clients that came through the pipe are recorded')
}
