/**
 * Checks which users can replace the directories on the path to the records. Everything that decides is in `v4clients`,
 * which upcalls open once, and trust only if it belongs to root. So no other user can forge or redirect a record. But a
 * user who can write to a directory above it can rename `v4clients` away, and back again later. It also checks whether
 * upcalls can pass these directories. For the run directory it checks the same.
 */
import type { Stats } from 'node:fs'
import * as files from '../../syscalls/files.ts'
import { oneLine, quote } from '../../text.ts'
import { directoriesOnTheWay } from '../shared/inside.ts'
import { doubtful, good, wrong, type Said } from './finding.ts'
import { shellWord, type Site } from './site.ts'

const sticky = 0o1000

export function parentsAreOurs({ settings: { stateDirectory } }: Site): Said {
  const way = directoriesOnTheWay(stateDirectory)
  const closed = way.slice(0, -1).filter(({ stats }) => !rootMayPass(stats))
  const [own] = way.slice(-1)
  // If the state directory itself does not belong to root, an upcall keeps the capability to pass (host/confine.c).
  if (closed.length > 0 && own?.stats.uid === 0)
    return wrong(
      `upcalls can't pass ${named(closed.map(({ path }) => path))}, on the path to the records`,
      'They have no capability to, so each of them fails, and clients lose their locks when the server restarts.',
      `chmod o+x ${words(closed.map(({ path }) => path))}`,
    )
  return (
    othersOn(way, 'the path to the records', {
      can: oneLine`
        Such a user can not forge or redirect records. But the user can remove them, so that clients lose their locks,
        or put older ones back.
      `,
      owner: 'Older systems give /var/lib/nfs to statd, which needs it.',
      mend:
        "to be safe from that user, set state-dir in nfs.conf's section [nfsd-userland-helper] " +
        "to a directory of root's",
    }) ?? good('only root can replace the directories on the path to the records')
  )
}

/** The marks in the run directory say that no client may reclaim. Whoever can remove one can let clients reclaim. */
export function runDirectoryIsOurs({ settings: { calls, runDirectory } }: Site): Said {
  const can = oneLine`
    What could not be recorded is noted there, so that no client reclaims what another has had since. Such a user can
    remove these notes.
  `
  const status = files.lookAtName(runDirectory, files.anywhere(calls))
  if (status === undefined) return good('no start has made the run directory yet')
  const why = files.whyNotOursAt(runDirectory, files.anywhere(calls))
  if (why !== undefined)
    return wrong(
      why,
      `${can} So none is made there.`,
      status.kind === 'directory'
        ? `chown root:root ${words([runDirectory])} && chmod 755 ${words([runDirectory])}`
        : `rm ${words([runDirectory])}`,
    )
  return (
    othersOn(directoriesOnTheWay(runDirectory).slice(0, -1), 'the path to the run directory', {
      can,
      owner: '',
      mend: 'give these directories to root',
    }) ?? good('only root can change the notes in the run directory')
  )
}

/** @returns what other users can do to the directories on the way; undefined, if only root can write there */
function othersOn(
  way: readonly { readonly path: string; readonly stats: Stats }[],
  on: string,
  { can, owner, mend }: { readonly can: string; readonly owner: string; readonly mend: string },
): Said | undefined {
  const those = (which: (stats: Stats) => boolean): readonly string[] =>
    way.filter(({ stats }) => which(stats)).map(({ path }) => path)
  // In a sticky directory, other users can't remove or rename an entry that is not theirs.
  const everybodys = those(({ mode }) => (mode & 0o002) !== 0 && (mode & sticky) === 0)
  if (everybodys.length > 0)
    return wrong(
      `every user can write to ${named(everybodys)}, on ${on}`,
      `${can} Only root needs to write there.`,
      `chmod o-w ${words(everybodys)}`,
    )
  const groups = those(({ mode, gid }) => (mode & 0o020) !== 0 && gid !== 0 && (mode & sticky) === 0)
  if (groups.length > 0)
    return doubtful(`a group can write to ${named(groups)}, on ${on}`, can, `chmod g-w ${words(groups)}`)
  const others = way.filter(({ stats }) => stats.uid !== 0)
  if (others.length === 0) return undefined
  const owned = others.map(({ path, stats }) => `${quote(path)} belongs to another user (${stats.uid})`)
  return doubtful(`${owned.join(', and ')}, on ${on}`, `${can} ${owner}`.trim(), mend)
}

/** Whether root may pass without any capability: path_resolution(7). */
const rootMayPass = ({ uid, gid, mode }: Stats): boolean =>
  (mode & (uid === 0 ? 0o100 : gid === 0 ? 0o010 : 0o001)) !== 0

const named = (paths: readonly string[]): string => paths.map(quote).join(' and ')
const words = (paths: readonly string[]): string => paths.map(shellWord).join(' ')
