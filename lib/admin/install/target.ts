/** The system that is installed into: what it starts its services with, and what it has already. */
import { spawnSync } from 'node:child_process'
import { basename, dirname, join } from 'node:path'
import fs from 'node:fs'
import { name, type Init, type Program } from './files.ts'

export interface Target {
  /** `/`, or where another system's root lies. */
  readonly root: string
  readonly live: boolean
  readonly init: Init
  readonly zshDirectory: string
  /** The distribution's package of this program is installed: its files are the package's business. */
  readonly packaged: boolean
}

export function targetAt(root: string): Target {
  const has = (path: string): boolean => fs.existsSync(join(root, path))
  const live = root === '/'
  return {
    root,
    live,
    init:
      live && has('/run/systemd/system') ? 'systemd'
      : live && has('/run/openrc') ? 'openrc'
      : has('/usr/lib/systemd/systemd') || has('/lib/systemd/systemd') ? 'systemd'
      : has('/sbin/openrc-run') || has('/usr/sbin/openrc-run') ? 'openrc'
      : has('/etc/init.d') ? 'lsb'
      : 'none',
    zshDirectory: has('/usr/share/zsh/vendor-completions') ? '/usr/share/zsh/vendor-completions' : '/usr/share/zsh/site-functions',
    packaged: isPackaged(root),
  }
}

function isPackaged(root: string): boolean {
  const { stdout } = spawnSync('dpkg-query', [`--admindir=${join(root, 'var/lib/dpkg')}`, '--showformat=${db:Status-Status}', '--show', name], {
    encoding: 'utf8',
    env: { PATH: '/usr/bin:/bin' },
    stdio: ['ignore', 'pipe', 'ignore'],
  }) as { readonly stdout: string | null }
  return stdout === 'installed'
}

/** The program that is running, as files: the executable, or Node's script with those beside it. */
export function runningProgram(root: string): Program {
  if (process.versions['bun'] !== undefined) return { executable: process.execPath }
  const upcalls = fs.realpathSync(process.argv[1] ?? '')
  const directory = dirname(upcalls)
  const beside = fs.readdirSync(directory).filter((file) => file.endsWith('.cjs') && file !== basename(upcalls))
  return { scripts: { upcalls, beside: beside.sort().map((file) => join(directory, file)) }, node: nodeOf(root) }
}

/** The Node that boots with the system, where there is one; else the one that runs us. */
function nodeOf(root: string): string {
  const usual = '/usr/bin/node'
  if (root !== '/') return usual
  return fs.existsSync(usual) && fs.realpathSync(usual) === fs.realpathSync(process.execPath) ? usual : process.execPath
}
