/**
 * Tells a running system that files have come or gone. After a reboot nothing of this is needed. udev notices changed
 * rules itself.
 *
 * The kernel is told the program's name, and nfsdcld is stopped, only while no nfsd thread runs. Under a running
 * server, clients that another tracker has recorded would be unknown to us, and nothing would say so before the next
 * restart. For the same reason the service is not started here, but by the next start of the server. A service that
 * runs is restarted with the new program, which continues with the old one's messages.
 */
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { errorCode } from '../../failure.ts'
import { helperParameter } from '../../kernel/nfsd-module.ts'
import { systemPath } from '../shared/in-time.ts'
import { nfsdcldRuns } from '../shared/processes.ts'
import { helperPath, name } from '../shared/program.ts'
import { nfsdThreads } from '../shared/service.ts'
import { bootedBySystemd } from '../shared/systemd.ts'
import type { Init } from './files.ts'

export interface Action {
  readonly what: string
  /** 'done', or why it was not done. */
  readonly outcome: string
}

/** The kernel's default. */
const kernelsOwn = '/sbin/nfsdcltrack'

interface Wanted {
  readonly init: Init
  readonly takesOver: boolean
  /** Whether the service is among the files. */
  readonly serves: boolean
}

export function activate(wanted: Wanted, nfsdDirectory: string): Action[] {
  const systemd = wanted.init === 'systemd' && bootedBySystemd()
  return [
    ...reloads(wanted),
    ...(systemd && wanted.takesOver && nfsdcldRuns() ? [stop('nfsdcld.service', nfsdDirectory)] : []),
    ...(systemd && wanted.serves ? [run('systemctl', 'try-restart', `${name}.service`)] : []),
    ...tellKernel(helperPath, nfsdDirectory),
  ]
}

/** Called before the files are removed: a service must still exist when it is stopped, or removed from its runlevel. */
export function deregister(init: Init, nfsdDirectory: string): Action[] {
  if (init === 'systemd') {
    const runs = bootedBySystemd() && run('systemctl', 'is-active', `${name}.service`).outcome === 'done'
    return runs ? [stop(`${name}.service`, nfsdDirectory)] : []
  }
  if (init === 'openrc') return [run('rc-update', 'delete', name)]
  return init === 'lsb' ? [run('update-rc.d', '-f', name, 'remove')] : []
}

/** A running server would wait for its tracker without limit, so then the unit is not stopped. */
function stop(unit: string, nfsdDirectory: string): Action {
  const threads = nfsdThreads(nfsdDirectory)
  return threads === 0 ? run('systemctl', 'stop', unit) : { what: `systemctl stop ${unit}`, outcome: later(threads) }
}

const later = (threads: number): string =>
  `not while ${threads} nfsd threads run: takes effect when nfs-server is next restarted`

export function deactivate(init: Init, nfsdDirectory: string): Action[] {
  const told = readParameter()
  return [
    ...(init === 'systemd' && bootedBySystemd() ? [run('systemctl', 'daemon-reload')] : []),
    ...(told?.trimEnd() === helperPath ? tellKernel(kernelsOwn, nfsdDirectory) : []),
  ]
}

function reloads({ init, takesOver }: Wanted): Action[] {
  if (init === 'systemd' && bootedBySystemd())
    return [run('systemctl', 'daemon-reload'), run('systemd-tmpfiles', '--create', `${name}.conf`)]
  if (init === 'openrc' && takesOver) return [run('rc-update', 'add', name, 'default')]
  return init === 'lsb' && takesOver ? [run('update-rc.d', name, 'defaults')] : []
}

function tellKernel(program: string, nfsdDirectory: string): Action[] {
  const told = readParameter()
  if (told === undefined || told === `${program}\n`) return []
  const what = `printf %s ${program} > ${helperParameter}`
  const threads = nfsdThreads(nfsdDirectory)
  if (threads > 0) return [{ what, outcome: later(threads) }]
  try {
    fs.writeFileSync(helperParameter, program)
    return [{ what, outcome: 'done' }]
  } catch (thrown) {
    return [{ what, outcome: `failed: ${errorCode(thrown) ?? String(thrown)}` }]
  }
}

function readParameter(): string | undefined {
  try {
    return fs.readFileSync(helperParameter, 'utf8')
  } catch {
    return undefined
  }
}

function run(command: string, ...words: readonly string[]): Action {
  const what = [command, ...words].join(' ')
  const { status, error, stderr } = spawnSync(command, words, {
    encoding: 'utf8',
    env: { ...process.env, PATH: systemPath },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: 60_000,
  })
  if (status === 0) return { what, outcome: 'done' }
  const why = error === undefined ? (stderr.trim().split('\n').at(-1) ?? '') : (errorCode(error) ?? error.message)
  return { what, outcome: `failed: ${why}` }
}
