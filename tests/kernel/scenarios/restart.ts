// The everyday case: the service is restarted under clients that hold locks.
import assert from 'node:assert/strict'
import { recorded } from '../records.ts'
import { claimHeld, threeHolders, type Story } from '../story.ts'

/** Seconds. */
const grace = 15

export const restart: Story = {
  name: 'restart',
  title: 'Locks of NFSv4.0, 4.1 and 4.2 clients survive two restarts of the service',
  defaultDirectory: true,
  tell: async (stage) => {
    const { server, claim } = stage
    await server.start({ grace })
    await server.endGrace()
    const clients = await threeHolders(stage)

    for (const time of ['first', 'second']) {
      const before = (await server.upcalls()).length
      await server.restart()
      await claimHeld(stage, `after the ${time} restart`, clients)
      await claim(`at the ${time} restart the kernel asked about each of the three and was answered yes`, async () => {
        const checks = (await server.upcalls()).slice(before).filter(({ verb }) => verb === 'check')
        assert.equal(new Set(checks.map(({ owner }) => owner)).size, 3)
        assert.deepEqual(
          checks.map(({ status }) => status),
          checks.map(() => 0),
        )
      })
      await claim(
        `after the ${time} restart grace ends by itself, because of the 4.0 client not before its time`,
        async () => {
          assert.notEqual(await server.graceEnds(60), undefined)
          const since = (await server.upcalls()).slice(before)
          const at = (wanted: string) => since.find(({ verb }) => verb === wanted)?.at ?? NaN
          assert.ok(at('gracedone') - at('init') >= grace, `it ended ${at('gracedone') - at('init')} s after init`)
        },
      )
      await claim(`when the ${time} grace is done, exactly the three clients are recorded`, async () => {
        assert.deepEqual(
          (await recorded(server)).map((owner) => owner.replace(/\/.*/, '')),
          ['Linux NFSv4.0 ann', 'Linux NFSv4.1 bob', 'Linux NFSv4.2 cleo'],
        )
      })
    }
    await claim('no upcall of the whole story failed', async () => {
      assert.deepEqual(
        (await server.upcalls()).filter(({ status }) => status !== 0),
        [],
      )
    })
  },
}
