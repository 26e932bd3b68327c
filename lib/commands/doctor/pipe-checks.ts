/** The pipe: is it there, who answers at it, and what does it not keep (docs/kernels.md). */
import { counted, quote } from '../../failure.ts'
import { nfsdcldRuns } from '../shared/processes.ts'
import { longList } from '../../upcall/message.ts'
import { forgetsVersion40, sayHolders, sayTracker, strangersAt } from '../shared/tracker.ts'
import { showOwner } from '../../upcall/owner.ts'
import { doubtful, good, wrong, type Said } from './finding.ts'
import type { Site } from './site.ts'

const restart = 'systemctl restart nfs-server.service'
const installServe = `nfsd-userland-helper install --tracker=serve && ${restart}`

/** Somebody must hold the pipe before the server starts, and only one. */
export function pipe({ tracker, parameter, moduleLoaded }: Site): Said {
  const { kind, holders, serving, pipefs } = tracker
  const strangers = strangersAt(tracker)
  switch (kind) {
    case 'pipe':
      if (strangers.length > 0 && strangers.length < holders.length)
        return wrong(
          `the pipe is held by ${sayHolders(holders)}`,
          'Each message goes to one of them, so neither knows of all clients. End the other one.',
          `systemctl mask --now nfsdcld.service && ${restart}`,
        )
      if (strangers.length > 0)
        return wrong(
          `${sayHolders(strangers)} answers at the pipe, and no serve of this state directory`,
          'Recovery goes by its records, not by these.',
          installServe,
        )
      return holders.length > 0
        ? good(`the NFS server took ${sayTracker(tracker)}`)
        : wrong(
            'the NFS server has a pipe, and nobody holds it',
            'Whoever starts or stops the server, and each client that comes, waits for an answer, and after 30 s goes without.',
            'systemctl restart nfsd-userland-helper.service',
          )
    case 'none':
      return wrong(
        'the NFS server runs without a tracker',
        'Nobody held the pipe when it started, so none of its clients is recorded, and none may reclaim after its next start. Start serve before the server.',
        installServe,
      )
    case 'helper':
    case 'own':
      return good('the NFS server does not use the pipe')
    case 'no-server':
    case 'unknown':
      if (parameter !== 'absent') return good('the kernel calls the helper: its pipe is not needed')
      if (!moduleLoaded && serving === undefined) return good('nfsd is not loaded, and no pipe is there yet')
      if (serving === undefined && nfsdcldRuns()) return good('nfsdcld waits for the pipe')
      if (serving === undefined)
        return wrong(
          'this kernel calls no helper, and no serve waits for its pipe',
          'The kernel waits about a second for somebody at the pipe when its server starts, and never again.',
          installServe,
        )
      return pipefs.mounted
        ? good(sayTracker(tracker))
        : wrong(
            `serve waits, and no rpc_pipefs is mounted at ${quote(pipefs.path)}`,
            'Without it the pipe is not to be seen.',
            `mount -t rpc_pipefs sunrpc ${pipefs.path}`,
          )
    default:
      return kind satisfies never
  }
}

/** What serve could not do, and what the pipe can't tell. */
export function pipeClients({ tracker, kernel }: Site): Said {
  const { kind, serving } = tracker
  if (kind !== 'pipe') return good('no clients come by the pipe')
  if (serving !== undefined && serving.notRecorded.length > 0)
    return wrong(
      `the records of ${counted(serving.notRecorded.length, 'client')} can't be written`,
      'The kernel asks only once, so serve goes on trying: mend the state directory. Until then these clients could not reclaim after a restart.',
      'nfsd-userland-helper doctor --expect-recovery',
    )
  const old = kernel.live === 'unknown' ? [] : kernel.live.clients.filter(({ minorVersion }) => minorVersion === 0)
  const [first] = old
  if (first !== undefined && forgetsVersion40(tracker))
    return doubtful(
      `${counted(old.length, 'NFSv4.0 client')} will lose locks at the restart after next: ${showOwner(first.owner)}${old.length > 1 ? ` and ${old.length - 1} more` : ''}`,
      'The pipe does not tell that a client of NFSv4.0 has reclaimed, so it is not recorded anew, with nfsdcld neither. Mount with NFSv4.1 or later.',
    )
  if ((serving?.named ?? 0) > longList)
    return doubtful(
      `the kernel was told ${serving?.named ?? 0} clients`,
      `Above ${longList} newer kernels take seconds to minutes for the list, and the server waits. Take out who is gone for good: nfsd-userland-helper prune.`,
    )
  return good('what the pipe tells is recorded')
}
