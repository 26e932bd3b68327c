// Upcalls that hang on their disk and are killed, without another upcall before the next start. The kernel ignores how
// a remove or an end of grace ends, and goes on. After a create that failed, it does not say when the client is gone.
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { join as joins, type Client } from '../client.ts'
import { blankDisk } from '../disk.ts'
import { prepare, serve, stateDisk } from '../server.ts'
import { claimHeld, claimLost, holder, holders, type Ground, type Stage, type Story } from '../story.ts'
import { killed } from '../upcalls.ts'
import { isGranted } from './edge-conditions.ts'

const [kill, alarm] = [9, 14]
/** Of the helper, in seconds. */
const alarmAfter = 45

/** Kills at once. */
const byHand = `kill -${kill} $id`

/**
 * Waits for the helper's own signal. It is pending as long as the process can't be woken: a bit of the mask, which is
 * in hexadecimal. A helper without an alarm is not waited for much longer.
 */
const byAlarm = `
  until [ $((0x$(awk '$1 == "ShdPnd:" { print $2 }' /proc/$id/status) >> ${alarm - 1} & 1)) = 1 ] || ! goesOn ${alarmAfter + 20}; do
    sleep 0.5
  done`

/** No client comes from this machine. */
type HungStage = Omit<Stage, 'nfsPort'>

/** How a disk is made to hang. All are scripts. */
interface Hang {
  readonly begin: string
  readonly end: string
  /** Whether process $1 hangs as it should. */
  readonly isIn: string
}

/** The first change hangs: of everything that the upcall does, nothing is done. */
const frozen: Hang = {
  begin: `fsfreeze --freeze ${stateDisk}`,
  end: `fsfreeze --unfreeze ${stateDisk}`,
  isIn: "grep -q '^State:.D' /proc/$1/status",
}

/** The barrier hangs: everything is done, and nothing promised. This needs {@link onMapper}. */
const suspended: Hang = {
  begin: 'sync; dmsetup suspend --nolockfs --noudevsync state',
  end: 'dmsetup resume --noudevsync state',
  isIn: 'grep -q fsync /proc/$1/stack',
}

/**
 * Makes the disk hang, sets off what makes the kernel run an upcall, and lets the disk go on when the upcall hangs and
 * a signal to it is pending. A process that waits for a disk can't be woken: it ends when the disk goes on, after the
 * call that it was in.
 * @param signal the end of a script in which $id is the upcall
 * @param cause it may wait for the upcall
 * @returns what `cause` did, and the upcall's status
 */
async function cutShort<T>(
  { guest, helper, server }: HungStage,
  verb: string,
  { begin, end, isIn }: Hang,
  signal: string,
  cause: () => Promise<T>,
): Promise<[T, number | undefined]> {
  await guest.run(begin)
  const signalled = guest.run(
    `
    trap '${end}' EXIT
    now() { cut -d. -f1 /proc/uptime; }
    since=$(now)
    goesOn() { [ $(($(now) - since)) -lt $1 ]; }
    hangs() { tr '\\0' '\\n' < /proc/$1/cmdline | grep -qx ${verb} && ${isIn}; }
    id= one=self
    until [ -n "$id" ]; do
      goesOn 120 || { cat /proc/$one/stack; exit 1; }
      sleep 0.2
      for one in $(pidof -x ${helper.name}); do ! hangs $one || id=$one; done 2> /dev/null
    done
    since=$(now)
    ${signal}`,
    200,
  )
  const [caused] = await Promise.all([cause(), signalled])
  for (let looks = 0; looks < 60; looks++) {
    const status = (await server.upcalls()).findLast((upcall) => upcall.verb === verb)?.status
    if (status !== undefined) return [caused, status]
    await sleep(500)
  }
  return [caused, undefined]
}

/** A guest with a device under the state disk that can be made to hang. It goes with the story. */
async function onMapper(ground: Ground, name: string): Promise<HungStage> {
  const { directory, helper } = ground
  const guest = await ground.boot({
    name,
    disks: ['state', 'export'].map((disk) => blankDisk(directory, `${name}-${disk}`, 'ext4')),
  })
  await prepare(guest, { serves: true })
  await guest.run(`
    modprobe dm-mod
    dmsetup create state --noudevrules --noudevsync --table "0 $(cat /sys/block/vda/size) linear /dev/vda 0"
    mkdir -p ${stateDisk}
    mount /dev/dm-0 ${stateDisk}`)
  const server = await serve(guest, helper, name)
  return {
    ...ground,
    guest,
    clients: guest,
    server,
    client: (who, version) => joins(guest, server, who, version),
  }
}

/**
 * How each ends: the upcall that was cut short was the last before the server stops, and after the next start its
 * client, which was away, is refused, while those that were there get their locks back.
 */
async function claimRefused(
  stage: HungStage,
  verb: string,
  absent: Client,
  present: readonly Client[],
  when = 'after the next start',
): Promise<void> {
  const { server, claim } = stage
  await claim('no upcall comes after that, until the server has stopped', async () => {
    await server.stop()
    assert.equal((await server.upcalls()).at(-1)?.verb, verb)
  })
  await server.start()
  await absent.heal()
  await claimLost(stage, when, [absent])
  await claimHeld(stage, when, present)
}

interface CutRemove {
  readonly ends: string
  readonly signal: string
  readonly status: number
  readonly comes?: (stage: HungStage) => Promise<Client>
}

async function cutRemoveShort(
  stage: HungStage,
  { ends, signal, status, comes = ({ client }) => client('bob', '4.1') }: CutRemove,
): Promise<void> {
  const { server, client, claim } = stage
  await server.start({ grace: 30 })
  await server.endGrace()
  const [absent, present, eve] = await Promise.all([
    holder(comes(stage)),
    holder(client('cleo', '4.2')),
    client('eve', '4.2'),
  ])
  await absent.cutOff()
  // A client whose lease has run out is removed when somebody wants its lock, who waits until that is done.
  const [granted, ended] = await cutShort(stage, 'remove', frozen, signal, () => isGranted(eve, absent.name))
  await claim(`${absent.name}'s lease runs out, his remove hangs, and ${ends}`, () => {
    assert.equal(ended, status)
  })
  await claim(`${absent.name}'s lock is granted to another client, who drops it`, () => {
    assert.equal(granted, true)
  })
  await claimRefused(stage, 'remove', absent, [present])
}

export const removeHangs: Story = {
  name: 'remove-hangs',
  title: 'A remove hangs on its disk until its alarm ends it: its client may not reclaim after the next start',
  tell: (stage) =>
    cutRemoveShort(stage, {
      ends: `its alarm ends it after ${alarmAfter} s`,
      signal: byAlarm,
      status: killed + alarm,
    }),
}

const isKilled: CutRemove = { ends: 'is killed', signal: byHand, status: killed + kill }

export const removeKilled: Story = {
  name: 'remove-killed',
  title: 'A remove is killed: its client may not reclaim after the next start',
  tell: (stage) => cutRemoveShort(stage, isKilled),
}

/** A tmpfs has room for a link of less than 128 bytes when it is full. The longest host name has 64. */
export const removeKilledWithoutRoom: Story = {
  name: 'remove-killed-run-full',
  title: 'A remove is killed, with a run directory that is full: its client may not reclaim after the next start',
  tell: async (stage) => {
    const { guest, server, claim } = stage
    const run = '/run/nfsd-userland-helper'
    await guest.run(`
      mkdir -p ${run}
      mount -t tmpfs -o size=16k,mode=755 full ${run}
      ! dd if=/dev/zero of=${run}/filler bs=4k 2> /dev/null`)
    try {
      await cutRemoveShort(stage, {
        ...isKilled,
        comes: () => joins(guest, server, 'leo', '4.1', 'leo'.padEnd(64, '-of-the-long-name')),
      })
      await claim(
        'the run directory has had no room, and no line of ours says that something could not be noted',
        async () => {
          assert.notEqual((await guest.attempt(`echo more > ${run}/more`)).status, 0)
          assert.doesNotMatch(await server.log(), /nfsd-userland-helper: .*noted/)
        },
      )
    } finally {
      await guest.run(`umount -l ${run}`)
    }
  },
}

export const graceEndKilled: Story = {
  name: 'grace-end-killed',
  title: 'An end of grace is killed: who missed the grace may not reclaim after the next start',
  tell: async (stage) => {
    const { guest, server, client, claim } = stage
    await server.start({ grace: 30 })
    await server.endGrace()
    const [absent, present, eve] = await Promise.all([
      client('bob', '4.1'),
      client('cleo', '4.2'),
      client('eve', '4.2'),
    ]).then(holders)
    await absent.cutOff()
    await server.restart({ grace: 150 })
    await claimHeld(stage, 'after the first restart', [present, eve])
    const [, ended] = await cutShort(stage, 'gracedone', frozen, byHand, () =>
      guest.run('echo Y > /proc/fs/nfsd/v4_end_grace', 120),
    )
    await claim('the end of grace hangs and is killed, and the kernel is out of grace all the same', async () => {
      assert.equal(ended, killed + kill)
      assert.equal(await server.inGrace(), false)
    })
    await claim('the lock of bob, who missed the grace, is granted to another client, who drops it', async () => {
      assert.equal(await isGranted(eve, 'bob'), true)
    })
    await claimRefused(stage, 'gracedone', absent, [present, eve], 'after the second restart')
  },
}

export const createKilled: Story = {
  name: 'create-killed',
  title: 'A create is killed at its barrier: its client may not reclaim a lock that somebody else has had since',
  alone: async (ground) => {
    const stage = await onMapper(ground, 'create-killed')
    const { server, client, claim } = stage
    await server.start({ grace: 30 })
    await server.endGrace()
    const [present, eve] = await Promise.all([holder(client('cleo', '4.2')), client('eve', '4.2')])
    const [absent, ended] = await cutShort(stage, 'create', suspended, byHand, () => client('bob', '4.1'))
    await claim("bob's create hangs at its barrier and is killed, and he is served all the same", async () => {
      assert.equal(ended, killed + kill)
      await absent.lock('bob')
    })
    await absent.cutOff()
    await claim("bob's lease runs out, and his lock is granted to another client, who drops it", async () => {
      assert.equal(await isGranted(eve, 'bob'), true)
    })
    // The kernel does not say that he is gone.
    await claimRefused(stage, 'create', absent, [present])
  },
}
