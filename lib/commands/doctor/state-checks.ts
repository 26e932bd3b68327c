/**
 * Checks whether the records are on storage that keeps them, whether there is space for more, and whether they can be
 * understood.
 */
import fs from 'node:fs'
import { dirname } from 'node:path'
import { errorCode } from '../../failure.ts'
import { sinceStart } from '../../settings/last-start.ts'
import { isMarked } from '../../store/untracked.ts'
import { hasLegacyRecords, legacyTopIn, usualTop } from '../../store/v4recovery.ts'
import * as files from '../../syscalls/files.ts'
import { counted, oneLine, quote } from '../../text.ts'
import type { Context } from '../shared/context.ts'
import { nodePath } from '../shared/print.ts'
import type { Oddity } from '../shared/recorded-clients.ts'
import { sayCutShort } from '../shared/view.ts'
import { doubtful, good, unknown, wrong, type Said } from './finding.ts'
import { hasJournal, mountOf } from './mounts.ts'
import { shellWord, type Site } from './site.ts'

const restart = 'systemctl restart nfs-server.service'

/** Checks our section of nfs.conf. The kernel passes no options, so upcalls depend on it. */
export function configuration({ settings }: Site): Said {
  if (settings.complaints.length > 0)
    return wrong(
      `in the configuration: ${settings.complaints.join('; ')}`,
      oneLine`
        The program ignores what it does not understand. If that line should name the state directory, upcalls use
        another directory than you expect.
      `,
      '$EDITOR /etc/nfs.conf',
    )
  const { changed } = sinceStart(settings.calls, settings)
  return changed === undefined
    ? good('the configuration can be understood')
    : wrong(
        changed,
        'The next start of the NFS server uses the configuration as it is now. Commands for people use it already.',
        '$EDITOR /etc/nfs.conf',
      )
}

export function stateDirectoryIsOurs({ settings: { calls, stateDirectory: path }, survey }: Site): Said {
  const word = shellWord(path)
  switch (files.kindAt(path, files.anywhere(calls))) {
    case 'absent':
      return wrong(
        `the state directory ${quote(path)} does not exist`,
        oneLine`
          The next start of the NFS server creates it. If it should be on a disk of its own, that disk is not mounted.
          To use another directory, set state-dir in nfs.conf's section [nfsd-userland-helper].
        `,
        `mkdir -p -m 755 ${word}`,
      )
    case 'other':
      return wrong(
        `the state directory ${quote(path)} is not a directory`,
        'No client can be recorded, and none may reclaim.',
        `mv ${word} ${shellWord(`${path}.old`)} && mkdir -m 755 ${word}`,
      )
  }
  if ('failed' in survey)
    return wrong(
      survey.failed,
      oneLine`
        Any user who can write records decides who may reclaim. So 'v4clients' must belong to root alone, or nothing in
        it counts.
      `,
      `chown root:root ${shellWord(`${path}/v4clients`)} && chmod 700 ${shellWord(`${path}/v4clients`)}`,
    )
  for (const directory of [path, survey.state.clientsPath])
    try {
      if (fs.existsSync(nodePath(directory))) fs.accessSync(nodePath(directory), fs.constants.W_OK)
    } catch (thrown) {
      const readOnly = errorCode(thrown) === 'EROFS'
      return wrong(
        oneLine`
          ${quote(directory)} can't be written: ${readOnly ? 'its file system is read-only' : String(errorCode(thrown))}
        `,
        oneLine`
          No client can be recorded. If a client leaves or grace ends before this is repaired, no client may reclaim
          after the next start.
        `,
        readOnly
          ? `mount -o remount,rw ${shellWord(mountOf(path)?.point ?? path)}`
          : `chattr -i ${shellWord(directory)}`,
      )
    }
  return good(`the state directory is ${quote(path)}`)
}

/** The nearest directory that exists: a missing state directory will be made below it. */
function nearest({ calls, stateDirectory }: Context): string {
  let path = stateDirectory
  while (files.kindAt(path, files.anywhere(calls)) !== 'directory') path = dirname(path)
  return path
}

const inMemory = ['tmpfs', 'ramfs', 'overlay', 'rootfs', 'devtmpfs']
const withoutJournal = ['ext2', 'vfat', 'msdos', 'exfat', 'ntfs', 'ntfs3', 'minix']
const remote = ['nfs', 'nfs4', 'cifs', 'smb3', '9p', 'ceph', 'fuse.sshfs']

export function storage({ settings }: Site): Said {
  const mount = mountOf(nearest(settings))
  if (mount === undefined)
    return unknown("the state directory's mount was not found", 'It shows whether records are durable.')
  const where = `the state directory is on ${mount.type}, mounted at ${quote(mount.point)}`
  const move = "set state-dir in nfs.conf's section [nfsd-userland-helper] to a directory on a local disk"
  if (inMemory.includes(mount.type))
    return wrong(
      where,
      'Its contents do not outlast the machine (or the container): after a reboot no client may reclaim.',
      move,
    )
  if (withoutJournal.includes(mount.type))
    return wrong(
      where,
      oneLine`
        That file system has no journal. A power cut may lose records that were acknowledged, or bring back records of
        clients that are gone.
      `,
      move,
    )
  if (mount.type === 'ext4' && hasJournal(mount) === false)
    return wrong(
      `${where}, which has no journal`,
      'A power cut may lose records that were acknowledged, or bring back records of clients that are gone.',
      'with the file system unmounted: tune2fs -O has_journal DEVICE',
    )
  if (remote.includes(mount.type))
    return wrong(where, 'The NFS server can not answer its clients while that other server is down.', move)
  if (mount.options.has('nobarrier') || mount.options.has('barrier=0'))
    return wrong(
      `${where} without write barriers`,
      'The disk may reorder writes, so a power cut may lose records that were acknowledged.',
      `mount -o remount,barrier=1 ${shellWord(mount.point)}`,
    )
  return good(where)
}

/** The most that a record takes: an inode, and its part of a directory's block. */
const bytesPerRecord = 1024
const bytesForAnInstance = 1 << 20
const fewestClients = 1000

export function freeSpace({ settings, survey }: Site): Said {
  const { bavail, bsize, ffree, files: inodes } = fs.statfsSync(nodePath(nearest(settings)))
  const known = 'failed' in survey ? 0 : survey.records
  const needed = Math.max(fewestClients, known)
  const free = bavail * bsize
  const why = oneLine`
    Known clients may reclaim without free space. But no new client can be recorded, and no new server instance can
    start.
  `
  const mend = `du -xh ${shellWord(mountOf(nearest(settings))?.point ?? settings.stateDirectory)} | sort -h | tail`
  if (inodes > 0 && ffree < needed)
    return wrong(`${ffree} inodes are free where the records are kept; ${needed} new clients need as many`, why, mend)
  const neededBytes = bytesForAnInstance + needed * bytesPerRecord
  const kib = (bytes: number): number => Math.floor(bytes / 1024)
  if (free < neededBytes)
    return wrong(
      `${kib(free)} KiB are free where the records are kept; ${needed} new clients need ${kib(neededBytes)}`,
      why,
      mend,
    )
  const byBytes = Math.floor(free / bytesPerRecord)
  return good(`there is room for ${inodes > 0 ? Math.min(ffree, byBytes) : byBytes} more clients`)
}

/** Checks that there are only records that can be understood. */
export function records({ survey }: Site): Said {
  if ('failed' in survey) return unknown("the records can't be examined", survey.failed)
  const of = (...kinds: readonly Oddity['kind'][]): Found => {
    const found = kinds.flatMap((kind) => survey.oddities.get(kind) ?? [])
    return { count: found.reduce((sum, { count }) => sum + count, 0), some: found.flatMap(({ some }) => some) }
  }
  // boot_time and new_boot_time count only in format 1. They come first in the examples.
  const unreadable = of('damaged')
  const [views, some] = parted(
    unreadable.some,
    (oddity) => survey.instance.kind !== 'damaged' && oddity.in === 'state directory',
  )
  const damaged = { count: unreadable.count - views.length, some }
  if (damaged.count > 0)
    return wrong(
      `${counted(damaged.count, 'entry', 'entries')} can't be understood: ${examples(damaged)}`,
      oneLine`
        Such entries let no client reclaim. Their clients lose their locks at the next start, unless they are recorded
        again before.
      `,
      'nfsd-userland-helper verify --repair',
    )
  const missing = of('missing')
  if (missing.count > 0)
    return wrong(
      `missing: ${examples(missing)}`,
      oneLine`
        It was removed under the running server, and the records in it are lost. The next client that is recorded
        creates it again.
      `,
      restart,
    )
  const strange = of('stray', 'open', 'leftover')
  if (strange.count > 0)
    return doubtful(
      `${counted(strange.count, 'entry does', 'entries do')} not belong among the records: ${examples(strange)}`,
      'They are ignored. A later start removes what a killed upcall left; files of other programs do not belong here.',
      'nfsd-userland-helper verify --repair',
    )
  if (views.length > 0)
    return doubtful(
      oneLine`
        ${counted(views.length, 'file', 'files')} for people can't be understood:
        ${examples({ count: views.length, some: views })}
      `,
      'They decide nothing. They are written again at the next start and at the end of its grace.',
      'nfsd-userland-helper verify --repair',
    )
  const aside = of('set-aside')
  if (aside.count > 0)
    return doubtful(
      `${counted(aside.count, 'entry was', 'entries were')} set aside earlier as damaged: ${examples(aside)}`,
      'They have no effect, and are kept as evidence. Find out what damaged them, then remove them.',
      `rm -r ${shellWord(`${survey.state.clientsPath}/damaged`)}`,
    )
  return good(`${counted(survey.records, 'record', 'records')}, none damaged`)
}

function parted<T>(all: readonly T[], which: (one: T) => boolean): [T[], T[]] {
  return [all.filter(which), all.filter((one) => !which(one))]
}

interface Found {
  readonly count: number
  readonly some: readonly Oddity[]
}

function examples({ count, some }: Found): string {
  const named = some.slice(0, 3).map(({ path, why }) => `${quote(path)} (${why})`)
  return [...named, ...(count > named.length ? [`and ${count - named.length} more`] : [])].join(', ')
}

/** Checks that the server instance is recorded, can be read, and is the one that runs. */
export function instance({ survey, kernel, settings: { calls, stateDirectory, runDirectory } }: Site): Said {
  const isUntracked =
    'failed' in survey
      ? isMarked({ anywhere: files.anywhere(calls), runDirectory, path: stateDirectory })
      : survey.untracked
  if (isUntracked)
    return wrong(
      'not all that the NFS server did could be recorded',
      oneLine`
        Its start, a client that left, or the end of its grace period could not be written. So locks may have been
        granted of which there is no record, and no client may reclaim after the next start. Before you restart the
        server, repair the state directory, and let the clients close their files, or they lose their locks.
      `,
      restart,
    )
  if ('failed' in survey) return unknown('the server instance is not known', survey.failed)
  const { instance: current, cutShort } = survey
  if (cutShort.length > 0)
    return doubtful(
      `${counted(cutShort.length, 'upcall was', 'upcalls were')} cut short`,
      oneLine`
        ${sayCutShort(cutShort)} An upcall ends itself if its disk does not answer for 45 seconds: see
        whether the disk of the state directory hangs, or its file system was frozen.
      `,
      'nfsd-userland-helper status',
    )
  switch (current.kind) {
    case 'damaged':
      return wrong(
        `${current.file} can't be understood, ${current.why}`,
        'Until the next start no client may reclaim, and none is recorded.',
        restart,
      )
    case 'none':
      return kernel.runningSeconds === undefined
        ? doubtful(
            'no server instance has been recorded yet',
            oneLine`
              The first start of the NFS server with this program records one.
              ${
                survey.records > 0
                  ? `After it ${counted(survey.records, 'client')} may reclaim that were recorded before.`
                  : 'Clients can reclaim from the second start on.'
              }
            `,
            restart,
          )
        : wrong(
            'the NFS server runs, but no server instance is recorded',
            oneLine`
              The kernel did not call this program when its server started, or the records were removed since. Clients
              that are not recorded can't reclaim after the next start.
            `,
            restart,
          )
    case 'partial':
      return kernel.grace === 'over'
        ? wrong(
            `the kernel's grace is over, but instance ${current.start} is still in grace`,
            oneLine`
              The upcall that ends grace failed, or was never made. The next upcall ends it. If the server restarts
              before that, clients could reclaim that must not.
            `,
            'nfsd-userland-helper grace_done',
          )
        : good(`server instance ${current.start} is in grace`)
    case 'full':
      return good(`server instance ${current.start} is recorded, its grace is over`)
    default:
      return current satisfies never
  }
}

/** Finds directories of the kernel's own tracker, each of which lets its client reclaim once more. */
export function leftovers({ settings: { calls, stateDirectory }, survey }: Site): Said {
  const tops = [...new Set([legacyTopIn(stateDirectory), usualTop])].filter((top) =>
    hasLegacyRecords(top, files.anywhere(calls)),
  )
  if (tops.length === 0) return good("the kernel's own tracker has left nothing behind")
  const what = `the kernel's own tracker has left clients in ${tops.map(quote).join(' and ')}`
  const kind = 'failed' in survey ? 'none' : survey.instance.kind
  if (kind === 'partial')
    return doubtful(what, 'They may reclaim in this grace period. At its end the rest is removed.')
  if (kind === 'none')
    return doubtful(
      what,
      oneLine`
        This is correct when you change from it to this program: they may reclaim after the next start, and the rest is
        removed then.
      `,
    )
  return wrong(
    what,
    'Each would let its client reclaim in a later grace period, even if it left long ago. Data can be corrupted.',
    tops.map((top) => `rmdir ${shellWord(top)}/*`).join(' && '),
  )
}
