/**
 * Names in the run directory. Each contains the digest of a state directory's real path, so each state directory has
 * its own, under any spelling and whether or not it is mounted.
 */
import { storageFailure } from '../failure.ts'
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'

/**
 * Makes the run directory, for our own user alone.
 * @throws Failed, if others could write to it: they could remove a mark, or invent what `serve` has left to do.
 */
export function makeRunDirectory(runDirectory: string, anywhere: Directory): void {
  if (files.makeDirectory(runDirectory, anywhere)) return
  const why = files.whyNotOursAt(runDirectory, anywhere)
  if (why !== undefined) throw storageFailure(why)
}

/** The mark of a start (untracked.ts). @param stateDirectory undefined, if the configuration could not be read */
export const startMark = (runDirectory: string, stateDirectory: string | undefined, anywhere: Directory): string =>
  `${runDirectory}/${stateDirectory === undefined ? 'unknown-directory' : digestOf(stateDirectory, anywhere)}`

/** Paths of the files of `serve`. */
export interface ServeFiles {
  /** For people. */
  readonly status: string
  /** The replies that it is about to give. */
  readonly replies: string
  /** What it could not do. */
  readonly unfinished: string
  readonly lock: string
}

export function serveFiles(runDirectory: string, stateDirectory: string, anywhere: Directory): ServeFiles {
  const base = `${runDirectory}/serve-${digestOf(stateDirectory, anywhere)}`
  return {
    status: `${base}.json`,
    replies: `${base}.replies`,
    unfinished: `${base}.unfinished`,
    lock: `${base}.lock`,
  }
}

const digestOf = (path: string, anywhere: Directory): string => anywhere.calls.sha256(realPathOf(path, anywhere))

/** As many as the kernel follows (path_resolution(7)). */
const mostLinks = 40

/**
 * A path with its links resolved. Nothing is opened for this, so the answer is the same when the path leads nowhere at
 * the moment: its disk is not mounted, or fails, or no descriptor is left. Marks are made for such moments.
 */
function realPathOf(path: string, anywhere: Directory): string {
  let real = ''
  const rest = path.split('/').reverse()
  for (let links = 0; ;) {
    const part = rest.pop()
    if (part === undefined) return real === '' ? '/' : real
    if (part === '' || part === '.') continue
    if (part === '..') {
      real = real.slice(0, Math.max(0, real.lastIndexOf('/')))
      continue
    }
    const target = links < mostLinks ? linkOrNot(`${real}/${part}`, anywhere) : undefined
    if (target === undefined) real = `${real}/${part}`
    else {
      links++
      if (target.startsWith('/')) real = ''
      rest.push(...target.split('/').reverse())
    }
  }
}

/** A mark must have a name even if the disk is broken: that is when marks are made. */
function linkOrNot(path: string, anywhere: Directory): string | undefined {
  try {
    return files.readLink(path, anywhere)
  } catch {
    return undefined
  }
}
