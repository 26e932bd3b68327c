/** Commands for people as acts beside upcalls. Each looks, is told to go on, and does its work. */
import { carryOut, planFor } from '../../../lib/commands/allow.ts'
import type { Movable } from '../../../lib/commands/move/movable.ts'
import { confirmPlaced, destinationAt, placeAll } from '../../../lib/commands/move/placement.ts'
import { missingSince, pruneAll } from '../../../lib/commands/prune.ts'
import type { Context } from '../../../lib/commands/shared/context.ts'
import { asRecorded, forgetAll } from '../../../lib/commands/shared/forget.ts'
import { repairAll } from '../../../lib/commands/shared/repair.ts'
import { survey } from '../../../lib/commands/shared/survey.ts'
import type { World } from '../../../lib/events/world.ts'
import { failureFrom } from '../../../lib/failure.ts'
import { openLog } from '../../../lib/kernel/log.ts'
import { nfsdAt } from '../../../lib/kernel/nfsd.ts'
import { stateDirectory } from '../../../lib/store/state-directory.ts'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import type { ClientOwner } from '../../../lib/upcall/owner.ts'
import { refused, type Owner } from '../../life/oracle.ts'
import { allow, expire, prune } from '../../proof/scenarios.ts'
import * as places from '../../support/memory/machine.ts'
import type { Act } from './at-once.ts'

/** The run directory of an upcall without a configuration (lib/settings/settings.ts). */
const runDirectory = `${places.runDirectory}/nfsd-userland-helper`
/** Some commands must not run beside a server. Here none runs. */
const noServer = '/no/server/runs'

const contextOn = (calls: Calls): Context => ({
  calls,
  stateDirectory: places.stateDirectory,
  runDirectory,
  nfsdDirectory: noServer,
  debug: false,
  complaints: [],
  configuration: undefined,
  foreground: false,
  pipefs: () => noServer,
})

const worldOn = (calls: Calls): World => ({
  calls,
  state: stateDirectory(calls, places.stateDirectory, runDirectory),
  nfsd: nfsdAt(calls, places.nfsd),
  log: openLog(calls, { foreground: false, debug: false }),
  deadline: { assertTimeLeft: () => undefined },
  isUpcall: false,
})

/** @param work @returns the clients that came back meanwhile, and so were not removed. */
const byHand =
  (work: (world: World, context: Context) => readonly ClientOwner[] | undefined): Act['play'] =>
  (by) =>
    by.program((calls) => {
      try {
        return (work(worldOn(calls), contextOn(calls)) ?? []).length === 0 ? 0 : 1
      } catch (thrown) {
        if (failureFrom(thrown).kind === 'storage') return refused
        throw thrown
      }
    })

const bytes = (owner: Owner): ClientOwner => Uint8Array.from(Buffer.from(owner, 'hex')) as ClientOwner
const named = (owner: Owner): string => Buffer.from(owner, 'hex').toString()
const nothing = (): undefined => undefined

/** The command says that it has changed nothing, and this is true. */
const nothingChanged = { event: undefined, statuses: [refused] } as const

export const expireByHand = (owner: Owner): Act => ({
  name: `expire ${named(owner)}`,
  meanings: [{ event: expire(owner), statuses: [0] }, { event: undefined, statuses: [1] }, nothingChanged],
  play: byHand((world, context) => forgetAll(world, context, [asRecorded(survey(context), bytes(owner))], nothing)),
})

/** Beside an `allow`, it may remove the client and then say that it came back. */
export const expireBesideAllow = (owner: Owner): Act => {
  const act = expireByHand(owner)
  return { ...act, meanings: [...act.meanings, { event: expire(owner), statuses: [1] }] }
}

/** Status 1 says that somebody came back. That client has reclaimed, so by the rule it is not pruned anyway. */
export const pruneByHand: Act = {
  name: 'prune',
  meanings: [{ event: prune, statuses: [0, 1] }, nothingChanged],
  play: byHand((world, context) => {
    const asked = [...missingSince(context, 1).clients]
    return asked.length === 0 ? [] : pruneAll(world, context, asked, nothing)
  }),
}

/** If the server's start is not recorded, no record has an effect, and nobody is waited for. */
export const pruneOfNobody: Act = {
  ...pruneByHand,
  meanings: [{ event: undefined, statuses: [0] }, ...pruneByHand.meanings],
}

export const allowByHand = (owner: Owner): Act => ({
  name: `allow ${named(owner)}`,
  meanings: [{ event: allow(owner) }, nothingChanged],
  play: byHand((world, context) => {
    carryOut(world, context, planFor(world, context, [bytes(owner)]))
    return []
  }),
})

export const importByHand = (owner: Owner): Act => ({
  name: `import ${named(owner)}`,
  meanings: [{ event: { event: 'import', owner } }, nothingChanged],
  play: byHand((_, context) => {
    const client: Movable = { owner: bytes(owner), session: 'no session', recorded: 0, principal: undefined }
    const destination = destinationAt(context)
    switch (destination.standing(client)) {
      case 'missing':
        placeAll(destination, [client])
        break
      case 'there':
        confirmPlaced(destination.state)
        break
      case 'blocked':
        return undefined
    }
    return []
  }),
})

/** Changes nothing about who may reclaim. */
export const repairByHand: Act = {
  name: 'verify --repair',
  meanings: [{ event: undefined, statuses: [0, refused] }],
  play: byHand((_, context) => {
    Array.from(repairAll(context))
    return []
  }),
}
