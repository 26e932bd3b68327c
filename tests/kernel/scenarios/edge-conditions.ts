// The two ways in which a server that relies on what its clients say would give one lock to two of them:
// RFC 7530 section 9.6.3.4, RFC 8881 section 8.4.3.
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from '../client.ts'
import { lease } from '../server.ts'
import { claimLost, holders, type Stage, type Story } from '../story.ts'

async function eveTakesAndDrops({ claim }: Stage, eve: Client, clients: readonly Client[], why: string): Promise<void> {
  await claim(`${why}, another client is granted their locks, and drops them`, async () => {
    for (const { name } of clients) assert.equal(await isGranted(eve, name), true, name)
  })
}

/** Some time later, because on a busy machine the server may notice late that a lease has expired. */
export async function isGranted(eve: Client, name: string): Promise<boolean> {
  for (let tries = 0; tries < 60; tries++) {
    if ((await eve.triesLock(name)) === 'granted') return true
    await sleep(1000)
  }
  return false
}

async function heal(clients: readonly Client[]): Promise<void> {
  await Promise.all(clients.map((client) => client.heal()))
}

async function claimNobodyAllowed({ server, claim }: Stage, clients: readonly Client[], before: number): Promise<void> {
  await claim(
    'the helper allows nothing about them: it answers no check with yes, and names them to no start',
    async () => {
      const allowed = (await server.upcalls())
        .slice(before)
        .filter(
          ({ verb, owner, status }) =>
            (verb === 'check' || verb === 'named') && status === 0 && clients.some(({ name }) => owner.includes(name)),
        )
      assert.deepEqual(allowed, [])
    },
  )
}

export const leaseLostBeforeRestart: Story = {
  name: 'edge-1',
  title: 'Edge condition 1: who lost the lease before the restart may not reclaim after it',
  tell: async (stage) => {
    const { server, client, claim } = stage
    await server.start()
    await server.endGrace()
    const [cut, eve] = await Promise.all([
      Promise.all([client('ann', '4.0'), client('bob', '4.1')]).then(holders),
      client('eve', '4.2'),
    ])
    await Promise.all(cut.map((one) => one.cutOff()))
    await sleep((lease + 6) * 1000)
    await eveTakesAndDrops(stage, eve, cut, 'when the leases of ann and bob have run out')
    await claim('the helper was told to remove both of them', async () => {
      const removed = (await server.upcalls()).filter(({ verb, status }) => verb === 'remove' && status === 0)
      assert.deepEqual(removed.map(({ owner }) => /ann|bob/.exec(owner)?.[0]).sort(), ['ann', 'bob'])
    })

    const before = (await server.upcalls()).length
    await server.restart()
    await heal(cut)
    await claimLost(stage, 'after the restart', cut)
    await claimNobodyAllowed(stage, cut, before)
  },
}

export const graceMissed: Story = {
  name: 'edge-2',
  title: 'Edge condition 2: who missed a whole grace period may not reclaim in the next',
  tell: async (stage) => {
    const { server, client, claim } = stage
    await server.start({ grace: 12 })
    await server.endGrace()
    const [cut, eve] = await Promise.all([
      Promise.all([client('ann', '4.0'), client('bob', '4.1')]).then(holders),
      client('eve', '4.2'),
    ])
    await Promise.all(cut.map((one) => one.cutOff()))
    await server.restart()
    await claim('grace ends by itself without ann and bob', async () => {
      assert.notEqual(await server.graceEnds(120), undefined)
    })
    await eveTakesAndDrops(stage, eve, cut, 'when ann and bob have missed the grace period')

    const before = (await server.upcalls()).length
    await server.restart({ grace: 60 })
    await heal(cut)
    await claimLost(stage, 'after the second restart', cut)
    await claimNobodyAllowed(stage, cut, before)
  },
}
