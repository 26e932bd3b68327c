// Runs the scenarios under real kernels: `npm run test:kernel`, see docs/kernel-laboratory.md.
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { parseArgs } from 'node:util'
import { cache, image, kernels, type Kernel } from './image.ts'
import { openLane, type Lane } from './lane.ts'
import { grounds, inCi, partsOn, type Part } from './parts.ts'
import { write, type Chapter } from './report.ts'
import { trackers } from './tracking.ts'

const { values: chosen } = parseArgs({
  options: {
    kernel: { type: 'string' },
    tracker: { type: 'string' },
    helper: { type: 'string' },
    only: { type: 'string' },
    ci: { type: 'boolean', default: false },
    fetch: { type: 'boolean', default: false },
    stay: { type: 'boolean', default: false },
    lanes: { type: 'string' },
  },
})

function no(line: string): never {
  process.stderr.write(`${line}\n`)
  process.exit(1)
}

function oneOf<T extends string>(option: string, values: readonly T[], word: string | undefined): T | undefined {
  const value = values.find((one) => one === word)
  if (word !== undefined && value === undefined) no(`--${option} is one of ${values.join(', ')}, not ${word}`)
  return value
}

const [kernel, tracker] = [oneOf('kernel', kernels, chosen.kernel), oneOf('tracker', trackers, chosen.tracker)]
const on = grounds(kernel, tracker).filter((ground) => !chosen.ci || inCi(ground))
if (on.some((ground) => ground.kernel === '7.2' && ground.tracker === 'helper'))
  no('kernel 7.2 calls no helper: --tracker=serve, or nfsdcld')

const only = chosen.only?.split(',')
const parts = on.flatMap((ground) => partsOn(ground, chosen.helper))
const wanted = parts.filter(({ story, ci, byName }) => only?.includes(story.name) ?? (chosen.ci ? ci : !byName))
if (wanted.length === 0)
  no(`no such scenario; there are ${[...new Set(parts.map(({ story }) => story.name))].join(', ')}`)

// What is missing is said once, not by every story.
try {
  for (const one of new Set(wanted.map((part) => part.kernel))) image(one)
} catch (error) {
  no(error instanceof Error ? error.message : String(error))
}
if (chosen.fetch) process.exit()

/** A directory for each run, so that two can go on at once; those of runs that are over are swept. */
const runs = join(cache, 'runs')
mkdirSync(runs, { recursive: true })
for (const old of readdirSync(runs)) if (!existsSync(`/proc/${old}`)) rmSync(join(runs, old), { recursive: true })
const run = join(runs, String(process.pid))
mkdirSync(run)
const report = join(run, 'report.md')
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))

// Stories wait more than they work, for leases and for grace: in CI two are told at once.
const many = chosen.stay ? 1 : Number(chosen.lanes ?? (chosen.ci ? 2 : 1))
const lanes = Array.from({ length: many }, (_, n) => openLane(String(n + 1), run, chosen.stay))
const chapters: Chapter[] = []
const left = [...wanted]
const kernelOf = new Map<Lane, Kernel>()

/** What needs no other guest, else a kernel that no other lane is at: each is booted as seldom as can be. */
function next(lane: Lane): Part | undefined {
  const elsewhere = lanes.filter((other) => other !== lane).map((other) => kernelOf.get(other))
  const part =
    left.find((one) => one.kernel === kernelOf.get(lane)) ??
    left.find((one) => !elsewhere.includes(one.kernel)) ??
    left[0]
  if (part === undefined) return undefined
  left.splice(left.indexOf(part), 1)
  kernelOf.set(lane, part.kernel)
  return part
}

async function walk(lane: Lane, all: TestContext): Promise<void> {
  for (let part = next(lane); part !== undefined; part = next(lane)) {
    const { story, helper, control } = part
    const chapter: Chapter = {
      name: story.name,
      title: story.title,
      helper: helper.program,
      tracker: helper.tracker,
      kernel: part.kernel,
      control,
      claims: [],
      notes: [],
      seconds: 0,
    }
    chapters.push(chapter)
    const how = `${helper.name}${helper.tracker === 'serve' ? ' serve' : ''}, ${part.kernel}${control ? ': the control, fails here' : ''}`
    await all.test(`${story.title} (${how})`, async (t) => {
      try {
        await lane.tell(part, chapter, t)
      } finally {
        write(report, `The helper under a real kernel, ${new Date().toISOString()}`, chapters)
      }
    })
  }
  await lane.switchOff()
}

// Tests of the outermost level never run beside each other.
await test('the laboratory', { concurrency: many }, async (all) => {
  await Promise.all(lanes.map((lane) => walk(lane, all)))
})
process.stdout.write(`report: ${report}\n`)
