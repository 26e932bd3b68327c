// Many clients at once: as many helpers run at the same time as the server has threads.
import assert from 'node:assert/strict'
import { NFS4ERR_RECLAIM_BAD, NFS4_OK, owner } from '../nfs41.ts'
import { recorded } from '../records.ts'
import { exported } from '../server.ts'
import type { Story } from '../story.ts'

const story = (name: string, crowd: number): Story => ({
  name,
  title: `${crowd} clients that arrive at once are all recorded, and all reclaim after a restart`,
  tell: async (stage) => {
    const { guest, server, claim, note, nfsPort } = stage
    await guest.run(`echo contended > ${exported}/file`)
    await server.start({ grace: 600, lease: 300, threads: 32 })
    await server.endGrace()
    const names = Array.from({ length: crowd }, (_, n) => `storm client ${String(n).padStart(3, '0')}`)
    const owners = names.map((name) => owner(nfsPort, name))
    const stranger = owner(nfsPort, 'a stranger')
    const all = <T>(act: (one: typeof stranger) => Promise<T>) => Promise.all(owners.map(act))
    // A few at a time, because the helper is tested, not the emulated network's backlog.
    const connect = async () => {
      for (let n = 0; n < crowd; n += 10) await Promise.all(owners.slice(n, n + 10).map((one) => one.connect()))
    }
    const statuses = (statuses: number[]) => [...new Set(statuses)]

    const rate = (what: string, since: number) => {
      note(`${what}: ${(crowd / ((Date.now() - since) / 1000)).toFixed(1)} clients a second`)
    }
    try {
      await connect()
      let since = Date.now()
      await claim(`RECLAIM_COMPLETE of ${crowd} clients at once succeeds`, async () => {
        assert.deepEqual(statuses(await all((one) => one.completes())), [NFS4_OK])
      })
      rate('recorded', since)
      await claim(`${crowd} create upcalls were answered 0`, async () => {
        const created = (await server.upcalls()).filter(({ verb, status }) => verb === 'create' && status === 0)
        assert.equal(new Set(created.map(({ owner: name }) => name)).size, crowd)
      })
      await claim(`${crowd} clients are recorded`, async () => {
        assert.deepEqual(await recorded(server), names)
      })
      await all((one) => {
        one.disconnect()
        return Promise.resolve()
      })

      await server.restart()
      await connect()
      await stranger.connect()
      since = Date.now()
      await claim('after the restart every one of them may reclaim an open', async () => {
        assert.deepEqual(statuses(await all((one) => one.reclaims('file'))), [NFS4_OK])
      })
      rate('reclaimed', since)
      await claim('a stranger may not', async () => {
        assert.equal(await stranger.reclaims('file'), NFS4ERR_RECLAIM_BAD)
      })
      await claim('all complete their reclaim at once', async () => {
        assert.deepEqual(statuses(await all((one) => one.completes())), [NFS4_OK])
      })
      await claim('grace ends early: the last of them was the last', async () => {
        assert.notEqual(await server.graceEnds(300), undefined)
      })
      await claim(`the same ${crowd} clients are recorded`, async () => {
        assert.deepEqual(await recorded(server), names)
      })
    } finally {
      for (const one of [...owners, stranger]) one.disconnect()
    }
  },
})

export const storm = story('storm', 200)
/** Six hundred runs of a program take three minutes in an emulator. */
export const smallStorm = story('storm-60', 60)
