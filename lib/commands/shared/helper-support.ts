/**
 * Finds out whether the running kernel calls usermode helpers for client tracking. Since Linux 6.8 not every kernel
 * does.
 */
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { release } from 'node:os'
import { helperParameter, nfsdModule } from '../../kernel/nfsd-module.ts'
import { systemPath } from './in-time.ts'
import { kernelConfig } from './kernel-config.ts'

export interface HelperSupport {
  /** Undefined, if it can't be found out. */
  readonly offered: boolean | undefined
  readonly why: string
}

export function helperSupport(): HelperSupport {
  if (fs.existsSync(helperParameter))
    return { offered: true, why: 'this kernel calls a helper (nfsd has the parameter cltrack_prog)' }
  const not = 'this kernel calls no helper'
  if (fs.existsSync(nfsdModule)) return { offered: false, why: `${not} (nfsd has no parameter cltrack_prog)` }
  const parameters = moduleParameters()
  if (parameters !== undefined)
    return /^cltrack_prog:/m.test(parameters)
      ? { offered: true, why: 'this kernel calls a helper (modinfo nfsd names cltrack_prog)' }
      : { offered: false, why: `${not} (modinfo nfsd does not name cltrack_prog)` }
  switch (kernelConfig()?.('CONFIG_NFSD_LEGACY_CLIENT_TRACKING')) {
    case 'y':
      return { offered: true, why: 'this kernel calls a helper (CONFIG_NFSD_LEGACY_CLIENT_TRACKING=y)' }
    case 'off':
      return { offered: false, why: `${not} (CONFIG_NFSD_LEGACY_CLIENT_TRACKING is not set)` }
  }
  return {
    offered: undefined,
    why: `whether the kernel ${release()} calls a helper is not known: its nfsd was not found`,
  }
}

/** The parameters of the running kernel's module, loaded or not. */
function moduleParameters(): string | undefined {
  const { status, stdout } = spawnSync('modinfo', ['-F', 'parm', 'nfsd'], {
    encoding: 'utf8',
    env: { PATH: systemPath },
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: 10_000,
  })
  return status === 0 ? stdout : undefined
}
