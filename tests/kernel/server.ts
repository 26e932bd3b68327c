// The NFS server of a guest: the kernel's nfsd, with the helper under test as its tracker, two disks and one export.
// Everything that is known of it comes from the kernel: /proc/locks, the kernel log, and probes on the functions that
// run the helper, or that write to the pipe and read from it. Nothing is put between the kernel and the helper.
import { basename } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { helperParameter } from '../../lib/kernel/nfsd-module.ts'
import type { Guest } from './guest.ts'
import { daemonOf, inKernelsWords, messagesIn, pipefs, probesFor, type Helper, type Tracker } from './tracking.ts'
import { upcallsIn, type Upcall } from './upcalls.ts'

export const stateDisk = '/srv/state'
export const exported = '/srv/export'
const address = '10.0.0.1'

/**
 * Seconds. Grace is long enough for all to reclaim on a busy machine. Stories that don't wait for its end cut it short.
 */
export const lease = 10
export const grace = 20

export interface Start {
  /** The tracker that the kernel must choose: the helper, its own old one, or whichever it likes. */
  readonly tracking?: 'ours' | 'legacy' | 'any'
  /** If there is a pipe: whether the process that holds it is started first, or not at all. */
  readonly pipe?: 'held' | 'nobody'
  readonly grace?: number
  readonly lease?: number
  readonly threads?: number
}

export interface Server {
  readonly guest: Guest
  readonly address: string
  readonly tracker: Tracker
  /** Where the helper keeps its records in this story. */
  readonly stateDirectory: string
  /** The process at the pipe, if the tracker is one. */
  readonly daemon: Daemon
  /** Starts the process at the pipe, and then the service. The kernel log must name the expected tracker afterwards. */
  start(options?: Start): Promise<void>
  stop(): Promise<void>
  /** Stops and starts. Without options, those of the last start are taken. */
  restart(options?: Start): Promise<void>
  inGrace(): Promise<boolean>
  /** The seconds until grace was over; undefined, if it was not over within the limit. */
  graceEnds(limit: number): Promise<number | undefined>
  /** The seconds from the start to the end of grace, by the kernel's clock. @param since skips so many upcalls. */
  graceLasted(since: number): Promise<number>
  /** Ends grace as an administrator does. When this returns, the helper has been told. */
  endGrace(): Promise<void>
  /** The names of the exported files on which a client holds a lock, one for each lock. */
  locked(): Promise<string[]>
  /** The upcalls, or the messages, if the tracker is at the pipe. */
  upcalls(): Promise<Upcall[]>
  /** The kernel log since the story began. */
  log(): Promise<string>
  /** The lines of our helper in it, of level error or worse. */
  errors(): Promise<string[]>
}

/**
 * What a guest needs once, as a server or as a client. A network card is bridged to the clients, or leads to the host.
 */
export async function prepare(
  guest: Guest,
  {
    serves,
    bridged,
    reachable,
  }: {
    readonly serves: boolean
    readonly bridged?: string
    readonly reachable?: string
  },
): Promise<void> {
  await guest.run(
    `
    modprobe -a virtio_net veth bridge nfsv4 ${serves ? 'nfsd ext4' : ''}
    ip link add lab type bridge forward_delay 0
    ${serves ? `ip address add ${address}/24 dev lab` : ''}
    ip link set lab up
    ${bridged === undefined ? '' : `ip link set ${bridged} master lab up`}
    ${reachable === undefined ? '' : `ip link set ${reachable} up; ip address add 10.0.2.15/24 dev ${reachable}`}
    mkdir -p /run/netns /run/lab/uts`,
    120,
  )
}

/** Prepares disks and exports, tracing, and the daemon that answers nfsd's questions about exports. */
export async function serve(guest: Guest, helper: Helper, story: string, defaultDirectory = false): Promise<Server> {
  const stateDirectory = defaultDirectory ? '/var/lib/nfs' : `${stateDisk}/nfs`
  const program = programOf(helper)
  const { tracker } = helper
  await guest.run(`
    # Each program that an emulated processor starts costs a tenth of a second.
    mounts=$(cat /proc/mounts)
    isMounted() { case "$mounts" in *" $1 "*) ;; *) false ;; esac; }
    isMounted /proc/fs/nfsd || mount -t nfsd nfsd /proc/fs/nfsd
    isMounted /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
    cd /sys/kernel/tracing
    echo 0 > events/kprobes/enable 2> /dev/null || true
    ${probesFor(tracker)}
    echo 1 > events/kprobes/enable
    echo 1 > tracing_on
    echo > trace
    # A client may hold a lock under a write delegation, and the server's /proc/locks does not have it.
    echo 0 > /proc/sys/fs/leases-enable
    dmesg --clear
    echo 'laboratory: ${story}' > /dev/kmsg

    [ '${helper.program}' -ef ${program} ] || { cp '${helper.program}' ${program}.new && mv ${program}.new ${program}; }
    mkdir -p ${stateDisk} ${exported}
    isMounted ${stateDisk} || mount /dev/vda ${stateDisk}
    isMounted ${exported} || mount /dev/vdb ${exported}
    mkdir -p ${stateDisk}/nfs /var/lib/nfs
    ${
      defaultDirectory
        ? `mount --bind ${stateDisk}/nfs /var/lib/nfs; echo > /etc/nfs.conf`
        : `printf '[nfsd-userland-helper]\\nstate-dir = ${stateDirectory}\\n[nfsdcltrack]\\nstoragedir = ${stateDirectory}\\n' > /etc/nfs.conf`
    }
    isMounted ${pipefs} || { mkdir -p ${pipefs}; mount -t rpc_pipefs rpc_pipefs ${pipefs}; }`)
  return serverAt(guest, helper, { address, stateDirectory, name: 'first' })
}

/** A line in the kernel log, after which it is about the last start. */
const startsNow = 'laboratory: the server starts'

/** What tells apart several servers of a guest, and their processes at the pipe. */
export interface Place {
  readonly address: string
  readonly stateDirectory: string
  readonly name: string
}

/** A server in the guest's own namespaces, or in those in which `guest` runs its scripts. */
export async function serverAt(guest: Guest, helper: Helper, place: Place): Promise<Server> {
  await guest.run(`
    mkdir -p ${place.stateDirectory}
    touch /var/lib/nfs/etab /var/lib/nfs/rmtab
    exportfs -i -o rw,fsid=0,no_root_squash,insecure,no_subtree_check '*:${exported}'
    rpc.mountd -N 2 -N 3`)
  return new Serving(guest, helper, place)
}

const programOf = ({ name }: Helper): string => `/usr/sbin/${name}`

class Serving implements Server {
  readonly guest: Guest
  readonly address: string
  readonly tracker: Tracker
  readonly stateDirectory: string
  readonly daemon: Daemon
  private readonly program: string
  private starting: Start = {}

  constructor(guest: Guest, helper: Helper, place: Place) {
    this.guest = guest
    this.address = place.address
    this.tracker = helper.tracker
    this.stateDirectory = place.stateDirectory
    this.daemon = new Daemon(guest, helper, place)
    this.program = programOf(helper)
  }

  async start(options: Start = {}): Promise<void> {
    this.starting = { ...this.starting, ...options }
    const { starting, tracker } = this
    const tracking = starting.tracking ?? 'ours'
    if (starting.pipe !== 'nobody') await this.daemon.start()
    const seen = await this.guest.run(
      `
      echo ${starting.lease ?? lease} > /proc/fs/nfsd/nfsv4leasetime
      echo ${starting.grace ?? grace} > /proc/fs/nfsd/nfsv4gracetime
      [ ! -e ${helperParameter} ] || printf %s ${tracking === 'legacy' || tracker !== 'helper' ? '/nonexistent' : this.program} > ${helperParameter}
      echo '${startsNow}' > /dev/kmsg
      rpc.nfsd -N 3 ${starting.threads ?? 8}
      dmesg --notime; echo TRACE; cat /sys/kernel/tracing/trace`,
      120,
    )
    const [log = '', trace = ''] = seen.slice(seen.lastIndexOf(startsNow)).split('\nTRACE\n')
    const said = /(?:Using (.*) client tracking operations|Unable to initialize client recovery tracking.*)/.exec(log)
    const expected = tracking === 'ours' ? inKernelsWords[tracker] : tracking
    if (expected !== 'any' && said?.[1] !== expected)
      throw new Error(`nfsd started with another tracker than ${expected}: ${said?.[0] ?? 'it names none'}`)
    if (tracking === 'ours' && !this.upcallsOf(trace).some(({ verb }) => verb === 'init'))
      throw new Error('the probe does not see the upcalls')
  }

  async stop(): Promise<void> {
    await this.guest.run('rpc.nfsd 0', 120)
  }

  async restart(options?: Start): Promise<void> {
    await this.stop()
    await this.start(options)
  }

  async inGrace(): Promise<boolean> {
    return (await this.guest.run('cat /proc/fs/nfsd/v4_end_grace')).trim() === 'N'
  }

  graceEnds(limit: number): Promise<number | undefined> {
    return this.graceEndsAfter(':', limit)
  }

  private async graceEndsAfter(script: string, limit: number): Promise<number | undefined> {
    const began = Date.now()
    // A look each second: an emulated processor has little else to do.
    const { status } = await this.guest.attempt(
      `
      ${script}
      looks=0
      while read -r ended < /proc/fs/nfsd/v4_end_grace && [ "$ended" = N ]; do
        [ $((looks += 1)) -lt ${limit} ] || exit 1
        sleep 1
      done`,
      limit * 2 + 30,
    )
    const seconds = (Date.now() - began) / 1000
    // The kernel shows that grace has ended before it tells the helper.
    for (let looks = 0; looks < 120 && (await this.upcalls()).some((upcall) => upcall.status === undefined); looks++)
      await sleep(500)
    return status === 0 ? seconds : undefined
  }

  async graceLasted(since: number): Promise<number> {
    const asked = (await this.upcalls()).slice(since)
    const at = (wanted: string) => asked.find(({ verb }) => verb === wanted)?.at ?? NaN
    return at('gracedone') - at('init')
  }

  async endGrace(): Promise<void> {
    // If grace is ending already, the kernel refuses this as busy. Otherwise one of its threads ends grace later.
    const ask =
      'echo Y > /proc/fs/nfsd/v4_end_grace 2> /dev/null || until grep -q Y /proc/fs/nfsd/v4_end_grace; do sleep 0.3; done'
    if ((await this.graceEndsAfter(ask, 180)) === undefined)
      throw new Error('grace goes on, though its end was asked for')
  }

  async locked(): Promise<string[]> {
    const [locks = '', files = ''] = (
      await this.guest.run(`
      cat /proc/locks; echo FILES; find ${exported} -type f -exec stat -c '%Hd:%Ld:%i %n' {} +`)
    ).split('FILES\n')
    const names = new Map(
      files
        .trim()
        .split('\n')
        .map((line) => {
          const [id = '', name = ''] = line.split(' ')
          const [major, minor, inode] = id.split(':')
          const hex = (n = '') => Number(n).toString(16).padStart(2, '0')
          return [`${hex(major)}:${hex(minor)}:${inode ?? ''}`, basename(name)]
        }),
    )
    const held = locks.split('\n').filter((line) => /: POSIX .* WRITE /.test(line) && !line.includes('->'))
    return held.flatMap((line) => names.get(/ (\w+:\w+:\d+) /.exec(line)?.[1] ?? '') ?? []).sort()
  }

  async upcalls(): Promise<Upcall[]> {
    return this.upcallsOf(await this.guest.run('cat /sys/kernel/tracing/trace'))
  }

  private upcallsOf(trace: string): Upcall[] {
    return (this.tracker === 'helper' ? upcallsIn : messagesIn)(trace)
  }

  log(): Promise<string> {
    return this.guest.run('dmesg --notime')
  }

  async errors(): Promise<string[]> {
    const lines = await this.guest.run('dmesg --notime --level=emerg,alert,crit,err')
    return lines.split('\n').filter((line) => line.startsWith('nfsd-userland-helper: '))
  }
}

/** The process at the pipe, if the tracker is one. */
export class Daemon {
  private readonly guest: Guest
  private readonly helper: Helper
  private readonly stateDirectory: string
  /** The file that contains its process id. Beside it are its script and the process id of its shell. */
  private readonly idFile: string

  constructor(guest: Guest, helper: Helper, { stateDirectory, name }: Place) {
    this.guest = guest
    this.helper = helper
    this.stateDirectory = stateDirectory
    this.idFile = `/run/lab/daemon-${name}`
  }

  /**
   * Starts it. When this returns, it watches for the pipe, unless it is to wait for one. What it prints goes to the
   * kernel log, as the helper's lines do. If it is supervised, it is started again whenever it ends.
   */
  async start(how?: 'supervised' | 'when there is a pipe'): Promise<void> {
    const daemon = this.idFile
    const { tracker } = this.helper
    if (tracker === 'helper') return
    await this.guest.run(`
      ! kill -0 $(cat ${daemon}) 2> /dev/null || exit 0
      rm -f ${daemon}
      cat > ${daemon}.sh <<'END'
      echo $$ > ${daemon}.shell
      ${how === 'when there is a pipe' ? `until [ -p ${pipefs}/nfsd/cld ]; do sleep 0.02; done` : ''}
      while :; do
        ${daemonOf[tracker](programOf(this.helper), this.stateDirectory)} & echo $! > ${daemon}.new; mv ${daemon}.new ${daemon}
        wait $!
        ${how === 'supervised' ? '' : 'exit'}
      done
END
      setsid sh ${daemon}.sh < /dev/null > /dev/kmsg 2>&1 &
      ${how === 'when there is a pipe' ? `until [ -s ${daemon}.shell ]; do sleep 0.1; done; exit 0` : ''}
      until [ -e ${daemon} ]; do sleep 0.1; done
      until ls -l /proc/$(cat ${daemon})/fd | grep -q inotify; do kill -0 $(cat ${daemon}); sleep 0.1; done`)
  }

  /** Reads a file of its directory in /proc. */
  read(file: string): Promise<string> {
    return this.guest.run(`cat /proc/$(cat ${this.idFile})/${file}`)
  }

  async end(signal: 'TERM' | 'KILL'): Promise<void> {
    const daemon = this.idFile
    await this.guest.run(`
      [ -e ${daemon}.shell ] || exit 0
      kill -KILL $(cat ${daemon}.shell) 2> /dev/null || true
      rm ${daemon}.shell
      [ -e ${daemon} ] || exit 0
      id=$(cat ${daemon}); rm ${daemon}
      kill -${signal} $id 2> /dev/null || exit 0
      while kill -0 $id; do sleep 0.1; done 2> /dev/null`)
  }

  /**
   * Kills it while clients come. First the state disk is frozen, so that it reads messages and can't answer them. It is
   * killed then, and the disk goes on. After that it is killed every tenth of a second, as long as there is time, while
   * its supervisor starts it again. @returns what `come` returned, and how often it was killed.
   */
  async killWhile<T>(come: () => Promise<T>, times: number, seconds: number): Promise<[T, number]> {
    const daemon = this.idFile
    await this.guest.run(`fsfreeze --freeze ${stateDisk}`)
    const kill = async () => {
      const killed = await this.guest.run(`
        trap 'fsfreeze --unfreeze ${stateDisk} 2> /dev/null || true' EXIT
        until id=$(cat ${daemon}) && grep -q '^State:.D' /proc/$id/status; do sleep 0.1; done 2> /dev/null
        kill -KILL $id
        fsfreeze --unfreeze ${stateDisk}
        now() { cut -d. -f1 /proc/uptime; }
        n=1 end=$(($(now) + ${Math.floor(seconds)}))
        while [ $n -lt ${times} ] && [ $(now) -lt $end ]; do
          sleep 0.1
          if kill -KILL $(cat ${daemon}); then n=$((n + 1)); fi 2> /dev/null
        done
        echo $n`)
      return Number(killed)
    }
    return Promise.all([come(), kill()])
  }
}

/** Removes everything that a story leaves behind, except the kernel's modules. */
export async function clear(server: Server): Promise<void> {
  await server.stop()
  await server.daemon.end('TERM')
  await server.guest.run(`
    kill $(pidof rpc.mountd) || true
    [ ! -e ${helperParameter} ] || printf %s /sbin/nfsdcltrack > ${helperParameter}
    mount -o remount,rw ${stateDisk}
    find ${stateDisk} ${exported} -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -rf {} +
    umount -l /var/lib/nfs 2> /dev/null || true
    rm -rf /var/lib/nfs/v4recovery /var/lib/nfs/etab /run/nfsd-userland-helper`)
}
