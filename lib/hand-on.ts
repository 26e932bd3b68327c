/**
 * What the executable does with words that are no upcall. The commands for people are a script for Node, so this
 * process becomes Node, with that script and the same words (execve(2)).
 */
import { bytesOf } from './bytes.ts'
import { Failed, failureFrom } from './failure.ts'
import { openLog } from './kernel/log.ts'
import { asksForForeground, asksForHelp, parseWords } from './settings/options.ts'
import { atFlags, type Calls } from './syscalls/calls.ts'
import { namesOf } from './syscalls/files.ts'
import type { Host } from './syscalls/host.ts'

declare const programVersion: string

const script = 'people.cjs'
/** Where `install` and the packages put the script, if it is not beside the executable. */
const libraries = ['/usr/lib/nfsd-userland-helper', '/usr/local/lib/nfsd-userland-helper']
/** Where to look for Node if it is not on PATH. The kernel sets no PATH. */
const usualDirectories = ['/usr/bin', '/usr/local/bin']

/** Does not return if Node takes over. @returns the exit status, after a message, if the script or Node is missing. */
export function handOn(host: Host): number {
  const { calls } = host
  const [word, more] = host.words
  if (more === undefined && (word === '--version' || word === '-V')) {
    calls.write(1, bytesOf(`${programVersion} (QuickJS-ng ${host.engine})\n`))
    return 0
  }
  const own = ownPath(calls)
  const scripts = scriptsAt(calls, own)
  for (const path of scripts) for (const node of nodes(host)) host.handOn(node, path, own)
  const foreground = asksForForeground(host.words)
  try {
    const verb = asksForHelp(host.words) ? '--help' : parseWords(host.words).verb
    if (verb === undefined && word === undefined)
      throw new Failed({ kind: 'bad-argument', why: 'no verb given; see --help' })
    const missing =
      scripts.length === 0
        ? `the scripts of this program (${script}), which are neither beside it nor in ${libraries.join(' or ')}`
        : 'Node, which is not on this machine: install the package nodejs'
    throw new Failed({ kind: 'not-here', word: verb ?? word ?? '', missing })
  } catch (thrown) {
    return openLog(calls, { foreground, debug: false, typed: true }).failed(failureFrom(thrown))
  }
}

function ownPath(calls: Calls): string {
  const path = calls.readlinkat(atFlags.AT_FDCWD, '/proc/self/exe')
  return typeof path === 'string' ? path : 'nfsd-userland-helper'
}

function scriptsAt(calls: Calls, own: string): string[] {
  return [own.slice(0, Math.max(0, own.lastIndexOf('/'))), ...libraries]
    .map((directory) => `${directory}/${script}`)
    .filter((path) => isFile(calls, path))
}

/**
 * Node's executables: first those on PATH, then those in the usual directories. There, one without a number in its
 * name, which is the distribution's choice, comes first, then the newest.
 */
function nodes({ calls, environment }: Host): string[] {
  const onPath = (environment['PATH'] ?? '').split(':').filter((directory) => directory.startsWith('/'))
  return [
    ...onPath.map((directory) => `${directory}/node`).filter((path) => isFile(calls, path)),
    ...usualDirectories
      .flatMap((directory) => nodesIn(calls, directory))
      .sort((a, b) => b.version - a.version)
      .map(({ path }) => path),
  ]
}

function nodesIn(calls: Calls, directory: string): { readonly path: string; readonly version: number }[] {
  const descriptor = calls.openat(atFlags.AT_FDCWD, directory, calls.flags.O_RDONLY | calls.flags.O_DIRECTORY, 0)
  const found: { path: string; version: number }[] = []
  for (
    let entries = calls.entries(descriptor);
    typeof entries !== 'number' && entries !== '';
    entries = calls.entries(descriptor)
  )
    for (const name of namesOf(entries)) {
      const [, version] = /^node(?:js)?(?:-?(\d+))?$/.exec(name) ?? []
      if (/^node(?:js)?(?:-?\d+)?$/.test(name))
        found.push({ path: `${directory}/${name}`, version: version === undefined ? Infinity : Number(version) })
    }
  calls.close(descriptor)
  return found
}

function isFile(calls: Calls, path: string): boolean {
  const status = calls.fstatat(atFlags.AT_FDCWD, path, 0)
  return typeof status !== 'number' && status.kind === 'file'
}
