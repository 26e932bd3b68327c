/**
 * What is told to a running system when files have come or gone. Nothing here is needed after a reboot. udev looks after
 * changed rules by itself.
 *
 * The kernel is told the program's name only while no nfsd thread runs. Under a running server, clients that another
 * tracker has recorded would be unknown to us, and nothing would say so before the next restart.
 */
import { spawnSync } from 'node:child_process'
import { errorCode } from '../../failure.ts'
import fs from 'node:fs'
import { nfsdThreads } from '../shared/service.ts'
import { helperPath, name, type Init } from './files.ts'

export interface Action {
  readonly what: string
  /** 'done', or why not. */
  readonly outcome: string
}

const parameter = '/sys/module/nfsd/parameters/cltrack_prog'
/** What the kernel has when nobody names another. */
const kernelsOwn = '/sbin/nfsdcltrack'

export function activate(init: Init, nfsdDirectory: string): Action[] {
  return [...reloads(init, 'install'), ...tellKernel(helperPath, nfsdDirectory)]
}

/** Before the files go: a service that is removed from its runlevel must still be there. */
export const deregister = (init: Init): Action[] =>
  init === 'openrc'
    ? [run('rc-update', 'delete', name)]
    : init === 'lsb'
      ? [run('update-rc.d', '-f', name, 'remove')]
      : []

export function deactivate(init: Init, nfsdDirectory: string): Action[] {
  const told = readParameter()
  return [
    ...reloads(init, 'uninstall'),
    ...(told?.trimEnd() === helperPath ? tellKernel(kernelsOwn, nfsdDirectory) : []),
  ]
}

function reloads(init: Init, why: 'install' | 'uninstall'): Action[] {
  const actions: Action[] = []
  if (init === 'systemd' && fs.existsSync('/run/systemd/system')) {
    actions.push(run('systemctl', 'daemon-reload'))
    if (why === 'install') actions.push(run('systemd-tmpfiles', '--create', `${name}.conf`))
  }
  if (init === 'openrc' && why === 'install') actions.push(run('rc-update', 'add', name, 'default'))
  if (init === 'lsb' && why === 'install') actions.push(run('update-rc.d', name, 'defaults'))
  return actions
}

function tellKernel(program: string, nfsdDirectory: string): Action[] {
  const told = readParameter()
  if (told === undefined || told === `${program}\n`) return []
  const what = `printf %s ${program} > ${parameter}`
  const threads = nfsdThreads(nfsdDirectory)
  if (threads > 0)
    return [{ what, outcome: `not while ${threads} nfsd threads run: takes effect when nfs-server is next restarted` }]
  try {
    fs.writeFileSync(parameter, program)
    return [{ what, outcome: 'done' }]
  } catch (thrown) {
    return [{ what, outcome: `failed: ${errorCode(thrown) ?? String(thrown)}` }]
  }
}

function readParameter(): string | undefined {
  try {
    return fs.readFileSync(parameter, 'utf8')
  } catch {
    return undefined
  }
}

function run(command: string, ...words: readonly string[]): Action {
  const what = [command, ...words].join(' ')
  const { status, error, stderr } = spawnSync(command, words, {
    encoding: 'utf8',
    env: { ...process.env, PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: 60_000,
  })
  if (status === 0) return { what, outcome: 'done' }
  return {
    what,
    outcome: `failed: ${error === undefined ? (stderr.trim().split('\n').at(-1) ?? '') : (errorCode(error) ?? error.message)}`,
  }
}
