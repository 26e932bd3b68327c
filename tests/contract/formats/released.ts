/** State directories as releases have written them (write.ts), and what is asked about them. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Event, Owner } from '../../life/oracle.ts'
import { check, start } from '../../proof/scenarios.ts'
import { plant, type Node, type Tree } from '../../proof/trees.ts'
import { call, machineAt, scratch, scrapTree } from '../../proof/verdicts.ts'
import type { Artefact } from '../../support/artefacts.ts'

/** Who may reclaim: now, after a restart, and after the end of grace and a restart. */
export interface Verdicts {
  readonly now: readonly Owner[]
  readonly restart: readonly Owner[]
  readonly ended: readonly Owner[]
}

export interface Written {
  readonly name: string
  readonly owners: readonly Owner[]
  readonly tree: readonly (readonly [string, Node])[]
  /** As that release answered. */
  readonly verdicts: Verdicts
}

/** Each release that has written something, with what it wrote. */
export const released = (): ReadonlyMap<string, readonly Written[]> =>
  new Map(
    readdirSync(import.meta.dirname)
      .filter((name) => name.endsWith('.json'))
      .sort()
      .map((name) => [
        name.replace(/\.json$/, ''),
        JSON.parse(readFileSync(join(import.meta.dirname, name), 'utf8')) as Written[],
      ]),
  )

/** Asks a program who may reclaim in a state directory, after these events. */
export async function reclaimers(
  artefact: Artefact,
  tree: Tree,
  owners: readonly Owner[],
  ...before: readonly Event[]
): Promise<Owner[]> {
  const machine = machineAt(scratch())
  try {
    plant(tree, machine.stateDir)
    const allowed: Owner[] = []
    for (const event of [...before, ...owners.map((owner) => check(owner, 'Y'))]) {
      const { status, stderr } = await call(artefact, machine, event)
      if (status !== 0 && !(status === 255 && event.event === 'check'))
        throw new Error(`${event.event} ended with ${status}: ${stderr}`)
      if (status === 0 && event.event === 'check') allowed.push(event.owner)
    }
    return allowed
  } finally {
    scrapTree(machine)
  }
}

export const restarted = start('9000')

export async function verdictsOf(artefact: Artefact, tree: Tree, owners: readonly Owner[]): Promise<Verdicts> {
  const lone: Event = { event: 'grace done', bootTime: undefined }
  return {
    now: await reclaimers(artefact, tree, owners),
    restart: await reclaimers(artefact, tree, owners, restarted),
    ended: await reclaimers(artefact, tree, owners, lone, restarted),
  }
}
