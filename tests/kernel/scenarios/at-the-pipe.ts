// What can happen to the process that holds the kernel's pipe. It dies in the middle of its work. It starts late. There
// are two of them. It knows a client by a name that another client uses.
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { ownerIn, readRecord, recordLine } from '../../../lib/rules/record.ts'
import { join as joins } from '../client.ts'
import type { Guest } from '../guest.ts'
import { NFS4ERR_DELAY, NFS4ERR_RECLAIM_BAD, NFS4_OK, owner } from '../nfs41.ts'
import { recorded } from '../records.ts'
import { exported, serverAt, stateDisk, type Server } from '../server.ts'
import { claimHeld, claimLost, holder, holders, type Story } from '../story.ts'
import { daemonOf, pipefs } from '../tracking.ts'
import { isGranted } from './edge-conditions.ts'

const crowd = 200
const threads = 16
const kills = 50
/**
 * Seconds in which all kills happen. If nobody holds the pipe, the kernel looks again after half a minute, and if
 * nobody holds it then, it gives up what is queued (RPC_UPCALL_TIMEOUT). On a slow machine, a kill might be just then.
 */
const killing = 20

export const killedInAStorm: Story = {
  name: 'serve-killed-in-a-storm',
  title: `Killed up to ${kills} times in a storm, the pipe's process loses nobody, and no thread of nfsd hangs`,
  tell: async (stage) => {
    const { guest, server, claim, note, nfsPort } = stage
    await guest.run(`echo contended > ${exported}/file`)
    await server.daemon.start('supervised')
    await server.start({ grace: 600, lease: 300, threads })
    await server.endGrace()
    const names = Array.from({ length: crowd }, (_, n) => `storm client ${String(n).padStart(3, '0')}`)
    const owners = names.map((name) => owner(nfsPort, name))
    const stranger = owner(nfsPort, 'a stranger')
    let killed = 0
    /** As many at a time as the server has threads. @param around what happens while each crowd comes. */
    const inCrowds = async <T>(
      act: (one: typeof stranger) => Promise<T>,
      around = (come: () => Promise<T[]>) => come(),
    ): Promise<T[]> => {
      const done: T[] = []
      for (let n = 0; n < crowd; n += threads)
        done.push(...(await around(() => Promise.all(owners.slice(n, n + threads).map(act)))))
      return done
    }
    // The emulated network's backlog is not what is tested.
    const connect = async (): Promise<void> => {
      for (let n = 0; n < crowd; n += 8) await Promise.all(owners.slice(n, n + 8).map((one) => one.connect()))
    }
    const kinds = (statuses: readonly number[]) => [...new Set(statuses)].filter((status) => status !== NFS4ERR_DELAY)
    try {
      await connect()
      await claim(
        `each of ${crowd} clients is answered, while the process is killed at work, and at every tenth of a second`,
        async () => {
          const until = Date.now() + killing * 1000
          const statuses = await inCrowds(
            (one) => one.completes(),
            async (come) => {
              const seconds = (until - Date.now()) / 1000
              if (seconds <= 0) return come()
              const [done, times] = await server.daemon.killWhile(come, Math.ceil(kills / (crowd / threads)), seconds)
              killed += times
              return done
            },
          )
          assert.deepEqual(kinds(statuses), [NFS4_OK])
        },
      )
      const asked = await server.upcalls()
      const queued = Number(await guest.run("grep -c ': asked:' /sys/kernel/tracing/trace"))
      const messages = asked.filter(({ verb }) => verb !== 'named').length
      note(`the process was killed ${killed} times`)
      note(`${queued - messages} times the kernel queued a message again, because whoever was reading it had died`)
      await claim('kills have met messages at work: the story has told what it wanted to tell', () => {
        assert.ok(queued > messages)
      })
      await claim('no message is left without an answer, and no thread of nfsd waits for one', async () => {
        assert.deepEqual(
          asked.filter(({ status }) => status === undefined),
          [],
        )
        assert.equal(await guest.run("cat /proc/[0-9]*/stack 2> /dev/null | grep -E 'cld_' || true"), '')
      })
      await claim(`${crowd} clients are recorded`, async () => {
        assert.deepEqual(await recorded(server), names)
      })
      for (const one of owners) one.disconnect()

      await claim('the service stops and starts: nothing hangs', () => server.restart())
      await connect()
      await stranger.connect()
      await claim('after the restart every one of them may reclaim an open', async () => {
        assert.deepEqual(kinds(await inCrowds((one) => one.reclaims('file'))), [NFS4_OK])
      })
      await claim('a stranger may not', async () => {
        assert.equal(await stranger.reclaims('file'), NFS4ERR_RECLAIM_BAD)
      })
      await claim('grace ends early, when the last of them has reclaimed', async () => {
        assert.deepEqual(kinds(await inCrowds((one) => one.completes())), [NFS4_OK])
        assert.notEqual(await server.graceEnds(300), undefined)
      })
    } finally {
      for (const one of [...owners, stranger]) one.disconnect()
    }
  },
}

export const late: Story = {
  name: 'serve-late',
  title:
    'A process that comes to the pipe within the second that the kernel waits is taken; one that comes later lets nobody reclaim wrongly',
  tell: async (stage) => {
    const { guest, server, client, claim } = stage
    await guest.run('rm -rf /var/lib/nfs/v4recovery')
    const stopBoth = async () => {
      await server.stop()
      await server.daemon.end('TERM')
    }
    // On a busy machine its start may take longer than the kernel waits.
    const inTime = async (): Promise<void> => {
      await server.daemon.start('when there is a pipe')
      await server.start({ grace: 25, pipe: 'nobody' })
    }
    await claim('it is started when the kernel has made the pipe already, and the kernel takes it', async () => {
      for (let tries = 1; tries < 5; tries++)
        try {
          await inTime()
          return
        } catch {
          await stopBoth()
        }
      await inTime()
    })
    await server.endGrace()
    const [absent, eve] = await Promise.all([client('bob', '4.1'), client('eve', '4.2')])
    await absent.lock('bob')
    await server.restart({ pipe: 'held' })
    await claimHeld(stage, 'after a restart', [absent])
    await server.endGrace()

    await absent.cutOff()
    await stopBoth()
    const logged = (await server.log()).length
    await claim('with nobody at the pipe the service starts, untracked: nothing hangs', async () => {
      await server.start({ pipe: 'nobody', tracking: 'any' })
      assert.match((await server.log()).slice(logged), /Unable to initialize client recovery tracking/)
    })
    await server.daemon.start()
    await server.graceEnds(180)
    await claim(
      "in this instance, which nobody has recorded, bob's lock is granted to another client, who drops it",
      async () => {
        assert.equal(await eve.triesLock('bob'), 'granted')
      },
    )
    await server.restart({ pipe: 'held', tracking: 'ours' })
    await absent.heal()
    await claimLost(stage, 'after the next start', [absent])
    await claim("the kernel's log has a line of ours that says why nobody may reclaim", async () => {
      assert.match((await server.log()).slice(logged), /nfsd-userland-helper: .*nobody may reclaim/)
    })
  },
}

export const removeLost: Story = {
  name: 'remove-lost',
  title: 'Who left while nobody was at the pipe may not reclaim: the next process notices that a message is missing',
  tell: async (stage) => {
    const { server, client, claim } = stage
    const inTheLog = async (line: RegExp): Promise<void> => {
      for (let tries = 0; tries < 180 && !line.test(await server.log()); tries++) await sleep(1000)
      assert.match(await server.log(), line)
    }
    await server.start()
    await server.endGrace()
    const [absent, eve] = await Promise.all([holder(client('bob', '4.1')), client('eve', '4.2')])
    await server.daemon.end('KILL')
    await absent.cutOff()
    // Until somebody wants the lock, the kernel leaves it to a client whose lease has run out (since 5.19).
    await claim("another client is granted bob's lock, and drops it", async () => {
      assert.equal(await isGranted(eve, 'bob'), true)
    })
    await server.daemon.start()
    // Its Create has the number that follows the missing one.
    await client('fay', '4.1').then((fay) => fay.lock('fay'))
    await claim("the process notices that a number is missing, and the kernel's log has a line that says so", () =>
      inTheLog(
        /nfsd-userland-helper: .*messages of the NFS server were lost.*clients recorded before now may not reclaim/,
      ),
    )
    await server.restart()
    await absent.heal()
    await claimLost(stage, 'after the next start', [absent])
  },
}

export const principal: Story = {
  name: 'principal',
  title: 'Who was recorded with a principal, and comes without it, may not reclaim',
  tell: async (stage) => {
    const { server, client, claim } = stage
    await server.start()
    await server.endGrace()
    const [bob, cleo] = await Promise.all([client('bob', '4.1'), client('cleo', '4.2')]).then(holders)
    await server.stop()
    await server.daemon.end('TERM')
    await claim("bob's record now says that he came with the principal of somebody", () => plant(server, 'bob'))
    await server.start({ grace: 150 })
    await claimHeld(stage, 'after the restart', [cleo])
    await claimLost(stage, 'after the restart', [bob])
    await claim('the kernel was told of both', async () => {
      const told = (await server.upcalls()).filter(({ verb }) => verb === 'named')
      assert.deepEqual(told.map(({ owner: name }) => /bob|cleo/.exec(name)?.[0]).sort(), ['bob', 'cleo'])
    })
    await claim('grace has ended with the last of the two, all the same', async () => {
      assert.notEqual(await server.graceEnds(100), undefined)
    })
  },
}

/** There is no Kerberos here. So the hash of a principal that nobody has is written into the record. */
async function plant(server: Server, name: string): Promise<void> {
  const hash = 'ab'.repeat(32)
  if (server.tracker === 'nfsdcld') {
    const database = `${server.stateDirectory}/nfsdcld/main.sqlite`
    await server.guest.run(`
      table=$(sqlite3 ${database} "select printf('[rec-%016x]', current) from grace")
      sqlite3 ${database} "update $table set princhash = x'${hash}' where cast(id as text) like '%${name}'"`)
    return
  }
  const files = await server.guest.run(`find ${server.stateDirectory}/v4clients -path '*/v4clients/[0-9]*/*${name}'`)
  const places = files.split('\n').filter((file) => file !== '')
  assert.notDeepEqual(places, [])
  for (const file of places) {
    const line = (await server.guest.run(`readlink '${file}'`)).trimEnd()
    const read = readRecord(file.slice(file.lastIndexOf('/') + 1), line)
    assert.ok(read !== undefined && read !== 'newer', line)
    await server.guest.run(`ln -sfn '${recordLine(ownerIn(read), { ...read.facts, principal: hash })}' '${file}'`)
  }
}

export const namespace: Story = {
  name: 'namespace',
  title: 'A server in a network namespace of its own has its own pipe, process and records',
  tell: async (stage) => {
    const { guest, server, client, claim, helper } = stage
    const inner = await innerGuest(guest)
    const second = await serverAt(inner, helper, {
      address: '10.0.0.2',
      stateDirectory: `${stateDisk}/inner`,
      name: 'inner',
    })
    try {
      await server.start({ grace: 30 })
      await server.endGrace()
      await second.start({ grace: 30 })
      await second.endGrace()
      const bob = await holder(client('bob', '4.1'))
      const nina = await holder(joins(guest, second, 'nina', '4.1'))

      await claim('each server has recorded its own client, and no other', async () => {
        assert.deepEqual(await recorded(server), ['Linux NFSv4.1 bob'])
        assert.deepEqual(await recorded(second), ['Linux NFSv4.1 nina'])
      })
      if (helper.tracker === 'serve')
        await claim('a second process for one state directory or one pipe is refused', async () => {
          const more = (where: Guest, directory: string) =>
            where.attempt(`timeout 120 ${daemonOf.serve(`/usr/sbin/${helper.name}`, directory)} 2>&1`)
          for (const [where, directory] of [
            [inner, server.stateDirectory],
            [inner, `${stateDisk}/third`],
          ] as const) {
            const { status, output } = await more(where, directory)
            assert.ok(status !== 0 && status !== 124, `${directory}: status ${status} ${output}`)
            assert.match(output, /nfsd-userland-helper: /)
          }
        })
      await second.restart()
      await claim(
        'the server of the namespace is restarted: nina has her lock, and bob, whose server was not, has his',
        async () => {
          assert.deepEqual(
            [await nina.writesUnderLock('nina'), await bob.writesUnderLock('bob')],
            ['written', 'written'],
          )
          assert.ok(!(await server.inGrace()))
        },
      )
      await server.restart()
      await claim('the other one is restarted: both have their locks', async () => {
        assert.deepEqual([await bob.writesUnderLock('bob'), await nina.writesUnderLock('nina')], ['written', 'written'])
        assert.deepEqual(await server.locked(), ['bob', 'nina'])
      })
    } finally {
      await guest.attempt(`umount -f -l /mnt/nina; ip link set to-nina down`)
      await second.stop()
      await second.daemon.end('TERM')
      await guest.run(`
        kill $(cat /run/lab/inner/pid)
        ip link del to-inner; ip netns del inner`)
    }
  },
}

/** The same machine, in a network namespace with its own rpc_pipefs, nfsd's files and /var/lib/nfs. */
async function innerGuest(guest: Guest): Promise<Guest> {
  const home = '/run/lab/inner'
  await guest.run(`
    mkdir -p ${home}/nfs
    ip netns add inner
    ip link add to-inner type veth peer name eth0 netns inner
    ip link set to-inner master lab up
    ip -n inner link set lo up
    ip -n inner link set eth0 up
    ip -n inner address add 10.0.0.2/24 dev eth0
    cat > ${home}/holder <<'END'
      mount -t nfsd nfsd /proc/fs/nfsd
      mount -t rpc_pipefs rpc_pipefs ${pipefs}
      mount --bind ${home}/nfs /var/lib/nfs
      echo $$ > ${home}/pid
      exec sleep 100000
END
    setsid nsenter --net=/run/netns/inner unshare --mount --propagation private sh ${home}/holder < /dev/null > ${home}/said 2>&1 &
    until [ -s ${home}/pid ]; do sleep 0.1; done`)
  const wrap = (script: string) => `
    file=$(mktemp /run/lab/inner/script-XXXXXX)
    cat > $file <<'INSIDE'
${script}
INSIDE
    nsenter --target $(cat ${home}/pid) --net --mount sh $file`
  return {
    name: guest.name,
    attempt: (script, seconds) => guest.attempt(wrap(script), seconds),
    run: (script, seconds) => guest.run(wrap(`set -e\n${script}`), seconds),
    closest: () => guest.closest(),
    kill: () => guest.kill(),
  }
}

export const delegations: Story = {
  name: 'delegations',
  title: 'A lock that a client holds under a write delegation survives a restart',
  tell: async (stage) => {
    const { guest, server, client, claim, note } = stage
    await guest.run('echo 1 > /proc/sys/fs/leases-enable')
    await server.start({ grace: 40 })
    await server.endGrace()
    const bob = await holder(client('bob', '4.1'))
    const eve = await client('eve', '4.2')
    note((await server.locked()).length === 0 ? 'bob was given a delegation' : 'this kernel gave no delegation')
    await server.restart()
    await claim('after the restart bob writes under his lock', async () => {
      assert.equal(await bob.writesUnderLock('bob'), 'written')
    })
    await server.graceEnds(180)
    await claim('another client is refused it', async () => {
      assert.equal(await eve.triesLock('bob'), 'refused')
    })
    await claim('bob still has it', async () => {
      assert.equal(await bob.writesUnderLock('bob'), 'written')
    })
    await claimHeld(stage, 'and now that he had to give the delegation back', [bob])
  },
}
