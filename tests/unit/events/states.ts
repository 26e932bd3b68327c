/**
 * What a state directory in memory means: asked of the helper in process, as tests/proof/verdicts.ts asks the built
 * program.
 */
import type { Event, Owner } from '../../life/oracle.ts'
import { readable, stranger, type Observed } from '../../proof/futures.ts'
import { check, create, graceDone, start, upcallFor } from '../../proof/scenarios.ts'
import { fingerprint, type Tree } from '../../proof/trees.ts'
import {
  machineWith,
  nfsd,
  runDirectory,
  stateDirectory,
  type Ending,
  type Machine,
} from '../../support/memory/machine.ts'

/** The paths of a machine in memory, for {@link upcallFor}. */
export const places = { dir: '/', stateDir: stateDirectory, nfsdDir: nfsd, runDir: runDirectory }

export function play(machine: Pick<Machine, 'upcall'>, event: Event, bootTime?: string): Ending {
  if (event.event === 'legacy') throw new Error('no upcall')
  const { words, env } = upcallFor(event, bootTime, places)
  return machine.upcall(words, env)
}

/** The files of a machine on which no process of ours runs. All machines that mean the same share one object. */
export interface Standing {
  readonly tree: Tree
  readonly run: Tree
  /** Of the last process. */
  readonly processId: number
  /** The result of each event that has been asked. */
  readonly after: Map<string, Answer>
  readonly futures: Map<string, Observed>
}

interface Answer {
  readonly status: Ending
  /** The owners that a start has told the kernel. */
  readonly told: readonly string[]
  readonly lastWord: string
  readonly standing: Standing
}

const emptyDirectory: Tree = new Map([['', { kind: 'directory' }]])
/** The process that left the state had another number, and is dead. */
const firstProcess = 50_000

/**
 * Whether a run directory has a mark, because a start has not ended, or an upcall has failed (lib/store/untracked.ts).
 */
export const isMarked = (run: Tree): boolean =>
  [...run.keys()].some((path) => /\/(?:[0-9a-f]{64}|begun-[^/]*\/.)/.test(path))

export interface Observer {
  /** @param run the run directory's contents, if the machine is still up. */
  readonly standing: (tree: Tree, run?: Tree) => Standing
  /** Who may reclaim, in every future that the rule tells apart. */
  readonly futures: (of: Standing, clients: readonly Owner[], after: 'kill' | 'power cut') => Observed
}

/**
 * All machines that mean the same are asked once: after the next start, most states that a cut leaves are the same one.
 */
export function observer(): Observer {
  const known = new Map<string, Standing>()
  const standing = (tree: Tree, run = emptyDirectory, processId = firstProcess): Standing => {
    // If there is a mark, no two instances are the same, because the mark may name one.
    const key = isMarked(run) ? JSON.stringify([...tree, ...run]) : `${fingerprint(tree)}\n\n${fingerprint(run)}`
    let same = known.get(key)
    if (same === undefined) known.set(key, (same = { tree, run, processId, after: new Map(), futures: new Map() }))
    return same
  }
  const machine = machineWith()
  const come = (from: Standing, event: Event): Answer => {
    const { files, kernel, log } = machine
    files.replace(stateDirectory, from.tree)
    files.replace(runDirectory, from.run)
    files.process.id = from.processId
    kernel.allowed = ''
    log.length = 0
    const status = play(machine, event)
    return {
      status,
      told: kernel.allowed.split('\n'),
      lastWord: log.at(-1)?.trim() ?? '',
      standing: standing(files.tree(stateDirectory), files.tree(runDirectory), files.process.id),
    }
  }
  const answerTo = (from: Standing, event: Event): Answer => {
    const key = JSON.stringify(event)
    const answer = from.after.get(key) ?? come(from, event)
    from.after.set(key, answer)
    return answer
  }
  return {
    standing,
    futures: (of, clients, after) => {
      const key = `${after} ${clients.join(' ')}`
      const observed = of.futures.get(key) ?? futuresOf(of, clients, after, answerTo)
      of.futures.set(key, observed)
      return observed
    },
  }
}

function futuresOf(
  begun: Standing,
  clients: readonly Owner[],
  after: 'kill' | 'power cut',
  answerTo: (from: Standing, event: Event) => Answer,
): Observed {
  const trouble: string[] = []
  const everybody = [...clients, stranger]
  const isBegun = begun.tree.has('v4clients')
  const hasLegacy = begun.tree.has('v4recovery')
  let at = begun
  const ask = (event: Event, expected: readonly number[]): Answer => {
    const answer = answerTo(at, event)
    at = answer.standing
    if (answer.status === 'stopped' || !expected.includes(answer.status))
      trouble.push(`${event.event} ended with ${answer.status}: ${answer.lastWord}`)
    return answer
  }
  const checks = (expected: readonly number[]): string =>
    readable(everybody.filter((owner) => ask(check(owner, 'Y'), expected).status === 0))
  const restart = (bootTime: string): string => {
    const { told } = ask(start(bootTime), [0])
    const byList = readable(everybody.filter((owner) => told.includes(Buffer.from(owner, 'hex').toString('latin1'))))
    const byCheck = checks([0, 255])
    // The kernel's own tracker knows only the MD5 of its clients' owners, so these can't be listed.
    if (byCheck !== byList && !hasLegacy) trouble.push(`start allows [${byList}], check [${byCheck}]`)
    return byCheck
  }
  const [first = stranger] = clients
  const now = after === 'kill' ? checks(isBegun ? [0, 255] : [0, 255, 135]) : ''
  const restarted = restart('9000')
  for (const event of [create(first, 'Y'), create(stranger, 'Y'), graceDone('9000')]) ask(event, [0])
  const nextLife = restart('9001')
  let ended = ''
  if (after === 'kill') {
    at = begun
    ask({ event: 'grace done', bootTime: undefined }, isBegun ? [0] : [0, 135])
    ended = restart('9000')
  }
  return { now, restart: restarted, graceDone: ended, nextLife, trouble }
}
