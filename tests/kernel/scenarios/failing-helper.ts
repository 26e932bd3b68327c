// A helper that can't write. The kernel serves clients whatever the helper answers, and never repeats an upcall. So the
// helper can only answer, say it in the kernel's log, and not promise what it can't keep.
import assert from 'node:assert/strict'
import type { Client } from '../client.ts'
import { exported, lease, stateDisk } from '../server.ts'
import { claimHeld, claimLost, holder, holders, reclaimsTwice, type Stage, type Story } from '../story.ts'
import { killed } from '../upcalls.ts'

const ourLine = /nfsd-userland-helper: /

/** Dora comes while the state can't be written. A create that is answered with 0 is a promise, otherwise it is none. */
async function doraComes({ server, client, claim }: Stage, why: string): Promise<Client> {
  const logged = (await server.log()).length
  const dora = await client('dora', '4.1')
  await claim(`${why}, a new client is served all the same: nothing hangs`, () => dora.lock('dora'))
  const failed =
    (await server.upcalls()).findLast(({ verb, owner }) => verb === 'create' && owner.endsWith('dora'))?.status !== 0
  if (failed)
    await claim(
      `${why}, the new client could not be recorded, and the kernel's log has a line of ours that says so`,
      async () => {
        assert.match((await server.log()).slice(logged), ourLine)
      },
    )
  return dora
}

async function claimPromiseKept({ server, claim }: Stage, dora: Client, asked: number): Promise<void> {
  const create = (await server.upcalls())
    .slice(0, asked)
    .findLast(({ verb, owner }) => verb === 'create' && owner.endsWith('dora'))
  const promised = create?.status === 0
  // The process at the pipe keeps what it could not write, and writes it later. Then she may reclaim, although nobody
  // has promised it.
  if (!promised && server.tracker !== 'helper') return
  await claim(
    `dora's create was answered ${create?.status ?? 'never'}: she ${promised ? 'reclaims' : 'does not reclaim'} after the restart`,
    async () => {
      assert.equal(await dora.writesUnderLock('dora'), promised ? 'written' : 'lock lost')
    },
  )
}

export const fullDisk: Story = {
  name: 'full-disk',
  title: 'With a full disk known clients still reclaim, and nobody reclaims who was not promised it',
  tell: async (stage) => {
    const { guest, server, client, claim } = stage
    await server.start({ grace: 90 })
    await server.endGrace()
    const known = await Promise.all([client('ann', '4.0'), client('bob', '4.1')]).then(holders)
    const absent = await holder(client('cleo', '4.2'))
    const all = [...known, absent]
    await Promise.all(all.map((one) => one.cutOff()))
    await server.restart()
    // A record may need a block or an inode.
    await guest.run(
      `cd ${stateDisk} && mkdir fillers
      for size in 1M 4k 1k; do dd if=/dev/zero of=filler-$size bs=$size 2> /dev/null || true; done
      (n=0; while : > fillers/$n; do n=$((n + 1)); done) 2> /dev/null || true
      sync`,
      120,
    )
    await Promise.all(known.map((one) => one.heal()))
    await claimHeld(stage, 'with the disk full', known)
    await server.endGrace()
    const dora = await doraComes(stage, 'with the disk full')
    const eve = await client('eve', '4.2')
    await claim(
      'the lock of cleo, who did not come back in time, is granted to another client, who drops it',
      async () => {
        assert.equal(await eve.triesLock('cleo'), 'granted')
      },
    )
    await server.stop()
    await guest.run(`rm -rf ${stateDisk}/fillers ${stateDisk}/filler-*`)
    const asked = (await server.upcalls()).length
    await server.start({ grace: 40 })
    await absent.heal()
    await claimLost(stage, 'when there is room again', [absent])
    await claimPromiseKept(stage, dora, asked)
    const promised = known.filter((one) => reclaimsTwice(server, one))
    await claim(`${promised.map(({ name }) => name).join(' and ')} reclaim once more`, async () => {
      assert.deepEqual(
        await Promise.all(promised.map((one) => one.writesUnderLock(one.name))),
        promised.map(() => 'written'),
      )
    })
  },
}

export const readOnly: Story = {
  name: 'read-only',
  title: 'With a read-only state directory the service starts and serves, and nobody reclaims wrongly afterwards',
  tell: async (stage) => {
    const { guest, server, client, claim } = stage
    await server.start({ grace: 25 })
    await server.endGrace()
    const [absent, eve] = await Promise.all([client('bob', '4.1'), client('eve', '4.2')])
    await absent.lock('bob')
    // This fails if a process has a file open for writing.
    if ((await guest.attempt(`mount -o remount,ro ${stateDisk}`)).status !== 0) {
      await server.daemon.end('TERM')
      await guest.run(`mount -o remount,ro ${stateDisk}`)
      await server.daemon.start()
    }
    const dora = await doraComes(stage, 'with a read-only state directory')
    await absent.cutOff()

    const asked = (await server.upcalls()).length
    const logged = (await server.log()).length
    await server.stop()
    await claim('the service starts on a read-only state directory: nothing hangs', () =>
      server.start({ tracking: 'any' }),
    )
    await claim("the kernel's log has a line of ours that says why it can't be tracked", async () => {
      assert.match((await server.log()).slice(logged), ourLine)
    })
    await claimPromiseKept(stage, dora, asked)
    await server.endGrace()
    await claim(
      "in this instance, which nobody could record, bob's lock is granted to another client, who drops it",
      async () => {
        assert.equal(await eve.triesLock('bob'), 'granted')
      },
    )

    await guest.run(`mount -o remount,rw ${stateDisk}`)
    await server.restart({ tracking: 'ours' })
    await absent.heal()
    await claimLost(stage, 'when it can be written again', [absent])
  },
}

export const startKilled: Story = {
  name: 'start-killed',
  title:
    'A start that is killed while its disk hangs: the server runs without a tracker, and nobody reclaims wrongly afterwards',
  tell: async (stage) => {
    const { guest, server, client, claim, helper } = stage
    await server.start({ grace: 12 })
    await server.endGrace()
    const [absent, eve] = await Promise.all([client('bob', '4.1'), client('eve', '4.2')])
    await absent.lock('bob')
    await absent.cutOff()
    await server.stop()

    await claim('the helper is killed in the middle of the start, and the server goes on: nothing hangs', async () => {
      await guest.run(`fsfreeze --freeze ${stateDisk}`)
      const start = server.start({ tracking: 'any' })
      try {
        await guest.run(
          `
          until pid=$(pidof -x ${helper.name}) && grep -q '^State:.D' /proc/$pid/status; do sleep 0.2; done
          kill -KILL $pid`,
          120,
        )
      } finally {
        await guest.run(`fsfreeze --unfreeze ${stateDisk}`)
      }
      await start
      assert.equal((await server.upcalls()).findLast(({ verb }) => verb === 'init')?.status, killed + 9)
    })
    // Without a tracker, nobody can end the kernel's grace early.
    await server.graceEnds(180)
    await claim(
      "in this instance, which nobody has recorded, bob's lock is granted to another client, who drops it",
      async () => {
        assert.equal(await eve.triesLock('bob'), 'granted')
      },
    )

    const logged = (await server.log()).length
    await server.restart({ tracking: 'ours' })
    await absent.heal()
    await claimLost(stage, 'after the next start', [absent])
    await claim("the kernel's log has a line of ours that says why nobody may reclaim", async () => {
      assert.match(
        (await server.log()).slice(logged),
        /nfsd-userland-helper: a server instance ran that could not be recorded, or only in part: nobody may reclaim/,
      )
    })
  },
}

export const stateRemoved: Story = {
  name: 'state-removed',
  title: 'With the state directory removed under a running server nothing hangs and nobody reclaims without a record',
  tell: async (stage) => {
    const { guest, server, client, claim } = stage
    await server.start({ grace: 25 })
    await server.endGrace()
    const known = await Promise.all([client('ann', '4.0'), client('bob', '4.1')]).then(holders)
    await guest.run(`rm -rf ${server.stateDirectory}`)
    const logged = (await server.log()).length
    const dora = await doraComes(stage, 'with the state directory gone')

    const asked = (await server.upcalls()).length
    await server.stop()
    await claim('the service starts without its state directory: nothing hangs', () =>
      server.start({ tracking: 'any' }),
    )
    await claimLost(stage, 'after the restart', known)
    await claimPromiseKept(stage, dora, asked)
    await claim("the kernel's log has a line of ours that says that nothing was recorded any more", async () => {
      assert.match(
        (await server.log()).slice(logged),
        /nfsd-userland-helper: nothing was recorded under a running server/,
      )
    })
    await claim(`the service goes on, and grants locks anew within ${lease} s of the end of grace`, async () => {
      await server.endGrace()
      assert.equal(await dora.triesLock('ann'), 'granted')
      assert.notEqual(await guest.run(`ls ${exported}`), '')
    })
  },
}
