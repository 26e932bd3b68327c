// A server in a container, by the script of docs/containers.md as it is there. The story itself makes what a container
// is to the kernel: namespaces, a file system of its own, and a volume.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { dirname, join as path } from 'node:path'
import { join as joins, type Client } from '../client.ts'
import type { Guest } from '../guest.ts'
import { repository } from '../image.ts'
import { exported, stateDisk } from '../server.ts'
import { claimHeld, holder, type Story } from '../story.ts'

const address = '10.0.0.3'
const volume = `${stateDisk}/volume`
/** Seconds. Nothing tells the clients that their server is off. They may look for it only a minute after it is back. */
const grace = 300

/** The first process of the example: the indented lines from `#!/bin/sh` on. */
function firstProcess(): string {
  const page = readFileSync(path(repository, 'docs', 'containers.md'), 'utf8').split('\n')
  const lines = page.slice(page.indexOf('    #!/bin/sh'))
  const ends = lines.findIndex((line) => line !== '' && !line.startsWith('    '))
  return lines
    .slice(0, ends)
    .map((line) => line.replace(/^ {4}/, ''))
    .join('\n')
}

export const container: Story = {
  name: 'container',
  title: 'The server of docs/containers.md keeps its clients: serve is killed, the container stopped, and replaced',
  tell: async (stage) => {
    const { guest, server, claim, note, helper } = stage
    await guest.run(
      `mkdir -p ${volume} /usr/lib/nfsd-userland-helper
      cp '${dirname(helper.program)}'/*.cjs /usr/lib/nfsd-userland-helper/`,
    )
    // These clients have names of their own, because a client of another story looks for the server of that story.
    const clients: Client[] = []
    const held = (when: string) => claimHeld({ ...stage, clients: guest }, when, clients)
    const joined = async (name: string, version: '4.1' | '4.2') => {
      clients.push(await holder(joins(guest, { address }, name, version)))
    }
    let running = await start(guest, 'old')
    try {
      await claim('its server has the pipe as its tracker', async () => {
        assert.match(await server.log(), /Using nfsdcld client tracking operations/)
      })
      await joined('bert', '4.1')
      await joined('cora', '4.2')
      await claim('status, in the container, knows both clients and who holds the pipe', async () => {
        // On a busy machine, status may say that the kernel's files could not be read in time.
        const ask = () => running.inside('nfsd-userland-helper status', 120)
        let status = await ask()
        for (let tries = 1; tries < 10 && status.includes('does not describe'); tries++) status = await ask()
        note(status.trim().replaceAll(/\s*\n\s*/g, ' / '))
        for (const word of ['bert', 'cora', 'serve']) assert.ok(status.includes(word), status)
      })
      await claim('doctor, in the container, finds nothing that is wrong', async () => {
        await running.inside('nfsd-userland-helper doctor 2>&1', 120)
      })

      await claim('serve is killed: another one is at the pipe, and a new client is served', async () => {
        await running.inside('pkill -KILL -x nfsd-userland-h')
        await joined('dirk', '4.1')
        await running.inside('pgrep -x nfsd-userland-h')
      })

      await claim('the container is stopped: it ends in good order, and nothing hangs', () => running.stop())
      running = await start(guest, 'old')
      await held('when the same container is started again')

      await claim('the container is stopped once more', () => running.stop())
      running = await start(guest, 'new')
      await held('when a new container has the volume')

      await claim('the container is killed, with the server running', () => running.kill())
      running = await start(guest, 'new')
      await held('when it is started after that')

      await claim(
        "the host's log tells of no start without a tracker, and of none but the first without clients",
        async () => {
          const log = await server.log()
          assert.doesNotMatch(log, /Unable to initialize client recovery tracking/)
          assert.equal(log.split('no clients to reclaim, skipping NFSv4 grace period').length - 1, 1)
        },
      )
    } finally {
      await guest.attempt(
        clients.map(({ name }) => `umount -f -l /mnt/${name}; ip link set to-${name} down`).join('\n'),
      )
      await running.kill()
      await guest.run('rm -rf /srv/containers /usr/lib/nfsd-userland-helper')
    }
  },
}

interface Container {
  /** What `podman exec` does. */
  readonly inside: (script: string, seconds?: number) => Promise<string>
  readonly stop: () => Promise<void>
  readonly kill: () => Promise<void>
}

/** What `podman start` does. @param name of the file system, which keeps what was written to it. */
async function start(guest: Guest, name: string): Promise<Container> {
  const home = `/srv/containers/${name}`
  await guest.run(
    `
    mkdir -p ${home}/run
    rm -f ${home}/status
    printf '[nfsd]\\ngrace-time = ${grace}\\n' > ${home}/nfs.conf
    echo '${exported} *(rw,fsid=0,no_root_squash,insecure,no_subtree_check)' > ${home}/exports
    cat > ${home}/first <<'END'
${firstProcess()}
END
    cat > ${home}/enter <<'END'
      hostname nfs
      mount --bind ${volume} /var/lib/nfs
      for file in exports nfs.conf; do touch /etc/$file; mount --bind ${home}/$file /etc/$file; done
      mount --bind ${home}/run /run
      exec sh ${home}/first
END
    cat > ${home}/outside <<'END'
      nsenter --net=/run/netns/container unshare --mount --uts --pid --fork --mount-proc sh ${home}/enter
      echo $? > ${home}/status
END
    ip netns add container
    ip link add to-container type veth peer name eth0 address 52:54:00:00:00:03 netns container
    ip link set to-container master lab up
    ip -n container -batch - <<'END'
      link set lo up
      link set eth0 up
      address add ${address}/24 dev eth0
END
    setsid sh ${home}/outside < /dev/null > ${home}/said 2>&1 &
    until [ -s ${home}/pid ]; do
      sleep 0.2
      [ ! -e ${home}/status ] || { cat ${home}/said; exit 1; }
      ip netns pids container | while read -r id; do
        ! grep -q '^NSpid:.*[[:space:]]1$' /proc/$id/status || echo $id > ${home}/pid
      done
    done
    threads() { nsenter --target $(cat ${home}/pid) --mount --net --pid cat /proc/fs/nfsd/threads; }
    until [ "$(threads)" = 8 ]; do sleep 0.5; [ ! -e ${home}/status ] || { cat ${home}/said; exit 1; }; done 2> /dev/null`,
    120,
  )
  const gone = (signal: string) => async () => {
    await guest.run(
      `
      [ -s ${home}/pid ] || exit 0
      kill -${signal} $(cat ${home}/pid) || true
      until [ -e ${home}/status ]; do sleep 0.2; done
      status=$(cat ${home}/status); rm ${home}/pid
      cat ${home}/said
      ip netns del container; ip link del to-container 2> /dev/null || true
      [ ${signal} = KILL ] || [ $status = 0 ]`,
      150,
    )
  }
  return {
    inside: (script, seconds) =>
      guest.run(
        `nsenter --target $(cat ${home}/pid) --mount --uts --net --pid sh -e <<'END'
${script}
END`,
        seconds,
      ),
    stop: gone('TERM'),
    kill: gone('KILL'),
  }
}
