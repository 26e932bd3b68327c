// The everyday case: the service is restarted under clients that hold locks.
import assert from 'node:assert/strict'
import type { Client } from '../client.ts'
import { recorded } from '../records.ts'
import { claimHeld, claimHeldAgain, threeHolders, type Stage, type Story } from '../story.ts'

/** Seconds. With the bundle it takes ten seconds until all clients have reclaimed, and more on a busy machine. */
const graceFor = ({ helper }: Stage): number => (helper.program.endsWith('.cjs') ? 60 : 20)
/** Seconds: enough on every machine for all clients to reclaim before. */
const long = 150
const times = ['first', 'second'] as const

const restarts = (name: string, title: string, times: readonly ('first' | 'second')[]): Story => ({
  name,
  title,
  defaultDirectory: true,
  tell: async (stage) => {
    const { server, claim } = stage
    const clients = await holdersBeforeRestart(stage)
    for (const time of times) {
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
      await claimFullGrace(stage, time, before)
      await claimRecorded(stage, time, clients)
    }
    await claimNothingFailed(stage)
  },
})

export const restart = restarts(
  'restart',
  'Locks of NFSv4.0, 4.1 and 4.2 clients survive two restarts of the service',
  times,
)
/** Whether a kernel starts the bundle, and understands it: the second restart would add the rule, which both have. */
export const restartOnce = restarts(
  'restart-once',
  'Locks of NFSv4.0, 4.1 and 4.2 clients survive a restart of the service',
  ['first'],
)

export const restartByPipe: Story = {
  name: 'restart',
  title: 'Locks of NFSv4.1 and 4.2 clients survive two restarts of the service, those of an NFSv4.0 client the first',
  defaultDirectory: true,
  tell: async (stage) => {
    const { server, claim } = stage
    const grace = graceFor(stage)
    const clients = await holdersBeforeRestart(stage)
    const sessions = clients.filter(({ version }) => version !== '4.0')

    for (const time of times) {
      const before = (await server.upcalls()).length
      // At the second restart grace ends early.
      await server.restart({ grace: time === 'first' ? grace : long })
      const known = time === 'first' ? clients : sessions
      await (time === 'first' ? claimHeld : claimHeldAgain)(stage, `after the ${time} restart`, clients)
      await claim(`at the ${time} restart the kernel was told of ${known.length} clients, once of each`, async () => {
        const told = (await server.upcalls()).slice(before).filter(({ verb }) => verb === 'named')
        assert.deepEqual(
          told.map(({ owner }) => /\w+(?=$|\/)/.exec(owner)?.[0]).sort(),
          known.map(({ name }) => name),
        )
      })
      if (time === 'first') await claimFullGrace(stage, time, before)
      else
        await claim('after the second restart grace ends with the last of the two, before its time', async () => {
          assert.notEqual(await server.graceEnds(long * 2), undefined)
          const lasted = await server.graceLasted(before)
          assert.ok(lasted < long, `it lasted ${lasted} s`)
        })
      // A reclaim does not record Ann. After she has lost her lock, she opens her file anew, and that records her.
      await claimRecorded(stage, time, time === 'first' ? sessions : clients)
    }
    await claimNothingFailed(stage)
  },
}

/** A server out of grace, and three clients that hold locks on it. */
async function holdersBeforeRestart(stage: Stage): Promise<readonly Client[]> {
  await stage.server.start({ grace: graceFor(stage) })
  await stage.server.endGrace()
  return threeHolders(stage)
}

async function claimFullGrace(stage: Stage, time: string, before: number): Promise<void> {
  const { server, claim } = stage
  await claim(
    `after the ${time} restart grace ends by itself, because of the 4.0 client not before its time`,
    async () => {
      assert.notEqual(await server.graceEnds(180), undefined)
      const lasted = await server.graceLasted(before)
      assert.ok(lasted >= graceFor(stage), `it lasted ${lasted} s`)
    },
  )
}

async function claimRecorded({ server, claim }: Stage, time: string, clients: readonly Client[]): Promise<void> {
  await claim(`when the ${time} grace is done, exactly ${clients.length} clients are recorded`, async () => {
    assert.deepEqual(
      (await recorded(server)).map((owner) => owner.replace(/\/.*/, '')),
      clients.map(({ name, version }) => `Linux NFSv${version} ${name}`),
    )
  })
}

async function claimNothingFailed({ server, claim }: Stage): Promise<void> {
  await claim('no upcall of the whole story failed', async () => {
    assert.deepEqual(
      (await server.upcalls()).filter(({ status }) => status !== 0),
      [],
    )
  })
}
