/**
 * What a state directory in memory means: asked of the helper in process, as tests/proof/verdicts.ts asks the built
 * one.
 */
import { check, create, graceDone, start, upcallFor } from '../../proof/scenarios.ts'
import { readable, stranger, type Observed } from '../../proof/futures.ts'
import { fingerprint, type Tree } from '../../proof/trees.ts'
import { machineWith, nfsd, runDirectory, stateDirectory, type Machine } from '../../support/memory/machine.ts'
import type { Event, Owner } from '../../life/oracle.ts'

/** Where things are on a machine in memory, for {@link upcallFor}. */
const places = { dir: '/', stateDir: stateDirectory, nfsdDir: nfsd }

export function play(machine: Machine, event: Event, bootTime?: string): number | 'stopped' {
  if (event.event === 'legacy') throw new Error('no upcall')
  const { words, env } = upcallFor(event, bootTime, places)
  return machine.upcall(words, env)
}

export interface Asked {
  readonly tree: Tree
  readonly clients: readonly Owner[]
  readonly after: 'kill' | 'power cut'
  /** What is in the run directory, where the machine is still up. */
  readonly run?: Tree
}

/** Who may reclaim, in every future that the rule tells apart. */
export function futuresOf({ tree, clients, after, run }: Asked): Observed {
  const trouble: string[] = []
  const everybody = [...clients, stranger]
  const isBegun = tree.has('v4clients')
  const begin = (): Machine => {
    const machine = machineWith(tree.size > 0 ? tree : undefined)
    if (run !== undefined) machine.files.plant(run, runDirectory)
    return machine
  }
  const ask = (machine: Machine, event: Event, expected: readonly (number | string)[]): number | string => {
    const status = play(machine, event)
    if (!expected.includes(status))
      trouble.push(`${event.event} ended with ${status}: ${machine.log.at(-1)?.trim() ?? ''}`)
    return status
  }
  const checks = (machine: Machine, expected: readonly number[]): string =>
    readable(everybody.filter((owner) => ask(machine, check(owner, 'Y'), expected) === 0))
  const restart = (machine: Machine, bootTime: string): string => {
    machine.kernel.allowed = ''
    ask(machine, start(bootTime), [0])
    const told = machine.kernel.allowed.split('\n')
    const byList = readable(everybody.filter((owner) => told.includes(Buffer.from(owner, 'hex').toString('latin1'))))
    const byCheck = checks(machine, [0, 255])
    // Of whom the kernel's own tracker knows only an MD5, nobody can be listed.
    if (byCheck !== byList && !tree.has('v4recovery')) trouble.push(`start allows [${byList}], check [${byCheck}]`)
    return byCheck
  }
  const [first = stranger] = clients
  const machine = begin()
  const now = after === 'kill' ? checks(machine, isBegun ? [0, 255] : [0, 255, 135]) : ''
  const restarted = restart(machine, '9000')
  for (const event of [create(first, 'Y'), create(stranger, 'Y'), graceDone('9000')]) ask(machine, event, [0])
  const nextLife = restart(machine, '9001')
  let ended = ''
  if (after === 'kill') {
    const other = begin()
    ask(other, { event: 'grace done', bootTime: undefined }, isBegun ? [0] : [0, 135])
    ended = restart(other, '9000')
  }
  return { now, restart: restarted, graceDone: ended, nextLife, trouble }
}

/** {@link futuresOf}, asked once for all that mean the same. */
export function observer(): (asked: Asked) => Observed {
  const known = new Map<string, Observed>()
  return (asked) => {
    const key = `${asked.after}\n${asked.clients.join(' ')}\n${fingerprint(asked.tree)}\n${asked.run === undefined ? '' : fingerprint(asked.run)}`
    const answer = known.get(key) ?? futuresOf(asked)
    known.set(key, answer)
    return answer
  }
}
