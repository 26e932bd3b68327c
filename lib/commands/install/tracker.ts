/**
 * Chooses the front end for a machine. A kernel either calls a helper or needs a process at its pipe, and the machine
 * may boot another kernel tomorrow. So `auto` installs both, and it is decided each time the machine starts: by the
 * conditions of systemd's unit, or by init scripts, which look for nfsd's parameter. This file says what the present
 * kernel will do.
 */
import type { HelperSupport } from '../shared/helper-support.ts'
import { canServe, type Program, type Tracker } from './files.ts'

export interface Choice {
  readonly asked: Tracker
  /** `undecided`: the target system does not run, or it can't be found out what its kernel does. */
  readonly takes: 'helper' | 'pipe' | 'none' | 'undecided'
  readonly why: string
}

/** @param support of the running kernel; undefined, if another system is the target */
export function choose(asked: Tracker, program: Program, support: HelperSupport | undefined): Choice {
  const chosen = (takes: Choice['takes'], why: string): Choice => ({ asked, takes, why })
  if (asked === 'serve') return chosen('pipe', 'you chose it; a kernel that calls helpers prefers the pipe')
  if (asked === 'helper')
    return support?.offered === false
      ? chosen('none', `you chose helper, but ${support.why}`)
      : chosen('helper', `you chose it${support === undefined ? '' : `, and ${support.why}`}`)
  const eachBoot = canServe(program) ? 'each boot decides' : "the Node script can't serve the pipe"
  if (support?.offered === undefined)
    return chosen(
      canServe(program) ? 'undecided' : 'helper',
      support === undefined ? eachBoot : `${support.why}; ${eachBoot}`,
    )
  if (support.offered) return chosen('helper', support.why)
  return canServe(program) ? chosen('pipe', support.why) : chosen('none', `${support.why}, and ${eachBoot}`)
}

const named: Readonly<Record<Choice['takes'], string>> = {
  helper: 'the helper, which the kernel calls',
  pipe: 'the service nfsd-userland-helper, which serves the pipe',
  none: 'none',
  undecided: 'the helper or the pipe',
}

export const inWords = ({ takes, why }: Choice): string => `tracker: ${named[takes]}: ${why}`
