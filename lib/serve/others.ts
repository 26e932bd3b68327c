/**
 * Finds other programs that would answer. Two programs that hold one pipe split its messages. Two that hold different
 * pipes must not write to one state directory: it would mix the instances of two servers.
 *
 * This runs before the process gives up its rights: only root can see the descriptors of other processes.
 */
import { helperParameter } from '../kernel/nfsd-module.ts'
import { atFlags, type Calls, type Status } from '../syscalls/calls.ts'
import * as files from '../syscalls/files.ts'

const here = atFlags.AT_FDCWD

export interface Other {
  readonly process: number
  /** The process's own name, which it can choose: for messages only. */
  readonly name: string
}

/**
 * The first other process that holds the pipe. Only descriptors with the pipe's name are looked at: another file may be
 * on a server that does not answer, and the kernel waits for us.
 */
export const holderOf = (calls: Calls, pipe: Status): Other | undefined =>
  firstProcess(calls, (id) => {
    for (const name of namesIn(calls, `/proc/${id}/fd`)) {
      const text = calls.readlinkat(here, `/proc/${id}/fd/${name}`)
      if (typeof text === 'number' || !text.includes('/nfsd/cld')) continue
      const status = calls.fstatat(here, `/proc/${id}/fd/${name}`, 0)
      if (typeof status !== 'number' && status.inode === pipe.inode && status.device === pipe.device) return true
    }
    return false
  })

const looks = 6
const betweenLooksMs = 100

/**
 * Who is there at each of some looks, for half a second. A process that is being killed, or only looks into the file,
 * is soon gone, and to refuse because of it would leave the kernel without a tracker.
 */
export function whoStays(calls: Pick<Calls, 'sleep'>, look: () => Other | undefined): Other | undefined {
  let other = look()
  for (let more = looks - 1; other !== undefined && more > 0; more--) {
    calls.sleep(betweenLooksMs)
    other = look()
  }
  return other
}

/**
 * Names of the programs that open each new pipe: nfsdcld, and this one. The kernel cuts a name to 15 characters
 * (TASK_COMM_LEN).
 */
const trackers = ['nfsdcld', 'nfsd-userland-h']

/**
 * A process that watches the directory for a new pipe: it would open that pipe beside us. Any process can have such a
 * name and watch there, so only our own user's processes are looked at: others can't open the pipe.
 */
export function watcherOf(calls: Calls, directory: Status): Other | undefined {
  // The line of an inotify(7) descriptor in fdinfo (proc(5)).
  const watched = new RegExp(`^inotify wd:.* ino:${directory.inode.toString(16)} sdev:${sdevOf(directory)} `, 'm')
  const anywhere = files.anywhere(calls)
  const isOfOurUser = (id: string): boolean =>
    Number(/^Uid:\t\d+\t(\d+)/m.exec(files.beginningOf(`/proc/${id}/status`, anywhere) ?? '')?.[1]) === calls.userId()
  return firstProcess(
    calls,
    (id) =>
      trackers.includes(nameOf(calls, id)) &&
      isOfOurUser(id) &&
      namesIn(calls, `/proc/${id}/fdinfo`).some((name) =>
        watched.test(files.beginningOf(`/proc/${id}/fdinfo/${name}`, anywhere) ?? ''),
      ),
  )
}

/**
 * Whether the kernel uses our helper for a server that has started without `serve` (nfs4recover.c,
 * nfsd4_client_tracking_init). The helper keeps the same records, and notes itself what it could not record. Our
 * records do not have the clients of any other program, nor those of the kernel's own tracker.
 */
export function helperIsOurs(calls: Calls): boolean {
  const anywhere = files.anywhere(calls)
  const named = files.beginningOf(helperParameter, anywhere)?.replace(/\n$/, '') ?? ''
  return /\/nfsd-userland-helper(\.cjs)?$/.test(named) && files.exists(named, anywhere)
}

/**
 * A device's number as fdinfo prints it: the kernel's own (MKDEV), where stat(2) gives the one for programs
 * (new_encode_dev).
 */
function sdevOf({ device }: Status): string {
  const major = (device >> 8) & 0xfff
  const minor = (device & 0xff) | ((device >> 12) & 0xfff00)
  return ((major << 20) | minor).toString(16)
}

function firstProcess(calls: Calls, is: (id: string) => boolean): Other | undefined {
  const us = String(calls.processId())
  for (const id of namesIn(calls, '/proc'))
    if (/^[0-9]+$/.test(id) && id !== us && is(id)) return { process: Number(id), name: nameOf(calls, id) }
  return undefined
}

const nameOf = (calls: Calls, id: string): string =>
  (files.beginningOf(`/proc/${id}/comm`, files.anywhere(calls)) ?? '').trim()

/** The names in a directory; none, if its process has ended meanwhile. */
function namesIn(calls: Calls, path: string): string[] {
  const directory = calls.openat(here, path, calls.flags.O_RDONLY | calls.flags.O_DIRECTORY, 0)
  if (directory < 0) return []
  const names: string[] = []
  for (;;) {
    const entries = calls.entries(directory)
    if (typeof entries === 'number' || entries === '') break
    names.push(...files.namesOf(entries))
  }
  calls.close(directory)
  return names
}
