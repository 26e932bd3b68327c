// What an admin is told about a running kernel: its log, its files, its clients, the age of its threads, and the mutex
// that a start holds.
import assert from 'node:assert/strict'
import { dirname } from 'node:path'
import { helperParameter } from '../../../lib/kernel/nfsd-module.ts'
import { claimHeld, threeHolders, type Story } from '../story.ts'

interface Status {
  readonly instance: { readonly kind: string }
  readonly since: { readonly seconds: number; readonly counted_by: string; readonly clock_was_set: boolean }
  readonly grace: {
    readonly kernel: string
    readonly grace_seconds: number | null
    readonly seconds_left: number | null
    readonly held_by: readonly { readonly because: string; readonly client?: { readonly owner: string } }[]
  }
  readonly clients: readonly { readonly owner: string; readonly standing: string }[]
  readonly live:
    | readonly {
        readonly owner: string
        readonly recorded: string | null
        readonly minor_version: number
        readonly status: string
      }[]
    | null
}
interface Diagnosis {
  readonly findings: readonly { readonly check: string; readonly verdict: string; readonly what: string }[]
}

/** Seconds of grace. Node is slow in an emulator. */
const lasting = 300

/** The first complete answer, or the tenth. */
async function askedAgain<T>(ask: () => Promise<T>, isWhole: (answer: T) => boolean): Promise<T> {
  for (let tries = 1; tries < 10; tries++) {
    const answer = await ask()
    if (isWhole(answer)) return answer
  }
  return ask()
}

export const see: Story = {
  name: 'see',
  title: 'status and doctor tell an admin what is so',
  tell: async (stage) => {
    const { guest, server, claim, helper } = stage
    const program = `/usr/sbin/${helper.name}`
    const statusNow = async () => JSON.parse(await guest.run(`${program} status --json`, 120)) as Status
    const doctorNow = async () => {
      const { findings } = JSON.parse((await guest.attempt(`${program} doctor --json`, 120)).output) as Diagnosis
      return Object.fromEntries(findings.map(({ check, verdict, what }) => [check, `${verdict}: ${what}`]))
    }
    // On a busy machine the kernel's files may not be read in time.
    const status = (clients = 0) =>
      askedAgain(statusNow, ({ grace, live }) => grace.grace_seconds !== null && (live ?? []).length >= clients)
    const doctor = () => askedAgain(doctorNow, (found) => !found['grace-time']?.startsWith('unknown'))
    // Where install puts the commands for people, to which the executable hands on.
    await guest.run(
      `mkdir -p /usr/lib/nfsd-userland-helper; cp '${dirname(helper.program)}'/*.cjs /usr/lib/nfsd-userland-helper/`,
    )
    await server.start({ grace: lasting })
    await server.endGrace()
    const clients = await threeHolders(stage)

    await claim("every client of the kernel is matched with its record, by the kernel's own spelling", async () => {
      const { live, instance } = await status(clients.length)
      assert.equal(instance.kind, 'full')
      assert.deepEqual(
        live
          ?.map(
            ({ recorded, minor_version: minor, status: confirmed }) => `${recorded ?? 'no'} 4.${minor} ${confirmed}`,
          )
          .toSorted(),
        ['recorded 4.0 confirmed', 'recorded 4.1 confirmed', 'recorded 4.2 confirmed'],
      )
      assert.ok(live.every(({ owner }) => /ann|bob|cleo/.test(owner)))
    })

    await guest.run(`
      mkdir -p /etc/systemd/system /etc/modprobe.d
      ln -sf /dev/null /etc/systemd/system/nfsdcld.service
      echo 'options nfsd cltrack_prog=${program}' > /etc/modprobe.d/nfsd-userland-helper.conf`)
    await claim('doctor finds nothing wrong, and knows from the kernel which tracker it took', async () => {
      const found = await doctor()
      assert.deepEqual(
        Object.values(found).filter((line) => line.startsWith('wrong')),
        [],
      )
      for (const check of [
        'kernel-support',
        'cltrack-prog',
        'executable',
        'tracker',
        'nfsd-files',
        'storage',
        'grace-time',
      ])
        assert.match(found[check] ?? '', /^good/, check)
    })

    const [ann, ...others] = clients
    assert.ok(ann)
    await ann.cutOff()
    await server.restart()
    await claimHeld(stage, 'after the restart', others)
    await claim('status says who is missing, that it is an NFSv4.0 client, and how long grace will last', async () => {
      const { instance, since, grace, clients: records } = await status()
      assert.equal(instance.kind, 'partial')
      assert.deepEqual(records.map(({ standing }) => standing).toSorted(), ['reclaimed', 'reclaimed', 'waiting'])
      assert.deepEqual(
        grace.held_by.map(({ because }) => because),
        ['waiting-without-session'],
      )
      assert.match(grace.held_by[0]?.client?.owner ?? '', /ann/)
      assert.deepEqual(
        [grace.kernel, grace.grace_seconds, since.counted_by, since.clock_was_set],
        ['running', lasting, 'nfsd', false],
      )
      assert.ok(
        grace.seconds_left !== null && grace.seconds_left > 0 && grace.seconds_left + since.seconds <= lasting + 1,
        JSON.stringify({ grace, since }),
      )
    })
    await claim('it counts on, though the clock is set an hour ahead', async () => {
      await guest.run("date -s '1 hour'")
      try {
        const { since, grace } = await status()
        assert.deepEqual([since.counted_by, since.clock_was_set], ['nfsd', true])
        assert.ok(grace.seconds_left !== null && grace.seconds_left > -60, String(grace.seconds_left))
      } finally {
        await guest.run("date -s '1 hour ago'")
      }
    })
    await ann.heal()
    await server.endGrace()

    await claim('a start that hangs in its helper hangs nobody who asks for the status', async () => {
      await server.stop()
      await guest.run(`
        printf '#!/bin/sh\\n[ "$1" != init ] || until [ -e /run/lab/go ]; do sleep 0.2; done\\nexec ${program} "$@"\\n' > /usr/sbin/slow-helper; chmod 755 /usr/sbin/slow-helper
        printf %s /usr/sbin/slow-helper > ${helperParameter}
        setsid rpc.nfsd -N 3 8 < /dev/null > /dev/null 2>&1 &
        until pidof -x slow-helper > /dev/null; do sleep 0.2; done`)
      try {
        const began = Date.now()
        const { grace } = await statusNow()
        const seconds = (Date.now() - began) / 1000
        stage.note(`status answered in ${seconds.toFixed(1)} s while nfsd was starting`)
        assert.equal(grace.grace_seconds, null)
        assert.match((await doctorNow())['grace-time'] ?? '', /^unknown: .*starting or stopping/)
      } finally {
        await guest.run('touch /run/lab/go')
      }
      await guest.run('while pidof rpc.nfsd > /dev/null; do sleep 1; done', 120)
      assert.equal((await status()).grace.grace_seconds, lasting)
    })
  },
}
