// A real NFS client: a network namespace with its own address, its own host name (or all would share one client
// owner), and a mount. Its locks are held by processes that can be asked to write: a client that has lost a lock
// answers EIO to every write made under it.
import type { Guest } from './guest.ts'
import type { Server } from './server.ts'

export type Version = '4.0' | '4.1' | '4.2'
export type Written = 'written' | 'lock lost'

export interface Client {
  readonly name: string
  readonly version: Version
  /** Takes a lock on the whole file and keeps it. */
  readonly lock: (file: string) => Promise<void>
  readonly drop: (file: string) => Promise<void>
  /** Takes the lock if it is free, and releases it at once. */
  readonly triesLock: (file: string) => Promise<'granted' | 'refused'>
  /** Writes under a lock it holds; this also makes a client notice at once that the server was restarted. */
  readonly writesUnderLock: (file: string) => Promise<Written>
  readonly cutOff: () => Promise<void>
  readonly heal: () => Promise<void>
  /** Unmounts properly: the server is told. */
  readonly leave: () => Promise<void>
}

const holder = `
echo $$ > pid
exec 9<> "$1" || { echo "cannot open $1" > answers; exit 1; }
flock --nonblock 9 || { echo refused > answers; exit 1; }
echo held > answers
while read -r order < orders; do
  if [ "$order" = drop ]; then exec 9>&-; echo dropped > answers; exit; fi
  if printf x | dd bs=1 count=1 conv=notrunc,fsync >&9 2> why; then echo written > answers
  elif grep -q 'Input/output error' why; then echo 'lock lost' > answers
  else cat why > answers; fi
done
`

let addresses = 0

/**
 * A client's namespaces stay for the next story: making them costs seconds.
 * @param host its host name, which is in its owner
 */
export async function join(
  guest: Guest,
  server: Pick<Server, 'address'>,
  name: string,
  version: Version,
  host = name,
): Promise<Client> {
  const link = `to-${name}`
  const home = `/run/lab/clients/${name}`
  const mount = `/mnt/${name}`
  await guest.run(
    `
    [ -d ${home} ] || {
      mkdir -p ${mount} ${home}
      ip netns add ${name}
      ip link add ${link} type veth peer name eth0 netns ${name}
      ip link set ${link} master lab up
      ip -n ${name} -batch - <<END
        link set lo up
        link set eth0 up
        address add 10.0.0.${20 + (addresses++ % 200)}/24 dev eth0
END
      touch /run/lab/uts/${name}
      unshare --uts=/run/lab/uts/${name} hostname ${host}
      echo '${server.address} server-of-${name}' >> /etc/hosts
      cat > ${home}/holder <<'END'
${holder}
END
    }
    nsenter --net=/run/netns/${name} --uts=/run/lab/uts/${name} \
      mount -t nfs -o vers=${version},port=2049,retry=2 server-of-${name}:/ ${mount}`,
    120,
  )

  const ask = async (file: string, order: string, seconds: number) =>
    (await guest.run(`cd ${home}/${file}; echo ${order} > orders; cat answers`, seconds)).trim()

  return {
    name,
    version,
    lock: async (file) => {
      const answer = (
        await guest.run(
          `
        mkdir -p ${home}/${file}; cd ${home}/${file}
        rm -f orders answers; mkfifo orders answers
        setsid sh ../holder ${mount}/${file} < /dev/null > said 2>&1 &
        cat answers`,
          90,
        )
      ).trim()
      if (answer !== 'held') throw new Error(`${name} could not lock ${file}: ${answer}`)
    },
    drop: async (file) => {
      await ask(file, 'drop', 60)
    },
    triesLock: async (file) =>
      (await guest.attempt(`flock --nonblock ${mount}/${file} true`, 90)).status === 0 ? 'granted' : 'refused',
    writesUnderLock: async (file) => {
      const answer = await ask(file, 'write', 120)
      if (answer !== 'written' && answer !== 'lock lost')
        throw new Error(`${name} could not write to ${file}: ${answer}`)
      return answer
    },
    cutOff: async () => {
      await guest.run(`ip link set ${link} down`)
    },
    heal: async () => {
      await guest.run(`ip link set ${link} up`)
    },
    leave: async () => {
      await guest.run(`umount ${mount}`, 90)
    },
  }
}

/** The locks that the clients' kernel reports as lost since the story began, client by client. */
export async function lostLocks(guest: Guest, clients: readonly Client[]): Promise<number[]> {
  const log = await guest.run('dmesg --notime')
  const lost = ({ name }: Client) => [...log.matchAll(new RegExp(`NFS: server-of-${name}: lost (\\d+) locks`, 'g'))]
  return clients.map((client) => lost(client).reduce((sum, [, count]) => sum + Number(count), 0))
}

/** Ends all clients of a guest, even if they hang. The server should still run, so that none of them waits for it. */
export async function endAll(guest: Guest): Promise<void> {
  await guest.attempt(
    `
    cd /run/lab/clients || exit 0
    kill -KILL $(cat */*/pid) 2> /dev/null
    for name in *; do echo "link set to-$name up"; done | ip -force -batch -
    while read -r _ on type _; do
      if [ "$type" = nfs4 ]; then umount -f -l "$on" & fi
    done <<END
$(cat /proc/mounts)
END
    wait
    rm -rf */*/`,
    120,
  )
}
