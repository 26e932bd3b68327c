/** That the records are kept where they last, that there is room for more, and that what is there can be understood. */
import { dirname } from 'node:path'
import { counted, errorCode, quote } from '../../failure.ts'
import fs from 'node:fs'
import { sinceStart } from '../../settings/last-start.ts'
import { nodePath } from '../shared/print.ts'
import * as disk from '../../syscalls/files.ts'
import { hasLegacyRecords, legacyTopIn, usualTop } from '../../store/v4recovery.ts'
import { ranUntracked } from '../../store/untracked.ts'
import type { Context } from '../shared/context.ts'
import type { Oddity } from '../shared/survey.ts'
import { doubtful, good, unknown, wrong, type Said } from './finding.ts'
import { hasJournal, mountOf } from './mounts.ts'
import { shellWord, type Site } from './site.ts'

const restart = 'systemctl restart nfs-server.service'

/** nfs.conf, as far as it is ours: the kernel passes no options, so it is what upcalls go by. */
export function configuration({ settings }: Site): Said {
  if (settings.complaints.length > 0)
    return wrong(
      `in the configuration: ${settings.complaints.join('; ')}`,
      'What is not understood is ignored: if it should say where the state directory is, upcalls look in another place than you think.',
      '$EDITOR /etc/nfs.conf',
    )
  const { changed } = sinceStart(settings.calls, settings)
  return changed === undefined
    ? good('the configuration can be understood')
    : wrong(
        changed,
        'The next start of the NFS server goes by the configuration as it is now. Commands for people do already.',
        '$EDITOR /etc/nfs.conf',
      )
}

export function stateDirectoryIsOurs({ settings: { calls, stateDirectory: path }, survey }: Site): Said {
  const word = shellWord(path)
  switch (disk.kindAt(path, disk.anywhere(calls))) {
    case 'absent':
      return wrong(
        `the state directory ${quote(path)} does not exist`,
        "The next start of the NFS server makes it. If it should be on a disk of its own, that is not mounted. To use another one: state-dir in nfs.conf's section [nfsd-userland-helper].",
        `mkdir -p -m 755 ${word}`,
      )
    case 'other':
      return wrong(
        `the state directory ${quote(path)} is not a directory`,
        'Nothing can be recorded, and nobody may reclaim.',
        `mv ${word} ${shellWord(`${path}.old`)} && mkdir -m 755 ${word}`,
      )
  }
  if ('failed' in survey)
    return wrong(
      survey.failed,
      "Whoever may write records decides who may reclaim: so 'v4clients' has to belong to root alone, or nothing in it counts.",
      `chown root:root ${shellWord(`${path}/v4clients`)} && chmod 700 ${shellWord(`${path}/v4clients`)}`,
    )
  for (const directory of [path, survey.state.clientsPath])
    try {
      if (fs.existsSync(nodePath(directory))) fs.accessSync(nodePath(directory), fs.constants.W_OK)
    } catch (thrown) {
      const readOnly = errorCode(thrown) === 'EROFS'
      return wrong(
        `${quote(directory)} can't be written: ${readOnly ? 'its file system is read-only' : String(errorCode(thrown))}`,
        'No client can be recorded, and an end of grace can not be kept: after the next start clients could reclaim that must not.',
        readOnly
          ? `mount -o remount,rw ${shellWord(mountOf(path)?.point ?? path)}`
          : `chattr -i ${shellWord(directory)}`,
      )
    }
  return good(`the state directory is ${quote(path)}`)
}

/** The nearest directory that is there: a missing state directory is made below it. */
function nearest({ calls, stateDirectory }: Context): string {
  let path = stateDirectory
  while (disk.kindAt(path, disk.anywhere(calls)) !== 'directory') path = dirname(path)
  return path
}

const inMemory = ['tmpfs', 'ramfs', 'overlay', 'rootfs', 'devtmpfs']
const withoutJournal = ['ext2', 'vfat', 'msdos', 'exfat', 'ntfs', 'ntfs3', 'minix']
const remote = ['nfs', 'nfs4', 'cifs', 'smb3', '9p', 'ceph', 'fuse.sshfs']

export function storage({ settings }: Site): Said {
  const mount = mountOf(nearest(settings))
  if (mount === undefined)
    return unknown("the state directory's mount can't be found", 'It tells whether records last.')
  const where = `the state directory is on ${mount.type}, mounted at ${quote(mount.point)}`
  const move = "set state-dir in nfs.conf's section [nfsd-userland-helper] to a directory on a local disk"
  if (inMemory.includes(mount.type))
    return wrong(
      where,
      'What is there does not outlast the machine (or the container): after a reboot no client may reclaim.',
      move,
    )
  if (withoutJournal.includes(mount.type))
    return wrong(
      where,
      'That file system has no journal: a power cut may lose records that were promised, or bring back those of clients that are gone.',
      move,
    )
  if (mount.type === 'ext4' && hasJournal(mount) === false)
    return wrong(
      `${where}, which has no journal`,
      'A power cut may lose records that were promised, or bring back those of clients that are gone.',
      'with the file system unmounted: tune2fs -O has_journal DEVICE',
    )
  if (remote.includes(mount.type))
    return wrong(
      where,
      'An NFS server that waits for another server cannot answer its clients while that one is away.',
      move,
    )
  if (mount.options.has('nobarrier') || mount.options.has('barrier=0'))
    return wrong(
      `${where} without write barriers`,
      'The disk may reorder writes, so a power cut may lose records that were promised.',
      `mount -o remount,barrier=1 ${shellWord(mount.point)}`,
    )
  return good(where)
}

/** What a record takes, at most: an inode, and its part of a directory's block. */
const bytesPerRecord = 1024
const bytesForAnInstance = 1 << 20
const fewestClients = 1000

export function freeSpace({ settings, survey }: Site): Said {
  const { bavail, bsize, ffree, files } = fs.statfsSync(nodePath(nearest(settings)))
  const known = 'failed' in survey ? 0 : survey.records
  const needed = Math.max(fewestClients, known)
  const free = bavail * bsize
  const why =
    'A known client is not refused for want of space, but a new one can not be recorded, nor a new server instance started.'
  const mend = `du -xh ${shellWord(mountOf(nearest(settings))?.point ?? settings.stateDirectory)} | sort -h | tail`
  if (files > 0 && ffree < needed)
    return wrong(`${ffree} inodes are free where the records are kept; ${needed} new clients take as many`, why, mend)
  if (free < bytesForAnInstance + needed * bytesPerRecord)
    return wrong(
      `${Math.floor(free / 1024)} KiB are free where the records are kept; ${needed} new clients take ${Math.ceil((bytesForAnInstance + needed * bytesPerRecord) / 1024)}`,
      why,
      mend,
    )
  return good(
    `there is room for ${files > 0 ? Math.min(ffree, Math.floor(free / bytesPerRecord)) : Math.floor(free / bytesPerRecord)} more clients`,
  )
}

/** Nothing but records that can be understood. */
export function records({ survey }: Site): Said {
  if ('failed' in survey) return unknown("the records can't be looked at", survey.failed)
  const of = (...kinds: readonly Oddity['kind'][]): Found => {
    const found = kinds.flatMap((kind) => survey.oddities.get(kind) ?? [])
    return { count: found.reduce((sum, { count }) => sum + count, 0), some: found.flatMap(({ some }) => some) }
  }
  // boot_time and its like count only as long as format 1 has not been taken over. They are looked at first.
  const unreadable = of('damaged')
  const [views, some] = parted(
    unreadable.some,
    (oddity) => survey.instance.kind !== 'damaged' && oddity.in === 'state directory',
  )
  const damaged = { count: unreadable.count - views.length, some }
  if (damaged.count > 0)
    return wrong(
      `${counted(damaged.count, 'entry', 'entries')} can't be understood: ${examples(damaged)}`,
      'What can not be understood lets nobody reclaim. Its clients lose their locks at the next start, unless they are recorded anew.',
      'nfsd-userland-helper verify --repair',
    )
  const missing = of('missing')
  if (missing.count > 0)
    return wrong(
      `missing: ${examples(missing)}`,
      'Somebody has removed it under the running server. The records in it are lost; the next client that is recorded makes it anew.',
      restart,
    )
  const strange = of('stray', 'open', 'leftover')
  if (strange.count > 0)
    return doubtful(
      `${counted(strange.count, 'entry does', 'entries do')} not belong among the records: ${examples(strange)}`,
      "Nothing looks at them. What a killed upcall left is swept by a later start; what is not this program's is nobody's business here.",
      'nfsd-userland-helper verify --repair',
    )
  if (views.length > 0)
    return doubtful(
      `${counted(views.length, 'file', 'files')} for people can't be understood: ${examples({ count: views.length, some: views })}`,
      'Nothing is decided by them. They are written anew at the next start and at the end of its grace.',
      'nfsd-userland-helper verify --repair',
    )
  const aside = of('set-aside')
  if (aside.count > 0)
    return doubtful(
      `${counted(aside.count, 'entry was', 'entries were')} set aside earlier because it could not be understood: ${examples(aside)}`,
      'They mean nothing any more, and are kept as evidence. Find out what damaged them, then remove them.',
      `rm -r ${shellWord(`${survey.state.clientsPath}/damaged`)}`,
    )
  return good(`${counted(survey.records, 'record', 'records')}, all of which can be understood`)
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

/** The server instance: recorded, known, and the one that runs. */
export function instance({ survey, kernel, settings: { calls, stateDirectory, runDirectory } }: Site): Said {
  if (ranUntracked({ anywhere: disk.anywhere(calls), runDirectory, path: stateDirectory }))
    return wrong(
      'the NFS server was started, and that could not be recorded',
      'It runs without a tracker. Since it may have granted locks that nobody recorded, nobody may reclaim after the next start. Mend the state directory first.',
      restart,
    )
  if ('failed' in survey) return unknown("the server instance can't be told", survey.failed)
  const { instance: current } = survey
  switch (current.kind) {
    case 'damaged':
      return wrong(
        `${current.file} can't be understood, ${current.why}`,
        'Until the next start nobody may reclaim, and no client is recorded.',
        restart,
      )
    case 'none':
      return kernel.runningSeconds === undefined
        ? doubtful(
            'no server instance has been recorded yet',
            'The first start of the NFS server with this helper does that. Clients can reclaim from the second on.',
            restart,
          )
        : wrong(
            'the NFS server runs, and no server instance is recorded',
            "The kernel has not called this program when it started, or the records are gone since. Its clients can't reclaim after the next start unless they are recorded.",
            restart,
          )
    case 'partial':
      return kernel.grace === 'over'
        ? wrong(
            `the kernel has left grace, and instance ${current.start} is still in it`,
            'The upcall that ends grace failed or was never made. The next upcall does it; if the server is restarted before, clients could reclaim that must not.',
            'nfsd-userland-helper grace_done',
          )
        : good(`server instance ${current.start} is in grace`)
    case 'full':
      return good(`server instance ${current.start} is recorded, its grace is over`)
    default:
      return current satisfies never
  }
}

/** Directories of the kernel's own tracker, each of which lets its client reclaim once more. */
export function leftovers({ settings: { calls, stateDirectory }, survey }: Site): Said {
  const tops = [...new Set([legacyTopIn(stateDirectory), usualTop])].filter((top) =>
    hasLegacyRecords(top, disk.anywhere(calls)),
  )
  if (tops.length === 0) return good("nothing is left of the kernel's own tracker")
  const what = `the kernel's own tracker has left clients in ${tops.map(quote).join(' and ')}`
  const kind = 'failed' in survey ? 'none' : survey.instance.kind
  if (kind === 'partial')
    return doubtful(what, 'They may reclaim in this grace period, and what is left is removed at its end.')
  if (kind === 'none')
    return doubtful(
      what,
      'That is right when you change from it to this program: they may reclaim after the next start, and what is left then is removed.',
    )
  return wrong(
    what,
    'Each would let its client reclaim in a later grace period, however long it has been gone: data can be corrupted.',
    tops.map((top) => `rmdir ${shellWord(top)}/*`).join(' && '),
  )
}
