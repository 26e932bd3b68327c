/** A world for events in process: any system, a fake kernel, and a log that is kept. */
import type { World } from '../../../lib/events/world.ts'
import { stateDirectory } from '../../../lib/store/state-directory.ts'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import type { ClientOwner } from '../../../lib/upcall/owner.ts'
import type { ClientRequest, KnownSession, Session } from '../../../lib/upcall/request.ts'
import * as places from '../../support/memory/machine.ts'

/** A client that may reclaim, as the kernel was told. */
export interface AllowedClient {
  readonly owner: string
  readonly principal: string | undefined
}

export interface FakeKernel {
  grace: 'over' | 'running' | 'unknown'
  /** How often the kernel was asked to end grace. */
  asked: number
  /** The clients that a start has told it; undefined: it takes no such list. */
  allowed: AllowedClient[] | undefined
}

export interface Played {
  readonly world: World
  readonly kernel: FakeKernel
  readonly lines: string[]
}

/** @param calls of a system in memory. */
export function worldOn(calls: Calls, isUpcall = true): Played {
  const lines: string[] = []
  const kernel: FakeKernel = { grace: 'running', asked: 0, allowed: undefined }
  const say = (priority: string) => (line: string) => void lines.push(`${priority}: ${line}`)
  return {
    kernel,
    lines,
    world: {
      calls,
      state: stateDirectory(calls, places.stateDirectory, places.runDirectory),
      nfsd: {
        grace: () => kernel.grace,
        endGrace: () => {
          kernel.asked++
          return 'asked'
        },
        takesAllowedClients: () => kernel.allowed !== undefined,
        allowClients: (sayAll) => {
          const allowed: AllowedClient[] = []
          sayAll((owners, principal) => allowed.push(...owners.map((owner) => ({ owner, principal }))) >= 0)
          kernel.allowed = allowed
          return allowed.length
        },
      },
      log: {
        critical: say('critical'),
        error: say('error'),
        warning: say('warning'),
        notice: say('notice'),
        debug: say('debug'),
        failed: () => 1,
      },
      deadline: { assertTimeLeft: () => undefined },
      isUpcall,
    },
  }
}

export const ownerNamed = (name: string): ClientOwner => Uint8Array.from(Buffer.from(name)) as ClientOwner

export const create = (name: string, session: Session = 'has session', principal?: string): ClientRequest => ({
  event: 'create',
  owner: ownerNamed(name),
  session,
  principal,
  kernelBootTime: undefined,
})

export const check = (name: string, session: KnownSession): ClientRequest => ({
  event: 'check',
  owner: ownerNamed(name),
  session,
  legacyRecord: undefined,
})

export const remove = (name: string): ClientRequest => ({ event: 'remove', owner: ownerNamed(name) })
