// One emulated machine. Its root is this machine's root, read-only, under a layer of memory; its disks are files that
// outlive it. The host talks to it through a virtio port: a script goes in, a status and what it printed come back.
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Image } from './image.ts'

export interface Outcome {
  readonly status: number
  readonly output: string
}

/** All seconds. */
export interface Closest {
  readonly took: number
  readonly limit: number
  readonly script: string
}

export interface Guest {
  readonly name: string
  /** Runs a shell script as root and returns what it printed; any status but 0 is thrown. */
  readonly run: (script: string, seconds?: number) => Promise<string>
  /** The same, for scripts whose status is the question. */
  readonly attempt: (script: string, seconds?: number) => Promise<Outcome>
  /** The script that came closest to its limit since this was asked last. */
  readonly closest: () => Closest
  /** Power cut: nothing in the guest learns of it. What the disks were told to flush is there, the rest is not. */
  readonly kill: () => Promise<void>
}

export interface Machine {
  readonly name: string
  /** Where the console log and the sockets of this run go. */
  readonly directory: string
  readonly disks: readonly string[]
  /** More of QEMU's words: network cards. */
  readonly cards?: readonly string[]
}

/** Seconds for each attempt. A boot takes 7 on an idle machine, and was seen to take 24 under a load of 12. */
const bootLimits = [75, 75, 300]

/** What is late on a busy machine does not hang: each limit of a script is the seconds that it says, this often. */
const patience = 3

/**
 * An emulated kernel that panics or stands still while it boots says nothing about anybody, so it is booted again, on
 * the same disks: nothing is mounted before a script of ours asks for it, and none has been sent.
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

/** A machine that has said that it listens. One that does not say so within the limit is off again. */
async function powerOn(image: Image, machine: Machine, limit: number): Promise<Guest> {
  mkdirSync(machine.directory, { recursive: true })
  const socket = join(machine.directory, `${machine.name}.sock`)
  const console = join(machine.directory, `${machine.name}.console`)
  rmSync(socket, { force: true })
  const qemu = spawn(
    'qemu-system-x86_64',
    [
      // Hardware virtualisation hangs on some of the machines that this has to run on. Emulation works on all.
      '-accel',
      'tcg,tb-size=512',
      '-cpu',
      'max',
      // With a second processor, a guest stands still now and then: it changes its own code (jump labels, probes) while
      // the other one runs it, and QEMU 7.2 goes on running what is not there any more. It costs more than it brings.
      '-smp',
      '1',
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
      'console=ttyS0 loglevel=4 panic=-1 mitigations=off nokaslr init_on_alloc=0 no5lvl audit=0 apparmor=0 random.trust_cpu=on tsc=reliable',
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
    ],
    { stdio: ['ignore', openSync(`${console}.qemu`, 'w'), openSync(`${console}.qemu`, 'a')] },
  )

  // Open guests must not outlive us, however we end.
  const cleanup = () => qemu.kill('SIGKILL')
  process.once('exit', cleanup)
  const gone = new Promise<void>((resolve) => {
    qemu.once('exit', () => {
      process.removeListener('exit', cleanup)
      resolve()
    })
    qemu.once('error', () => {
      resolve()
    })
  })
  let dead: Error | undefined
  const waiting = new Map<number, { resolve: (outcome: Outcome) => void; reject: (error: Error) => void }>()
  void gone.then(() => {
    dead = new Error(`${machine.name} is off: ${tail(`${console}.qemu`)} ${tail(console)}`)
    for (const { reject } of waiting.values()) reject(dead)
  })

  const listens = async (): Promise<Socket> => {
    const port = await connected(socket, () => dead)
    const lines = createInterface({ input: port })
    // A machine that is killed while it answers resets the connection; whoever waits for it learns that it is off.
    for (const end of [port, lines]) end.on('error', () => undefined)
    await new Promise<void>((ready, off) => {
      void gone.then(() => {
        off(dead ?? new Error('off'))
      })
      lines.on('line', (line) => {
        if (line === 'ready') {
          ready()
          return
        }
        const [number, status, output = ''] = line.split(' ')
        waiting.get(Number(number))?.resolve({ status: Number(status), output: Buffer.from(output, 'hex').toString() })
        waiting.delete(Number(number))
      })
    })
    return port
  }
  const kill = async () => {
    qemu.kill('SIGKILL')
    await gone
  }
  let port: Socket
  try {
    port = await within(limit, listens(), `${machine.name} does not boot`)
  } catch (error) {
    const why = dead ?? new Error(`${(error as Error).message}\n${tail(console)}`, { cause: error })
    await kill()
    throw why
  }

  let last = 0
  const none: Closest = { took: 0, limit: 1, script: '' }
  let closest = none
  const answerTo = (script: string): Promise<Outcome> => {
    const number = ++last
    const answer = new Promise<Outcome>((resolve, reject) => {
      waiting.set(number, { resolve, reject })
    })
    port.write(`${number} ${Buffer.from(script).toString('hex')}\n`)
    return answer
  }
  /** A script that hangs holds up no other: an emulator that stands still does. */
  const whoHangs = (): Promise<string> =>
    within(60, answerTo(':'), 'off').then(
      () => 'the script hangs, the machine does not',
      () => 'the machine answers nothing at all any more',
    )
  const isOff = () => dead !== undefined
  const attempt = async (script: string, seconds = 60): Promise<Outcome> => {
    if (dead !== undefined) throw dead
    const [limit, began] = [seconds * patience, Date.now()]
    try {
      return await within(limit, answerTo(script), `${machine.name} does not answer to: ${script}`)
    } catch (error) {
      if (isOff()) throw error
      throw new Error(`${(error as Error).message}; ${await whoHangs()}`, { cause: error })
    } finally {
      const took = (Date.now() - began) / 1000
      if (took / limit > closest.took / closest.limit) closest = { took, limit, script }
    }
  }
  return {
    name: machine.name,
    attempt,
    run: async (script, seconds) => {
      const { status, output } = await attempt(`set -e\n${script}`, seconds)
      if (status !== 0) throw new Error(`${machine.name}: status ${status} of: ${script}\n${output}`)
      return output
    },
    closest: () => {
      const asked = closest
      closest = none
      return asked
    },
    kill: async () => {
      await kill()
      port.destroy()
    },
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
