// A server that dies in its grace period has granted nothing new. So a client that was silent in it has lost nothing.
import assert from 'node:assert/strict'
import { claimHeld, claimHeldAgain, threeHolders, type Story } from '../story.ts'

export const crashInGrace: Story = {
  name: 'crash-in-grace',
  title: 'Clients that were silent in two unfinished grace periods still reclaim in the third',
  tell: async (stage) => {
    const { server, claim } = stage
    await server.start({ grace: 120 })
    await server.endGrace()
    const clients = await threeHolders(stage)
    const [ann, bob, cleo] = clients as [(typeof clients)[0], (typeof clients)[0], (typeof clients)[0]]

    await ann.cutOff()
    await server.restart()
    await claim('while ann (4.0) is silent, bob and cleo reclaim', async () => {
      assert.deepEqual([await bob.writesUnderLock('bob'), await cleo.writesUnderLock('cleo')], ['written', 'written'])
    })
    await claim('the server stops in the middle of its grace period', async () => {
      assert.ok(await server.inGrace())
    })

    await bob.cutOff()
    await server.restart()
    await claim('while bob (4.1) is silent too, cleo reclaims again', async () => {
      assert.equal(await cleo.writesUnderLock('cleo'), 'written')
    })
    await claim('the server stops in the middle of its grace period once more', async () => {
      assert.ok(await server.inGrace())
    })

    await server.stop()
    await Promise.all([ann.heal(), bob.heal()])
    await server.start()
    await claimHeld(stage, 'in the third grace period', clients)
    await server.endGrace()
    await server.restart()
    await claimHeldAgain(stage, 'after a grace period that was completed and one more restart', clients)
  },
}
