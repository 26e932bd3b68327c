// The kernel leaves grace before it tells the helper: it sets the flag, and then runs `gracedone`. If a client comes in
// between, the helper has not been told yet.
import assert from 'node:assert/strict'
import { helperParameter } from '../../../lib/kernel/nfsd-module.ts'
import { owner, NFS4ERR_DELAY, NFS4_OK, type Owner } from '../nfs41.ts'
import { recorded } from '../records.ts'
import type { Story } from '../story.ts'

const rounds = 5
/** As many as nfsd has threads, so that all of their upcalls run at once. */
const crowd = 16
const ended = /the kernel is out of grace, and has not said so yet/

export const endUnderTraffic: Story = {
  name: 'end-under-traffic',
  title: `Grace ends ${rounds} times while ${crowd} clients come: nothing is wrong, and nothing is called wrong`,
  tell: async (stage) => {
    const { guest, server, claim, note, nfsPort, helper } = stage
    const program = `/usr/sbin/${helper.name}`
    const gone: Owner[] = []
    const arrivals = async (round: string): Promise<{ names: string[]; complete: () => Promise<number[]> }> => {
      const names = Array.from({ length: crowd }, (_, n) => `${round} client ${String(n).padStart(2, '0')}`)
      const owners = names.map((name) => owner(nfsPort, name))
      gone.push(...owners)
      for (let n = 0; n < crowd; n += 8) await Promise.all(owners.slice(n, n + 8).map((one) => one.connect()))
      return { names, complete: () => Promise.all(owners.map((one) => one.completes())) }
    }
    const inBetween = async () => (await server.log()).split('\n').filter((line) => ended.test(line)).length

    try {
      await server.start({ grace: 120, lease: 60, threads: crowd })
      for (let round = 1; round <= rounds; round++) {
        const { names, complete } = await arrivals(`round ${round}`)
        await claim(`in round ${round} all of ${crowd} clients that come while grace ends are recorded`, async () => {
          const [statuses] = await Promise.all([complete(), server.endGrace()])
          // A busy server may answer "later" to a request that it is working on. What counts is that each client is
          // recorded.
          assert.deepEqual(
            statuses.filter((status) => status !== NFS4_OK && status !== NFS4ERR_DELAY),
            [],
          )
          const missing = async (): Promise<string[]> => {
            const found = await recorded(server)
            return names.filter((name) => !found.includes(name))
          }
          for (let tries = 0; tries < 120 && (await missing()).length > 0; tries++)
            await new Promise((resolve) => setTimeout(resolve, 500))
          assert.deepEqual(await missing(), [])
        })
        await claim(
          `at the next start after round ${round} no line of ours is an error, and no upcall has failed`,
          async () => {
            await server.restart()
            assert.deepEqual(await server.errors(), [])
            assert.deepEqual(
              (await server.upcalls()).filter(({ status }) => status !== 0),
              [],
            )
          },
        )
      }
      const met = await inBetween()
      note(`${met} of ${rounds} ends of grace were met by a client before gracedone`)
      await claim('some of them came before gracedone: the story has told what it wanted to tell', () => {
        assert.ok(met > 0)
      })

      await claim(
        'a gracedone that never comes is an error at the next start, and the client that came meanwhile is recorded',
        async () => {
          await guest.run(`
          printf '#!/bin/sh\\n[ "$1" = gracedone ] || exec ${program} "$@"\\n' > /usr/sbin/deaf-helper; chmod 755 /usr/sbin/deaf-helper
          printf %s /usr/sbin/deaf-helper > ${helperParameter}`)
          await server.endGrace()
          const { names, complete } = await arrivals('last')
          await complete()
          assert.ok((await inBetween()) > met)
          assert.deepEqual(await server.errors(), [])
          const found = await recorded(server)
          assert.deepEqual(
            names.filter((name) => !found.includes(name)),
            [],
          )
          await server.restart()
          assert.match(
            (await server.errors()).join('\n'),
            /^nfsd-userland-helper: the kernel never said that the grace of server instance \d+ was over$/,
          )
        },
      )
    } finally {
      for (const one of gone) one.disconnect()
    }
  },
}
