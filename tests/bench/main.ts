/**
 * npm run bench -- [--quick] [--plot] [--dir DIR] [--only WORK,...]
 *
 * Measures ours and nfsdcltrack in turn, in one run, as whole processes. Says at the end which of its goals are
 * met; fails only if something can't be measured. --quick leaves out a million records and repeats less; --plot draws
 * docs/bench; --dir says where the state directories are to be; --only measures some of it (the names are in `works`).
 */
import { closeSync, existsSync, fsyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { cpus, loadavg, release, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { calls } from './calls.ts'
import { executable } from '../artefacts.ts'
import { figures, short } from './figures.ts'
import { draw } from './plot.ts'
import { openProgress } from './progress.ts'
import { callCounts, measurements, met } from './report.ts'
import { compile, find, missing, run, serverRuns } from './tools.ts'
import { amongMany, checks, creates, floors, memory, startsAndEnds, storms, type Bench, type Row } from './work.ts'

function refusal(): string | undefined {
  const install = missing()
  if (install !== undefined) return `missing for the benchmark: ${install}`
  if (!existsSync(executable.command[0] ?? '')) return 'no executable: npm run build says what it needs'
  if (serverRuns()) return "an NFS server runs here, and nfsdcltrack would end its grace period: not on this machine, or after 'umount /proc/fs/nfsd'"
  return undefined
}

/** A barrier of the place itself, in milliseconds: one more record's worth of bytes, synced. */
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
  return figures(took).median
}

const works = { creates, checks, floors, storms, memory, startsAndEnds, amongMany }

function measure(bench: Bench, only: string | undefined): Row[] {
  const rows: Row[] = []
  for (const [name, work] of Object.entries(works)) {
    if (only?.split(',').includes(name) === false) continue
    const done = work(bench)
    bench.progress.clear()
    for (const { work: what, ours, base, unit } of done)
      console.error(`  ${what}: ${short(ours.median)} ${unit}, against ${short(base.median)}: ${short(ours.median / base.median)}`)
    rows.push(...done)
  }
  return rows
}

const { values: options } = parseArgs({ options: {
  quick: { type: 'boolean', default: false },
  plot: { type: 'boolean', default: false },
  dir: { type: 'string', default: tmpdir() },
  only: { type: 'string' },
} })
const refused = refusal()
if (refused !== undefined) {
  console.error(refused)
  process.exit(1)
}
const path = mkdtempSync(join(resolve(options.dir), 'nfsd-userland-helper-bench-'))
process.once('SIGINT', () => {
  rmSync(path, { recursive: true, force: true })
  process.exit(130)
})
try {
  const progress = openProgress()
  const bench: Bench = { path, ...compile(path), quick: options.quick, progress }
  console.log(`${cpus().length} processors (${cpus()[0]?.model ?? '?'}), Linux ${release()}, load ${short(loadavg()[0] ?? 0)}`)
  console.log(`state directories: ${run('stat', ['-f', '-c', '%T', path]).trim()}, whose own barrier takes ${short(ownBarrier(path))} ms (median)`)
  console.log('barrier +n ms: n added to every fsync and fdatasync of all subjects; times are medians, with quartiles\n')
  const rows = measure(bench, options.only)
  const strace = find('strace')
  const counts = strace === undefined ? undefined : calls(bench, strace)
  progress.clear()
  console.log(measurements(rows))
  for (const { work, failed: [ours, peers] = [0, 0] } of rows)
    if (ours + peers > 0) console.log(`\n${work}: of ours ${ours} failed, of nfsdcltrack ${peers} (its database was locked for 10 s)`)
  console.log(counts === undefined ? '\nsystem calls are counted where strace is installed: apt-get install strace' : `\n${callCounts(counts)}`)
  const judged = rows.filter((row) => row.goal !== undefined)
  console.log(`\n${judged.filter((row) => met(row)).length} of ${judged.length} goals met; load at the end ${short(loadavg()[0] ?? 0)}`)
  if (options.plot) for (const line of draw(rows)) console.log(line)
} finally {
  rmSync(path, { recursive: true, force: true })
}
