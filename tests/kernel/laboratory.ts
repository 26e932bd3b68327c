// Runs the scenarios under a real kernel: `npm run test:kernel`, see docs/kernel-laboratory.md.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { test, type TestContext } from 'node:test'
import { parseArgs } from 'node:util'
import { endAll, join as joins } from './client.ts'
import { boot, type Guest } from './guest.ts'
import { cache, image, repository, type Image } from './image.ts'
import { look } from './look.ts'
import { write, type Chapter } from './report.ts'
import { clockAhead, clockBehind } from './scenarios/clock.ts'
import { crashInGrace } from './scenarios/crash-in-grace.ts'
import { earlyEnd } from './scenarios/early-end.ts'
import { graceMissed, leaseLostBeforeRestart } from './scenarios/edge-conditions.ts'
import { restart } from './scenarios/restart.ts'
import { upgrade } from './scenarios/upgrade.ts'
import { clear, prepare, serve, type Helper, type Server } from './server.ts'
import type { Stage, Story } from './story.ts'
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

interface Part { readonly story: Story, readonly helper: Helper, readonly ci: boolean, readonly control?: boolean }

/** In the order of what they say about a helper. The bundle and the control are not for a run with another helper. */
const ours = chosen.helper === undefined
const parts: readonly Part[] = [
  { story: restart, helper, ci: true },
  ...ours ? [{ story: restart, helper: bundle, ci: true }] : [],
  { story: leaseLostBeforeRestart, helper, ci: true },
  { story: graceMissed, helper, ci: true },
  { story: crashInGrace, helper, ci: true },
  { story: clockAhead, helper, ci: true },
  ...ours ? [{ story: clockAhead, helper: peer, ci: true, control: true }] : [],
  { story: clockBehind, helper, ci: false },
  { story: earlyEnd, helper, ci: true },
  { story: upgrade, helper, ci: true },
]

const run = join(cache, 'run')
rmSync(run, { recursive: true, force: true })
mkdirSync(run, { recursive: true })
const chapters: Chapter[] = []

/** One guest tells all stories that need only one; it is replaced if a story has broken it. */
let machine: { readonly guest: Guest, server: Server | undefined } | undefined

async function theGuest(): Promise<NonNullable<typeof machine>> {
  if (machine !== undefined) return machine
  const booting: Image = image()
  const disks = ['state', 'export'].map((name) => {
    const disk = join(run, `${name}.disk`)
    writeFileSync(disk, '')
    truncateSync(disk, 96 << 20)
    execFileSync('mkfs.ext4', ['-q', '-F', disk], { env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` } })
    return disk
  })
  const guest = await boot(booting, { name: 'guest', directory: run, disks, memory: '3072' })
  await prepare(guest, { serves: true })
  return machine = { guest, server: undefined }
}

async function tell({ story, helper, control = false }: Part, t: TestContext): Promise<void> {
  const chapter: Chapter = { name: story.name, title: story.title, helper: helper.program, control, claims: [], notes: [], seconds: 0 }
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
  try {
    assert.ok(existsSync(helper.program), `there is no ${helper.program}: npm run build`)
    const on = await theGuest()
    const { guest } = on
    const server = on.server = await serve(guest, helper, story.name, story.defaultDirectory)
    const stage: Stage = {
      guest, server, helper, claim,
      client: (name, version) => joins(guest, server, name, version),
      note: (text) => { chapter.notes.push(text) },
    }
    await story.tell(stage)
    if (chosen.stay) await look(guest)
  } catch (error) {
    chapter.claims.push({ sentence: 'the story could be told to its end', seconds: 0, failure: String(error) })
    if (!control) throw error
  } finally {
    await leave(chapter)
    chapter.seconds = (Date.now() - began) / 1000
    write(join(cache, 'report.md'), `The helper under a real kernel, ${new Date().toISOString()}`, chapters)
  }
  if (control) assert.ok(chapter.claims.some(({ failure }) => failure !== undefined), 'the control did not fail: this story proves nothing')
}

async function leave(chapter: Chapter): Promise<void> {
  if (machine === undefined) return
  const { guest, server } = machine
  try {
    const files = join(run, `${chapter.name}-${basename(chapter.helper)}`)
    if (server !== undefined) {
      writeFileSync(`${files}.upcalls`, (await server.upcalls()).map((upcall) => `${upcall.at} ${inWords(upcall)} ${upcall.environment.join(' ')}\n`).join(''))
      writeFileSync(`${files}.log`, await server.log())
    }
    await endAll(guest)
    if (server !== undefined) await clear(server)
  } catch (error) {
    chapter.notes.push(`the guest had to be replaced after this: ${String(error)}`)
    await guest.kill()
    machine = undefined
  }
}

const only = chosen.only?.split(',')
const wanted = parts.filter(({ story, ci }) => only?.includes(story.name) ?? (!chosen.ci || ci))
assert.ok(wanted.length > 0, `no such scenario; there are ${[...new Set(parts.map(({ story }) => story.name))].join(', ')}`)

for (const part of wanted) {
  const how = part.control === true ? ` (${part.helper.name}, the control, fails here)` : ` (${part.helper.name})`
  await test(`${part.story.title}${how}`, (t) => tell(part, t))
}
await machine?.guest.kill()
process.stdout.write(`report: ${join(cache, 'report.md')}\n`)
