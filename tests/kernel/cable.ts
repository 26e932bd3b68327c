// Two machines and a cable: the clients' machine stays on, the server's is switched off and on again with the same
// disks.
import { blankDisk, type FileSystem } from './disk.ts'
import type { Guest } from './guest.ts'
import type { Kernel } from './image.ts'
import { freePort } from './port.ts'
import { prepare, serve, type Server } from './server.ts'
import type { Ground } from './story.ts'
import type { Helper } from './tracking.ts'

export interface Cable {
  readonly clients: Guest
  /** A server that is not started yet, on the disks as they are. */
  readonly powerOn: (helper: Helper, kernel?: Kernel) => Promise<Server>
}

export async function cable(ground: Ground, story: string, type: FileSystem): Promise<Cable> {
  const disks = ['state', 'export'].map((name) => blankDisk(ground.directory, `${story}-${name}`, type))
  const port = await freePort()
  const card = (end: string, mac: string) => [
    '-netdev',
    `socket,id=cable,${end}=127.0.0.1:${port}`,
    '-device',
    `virtio-net-pci,netdev=cable,mac=52:54:00:00:00:0${mac}`,
  ]
  const clients = await ground.boot({ name: `${story}-clients`, disks: [], cards: card('listen', '2') })
  await prepare(clients, { serves: false, bridged: 'eth0' })
  return {
    clients,
    powerOn: async (helper, kernel) => {
      const guest = await ground.boot({ name: `${story}-server`, disks, cards: card('connect', '1') }, kernel)
      await prepare(guest, { serves: true, bridged: 'eth0' })
      return serve(guest, helper, story)
    },
  }
}
