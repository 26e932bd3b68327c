// NFSv4.1 clients say when they have reclaimed everything, so grace may end early. NFSv4.0 clients don't say that.
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { claimHeld, holder, holders, type Story } from '../story.ts'

/** Seconds: longer than any machine takes until all have reclaimed. */
const grace = 120

export const earlyEnd: Story = {
  name: 'early-end',
  title: 'Grace ends when the last client has reclaimed, unless an NFSv4.0 client may still come',
  tell: async (stage) => {
    const { server, client, claim } = stage
    await server.start({ grace })
    await server.endGrace()
    const sessions = await Promise.all([client('bob', '4.1'), client('cleo', '4.2')]).then(holders)

    const before = (await server.upcalls()).length
    await server.restart()
    await claimHeld(stage, 'after the restart', sessions)
    await claim(`with 4.1 and 4.2 clients only, ${grace} s of grace end before their time`, async () => {
      assert.notEqual(await server.graceEnds(grace * 2), undefined)
      const lasted = await server.graceLasted(before)
      assert.ok(lasted < grace, `it lasted ${lasted} s`)
    })

    if (await server.inGrace()) await server.endGrace()
    const ann = await holder(client('ann', '4.0'))
    await ann.cutOff()
    await server.restart()
    await claim('bob and cleo reclaim while ann (4.0) is silent', async () => {
      assert.deepEqual(await Promise.all(sessions.map((one) => one.writesUnderLock(one.name))), ['written', 'written'])
    })
    await sleep(8000)
    await claim('with ann silent, grace goes on', async () => {
      assert.ok(await server.inGrace())
    })
    await ann.heal()
    await claimHeld(stage, 'when ann comes back within the grace period', [ann, ...sessions])
  },
}
