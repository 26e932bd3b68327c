/**
 * npm run bench -- [--quick] [--plot] [--dir DIR] [--only WORK,...]
 *
 * Measures ours and nfsdcltrack in turn, in one run, as whole processes, on a disk whose barriers take a chosen time
 * (slow-disk.ts), and `serve` beside nfsdcld (pipe.ts). At the end it says which goals are met. It fails only if
 * something can't be measured.
 *
 * --quick leaves out a million records, and repeats less. --plot draws docs/bench. --dir measures on another disk, as
 * fast as that is. --only measures some of it (the names are in `works`).
 */
import { closeSync, existsSync, fsyncSync, mkdirSync, mkdtempSync, openSync, unlinkSync, writeSync } from 'node:fs'
import { cpus, loadavg, release, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { removeSync } from 'fs-extra/esm'
import { executable } from '../support/artefacts.ts'
import { calls, counts } from './counts.ts'
import { figures, short } from './figures.ts'
import { compileCreateFloor, compileFloors } from './floor.ts'
import { hasMountsOfItsOwn, runWithMountsOfItsOwn } from './own-mounts.ts'
import { lists, pipe } from './pipe.ts'
import { draw } from './plot.ts'
import { openProgress } from './progress.ts'
import { callCounts, measurements, met, otherCounts, reached } from './report.ts'
import { makeSlowDisk, slowDiskRefused, type SlowDisk } from './slow-disk.ts'
import { compileLauncher, find, missing, run, serverRuns } from './tools.ts'
import { amongMany, checks, creates, floors, memory, startsAndEnds, storms, type Bench, type Row } from './work.ts'

function refusal(): string | undefined {
  const install = missing()
  if (install !== undefined) return `missing for the benchmark: ${install}`
  if (!existsSync(executable.command[0] ?? '')) return 'no executable: npm run build says what is missing for it'
  if (serverRuns())
    return "an NFS server runs here, and nfsdcltrack would end its grace period: not on this machine, or after 'umount /proc/fs/nfsd'"
  const why = options.dir === undefined ? slowDiskRefused() : undefined
  return why === undefined ? undefined : `no slow disk: ${why}. On a disk as it is: --dir DIR`
}

/** What a barrier takes on the disk itself, in milliseconds: the bytes of one more record are written and synced. */
function ownBarrier(path: string): number {
  const file = join(path, 'barrier')
  const descriptor = openSync(file, 'w')
  const took: number[] = []
  for (let time = 0; time < 40; time++) {
    writeSync(descriptor, 'x'.repeat(100))
    const began = performance.now()
    fsyncSync(descriptor)
    took.push(performance.now() - began)
  }
  closeSync(descriptor)
  unlinkSync(file)
  return figures(took).median
}

/** A text that says how slow the disk is, and how often a barrier flushes it. */
function describe({ path, disk }: Bench): string {
  if (disk === undefined)
    return `on a disk of this machine (${run('stat', ['-f', '-c', '%T', path]).trim()}), whose own barrier takes ${short(ownBarrier(path))} ms (median)`
  const barriers = [0, 2, 10].map((ms) => {
    disk.slow(ms)
    const before = disk.flushes()
    return `+${ms}: ${short(ownBarrier(path))} ms, ${short((disk.flushes() - before) / 40)} flushes`
  })
  disk.slow(0)
  return `on ext4 with a journal, on a disk that is as slow as is wished; one barrier at ${barriers.join('; ')} (medians)`
}

const works = { creates, checks, floors, storms, memory, startsAndEnds, amongMany, pipe, lists }

async function measure(bench: Bench, only: string | undefined): Promise<Row[]> {
  const rows: Row[] = []
  for (const [name, work] of Object.entries(works)) {
    if (only?.split(',').includes(name) === false) continue
    const done = await work(bench)
    bench.progress.clear()
    for (const { work: what, ours, base, unit } of done)
      console.error(
        `  ${what}: ${short(ours.median)} ${unit}, against ${short(base.median)}: ${short(ours.median / base.median)}`,
      )
    rows.push(...done)
  }
  return rows
}

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    plot: { type: 'boolean', default: false },
    dir: { type: 'string' },
    only: { type: 'string' },
  },
})
const refused = refusal()
if (refused !== undefined) {
  console.error(refused)
  process.exit(1)
}
function say(rows: readonly Row[], counted: ReturnType<typeof counts>, callRows: ReturnType<typeof calls>): void {
  console.log(measurements(rows))
  for (const { work, failed: [ours, peers] = [0, 0] } of rows)
    if (ours + peers > 0)
      console.log(`\n${work}: of ours ${ours} failed, of nfsdcltrack ${peers} (its database was locked for 10 s)`)
  console.log(`\n${otherCounts(counted)}`)
  if (callRows.length > 0) console.log(`\n${callCounts(callRows)}`)
  for (const tool of ['strace', 'valgrind'])
    if (find(tool) === undefined) console.log(`\nmore is counted where ${tool} is installed: apt-get install ${tool}`)
  const judged = [...rows.map(met), ...counted.map(reached)].filter((result) => result !== undefined)
  console.log(
    `\n${judged.filter(Boolean).length} of ${judged.length} goals met; load at the end ${short(loadavg()[0] ?? 0)}`,
  )
}

async function measureAll(): Promise<void> {
  const path = mkdtempSync(
    join(options.dir === undefined ? tmpdir() : resolve(options.dir), 'nfsd-userland-helper-bench-'),
  )
  let disk: SlowDisk | undefined
  const tidyUp = (): void => {
    disk?.scrap()
    disk = undefined
    removeSync(path)
  }
  for (const ending of ['SIGINT', 'SIGTERM', 'disconnect'])
    process.once(ending, () => {
      tidyUp()
      process.exit(1)
    })
  process.channel?.unref()
  try {
    const progress = openProgress()
    progress.say('a disk')
    const tools = join(path, 'tools')
    mkdirSync(tools)
    if (options.dir === undefined) disk = makeSlowDisk(tools)
    const bench: Bench = {
      path: disk?.path ?? path,
      launcher: compileLauncher(tools),
      disk,
      floors: compileFloors(tools),
      createFloor: compileCreateFloor(tools),
      quick: options.quick,
      progress,
    }
    console.log(
      `${cpus().length} processors (${cpus()[0]?.model ?? '?'}), Linux ${release()}, load ${short(loadavg()[0] ?? 0)}`,
    )
    console.log(`state directories: ${describe(bench)}\n`)
    const rows = await measure(bench, options.only)
    const strace = find('strace')
    const callRows = strace === undefined ? [] : calls(bench, strace)
    const counted = counts(bench, callRows)
    progress.clear()
    say(rows, counted, callRows)
    if (options.plot) for (const line of draw(rows)) console.log(line)
  } finally {
    tidyUp()
  }
}

if (options.dir !== undefined || hasMountsOfItsOwn()) await measureAll()
else process.exitCode = await runWithMountsOfItsOwn()
