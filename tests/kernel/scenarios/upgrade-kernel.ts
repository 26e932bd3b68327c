// Some kernels call a helper, and others ask at the pipe. A machine goes from one kind to the other, and back.
import { cable } from '../cable.ts'
import { join as joins, type Client, type Version } from '../client.ts'
import type { Kernel } from '../image.ts'
import type { Server } from '../server.ts'
import { claimHeld, claimLost, holders, type Story } from '../story.ts'
import type { Tracker } from '../tracking.ts'

export const upgradeKernel: Story = {
  name: 'upgrade-kernel',
  title: 'Locks survive the way from kernel 6.1 with the helper to 7.2 with serve, and the way back',
  alone: async (ground) => {
    const { clients, powerOn } = await cable(ground, 'upgrade-kernel', 'ext4')
    const boot = async (kernel: Kernel, tracker: Tracker): Promise<Server> => {
      const server = await powerOn({ ...ground.helper, tracker }, kernel)
      await server.start({ grace: 120 })
      return server
    }
    const shutDown = async (server: Server): Promise<void> => {
      await server.stop()
      await server.daemon.end('TERM')
      await server.guest.run('sync')
      await server.guest.kill()
    }
    let server = await boot('6.1', 'helper')
    const client = (name: string, version: Version): Promise<Client> => joins(clients, server, name, version)
    const old = await Promise.all([client('ann', '4.0'), client('bob', '4.1'), client('cleo', '4.2')]).then(holders)

    await shutDown(server)
    server = await boot('7.2', 'serve')
    await claimHeld({ ...ground, server, clients }, 'under 7.2, from the records of the helper', old)
    await server.endGrace()
    const young = await holders(await Promise.all([client('dan', '4.0'), client('emma', '4.1')]))

    await shutDown(server)
    server = await boot('6.1', 'helper')
    // Under 7.2 Ann, an NFSv4.0 client, has only reclaimed, and the pipe does not report that.
    const [ann, ...known] = old
    await claimHeld({ ...ground, server, clients }, 'under 6.1 again', [...known, ...young])
    await server.endGrace()
    await claimLost({ ...ground, server, clients }, 'under 6.1 again', [ann])
    // She has opened her file anew, so she may reclaim at the next restart. Linux then reclaims the lost lock as well.
    await ann.drop('ann')
    await ann.leave()

    await server.restart()
    await claimHeld({ ...ground, server, clients }, 'after one more restart under 6.1', [...known, ...young])
  },
}
