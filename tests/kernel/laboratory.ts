// Runs the scenarios under a real kernel: `npm run test:kernel`, see docs/kernel-laboratory.md.
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { test, type TestContext } from 'node:test'
import { parseArgs } from 'node:util'
import { endAll, join as joins } from './client.ts'
import { blankDisk } from './disk.ts'
import { boot, type Guest } from './guest.ts'
import { cache, image, repository } from './image.ts'
import { look } from './look.ts'
import { freePort } from './port.ts'
import { write, type Chapter } from './report.ts'
import { clockAhead, clockBehind } from './scenarios/clock.ts'
import { crashInGrace } from './scenarios/crash-in-grace.ts'
import { crashOnExt4, crashOnXfs } from './scenarios/crash.ts'
import { earlyEnd } from './scenarios/early-end.ts'
import { graceMissed, leaseLostBeforeRestart } from './scenarios/edge-conditions.ts'
import { endUnderTraffic } from './scenarios/end-under-traffic.ts'
import { fullDisk, readOnly, startKilled, stateRemoved } from './scenarios/failing-helper.ts'
import { moduleLoad } from './scenarios/module-load.ts'
import { restart } from './scenarios/restart.ts'
import { see } from './scenarios/see.ts'
import { smallStorm, storm } from './scenarios/storm.ts'
import { upgrade } from './scenarios/upgrade.ts'
import { clear, prepare, serve, type Helper, type Server } from './server.ts'
import type { Ground, Stage, Story } from './story.ts'
import { inWords } from './upcalls.ts'

const { values: chosen } = parseArgs({
  options: {
    helper: { type: 'string' },
    only: { type: 'string' },
    ci: { type: 'boolean', default: false },
    stay: { type: 'boolean', default: false },
  },
})

const named = (program: string): Helper => ({ name: basename(program), program: resolve(program) })
const dist = (name: string) => named(join(repository, 'dist', name))
const helper = chosen.helper === undefined ? dist('nfsd-userland-helper') : named(chosen.helper)
const bundle = dist('nfsd-userland-helper.cjs')
const peer = named('/usr/sbin/nfsdcltrack')

interface Part {
  readonly story: Story
  readonly helper: Helper
  readonly ci: boolean
  readonly full?: boolean
  readonly control?: boolean
}

/**
 * In the order of what they say about a helper; in CI those that fit into twelve minutes of two cores. The bundle and the
 * control are not for a run with another helper.
 */
const ours = chosen.helper === undefined
const parts: readonly Part[] = [
  { story: restart, helper, ci: true },
  ...(ours ? [{ story: restart, helper: bundle, ci: true }] : []),
  { story: leaseLostBeforeRestart, helper, ci: true },
  { story: graceMissed, helper, ci: true },
  { story: crashInGrace, helper, ci: true },
  { story: clockAhead, helper, ci: true },
  ...(ours ? [{ story: clockAhead, helper: peer, ci: true, control: true }] : []),
  { story: clockBehind, helper, ci: false },
  { story: earlyEnd, helper, ci: true },
  ...(ours ? [{ story: see, helper, ci: false }] : []),
  { story: fullDisk, helper, ci: false },
  { story: readOnly, helper, ci: true },
  { story: startKilled, helper, ci: true },
  { story: stateRemoved, helper, ci: false },
  { story: upgrade, helper, ci: true },
  ...(ours ? [{ story: endUnderTraffic, helper, ci: true }] : []),
  { story: smallStorm, helper, ci: false, full: false },
  { story: storm, helper, ci: false },
  ...(ours
    ? [
        { story: moduleLoad, helper, ci: true },
        { story: moduleLoad, helper: bundle, ci: false },
      ]
    : []),
  { story: crashOnExt4, helper, ci: false },
  { story: crashOnXfs, helper, ci: false },
]

/** A directory for each run, so that two can go on at once; those of runs that are over are swept. */
const runs = join(cache, 'runs')
mkdirSync(runs, { recursive: true })
for (const old of readdirSync(runs)) if (!existsSync(`/proc/${old}`)) rmSync(join(runs, old), { recursive: true })
const run = join(runs, String(process.pid))
mkdirSync(run)
const report = join(run, 'report.md')
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))

const chapters: Chapter[] = []

/** One guest tells all stories that need only one; it is replaced if a story has broken it. */
let machine: { readonly guest: Guest; readonly nfsPort: number; server: Server | undefined } | undefined

async function theGuest(): Promise<NonNullable<typeof machine>> {
  if (machine !== undefined) return machine
  const nfsPort = await freePort()
  const guest = await boot(image(), {
    name: 'guest',
    directory: run,
    disks: ['state', 'export'].map((name) => blankDisk(run, name, 'ext4')),
    cards: [
      '-netdev',
      `user,id=host,restrict=on,hostfwd=tcp:127.0.0.1:${nfsPort}-:2049`,
      '-device',
      'virtio-net-pci,netdev=host',
    ],
  })
  await prepare(guest, { serves: true, reachable: 'eth0' })
  return (machine = { guest, nfsPort, server: undefined })
}

async function tell({ story, helper, control = false }: Part, t: TestContext): Promise<void> {
  const chapter: Chapter = {
    name: story.name,
    title: story.title,
    helper: helper.program,
    control,
    claims: [],
    notes: [],
    seconds: 0,
  }
  chapters.push(chapter)
  const began = Date.now()
  const claim: Stage['claim'] = async (sentence, proof) => {
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
  const own: Guest[] = []
  const ground: Ground = {
    helper,
    claim,
    directory: run,
    note: (text) => {
      chapter.notes.push(text)
    },
    boot: async (wanted) => {
      const guest = await boot(image(), { ...wanted, directory: run })
      own.push(guest)
      return guest
    },
  }
  try {
    assert.ok(existsSync(helper.program), `there is no ${helper.program}: npm run build`)
    if ('alone' in story) {
      await switchOff()
      await story.alone(ground)
    } else {
      const on = await theGuest()
      const { guest, nfsPort } = on
      const server = (on.server = await serve(guest, helper, story.name, story.defaultDirectory))
      await story.tell({
        ...ground,
        guest,
        clients: guest,
        server,
        nfsPort,
        client: (name, version) => joins(guest, server, name, version),
      })
    }
  } catch (error) {
    chapter.claims.push({ sentence: 'the story could be told to its end', seconds: 0, failure: String(error) })
    if (!control) throw error
  } finally {
    for (const guest of chosen.stay ? [...own, ...(machine === undefined ? [] : [machine.guest])] : [])
      await look(guest)
    for (const guest of own) await guest.kill()
    await leave(chapter)
    chapter.seconds = (Date.now() - began) / 1000
    write(report, `The helper under a real kernel, ${new Date().toISOString()}`, chapters)
  }
  if (control)
    assert.ok(
      chapter.claims.some(({ failure }) => failure !== undefined),
      'the control did not fail: this story proves nothing',
    )
}

async function switchOff(): Promise<void> {
  await machine?.guest.kill()
  machine = undefined
}

async function leave(chapter: Chapter): Promise<void> {
  if (machine === undefined) return
  const { guest, server } = machine
  try {
    const files = join(run, `${chapter.name}-${basename(chapter.helper)}`)
    if (server !== undefined) {
      writeFileSync(
        `${files}.upcalls`,
        (await server.upcalls())
          .map((upcall) => `${upcall.at} ${inWords(upcall)} ${upcall.environment.join(' ')}\n`)
          .join(''),
      )
      writeFileSync(`${files}.log`, await server.log())
    }
    await endAll(guest)
    if (server !== undefined) await clear(server)
  } catch (error) {
    chapter.notes.push(`the guest had to be replaced after this: ${String(error)}`)
    await switchOff()
  }
}

const only = chosen.only?.split(',')
const wanted = parts.filter(({ story, ci, full = true }) => only?.includes(story.name) ?? (chosen.ci ? ci : full))
assert.ok(
  wanted.length > 0,
  `no such scenario; there are ${[...new Set(parts.map(({ story }) => story.name))].join(', ')}`,
)

// What is missing is said once, not by every story.
try {
  image()
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exit(1)
}
for (const part of wanted) {
  const how = part.control === true ? ` (${part.helper.name}, the control, fails here)` : ` (${part.helper.name})`
  await test(`${part.story.title}${how}`, (t) => tell(part, t))
}
await switchOff()
process.stdout.write(`report: ${report}\n`)
