/**
 * A machine that carries out upcalls under strace, and beside it a model of its disk (tests/proof/power-loss.ts), which
 * follows call by call. At any moment the power can be cut, and every state that this may leave is asked about.
 */
import type { Event, Owner } from '../life/oracle.ts'
import { settings, type Artefact, type Machine } from '../support/artefacts.ts'
import { changing, trace, type Call, type Fault, type Traced } from '../support/strace.ts'
import { diskAt } from './power-loss.ts'
import { clientsOf, upcallFor, type Scenario } from './scenarios.ts'
import { fingerprint, type Tree } from './trees.ts'
import {
  disagreement,
  machineAt,
  observer,
  scratch,
  scrapTree,
  setGrace,
  type Futures,
  type Observer,
} from './verdicts.ts'

export interface Cutter {
  readonly machine: Machine
  readonly clients: readonly Owner[]
  /** Runs an upcall. The model learns of its calls by {@link Cutter.follow}. */
  readonly upcall: (
    event: Event,
    grace?: Scenario['grace'],
    fault?: Fault,
  ) => Promise<Traced & { readonly changes: readonly Call[] }>
  readonly follow: (call: Call) => void
  /** Cuts the power now. Every state that may be left must mean one of `allowed`. */
  readonly cut: (label: string, allowed: readonly Futures[]) => Promise<void>
  readonly isEnough: () => boolean
  readonly counted: () => Counted
  readonly scrap: () => void
}

export interface Counted {
  readonly 'crash points': number
  readonly 'raw states': number
  readonly 'distinct states': number
  readonly bounded: number
  readonly violations: string[]
}

/** Asks about the states of one scenario. Each is asked once, even if several cutters reach it. */
export const watcherOf = (artefact: Artefact, scenario: Scenario): Observer =>
  observer(artefact, clientsOf(scenario), 'power cut')

/** For the clients of a scenario. It stops after `enough` violations. */
export function cutterFor(
  artefact: Artefact,
  scenario: Scenario,
  enough = Infinity,
  watching = watcherOf(artefact, scenario),
): Cutter {
  const machine = machineAt(scratch())
  const disk = diskAt(machine.dir)
  const clients = clientsOf(scenario)
  const count = { points: 0, raw: 0, bounded: 0 }
  const violations: string[] = []
  const checked = new Set<string>()
  let bootTime: string | undefined
  const isEnough = (): boolean => violations.length >= enough
  return {
    machine,
    clients,
    isEnough,
    upcall: async (event, grace, fault) => {
      setGrace(machine, grace)
      if (event.event === 'start') bootTime = event.bootTime
      const { words, env } = upcallFor(event, bootTime)
      const traced = await trace(artefact, [...settings(machine), ...words], env, { fault })
      return { ...traced, changes: changing(traced.calls, machine.dir) }
    },
    follow: (call) => {
      if (!call.paths.some((path) => path.startsWith(machine.nfsdDir))) disk.apply(call)
    },
    cut: async (label, allowed) => {
      if (isEnough()) return
      count.points++
      const states = disk.afterCut(() => {
        count.bounded++
      })
      // Two at a time from one list, because there are two processors.
      const askInTurn = async (): Promise<void> => {
        for (const whole of states) {
          count.raw++
          const state: Tree = within(whole, 'state')
          const key = `${fingerprint(state)}\n${JSON.stringify(allowed)}`
          if (checked.has(key)) continue
          checked.add(key)
          const wrong = disagreement(await watching.ask(state), allowed, 'power cut')
          if (wrong !== undefined) violations.push(`${label}: ${wrong}\n${fingerprint(state)}`)
          if (isEnough()) return
        }
      }
      await Promise.all([askInTurn(), askInTurn()])
    },
    counted: () => ({
      'crash points': count.points,
      'raw states': count.raw,
      'distinct states': watching.seen(),
      bounded: count.bounded,
      violations,
    }),
    scrap: () => {
      scrapTree(machine)
    },
  }
}

/** The part of a tree below one of its directories. */
function within(tree: Tree, directory: string): Tree {
  const part = new Map(tree)
  part.clear()
  for (const [path, node] of tree) {
    if (path === directory) part.set('', node)
    else if (path.startsWith(`${directory}/`)) part.set(path.slice(directory.length + 1), node)
  }
  return part
}
