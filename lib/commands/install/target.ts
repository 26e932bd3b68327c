/** The target system: how it starts services, and what is already there. */
import fs from 'node:fs'
import { dirname, join } from 'node:path'
import { bytesIn, existsBelow, inDirectory, openRoot, type Root } from '../shared/inside.ts'
import { executablePath, name } from '../shared/program.ts'
import { systemdRuns } from '../shared/systemd.ts'
import { zshDirectories, type Init, type Program, type Wanted } from './files.ts'

export interface Target {
  /** `/`, or the root of another system. */
  readonly root: Root
  readonly live: boolean
  readonly init: Init
  readonly zshDirectory: Wanted['zshDirectory']
  /** Whether the distribution's package of this program is installed: then its files belong to the package. */
  readonly packaged: boolean
}

export function targetAt(path: string): Target {
  const root = openRoot(path)
  const has = (name: string): boolean => existsBelow(root, name)
  const live = path === '/'
  return {
    root,
    live,
    init:
      live && has(systemdRuns)
        ? 'systemd'
        : live && has('/run/openrc')
          ? 'openrc'
          : has('/usr/lib/systemd/systemd') || has('/lib/systemd/systemd')
            ? 'systemd'
            : has('/sbin/openrc-run') || has('/usr/sbin/openrc-run')
              ? 'openrc'
              : has('/etc/init.d')
                ? 'lsb'
                : 'none',
    zshDirectory: zshDirectories.find(has) ?? '/usr/share/zsh/site-functions',
    packaged: isPackaged(root),
  }
}

/** Reads dpkg's own list without dpkg: this machine may have no dpkg, and an image's may come from anybody. */
function isPackaged(root: Root): boolean {
  const status = inDirectory(root, '/var/lib/dpkg', 'leave', (directory) => bytesIn(directory, 'status'))
  if (typeof status !== 'object') return false
  const ours = status
    .toString('latin1')
    .split('\n\n')
    .find((entry) => entry.split('\n').includes(`Package: ${name}`))
  return ours !== undefined && /^Status: \S+ \S+ installed$/m.test(ours)
}

/** The files of the running program: the executable, or Node's script, with the scripts beside it. */
export function runningProgram({ live }: Pick<Target, 'live'>): Program {
  const executable = executablePath()
  if (executable !== undefined)
    return { executable, beside: scriptsIn(dirname(fs.realpathSync(process.argv[1] ?? ''))) }
  const upcalls = fs.realpathSync(process.argv[1] ?? '')
  return { scripts: { upcalls, beside: scriptsIn(dirname(upcalls)) }, node: nodeOf({ live }) }
}

/** The commands for people, which are beside the program that runs upcalls. */
const scriptsIn = (directory: string): string[] =>
  fs
    .readdirSync(directory)
    .filter((file) => file.endsWith('.cjs') && file !== `${name}.cjs`)
    .sort()
    .map((file) => join(directory, file))

/** /usr/bin/node, for another system, or if that is the Node that runs us; otherwise the path of the one that does. */
function nodeOf({ live }: Pick<Target, 'live'>): string {
  const usual = '/usr/bin/node'
  if (!live) return usual
  return fs.existsSync(usual) && fs.realpathSync(usual) === fs.realpathSync(process.execPath) ? usual : process.execPath
}
