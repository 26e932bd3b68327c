/**
 * What a state directory means: who may reclaim, in every future that the rule tells apart. The helper itself is asked,
 * and the rule (tests/life/oracle.ts). Whatever the helper did is right if and only if the two agree.
 *
 *   now        each client's check, as the server stands
 *   restart    the same after a start
 *   graceDone  the same after the end of grace and a start
 *   nextLife   after that start: one client reclaims, one is new, grace ends, the server restarts: exactly these two
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensureDirSync, removeSync } from 'fs-extra/esm'
import type { Event, Owner } from '../life/oracle.ts'
import { inForeground, machineIn, settings, type Artefact, type Machine, type Said } from '../support/artefacts.ts'
import { readable, stranger, type Observed } from './futures.ts'
import { check, create, graceDone, legacyRecord, start, upcallFor, type Scenario } from './scenarios.ts'
import { fingerprint, plant, readTree, type Tree } from './trees.ts'

export { disagreement, futuresByRule, readable, stranger, type Futures, type Observed } from './futures.ts'

/** The log's lines after a failed call that only tidying needed. No promise depends on it. */
export const onlyTidying = /warning: old instances could not be removed/

/** A directory in memory, because these questions need no disk. */
export const scratch = (): string =>
  mkdtempSync(join(process.env['PROOF_SCRATCH'] ?? '/dev/shm', 'nfsd-userland-helper-'))

export function machineAt(dir: string): Machine {
  const machine = machineIn(dir)
  ensureDirSync(machine.nfsdDir)
  return machine
}

/** What the kernel's file reads during an act. */
export function setGrace({ nfsdDir }: Machine, grace: Scenario['grace']): void {
  const file = join(nfsdDir, 'v4_end_grace')
  if (grace === undefined) rmSync(file, { force: true })
  else writeFileSync(file, grace === 'over' ? 'Y\n' : 'N\n')
}

export const call = (artefact: Artefact, machine: Machine, event: Event, bootTime?: string): Promise<Said> => {
  const { words, env } = upcallFor(event, bootTime, machine)
  return inForeground(artefact, [...settings(machine), ...words], env)
}

/** Carries out events that must succeed, whatever the rule says of their verdict. */
export async function live(
  artefact: Artefact,
  machine: Machine,
  events: readonly Event[],
  bootTime?: string,
): Promise<string | undefined> {
  let current = bootTime
  for (const event of events) {
    if (event.event === 'start') current = event.bootTime
    if (event.event === 'legacy') {
      ensureDirSync(legacyRecord(machine, event.owner), 0o700)
      continue
    }
    const { status, stderr } = await call(artefact, machine, event, current)
    if (status !== 0) throw new Error(`${event.event} ended with ${status}: ${stderr}`)
  }
  return current
}

/**
 * The longest that any upcall may take, however busy the machine is: none may hang. Other tests ask how fast they are.
 */
export const patienceMs = 15_000

/**
 * How much is asked of a tree: every client's check as well, the life after the next start as well, or that start only.
 */
export type Depth = 'every check' | 'next life' | 'one start'
interface Question {
  readonly clients: readonly Owner[]
  readonly after: 'kill' | 'power cut'
  readonly depth: Depth
}

/**
 * Asks the helper about a tree. After a power cut there is no server any more, so only the next start matters.
 * Who may reclaim after a start is read off its list for `allow_client`, which costs one run; some trees
 * are asked by every client's check as well, and the two must agree.
 */
export async function futuresOf(
  artefact: Artefact,
  tree: Tree,
  { clients, after, depth }: Question,
): Promise<Observed> {
  const on = async <T>(work: (asked: Asked) => Promise<T>): Promise<T> => {
    const machine = machineAt(scratch())
    try {
      if (tree.size > 0) plant(tree, machine.stateDir)
      return await work(askedOn(artefact, machine, everybody, trouble))
    } finally {
      scrapTree(machine)
    }
  }
  const trouble: string[] = []
  const everybody = [...clients, stranger]
  const [first = stranger] = clients
  // Before the first start there is nothing to check in, and that is a failure of its own.
  const isBegun = tree.has('v4clients')
  // Of whom the kernel's own tracker knows only an MD5, nobody can be listed.
  const isListed = !tree.has('v4recovery')
  const restart = async (asked: Asked, bootTime: string): Promise<string> => {
    const byList = await asked.start(bootTime)
    if (depth !== 'every check' && isListed) return byList
    const byCheck = await asked.checks([0, 255])
    if (byCheck !== byList && isListed) trouble.push(`start allows [${byList}], check [${byCheck}]`)
    return byCheck
  }
  const ahead = await on(async (asked) => {
    const now = after === 'kill' ? await asked.checks(isBegun ? [0, 255] : [0, 255, 135]) : ''
    const restarted = await restart(asked, '9000')
    if (depth === 'one start') return { now, restart: restarted, nextLife: undefined }
    for (const event of [create(first, 'Y'), create(stranger, 'Y'), graceDone('9000')]) await asked.that(event, [0])
    return { now, restart: restarted, nextLife: await restart(asked, '9001') }
  })
  const graceEnd =
    after === 'kill'
      ? await on(async (asked) => {
          await asked.that({ event: 'grace done', bootTime: undefined }, isBegun ? [0] : [0, 135])
          return restart(asked, '9000')
        })
      : ''
  return { ...ahead, graceDone: graceEnd, trouble }
}

interface Asked {
  readonly that: (event: Event, expected: readonly number[]) => Promise<number | string>
  /** Who may reclaim by each client's check. */
  readonly checks: (expected: readonly number[]) => Promise<string>
  /** Who may reclaim by the list that a start tells the kernel. */
  readonly start: (bootTime: string) => Promise<string>
}

/** What is asked of a machine. @param trouble what should not have happened is added to it. */
function askedOn(artefact: Artefact, machine: Machine, everybody: readonly Owner[], trouble: string[]): Asked {
  const that: Asked['that'] = async (event, expected) => {
    const { status, ms, stderr } = await call(artefact, machine, event)
    if (typeof status === 'string' || !expected.includes(status))
      trouble.push(`${event.event} ended with ${status}: ${stderr.trim()}`)
    if (ms > patienceMs) trouble.push(`${event.event} took ${Math.round(ms)} ms`)
    return status
  }
  return {
    that,
    checks: async (expected) => {
      const allowed: Owner[] = []
      for (const owner of everybody) if ((await that(check(owner, 'Y'), expected)) === 0) allowed.push(owner)
      return readable(allowed)
    },
    start: async (bootTime) => {
      const list = join(machine.nfsdDir, 'allow_client')
      writeFileSync(list, '')
      await that(start(bootTime), [0])
      const told = readFileSync(list, 'latin1')
        .split('\n')
        .filter((line) => line !== '')
      const named = (owner: Owner): string => Buffer.from(owner, 'hex').toString('latin1')
      if (told.some((line) => !everybody.some((owner) => line === named(owner))))
        trouble.push(`strangers may reclaim: ${told.join(' ')}`)
      return readable(everybody.filter((owner) => told.includes(named(owner))))
    },
  }
}

const depthFor = (seen: number): Depth =>
  seen < 2 ? 'every check' : seen < 24 || seen % 8 === 0 ? 'next life' : 'one start'

export interface Observer {
  readonly ask: (tree: Tree) => Promise<Observed>
  readonly seen: () => number
}

/** {@link futuresOf}, asked once for all trees that mean the same. */
export function observer(artefact: Artefact, clients: readonly Owner[], after: 'kill' | 'power cut'): Observer {
  const known = new Map<string, Promise<Observed>>()
  return {
    ask: (tree) => {
      const key = fingerprint(tree)
      const answer = known.get(key) ?? futuresOf(artefact, tree, { clients, after, depth: depthFor(known.size) })
      known.set(key, answer)
      return answer
    },
    seen: () => known.size,
  }
}

/** A machine after a scenario's `before`, and its tree. */
export async function prepared(
  artefact: Artefact,
  { before }: Scenario,
): Promise<{ machine: Machine; tree: Tree; bootTime: string | undefined }> {
  const machine = machineAt(scratch())
  const bootTime = await live(artefact, machine, before)
  return { machine, tree: readTree(machine.stateDir), bootTime }
}

/**
 * A start that died leaves a mark in the run directory (lib/store/untracked.ts), after which nobody may reclaim at the
 * next start. Here the machine died with it, and that directory is lost.
 */
export const machineRestarts = ({ runDir }: Machine): void => {
  removeSync(runDir)
}

export const scrapTree = (machine: Machine): void => {
  removeSync(machine.dir)
}
