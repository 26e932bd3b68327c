/**
 * Runs the most frequent upcalls once while the program is built, by Node and in a directory of their own, to find out
 * which functions each of them calls. pieces.ts cuts the program accordingly.
 */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import vm from 'node:vm'
import { mkdirpSync, removeSync } from 'fs-extra/esm'
import type { Calls } from '../syscalls/calls.ts'
import { nodeCalls } from '../syscalls/node.ts'

const ada = '616461'
const old = '6f6c64'
const eve = '657665'
const gone = '676f6e65'

interface Act {
  readonly words: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  /** The kind of upcall that this is an example of. */
  readonly shows: string
  readonly status?: number
}

const start = (time: string, shows = 'start'): Act => ({
  words: ['init'],
  environment: { NFSDCLTRACK_GRACE_START: time },
  shows,
})
const create = (owner: string, time: string, session = 'Y', shows = 'create'): Act => ({
  words: ['create', owner],
  environment: { NFSDCLTRACK_GRACE_START: time, NFSDCLTRACK_CLIENT_HAS_SESSION: session },
  shows,
})
/** An upcall with an option, which only tests and measurements pass, never the kernel. */
const check = (owner: string, session = 'Y', shows = 'check', status = 0): Act => ({
  words: ['--run-dir', '/run/nfsd-userland-helper', 'check', owner],
  environment: {
    NFSDCLTRACK_CLIENT_HAS_SESSION: session,
    NFSDCLTRACK_LEGACY_RECDIR: `/var/lib/nfs/v4recovery/${'0'.repeat(32)}`,
  },
  shows,
  status,
})
const remove = (owner: string): Act => ({ words: ['remove', owner], environment: {}, shows: 'remove' })
const end = (time: string): Act => ({
  words: ['gracedone', time],
  environment: { NFSDCLTRACK_LEGACY_TOPDIR: '/var/lib/nfs/v4recovery' },
  shows: 'end of grace',
})

/** The life of a server, in the kernel's upcalls: clients come, the server restarts, and clients reclaim or do not. */
const acts: readonly Act[] = [
  start('1', 'first start'),
  end('1'),
  create(ada, '1'),
  create(old, '1', 'N', 'create without a session'),
  create(gone, '1'),
  start('2'),
  check(ada),
  check(eve, 'Y', 'refusal', 255),
  create(ada, '2'),
  create(eve, '2', 'Y', 'create of a new client in grace'),
  check(old, 'N', 'check without a session'),
  remove(ada),
  end('2'),
]

class Exit extends Error {}

/** The kind for what is called before an upcall begins, while tables are made. */
export const beforehand = 'beforehand'

/**
 * @param script the executable's; it calls `$seen(NAME)` in each function, and `$begins()` when all tables are made
 * @returns the names that it has seen in each kind of upcall, and beforehand
 * @throws if an upcall does not end as it should
 */
export function rehearse(script: string): ReadonlyMap<string, ReadonlySet<string>> {
  const directory = mkdtempSync(join(tmpdir(), 'nfsd-userland-helper-build-'))
  try {
    for (const there of ['proc/fs/nfsd', 'etc', 'dev', 'run', 'var/lib/nfs']) mkdirpSync(join(directory, there))
    writeFileSync(join(directory, 'proc/fs/nfsd/v4_end_grace'), 'N\n')
    writeFileSync(join(directory, 'etc/nfs.conf'), '[nfsd]\nthreads = 8\n')
    const log = join(directory, 'dev/kmsg')
    writeFileSync(log, '')
    const program = new vm.Script(`(() => {\n${script}\n})()`)
    const found = new Map<string, Set<string>>([[beforehand, new Set()]])
    for (const { words, environment, shows, status: wanted = 0 } of acts) {
      // Most servers have this directory, empty. With it a remove needs MD5, and all clients' upcalls would carry that.
      const legacyTop = join(directory, 'var/lib/nfs/v4recovery')
      if (words[0] === 'init' || words[0] === 'gracedone') mkdirpSync(legacyTop)
      else removeSync(legacyTop)
      found.set(shows, found.get(shows) ?? new Set())
      let now = beforehand
      let status: number | undefined
      const exit = (given: number): never => {
        status = given
        throw new Exit()
      }
      const calls = { ...callsIn(directory), exit }
      Object.assign(globalThis, {
        host: { calls, words, environment },
        $seen: (name: string) => found.get(now)?.add(name),
        $begins: () => (now = shows),
      })
      try {
        program.runInThisContext()
      } catch (thrown) {
        if (!(thrown instanceof Exit)) throw thrown
      }
      if (status !== wanted)
        throw new Error(`rehearsing ${words.join(' ')}: status ${status ?? '?'}, ${readFileSync(log, 'latin1')}`)
    }
    return found
  } finally {
    removeSync(directory)
  }
}

/**
 * Node's calls, with a directory as the root of all files but those of the processes. They change nothing in this
 * process.
 */
function callsIn(directory: string): Calls {
  const calls = nodeCalls()
  const at = (path: string): string =>
    path.startsWith('/') && !/^\/proc\/(?:self|sys|\d+)\//.test(path) ? directory + path : path
  return {
    ...calls,
    umask: () => undefined,
    openat: (within, name, flags, mode) => calls.openat(within, at(name), flags, mode),
    mkdirat: (within, name, mode) => calls.mkdirat(within, at(name), mode),
    unlinkat: (within, name, flags) => calls.unlinkat(within, at(name), flags),
    renameat: (from, name, to, other) => calls.renameat(from, at(name), to, at(other)),
    linkat: (from, name, to, other) => calls.linkat(from, at(name), to, at(other)),
    symlinkat: (text, within, name) => calls.symlinkat(text, within, at(name)),
    readlinkat: (within, name) => calls.readlinkat(within, at(name)),
    fstatat: (within, name, flags) => calls.fstatat(within, at(name), flags),
  }
}
