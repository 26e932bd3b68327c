/**
 * Which front end a machine gets. A kernel either calls a helper or has a pipe served, and a machine may be booted with
 * another kernel tomorrow. So `auto` puts both in place, and each start of the machine decides: systemd by the
 * conditions of the unit, init scripts by looking for nfsd's parameter. What is said here is what this kernel will do.
 */
import type { HelperSupport } from '../shared/helper-support.ts'
import { canServe, type Program, type Tracker } from './files.ts'

export interface Choice {
  readonly asked: Tracker
  /** `undecided`: the system is not the one that runs, or its kernel does not tell. */
  readonly takes: 'helper' | 'pipe' | 'none' | 'undecided'
  readonly why: string
}

/** @param support of the running kernel; undefined where another system is installed into. */
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
