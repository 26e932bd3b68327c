// What a scenario is told in: a server, clients that come by name, and claims. A claim is one sentence that the run
// proves or disproves; all of them are tests, and all of them are in the report.
import assert from 'node:assert/strict'
import { lostLocks, type Client, type Version } from './client.ts'
import type { Guest, Machine } from './guest.ts'
import type { Kernel } from './image.ts'
import type { Server } from './server.ts'
import type { Helper } from './tracking.ts'

/** What every story has. */
export interface Ground {
  readonly helper: Helper
  /** For disks and the like; gone at the next run. */
  readonly directory: string
  readonly claim: (sentence: string, proof: () => void | Promise<void>) => Promise<void>
  /** Something worth reading in the report that is right or wrong for nobody. */
  readonly note: (text: string) => void
  /** A machine of the story's own; it is switched off when the story ends. @param kernel another than the story's. */
  readonly boot: (machine: Omit<Machine, 'directory'>, kernel?: Kernel) => Promise<Guest>
}

/** What most have: one guest that is server and clients, left as it was found. */
export interface Stage extends Ground {
  readonly guest: Guest
  readonly clients: Guest
  readonly server: Server
  /** The port of this machine behind which the guest's nfsd listens. */
  readonly nfsPort: number
  readonly client: (name: string, version: Version) => Promise<Client>
}

export type Story = {
  readonly name: string
  readonly title: string
  /** The helper is left to its default state directory, /var/lib/nfs. */
  readonly defaultDirectory?: boolean
} & ({ readonly tell: (stage: Stage) => Promise<void> } | { readonly alone: (ground: Ground) => Promise<void> })

/** Each client of the three minor versions holds a lock on a file that bears its name. */
export async function threeHolders({ client }: Stage): Promise<Client[]> {
  return holders(await Promise.all([client('ann', '4.0'), client('bob', '4.1'), client('cleo', '4.2')]))
}

export async function holders<Clients extends readonly Client[]>(clients: Clients): Promise<Clients> {
  await Promise.all(clients.map((client) => client.lock(client.name)))
  return clients
}

/** One client, which comes and takes the lock on its file. */
export async function holder(coming: Promise<Client>): Promise<Client> {
  const [client] = await holders([await coming])
  return client
}

/** Both sides agree: the clients write under their locks, none says it lost one, and the server holds exactly these. */
export async function claimHeld(
  { clients: machine, server, claim }: Pick<Stage, 'clients' | 'server' | 'claim'>,
  when: string,
  clients: readonly Client[],
): Promise<void> {
  const names = clients.map(({ name }) => name)
  await claim(`${when}, ${names.join(', ')} write under the locks they held before`, async () => {
    assert.deepEqual(
      await Promise.all(clients.map((client) => client.writesUnderLock(client.name))),
      names.map(() => 'written'),
    )
  })
  await claim(`${when}, the server holds a lock on ${names.join(', ')} and on nothing else`, async () => {
    assert.deepEqual(await server.locked(), names.toSorted())
  })
  await claim(`${when}, no client's kernel has lost a lock`, async () => {
    assert.deepEqual(
      await lostLocks(machine, clients),
      names.map(() => 0),
    )
  })
}

/**
 * Through the pipe the kernel records an NFSv4.0 client when it confirms an open, and a reclaim confirms nothing: who
 * has only reclaimed is not known at the restart after that, with nfsdcld neither. No lock is ever given to two: what
 * is lost is known to be lost.
 */
export const reclaimsTwice = (server: Pick<Server, 'tracker'>, { version }: Client): boolean =>
  server.tracker === 'helper' || version !== '4.0'

/** {@link claimHeld} at the second restart since the clients took their locks. */
export async function claimHeldAgain(
  stage: Pick<Stage, 'clients' | 'server' | 'claim'>,
  when: string,
  clients: readonly Client[],
): Promise<void> {
  const forgotten = clients.filter((client) => !reclaimsTwice(stage.server, client))
  await claimHeld(
    stage,
    when,
    clients.filter((client) => !forgotten.includes(client)),
  )
  if (forgotten.length > 0) await claimLost(stage, when, forgotten)
}

/** Both sides agree: the clients know that their locks are gone, and the server holds none of them. */
export async function claimLost(
  { clients: machine, server, claim }: Pick<Stage, 'clients' | 'server' | 'claim'>,
  when: string,
  clients: readonly Client[],
): Promise<void> {
  const names = clients.map(({ name }) => name)
  await claim(`${when}, ${names.join(', ')} do not get their locks back`, async () => {
    assert.deepEqual(
      await Promise.all(clients.map((client) => client.writesUnderLock(client.name))),
      names.map(() => 'lock lost'),
    )
  })
  await claim(`${when}, the server holds none of the locks of ${names.join(', ')}`, async () => {
    assert.deepEqual(
      (await server.locked()).filter((file) => names.includes(file)),
      [],
    )
  })
  await claim(`${when}, the kernels of ${names.join(', ')} say that they lost one lock each`, async () => {
    assert.deepEqual(
      await lostLocks(machine, clients),
      names.map(() => 1),
    )
  })
}
