// The kernel's own tracker keeps a directory of MD5 sums. The helper takes over its clients.
import assert from 'node:assert/strict'
import { recorded } from '../records.ts'
import { claimHeld, claimLost, holder, threeHolders, type Story } from '../story.ts'

const legacy = '/var/lib/nfs/v4recovery'

export const upgrade: Story = {
  name: 'upgrade',
  title: 'Clients that the kernel tracked itself reclaim from a helper that was installed since',
  tell: async (stage) => {
    const { guest, server, client, claim } = stage
    await guest.run(`mkdir -p ${legacy}`)
    await server.start({ tracking: 'legacy' })
    await server.endGrace()
    const [clients, absent] = await Promise.all([threeHolders(stage), holder(client('dan', '4.1'))])
    const sums = () => guest.run(`[ ! -e ${legacy} ] || ls ${legacy}`)
    const before = await sums()
    await claim('the kernel has recorded four clients by the MD5 sum of their owner', () => {
      assert.match(before, /^([0-9a-f]{32}\n){4}$/)
    })

    await absent.cutOff()
    await server.restart({ tracking: 'ours', grace: 120 })
    await claimHeld(stage, 'with the helper as the tracker', clients)
    await claim(
      'those who came are recorded by their owner, and nobody has touched what the kernel recorded',
      async () => {
        assert.deepEqual(
          (await recorded(server)).map((owner) => owner.replace(/\/.*/, '')),
          ['Linux NFSv4.0 ann', 'Linux NFSv4.1 bob', 'Linux NFSv4.2 cleo'],
        )
        assert.equal(await sums(), before)
      },
    )
    await claim('the server stops in the middle of this grace period', async () => {
      assert.ok(await server.inGrace())
    })
    await server.restart()
    await claimHeld(stage, 'in the next grace period', clients)
    await server.endGrace()
    await claim("when grace is done, the kernel's old records are gone", async () => {
      assert.equal(await sums(), '')
    })
    // A client that is refused is served only when grace is over.
    await server.restart({ grace: 30 })
    await absent.heal()
    await claimHeld(stage, "after one more restart, from the helper's own records", clients)
    await claimLost(stage, 'after a whole grace period missed', [absent])
  },
}
