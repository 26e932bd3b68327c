// More clients than a start can name to some kernels. Those look for each name before they insert it, and the names of
// all Linux clients are in one list. The whole server waits meanwhile.
import assert from 'node:assert/strict'
import { join as joins } from '../client.ts'
import { nameOf, plant } from '../crowd.ts'
import { blankDisk } from '../disk.ts'
import { NFS4ERR_RECLAIM_BAD, NFS4_OK, owner } from '../nfs41.ts'
import { freePort } from '../port.ts'
import { exported, prepare, serve, type Server } from '../server.ts'
import { claimHeld, holders, type Ground, type Story } from '../story.ts'

const crowd = 100_000
/** Seconds that the server may take to start. If a helper named all clients, it would take minutes. */
const limit = 60

export const manyNames: Story = {
  name: 'many-names',
  title: `With ${crowd} clients recorded the service starts within ${limit} s, and who comes back reclaims`,
  alone: async (ground) => {
    const { claim, note, helper, directory } = ground
    const port = await freePort()
    const guest = await ground.boot({
      name: 'many-names',
      // Each record is an inode, and the laboratory's ext4 has few.
      disks: [blankDisk(directory, 'many-state', 'xfs'), blankDisk(directory, 'many-export', 'ext4')],
      cards: [
        '-netdev',
        `user,id=host,restrict=on,hostfwd=tcp:127.0.0.1:${port}-:2049`,
        '-device',
        'virtio-net-pci,netdev=host',
      ],
    })
    await prepare(guest, { serves: true, reachable: 'eth0' })
    const server = await serve(guest, helper, 'many-names')
    // The trace can't hold a hundred thousand names, and tracing takes the kernel's time.
    await guest.run("echo 'status != -115' > /sys/kernel/tracing/events/kprobes/answered/filter")
    await guest.run(`echo contended > ${exported}/file`)
    const client = (name: string, version: '4.0' | '4.1' | '4.2') => joins(guest, server, name, version)
    const [oneOfThem, stranger] = [owner(port, nameOf(crowd / 2)), owner(port, 'Linux NFSv4.1 stranger')]

    /** Restarts, and measures the time. @returns what the kernel calls its tracker. */
    const restarted = async (): Promise<{ tracker: string; seconds: number }> => {
      await server.stop()
      const logged = (await server.log()).length
      const since = Date.now()
      await server.start({ tracking: 'any' })
      const seconds = (Date.now() - since) / 1000
      const said = /Using (.*) client tracking operations/.exec((await server.log()).slice(logged))
      return { tracker: said?.[1] ?? 'none', seconds }
    }

    try {
      await server.start({ grace: 90 })
      await server.endGrace()
      const clients = await Promise.all([client('ann', '4.0'), client('bob', '4.1'), client('cleo', '4.2')]).then(
        holders,
      )
      await server.stop()
      await plant(ground, server, crowd)
      const logged = (await server.log()).length
      await claim(`with ${crowd} names the service starts within ${limit} s`, async () => {
        const many = await restarted()
        note(`started with ${crowd} names in ${many.seconds.toFixed(1)} s, by "${many.tracker}"`)
        assert.ok(many.seconds < limit, `${many.seconds} s`)
      })
      await noteMemory(ground, server)
      await claimHeld({ ...ground, server, clients: guest }, `after a start with ${crowd} names`, clients)
      await claim('one of the crowd comes back, and may reclaim', async () => {
        await oneOfThem.connect()
        assert.equal(await oneOfThem.reclaims('file'), NFS4_OK)
      })
      await claim('a stranger may not', async () => {
        await stranger.connect()
        assert.equal(await stranger.reclaims('file'), NFS4ERR_RECLAIM_BAD)
      })
      await claim('grace ends, and with it who has not come back', async () => {
        assert.notEqual(await server.graceEnds(240), undefined)
        const done = (await server.upcalls()).findLast(({ verb }) => verb === 'gracedone')
        assert.equal(done?.status, 0)
      })
      for (const line of (await server.log()).slice(logged).split('\n'))
        if (/client tracking|nfsd-userland-helper: /.test(line)) note(line)
      await noteMemory(ground, server)

      const again = await restarted()
      note(`started with those who had come back in ${again.seconds.toFixed(1)} s, by "${again.tracker}"`)
      await claimHeld({ ...ground, server, clients: guest }, 'after one more restart', clients)
    } finally {
      for (const one of [oneOfThem, stranger]) one.disconnect()
    }
  },
}

async function noteMemory({ note }: Ground, { guest, tracker }: Server): Promise<void> {
  const name = tracker === 'nfsdcld' ? 'nfsdcld' : 'nfsd-userland-helper'
  const memory = await guest.run(
    `for id in $(pidof ${name}); do grep -E 'VmHWM|VmRSS' /proc/$id/status; done; grep -E 'MemAvailable|Slab' /proc/meminfo`,
  )
  note(memory.replaceAll(/\s+/g, ' ').trim())
}
