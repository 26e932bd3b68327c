// How long a start waits for the list of clients that may reclaim, by the clock of the kernel that waits: beside
// nfsdcld, with `--tracker=nfsdcld`. One probe is hit when the kernel queues GraceStart, and one when it has the
// answer. No name passes a probe meanwhile.
import assert from 'node:assert/strict'
import { plant } from '../crowd.ts'
import { blankDisk } from '../disk.ts'
import type { Machine } from '../guest.ts'
import { prepare, serve, type Server } from '../server.ts'
import type { Ground, Story } from '../story.ts'

const restarts = 5
const coldStarts = 4
/** The longest that a kernel takes: nobody comes, so grace goes on, and each start is told the same list. */
const grace = 3600

interface Start {
  /** From GraceStart until its answer. */
  readonly seconds: number
  /** Hundredths of a second that the process at the pipe has spent, for itself and in the kernel. */
  readonly user: number
  readonly system: number
}

type Emulated = Pick<Machine, 'processors' | 'cards'>

const story = (name: string, kernel: string, emulated: Emulated): Story => ({
  name,
  title: `A start's list of many clients, by the clock of a kernel ${kernel}`,
  alone: async (ground) => {
    for (const crowd of [10_000, 100_000]) await measure(ground, name, emulated, crowd)
  },
})

async function measure(ground: Ground, name: string, emulated: Emulated, crowd: number): Promise<void> {
  const { helper, note, claim, directory } = ground
  // Each record is an inode, and the laboratory's ext4 has few.
  const disks = [blankDisk(directory, `${name}-state`, 'xfs'), blankDisk(directory, `${name}-export`, 'ext4')]
  const powerOn = async (): Promise<Server> => {
    const guest = await ground.boot({ name, disks, ...emulated })
    await prepare(guest, { serves: true })
    return serve(guest, helper, name)
  }

  const planting = await powerOn()
  await planting.start({ grace })
  await planting.endGrace()
  await planting.stop()
  await plant(ground, planting, crowd)
  await planting.guest.kill()

  const server = await powerOn()
  await server.guest.run(`
    cd /sys/kernel/tracing
    echo 0 > events/kprobes/answered/enable
    echo 0 > events/kprobes/taken/enable
    echo 'r:begun nfsd:nfsd4_cld_tracking_init' >> kprobe_events
    echo 1 > events/kprobes/begun/enable`)
  note(`${crowd} names, the first start since the boot: ${inWords(await start(server))}`)
  for (let n = 0; n < restarts; n++) {
    await server.stop()
    note(`${crowd} names, restart ${n + 1}: ${inWords(await start(server))}`)
  }
  // The caches give up only a part each time.
  const forget = 'sync; for n in 1 2 3 4 5 6; do echo 3 > /proc/sys/vm/drop_caches; done'
  for (let n = 0; n < coldStarts; n++) {
    await server.stop()
    await server.guest.run(forget)
    note(`${crowd} names, with cold caches ${n + 1}: ${inWords(await start(server))}`)
  }
  await claim(`the kernel is told ${crowd} names`, async () => {
    await server.stop()
    // The probe counts what it is hit by, and this filter leaves nothing in the trace.
    await server.guest.run(`
      cd /sys/kernel/tracing/events/kprobes/answered
      echo 'status == -115 && status != -115' > filter
      echo 1 > enable`)
    await server.start({ grace })
    const answers = await server.guest.run(`awk '$1 == "answered" { print $2 }' /sys/kernel/tracing/kprobe_profile`)
    // With the answers to GetVersion and GraceStart.
    assert.equal(Number(answers), crowd + 2)
  })
  await server.guest.kill()
}

/** Starts, with the process at the pipe long at rest: `serve` has read in a thread what it could read before. */
async function start(server: Server): Promise<Start> {
  const { guest, daemon } = server
  await daemon.start()
  while (!/^Threads:\t1$/m.test(await daemon.read('status'))) await guest.run('sleep 0.1')
  const spent = async (): Promise<[user: number, system: number]> => {
    const [user = NaN, system = NaN] = (await daemon.read('stat'))
      .replace(/^.*\) /, '')
      .split(' ')
      .slice(11)
      .map(Number)
    return [user, system]
  }
  const before = await spent()
  await guest.run('echo > /sys/kernel/tracing/trace')
  await server.start({ grace })
  const after = await spent()
  const trace = await guest.run('cat /sys/kernel/tracing/trace')
  const at = (event: RegExp) => Number(event.exec(trace)?.[1])
  const seconds = at(/ ([\d.]+): begun: /) - at(/ ([\d.]+): asked: .* command=4 /)
  assert.ok(seconds > 0, trace)
  return { seconds, user: after[0] - before[0], system: after[1] - before[1] }
}

const inWords = ({ seconds, user, system }: Start): string =>
  `${(seconds * 1000).toFixed(0)} ms, of the process ${user * 10} ms and ${system * 10} ms in the kernel`

export const list = story('list', 'with one processor', {})
/** A guest with two processors stands still now and then. */
export const listOnTwo = story('list-2', 'with two processors', { processors: 2 })
/** A nanosecond is an instruction there. So no other work on this machine changes the result. */
export const listCounted = story('list-counted', 'that counts instructions', { cards: ['-icount', 'shift=0'] })
