// The kernel's own tracker keeps a directory of MD5 sums. The helper takes over where it left.
import assert from 'node:assert/strict'
import { claimHeld, threeHolders, type Story } from '../story.ts'

const legacy = '/var/lib/nfs/v4recovery'

export const upgrade: Story = {
  name: 'upgrade',
  title: 'Clients that the kernel tracked itself reclaim from a helper that was installed since',
  tell: async (stage) => {
    const { guest, server, claim } = stage
    await guest.run(`mkdir -p ${legacy}`)
    await server.start({ tracker: 'legacy' })
    await server.endGrace()
    const clients = await threeHolders(stage)
    await claim('the kernel has recorded three clients by the MD5 sum of their owner', async () => {
      assert.match(await guest.run(`ls ${legacy}`), /^([0-9a-f]{32}\n){3}$/)
    })

    await server.restart({ tracker: 'UMH upcall' })
    await claimHeld(stage, 'with the helper as the tracker', clients)
    await server.endGrace()
    await claim('when grace is done, the kernel\'s old records are gone', async () => {
      assert.equal(await guest.run(`[ ! -e ${legacy} ] || ls ${legacy}`), '')
    })
    await server.restart()
    await claimHeld(stage, 'after one more restart, from the helper\'s own records', clients)
  },
}
