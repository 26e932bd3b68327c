/**
 * Checks which users can replace the directories on the path to the records. Everything that decides is in `v4clients`,
 * which upcalls open once, and trust only if it belongs to root. So no other user can forge or redirect a record. But a
 * user who can write to a directory above it can rename `v4clients` away, and back again later. It also checks whether
 * upcalls can pass these directories.
 */
import type { Stats } from 'node:fs'
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
  const those = (which: (stats: Stats) => boolean): readonly string[] =>
    way.filter(({ stats }) => which(stats)).map(({ path }) => path)
  // In a sticky directory, other users can't remove or rename an entry that is not theirs.
  const everybodys = those(({ mode }) => (mode & 0o002) !== 0 && (mode & sticky) === 0)
  if (everybodys.length > 0)
    return wrong(
      `every user can write to ${named(everybodys)}, on the path to the records`,
      `${can} Only root needs to write there.`,
      `chmod o-w ${words(everybodys)}`,
    )
  const groups = those(({ mode, gid }) => (mode & 0o020) !== 0 && gid !== 0 && (mode & sticky) === 0)
  if (groups.length > 0)
    return doubtful(
      `a group can write to ${named(groups)}, on the path to the records`,
      can,
      `chmod g-w ${words(groups)}`,
    )
  const others = way.filter(({ stats }) => stats.uid !== 0)
  const owned = others.map(({ path, stats }) => `${quote(path)} belongs to another user (${stats.uid})`)
  if (others.length > 0)
    return doubtful(
      `${owned.join(', and ')}, on the path to the records`,
      `${can} Older systems give /var/lib/nfs to statd, which needs it.`,
      "to be safe from that user, set state-dir in nfs.conf's section [nfsd-userland-helper] to a directory of root's",
    )
  return good('only root can replace the directories on the path to the records')
}

/** Whether root may pass without any capability: path_resolution(7). */
const rootMayPass = ({ uid, gid, mode }: Stats): boolean =>
  (mode & (uid === 0 ? 0o100 : gid === 0 ? 0o010 : 0o001)) !== 0

const can = oneLine`
  Such a user can not forge or redirect records. But the user can remove them, so that clients lose their locks, or
  put older ones back.
`
const named = (paths: readonly string[]): string => paths.map(quote).join(' and ')
const words = (paths: readonly string[]): string => paths.map(shellWord).join(' ')
