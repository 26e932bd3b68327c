// One emulated machine. Its root is this machine's root, read-only, with a writable layer in memory. Its disks are
// files that remain when it is off. The host sends it scripts through a virtio port, and it answers with their status
// and output.
import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Image } from './image.ts'

export interface Outcome {
  readonly status: number
  readonly output: string
}

/** All times are in seconds. */
export interface Closest {
  readonly took: number
  readonly limit: number
  readonly script: string
}

export interface Guest {
  readonly name: string
  /** Runs a shell script as root. @returns what it printed. @throws for any status but 0. */
  run(script: string, seconds?: number): Promise<string>
  /** The same, but returns the status, whatever it is. */
  attempt(script: string, seconds?: number): Promise<Outcome>
  /** The script that came closest to its limit since the last call of this. */
  closest(): Closest
  /** A power cut. Nothing in the guest learns of it. Only what the disks were told to flush is there afterwards. */
  kill(): Promise<void>
}

export interface Machine {
  readonly name: string
  /** For the console log and the sockets of this run. */
  readonly directory: string
  readonly disks: readonly string[]
  /** More words for QEMU: network cards. */
  readonly cards?: readonly string[]
  /** One, unless a story needs more. */
  readonly processors?: number
}

/** Seconds for each attempt. A boot takes 7 on an idle machine, and took 24 once under a load of 12. */
const bootLimits = [75, 75, 300]

/** On a busy machine a script may be late without hanging. So its limit is the given number of seconds times this. */
const patience = 3

/**
 * If an emulated kernel panics or stands still while it boots, that is no fault of the helper's. So it is booted again.
 * The disks have not changed, because nothing is mounted before the first script.
 */
export async function boot(image: Image, machine: Machine, limits = bootLimits): Promise<Guest> {
  const guest = await again(image, machine, limits)
  try {
    await guest.run(
      `mkdir -p /lib/modules && ln -sfn '${image.modules}/${image.release}' '/lib/modules/${image.release}'`,
    )
    return guest
  } catch (error) {
    await guest.kill()
    throw error
  }
}

async function again(image: Image, machine: Machine, [limit = 0, ...more]: readonly number[]): Promise<Guest> {
  try {
    return await powerOn(image, machine, limit)
  } catch (error) {
    if (more.length === 0) throw error
    process.stderr.write(`kernel laboratory: ${(error as Error).message}\n`)
    process.stderr.write(`kernel laboratory: ${machine.name} is booted again\n`)
    return again(image, machine, more)
  }
}

/** Starts a machine and waits until it answers. If it does not answer within the limit, it is switched off again. */
async function powerOn(image: Image, machine: Machine, limit: number): Promise<Guest> {
  mkdirSync(machine.directory, { recursive: true })
  const files = filesOf(machine)
  rmSync(files.socket, { force: true })
  const power = new Power(image, machine, files)
  try {
    return new Running(power, await within(limit, power.connected(), `${machine.name} does not boot`))
  } catch (error) {
    const why = power.dead ?? new Error(`${(error as Error).message}\n${tail(files.console)}`, { cause: error })
    await power.cut()
    throw why
  }
}

interface Files {
  readonly socket: string
  readonly console: string
}

const filesOf = ({ directory, name }: Machine): Files => ({
  socket: join(directory, `${name}.sock`),
  console: join(directory, `${name}.console`),
})

const wordsFor = (image: Image, machine: Machine, { socket, console }: Files): readonly string[] => [
  // Hardware virtualisation hangs on some of the machines that this has to run on. Emulation works on all.
  '-accel',
  'tcg,tb-size=512',
  '-cpu',
  'max',
  // With a second processor, a guest stands still now and then: one processor changes code (jump labels, probes) that
  // the other one runs, and QEMU 7.2 goes on running the old code.
  '-smp',
  String(machine.processors ?? 1),
  '-m',
  '1536',
  '-nodefaults',
  '-no-user-config',
  '-no-reboot',
  '-display',
  'none',
  '-kernel',
  image.kernel,
  '-initrd',
  image.initramfs,
  '-append',
  // QEMU 7.2 translates a program anew wherever it is loaded, so it is loaded at the same addresses (norandmaps).
  // On a busy machine the kernel takes the timer for a broken one, and panics (no_timer_check).
  'console=ttyS0 loglevel=4 panic=-1 mitigations=off nokaslr init_on_alloc=0 no5lvl audit=0 apparmor=0 random.trust_cpu=on tsc=reliable norandmaps no_timer_check',
  '-serial',
  `file:${console}`,
  '-fsdev',
  'local,id=host,path=/,security_model=none,readonly=on,multidevs=remap',
  '-device',
  'virtio-9p-pci,fsdev=host,mount_tag=host',
  '-chardev',
  `socket,id=port,path=${socket},server=on,wait=on`,
  '-device',
  'virtio-serial-pci',
  '-device',
  'virtserialport,chardev=port,name=laboratory',
  ...machine.disks.flatMap((disk, n) => [
    '-drive',
    `file=${disk},format=raw,if=none,id=disk${n},cache=writeback`,
    '-device',
    `virtio-blk-pci,drive=disk${n}`,
  ]),
  ...(machine.cards ?? []),
]

/** QEMU's process. */
class Power {
  readonly name: string
  /** Why the machine is off; undefined, as long as it is on. */
  dead: Error | undefined
  private readonly qemu: ChildProcess
  private readonly gone: Promise<void>
  private readonly socket: string

  constructor(image: Image, machine: Machine, files: Files) {
    this.name = machine.name
    this.socket = files.socket
    const said = `${files.console}.qemu`
    const qemu = spawn('qemu-system-x86_64', wordsFor(image, machine, files), {
      stdio: ['ignore', openSync(said, 'w'), openSync(said, 'a')],
    })
    this.qemu = qemu
    // No guest may go on running after this process ends, in whatever way.
    const cleanup = () => qemu.kill('SIGKILL')
    process.once('exit', cleanup)
    this.gone = new Promise((resolve) => {
      qemu.once('exit', () => {
        process.removeListener('exit', cleanup)
        resolve()
      })
      qemu.once('error', () => {
        resolve()
      })
    })
    this.whenOff(() => {
      this.dead = new Error(`${machine.name} is off: ${tail(said)} ${tail(files.console)}`)
    })
  }

  /** Pieces of work are done in the order of these calls. */
  whenOff(work: () => void): void {
    void this.gone.then(work)
  }

  async cut(): Promise<void> {
    this.qemu.kill('SIGKILL')
    await this.gone
  }

  /** The port, after the machine has written `ready` to it, and the lines that follow. */
  async connected(): Promise<Port> {
    const port = await connected(this.socket, () => this.dead)
    const lines = createInterface({ input: port })
    // If a machine is killed while it answers, the connection is reset. `whenOff` tells those that wait for an answer.
    for (const end of [port, lines]) end.on('error', () => undefined)
    await new Promise<void>((ready, off) => {
      this.whenOff(() => {
        off(this.dead ?? new Error('off'))
      })
      lines.on('line', (line) => {
        if (line === 'ready') ready()
      })
    })
    return { port, lines }
  }
}

interface Port {
  readonly port: Socket
  readonly lines: Interface
}

const noScript: Closest = { took: 0, limit: 1, script: '' }

class Running implements Guest {
  readonly name: string
  private readonly power: Power
  private readonly port: Socket
  /** The scripts that have no answer yet, by their numbers. */
  private readonly waiting = new Map<
    number,
    { readonly resolve: (outcome: Outcome) => void; readonly reject: (error: Error) => void }
  >()
  private last = 0
  private mostOfLimit = noScript

  constructor(power: Power, { port, lines }: Port) {
    this.name = power.name
    this.power = power
    this.port = port
    lines.on('line', (line) => {
      const [number, status, output = ''] = line.split(' ')
      const script = this.waiting.get(Number(number))
      this.waiting.delete(Number(number))
      script?.resolve({ status: Number(status), output: Buffer.from(output, 'hex').toString() })
    })
    power.whenOff(() => {
      for (const { reject } of this.waiting.values()) reject(power.dead ?? new Error('off'))
    })
  }

  async run(script: string, seconds?: number): Promise<string> {
    const { status, output } = await this.attempt(`set -e\n${script}`, seconds)
    if (status !== 0) throw new Error(`${this.name}: status ${status} of: ${script}\n${output}`)
    return output
  }

  async attempt(script: string, seconds = 60): Promise<Outcome> {
    this.assertOn()
    const [limit, began] = [seconds * patience, Date.now()]
    try {
      return await within(limit, this.answerTo(script), `${this.name} does not answer to: ${script}`)
    } catch (error) {
      if (this.power.dead !== undefined) throw error
      throw new Error(`${(error as Error).message}; ${await this.whatHangs()}`, { cause: error })
    } finally {
      const took = (Date.now() - began) / 1000
      const { mostOfLimit } = this
      if (took / limit > mostOfLimit.took / mostOfLimit.limit) this.mostOfLimit = { took, limit, script }
    }
  }

  closest(): Closest {
    const asked = this.mostOfLimit
    this.mostOfLimit = noScript
    return asked
  }

  async kill(): Promise<void> {
    await this.power.cut()
    this.port.destroy()
  }

  private assertOn(): void {
    if (this.power.dead !== undefined) throw this.power.dead
  }

  private answerTo(script: string): Promise<Outcome> {
    const number = ++this.last
    const answer = new Promise<Outcome>((resolve, reject) => {
      this.waiting.set(number, { resolve, reject })
    })
    this.port.write(`${number} ${Buffer.from(script).toString('hex')}\n`)
    return answer
  }

  /** Tells a script that hangs from a machine that does: another script runs only beside the first. */
  private whatHangs(): Promise<string> {
    return within(60, this.answerTo(':'), 'off').then(
      () => 'the script hangs, the machine does not',
      () => 'the machine answers nothing at all any more',
    )
  }
}

async function connected(socket: string, dead: () => Error | undefined): Promise<Socket> {
  for (;;) {
    const reason = dead()
    if (reason !== undefined) throw reason
    if (existsSync(socket)) {
      const port = createConnection(socket)
      const open = await new Promise<boolean>((resolve) => {
        port.once('connect', () => {
          resolve(true)
        })
        port.once('error', () => {
          resolve(false)
        })
      })
      if (open) return port
    }
    await sleep(50)
  }
}

async function within<T>(seconds: number, work: Promise<T>, otherwise: string): Promise<T> {
  const done = new AbortController()
  try {
    return await Promise.race([
      work,
      sleep(seconds * 1000, undefined, { signal: done.signal }).then(() => {
        throw new Error(`${otherwise} (${seconds} s)`)
      }),
    ])
  } finally {
    done.abort()
  }
}

const tail = (file: string) =>
  existsSync(file) ? readFileSync(file, 'utf8').trimEnd().split('\n').slice(-15).join('\n') : ''
