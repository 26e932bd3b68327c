// Stories one after the other, in a guest that is kept from one to the next: two lanes tell two stories at a time.
import assert from 'node:assert/strict'
import { existsSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { TestContext } from 'node:test'
import { endAll, join as joins } from './client.ts'
import { blankDisk } from './disk.ts'
import { boot, type Guest } from './guest.ts'
import { image, type Kernel } from './image.ts'
import { look } from './look.ts'
import type { Part } from './parts.ts'
import { freePort } from './port.ts'
import type { Chapter } from './report.ts'
import { clear, prepare, serve, type Server } from './server.ts'
import type { Ground, Stage } from './story.ts'
import { inWords } from './upcalls.ts'

export interface Lane {
  /** Tells a story as a test, and leaves what it has shown in the chapter. */
  readonly tell: (part: Part, chapter: Chapter, test: TestContext) => Promise<void>
  readonly switchOff: () => Promise<void>
}

/** One guest tells all stories that need only one; it is replaced if a story has broken it. */
interface Machine {
  readonly kernel: Kernel
  readonly guest: Guest
  readonly nfsPort: number
  server: Server | undefined
}

/** How much slower a machine may be. */
function closestToLimit(guests: readonly Guest[]): string {
  const [closest] = guests
    .map((guest) => guest.closest())
    .toSorted((one, other) => other.took / other.limit - one.took / one.limit)
  if (closest === undefined) return 'no script was run'
  const { took, limit, script } = closest
  return `the script that came closest to its limit took ${took.toFixed(1)} of ${limit} s: ${script.trim().split('\n').at(-1)?.trim() ?? ''}`
}

/** @param run the directory of the run. @param stay a prompt in the guests before anything is cleaned away. */
export function openLane(name: string, run: string, stay: boolean): Lane {
  let machine: Machine | undefined

  async function theGuest(kernel: Kernel): Promise<Machine> {
    if (machine?.kernel === kernel) return machine
    await switchOff()
    const nfsPort = await freePort()
    const guest = await boot(image(kernel), {
      name: `guest-${name}`,
      directory: run,
      disks: ['state', 'export'].map((disk) => blankDisk(run, `${disk}-${name}`, 'ext4')),
      cards: [
        '-netdev',
        `user,id=host,restrict=on,hostfwd=tcp:127.0.0.1:${nfsPort}-:2049`,
        '-device',
        'virtio-net-pci,netdev=host',
      ],
    })
    await prepare(guest, { serves: true, reachable: 'eth0' })
    return (machine = { kernel, guest, nfsPort, server: undefined })
  }

  async function switchOff(): Promise<void> {
    await machine?.guest.kill()
    machine = undefined
  }

  const tell: Lane['tell'] = async (part, chapter, t) => {
    const { kernel, helper, control } = part
    const began = Date.now()
    const own: Guest[] = []
    const ground: Ground = {
      helper,
      claim: claiming(part, chapter, t),
      directory: run,
      note: (text) => {
        chapter.notes.push(text)
      },
      boot: async (wanted, other = kernel) => {
        const guest = await boot(image(other), { ...wanted, directory: run })
        own.push(guest)
        return guest
      },
    }
    try {
      await tellOn(ground, part)
    } catch (error) {
      chapter.claims.push({ sentence: 'the story could be told to its end', seconds: 0, failure: String(error) })
      if (!control) throw error
    } finally {
      const guests = [...own, ...(machine === undefined ? [] : [machine.guest])]
      for (const guest of stay ? guests : []) await look(guest)
      chapter.notes.push(closestToLimit(guests))
      for (const guest of own) await guest.kill()
      await leave(chapter)
      chapter.seconds = (Date.now() - began) / 1000
    }
    if (control)
      assert.ok(
        chapter.claims.some(({ failure }) => failure !== undefined),
        'the control did not fail: this story proves nothing',
      )
  }

  async function tellOn(ground: Ground, { story, kernel, helper }: Part): Promise<void> {
    assert.ok(existsSync(helper.program), `there is no ${helper.program}: npm run build`)
    if ('alone' in story) {
      await switchOff()
      await story.alone(ground)
      return
    }
    const on = await theGuest(kernel)
    const { guest, nfsPort } = on
    const server = (on.server = await serve(guest, helper, story.name, story.defaultDirectory))
    await story.tell({
      ...ground,
      guest,
      clients: guest,
      server,
      nfsPort,
      client: (who, version) => joins(guest, server, who, version),
    })
  }

  async function leave(chapter: Chapter): Promise<void> {
    if (machine === undefined) return
    const { guest, server } = machine
    try {
      if (server !== undefined) await keep(server, chapter, run)
      await endAll(guest)
      if (server !== undefined) await clear(server)
    } catch (error) {
      chapter.notes.push(`the guest had to be replaced after this: ${String(error)}`)
      await switchOff()
    }
  }

  return { tell, switchOff }
}

/** Proves each claim as a test of its own, except in a control, in which claims should fail. */
function claiming({ control }: Part, chapter: Chapter, t: TestContext): Stage['claim'] {
  return async (sentence, proof) => {
    const since = Date.now()
    const prove = async () => {
      let failure: string | undefined
      try {
        await proof()
      } catch (error) {
        failure = error instanceof Error ? error.message : String(error)
        if (!control) throw error
      } finally {
        chapter.claims.push({ sentence, failure, seconds: (Date.now() - since) / 1000 })
      }
    }
    await (control ? prove() : t.test(sentence, prove))
  }
}

/** Writes the upcalls and the kernel log of a story into the directory of the run. */
async function keep(server: Server, chapter: Chapter, run: string): Promise<void> {
  const way = chapter.tracker === 'serve' ? '-serve' : ''
  const files = join(run, `${chapter.name}-${basename(chapter.helper)}${way}-${chapter.kernel}`)
  const asked = await server.upcalls()
  writeFileSync(
    `${files}.upcalls`,
    asked.map((upcall) => `${upcall.at} ${inWords(upcall)} ${upcall.environment.join(' ')}\n`).join(''),
  )
  writeFileSync(`${files}.log`, await server.log())
}
