// The promise itself. There are two machines, and the server's loses power while clients come and go. Everything that
// the helper has answered with 0 must be on the disk when the machine is back.
import assert from 'node:assert/strict'
import { cable } from '../cable.ts'
import { join as joins, type Client } from '../client.ts'
import type { FileSystem } from '../disk.ts'
import type { Guest } from '../guest.ts'
import type { Server } from '../server.ts'
import { claimHeld, holder, holders, reclaimsTwice, type Ground, type Story } from '../story.ts'

const story = (type: FileSystem): Story => ({
  name: `crash-${type}`,
  title: `A server machine that loses power, three times, gives every acknowledged lock back (${type})`,
  alone: async (ground) => {
    const { clients, powerOn: switchOn } = await cable(ground, `crash-${type}`, type)
    const powerOn = async (): Promise<Server> => {
      const server = await switchOn(ground.helper)
      // The longer a server was off, the later its clients look again. One that may not reclaim learns that at the end.
      await server.start({ grace: 200 })
      return server
    }

    let server = await powerOn()
    const client = (name: string, version: '4.0' | '4.1' | '4.2') => joins(clients, server, name, version)
    const holding: Client[] = await holders(
      await Promise.all([client('ann', '4.0'), client('bob', '4.1'), client('cleo', '4.2')]),
    )

    for (const [round, [first, second, leaver]] of [
      ['v1', 'v2', 'v3'],
      ['w1', 'w2', 'w3'],
    ].entries() as Iterable<[number, [string, string, string]]>) {
      const crash = `after crash ${round + 1}`
      if (await server.inGrace()) await server.endGrace()
      // Clients that the next restart would not know any more unmount first.
      for (const lost of holding.filter((one) => round > 0 && !reclaimsTwice(server, one))) {
        await lost.drop(lost.name)
        await lost.leave()
        holding.splice(holding.indexOf(lost), 1)
      }
      const gone = await client(leaver, '4.1')
      await gone.lock(leaver)
      holding.push(await holder(client(first, '4.0')))
      const leaving = gone
        .drop(leaver)
        .then(() => gone.leave())
        .catch(() => undefined)
      // The last lock is acknowledged just before the power cut, so nothing could be written back in between.
      const last = await client(second, '4.1')
      await Promise.all([leaving, last.lock(second)])
      await server.guest.kill()
      holding.push(last)
      server = await powerOn()
      await claimAll({ ...ground, server, clients }, crash, holding)
    }

    await ground.claim('the server is still in its grace period', async () => {
      assert.ok(await server.inGrace())
    })
    await server.guest.kill()
    server = await powerOn()
    await claimAll({ ...ground, server, clients }, 'after a third crash, in the grace period', holding)
  },
})

async function claimAll(
  ground: Ground & { readonly server: Server; readonly clients: Guest },
  when: string,
  holding: readonly Client[],
): Promise<void> {
  const { server } = ground
  const told = (await server.upcalls()).flatMap(({ verb, owner }) => (verb === 'named' ? [owner] : []))
  if (server.tracker !== 'helper') ground.note(`${when}, the kernel was told of: ${told.toSorted().join(', ')}`)
  await claimHeld(ground, when, holding)
}

export const crashOnExt4 = story('ext4')
export const crashOnXfs = story('xfs')
