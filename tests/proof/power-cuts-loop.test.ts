/**
 * Power cuts on real file systems: the image behind a loop device is copied right after an acknowledgement, and at each
 * call that changes the file system. The copy is mounted as after a power cut.
 *
 * This shows what a file system really does with unsynced changes. It does not show a disk that reorders writes
 * (power-cuts-log-writes), nor a torn overwrite.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { removeSync } from 'fs-extra/esm'
import { blank, judge, type Owner } from '../life/oracle.ts'
import { artefacts, settings, type Artefact } from '../support/artefacts.ts'
import { briefly, changing, fired, trace } from '../support/strace.ts'
import { inPart, random, report, seconds, seed, type Row } from './figures.ts'
import { fileSystems, need, newDisk, type FileSystem } from './loop-disks.ts'
import { mutations, withMutant } from './mutants.ts'
import { randomLife } from './random-life.ts'
import {
  ann,
  bob,
  cal,
  check,
  clientsOf,
  create,
  dan,
  graceDone,
  isEssential,
  memoryAfter,
  remove,
  scenarios,
  start,
  upcallFor,
  bootTimeAt,
  type Scenario,
} from './scenarios.ts'
import { plant, readTree } from './trees.ts'
import {
  call,
  disagreement,
  futuresByRule,
  futuresOf,
  live,
  machineAt,
  machineRestarts,
  prepared,
  scrapTree,
} from './verdicts.ts'

const executable = artefacts().find(({ name }) => name === 'executable')
const clients: readonly Owner[] = [ann, bob, cal, dan]
/** How often the power is cut right after an acknowledgement, for each file system. */
const acknowledged = inPart ? 15 : 210

describe('the power goes right after an acknowledgement', { skip: executable === undefined }, () => {
  const rows: Row[] = []
  for (const fileSystem of fileSystems())
    it(`on ${fileSystem}: what was promised is there`, async () => {
      assert.ok(executable)
      const began = performance.now()
      const { cuts, violations } = await cutAfterEach(executable, fileSystem, acknowledged, Infinity)
      rows.push({ 'file system': fileSystem, cuts, violations: violations.length, seconds: seconds(began) })
      assert.deepEqual(violations, [])
    })
  after(() => {
    report({ technique: 'power-cuts-loop', rows })
  })
})

describe('the power goes at each call of an upcall', { skip: executable === undefined }, () => {
  const rows: Row[] = []
  for (const fileSystem of fileSystems())
    it(`on ${fileSystem}: the state means what it meant before, or after`, async () => {
      assert.ok(executable)
      const began = performance.now()
      const chosen = scenarios.filter(isEssential).slice(...(inPart ? [2, 4] : []))
      let cuts = 0
      const violations: string[] = []
      for (const scenario of chosen) cuts += await cutAtEachCall(executable, fileSystem, scenario, violations)
      rows.push({ 'file system': fileSystem, cuts, violations: violations.length, seconds: seconds(began) })
      assert.deepEqual(violations, [])
    })
  after(() => {
    report({ technique: 'power-cuts-loop-calls', rows })
  })
})

describe('cuts of the power can show a loss', { skip: executable === undefined }, () => {
  const rows: Row[] = []
  const peer = '/usr/sbin/nfsdcltrack'
  const controls = inPart ? 5 : 20
  for (const fileSystem of fileSystems()) {
    it(`nfsdcltrack loses what it has acknowledged, on ${fileSystem}`, () => {
      need('nfsdcltrack', 'nfs-kernel-server')
      const lost = peerLosses(peer, fileSystem, controls)
      rows.push({ control: 'nfsdcltrack', 'file system': fileSystem, acknowledged: controls, lost })
      assert.ok(lost > 0)
    })
    it(`the helper does where ${mutations['no directory fsync'].what}, on ${fileSystem}`, async () => {
      await withMutant('no directory fsync', async (broken) => {
        const { cuts, violations } = await cutAfterEach(broken, fileSystem, 80, 1)
        rows.push({
          control: mutations['no directory fsync'].what,
          'file system': fileSystem,
          acknowledged: cuts,
          lost: violations.length,
        })
        assert.notEqual(violations.length, 0)
      })
    })
  }
  after(() => {
    report({ technique: 'power-cuts-loop-controls', rows })
  })
})

describe(
  'btrfs after a rename into a directory that was synced',
  { skip: executable === undefined || !fileSystems().includes('btrfs') },
  () => {
    // What it does is why remove, in grace, syncs every instance: rename, fsync, unlink, fsync of the new directory
    // only.
    it('brings the old name back after a power cut, though the new one was moved from it and is durably gone', () => {
      const disk = newDisk('btrfs')
      try {
        const top = disk.mount()
        execFileSync('python3', [
          '-c',
          `
import os
def sync(path):
    fd = os.open(path, os.O_RDONLY); os.fsync(fd); os.close(fd)
os.chdir(${JSON.stringify(top)})
os.mkdir('old'); os.mkdir('new'); os.symlink('record', 'old/X'); os.sync()
os.rename('old/X', 'new/X'); sync('new'); os.unlink('new/X'); sync('new')
`,
        ])
        const cut = disk.cut()
        disk.unmount()
        try {
          const after = cut.mount()
          report({
            technique: 'btrfs-finding',
            rows: [
              {
                'old/X is back': existsLink(join(after, 'old/X')) ? 'yes' : 'no',
                'new/X is gone': existsLink(join(after, 'new/X')) ? 'no' : 'yes',
              },
            ],
          })
        } finally {
          cut.scrap()
        }
      } finally {
        disk.scrap()
      }
    })
    it('and the helper, which syncs every instance, has removed the client for good', async () => {
      assert.ok(executable)
      const disk = newDisk('btrfs')
      try {
        const machine = machineAt(join(disk.mount(), 'machine'))
        await live(executable, machine, [
          start('1000'),
          create(ann, 'N'),
          create(bob, 'N'),
          graceDone('1000'),
          start('2000'),
        ])
        execFileSync('sync')
        await live(executable, machine, [check(ann, 'N'), remove(ann)], '2000')
        const cut = disk.cut()
        disk.unmount()
        try {
          const later = machineAt(join(cut.mount(), 'machine'))
          await live(executable, later, [start('3000')])
          assert.equal((await call(executable, later, check(ann, 'Y'))).status, 255)
          assert.equal((await call(executable, later, check(bob, 'Y'))).status, 0)
        } finally {
          cut.scrap()
        }
      } finally {
        disk.scrap()
      }
    })
  },
)

const existsLink = (path: string): boolean =>
  existsSync(join(path, '..')) && spawnSync('test', ['-L', path]).status === 0

/** A random life of a server, by a seed. After each upcall that ends with 0, the power is cut. */
async function cutAfterEach(
  artefact: Artefact,
  fileSystem: FileSystem,
  wanted: number,
  enough: number,
): Promise<{ cuts: number; violations: string[] }> {
  const life = randomLife(random(seed(`cuts on ${fileSystem}`)), clients)
  const disk = newDisk(fileSystem)
  const violations: string[] = []
  let cuts = 0
  try {
    let machine = machineAt(join(disk.mount(), 'machine'))
    const memory = blank()
    while (cuts < wanted && violations.length < enough) {
      const event = life.next(memory)
      const { statuses } = judge(memory, event)
      const { status, stderr } = await call(artefact, machine, event, memory.bootTime)
      if (typeof status === 'string' || !statuses.includes(status))
        violations.push(`${event.event} ended with ${status}: ${stderr}`)
      if (status !== 0) continue
      cuts++
      const copy = disk.cut()
      // Btrfs identifies a file system by its id. So the original is unmounted before its copy is mounted.
      if (fileSystem === 'btrfs') disk.unmount()
      try {
        const tree = readTree(join(copy.mount(), 'machine/state'))
        const wrong = disagreement(
          await futuresOf(artefact, tree, {
            clients,
            after: 'power cut',
            depth: cuts % 5 === 0 ? 'next life' : 'one start',
          }),
          [futuresByRule(memory, clients)],
          'power cut',
        )
        if (wrong !== undefined) violations.push(`after ${event.event} was acknowledged: ${wrong}`)
      } finally {
        copy.scrap()
      }
      if (fileSystem === 'btrfs') machine = machineAt(join(disk.mount(), 'machine'))
    }
    return { cuts, violations }
  } finally {
    disk.scrap()
  }
}

/** Kills an upcall at each of its calls, and cuts the power there. */
async function cutAtEachCall(
  artefact: Artefact,
  fileSystem: FileSystem,
  scenario: Scenario,
  violations: string[],
): Promise<number> {
  const [event] = scenario.act
  assert.ok(event)
  const { machine, tree } = await prepared(artefact, scenario)
  const bootTime = bootTimeAt([...scenario.before, event])
  const { words, env } = upcallFor(event, bootTime)
  const owners = clientsOf(scenario)
  const memory = memoryAfter(scenario.before)
  const allowed = [memory, memoryAfter([event], memory)].map((each) => futuresByRule(each, owners))
  scrapTree(machine)
  const disk = newDisk(fileSystem)
  let cuts = 0
  try {
    // The calls differ between file systems: one may refuse a long link, or give names in another order.
    const first = machineAt(join(disk.mount(), 'machine'))
    if (tree.size > 0) plant(tree, first.stateDir)
    const whole = await trace(artefact, [...settings(first), ...words], env)
    disk.unmount()
    for (const point of changing(whole.calls, first.dir)) {
      const there = machineAt(join(disk.mount(), 'machine'))
      removeSync(there.stateDir)
      machineRestarts(there)
      if (tree.size > 0) plant(tree, there.stateDir)
      execFileSync('sync', ['-f', there.dir])
      const fault = { call: point, what: 'signal=SIGKILL' }
      const dead = await trace(artefact, [...settings(there), ...words], env, { fault })
      const copy = disk.cut()
      disk.unmount()
      try {
        const label = `${scenario.name}, cut before ${briefly(point, first.dir)}`
        if (!fired(dead, fault, first.dir, there.dir)) violations.push(`${label}: the kill did not come there`)
        const wrong = disagreement(
          await futuresOf(artefact, readTree(join(copy.mount(), 'machine/state')), {
            clients: owners,
            after: 'power cut',
            depth: 'next life',
          }),
          allowed,
          'power cut',
        )
        if (wrong !== undefined) violations.push(`${label}: ${wrong}`)
        cuts++
      } finally {
        copy.scrap()
      }
    }
  } finally {
    disk.scrap()
  }
  return cuts
}

/** How many of so many creates a power cut loses although nfsdcltrack has acknowledged them. */
function peerLosses(peer: string, fileSystem: FileSystem, creates: number): number {
  const disk = newDisk(fileSystem)
  let lost = 0
  try {
    let top = disk.mount()
    mkdirSync(join(top, 'peer'))
    const run = (at: string, ...words: string[]): number | null =>
      spawnSync(peer, ['-f', '-s', join(at, 'peer'), ...words], { stdio: 'ignore' }).status
    assert.equal(run(top, 'init'), 0)
    execFileSync('sync')
    for (let number = 0; number < creates; number++) {
      const id = Buffer.from(`client ${number}`).toString('hex')
      assert.equal(run(top, 'create', id), 0)
      const copy = disk.cut()
      disk.unmount()
      try {
        if (run(copy.mount(), 'check', id) !== 0) lost++
      } finally {
        copy.scrap()
      }
      top = disk.mount()
    }
  } finally {
    disk.scrap()
  }
  return lost
}
