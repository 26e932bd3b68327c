/**
 * A command that is killed at every call that changes the state directory, and at its end. What is left is judged, and
 * the command is repeated.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { badArgument, done, hex, mayNotReclaim } from '../contract/server.ts'
import { plant, readTree } from '../proof/trees.ts'
import { inForeground, newMachine, scrap, settings, type Artefact, type Machine } from '../support/artefacts.ts'
import { changing, fired, trace, type Call } from '../support/strace.ts'

/** One call of the program on a machine, as for a client of NFSv4.1. @returns its status. */
export const called = async (
  artefact: Artefact,
  machine: Machine,
  words: readonly string[],
): Promise<number | string> =>
  (await inForeground(artefact, [...settings(machine), ...words], { NFSDCLTRACK_CLIENT_HAS_SESSION: 'Y' })).status

/** Which of these may reclaim, after another start if asked for. */
export async function mayReclaim(
  artefact: Artefact,
  machine: Machine,
  owners: readonly string[],
  start: 'after a start' | 'now',
): Promise<string[]> {
  if (start === 'after a start') await called(artefact, machine, ['init'])
  const allowed: string[] = []
  for (const owner of owners) {
    const status = await called(artefact, machine, ['check', hex(owner)])
    assert.ok(status === done || status === mayNotReclaim, `check ${owner}: ${status}`)
    if (status === done) allowed.push(owner)
  }
  return allowed
}

export interface Killed {
  readonly words: readonly string[]
  /** Makes the state before the command. Files beside the state directory are shared by all runs. */
  readonly prepare: (machine: Machine) => Promise<void>
  /** Asked on a copy of the state that a kill left. */
  readonly left: (machine: Machine, label: string) => Promise<void>
  /** A repeat is refused if the first run was complete: then there is no client of that name any more. */
  readonly mayBeRefused?: boolean
  /** Asked after the command has been repeated. */
  readonly repeated: (machine: Machine, label: string) => Promise<void>
}

export async function killedEverywhere(
  artefact: Artefact,
  template: Machine,
  { words, prepare, left, mayBeRefused = false, repeated }: Killed,
): Promise<void> {
  await prepare(template)
  const before = readTree(template.stateDir)
  const on = async <T>(tree: typeof before, work: (machine: Machine) => Promise<T>): Promise<T> => {
    const machine = newMachine()
    try {
      if (tree.size > 0) plant(tree, machine.stateDir)
      return await work(machine)
    } finally {
      scrap(machine)
    }
  }
  const whole = await on(before, async (machine) => ({
    traced: await trace(artefact, [...settings(machine), ...words], {}),
    dir: machine.dir,
  }))
  assert.equal(whole.traced.status, done, whole.traced.stderr)
  const last = whole.traced.calls.filter(({ name }) => name === 'exit_group').slice(-1)
  const points: Call[] = [...changing(whole.traced.calls, join(whole.dir, 'state')), ...last]
  assert.ok(points.length > 3, 'the calls were seen')
  // Node starts slowly, and makes the same calls.
  for (const call of artefact.name === 'executable' ? points : points.filter((_, at) => at % 4 === 1))
    await on(before, async (machine) => {
      const fault = { call, what: 'signal=SIGKILL' }
      const dead = await trace(artefact, [...settings(machine), ...words], {}, { fault })
      const label = `killed at ${call.name} ${call.paths.join(' ').replaceAll(whole.dir, '')}`
      assert.ok(fired(dead, fault, whole.dir, machine.dir), `${label}: the kill did not come there`)
      await on(readTree(machine.stateDir), (copy) => left(copy, label))
      const status = await called(artefact, machine, words)
      assert.ok(status === done || (mayBeRefused && status === badArgument), `${label}, then repeated: ${status}`)
      await repeated(machine, `${label}, then repeated`)
    })
}
