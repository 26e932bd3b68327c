/** A fake pipe (tests/support/pipe), a machine and a `serve` for each test, and the servers that come to the pipe. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before } from 'node:test'
import { ensureDirSync, removeSync } from 'fs-extra/esm'
import {
  executable,
  inForeground,
  newMachine,
  scrap,
  settings,
  type Environment,
  type Machine,
} from '../support/artefacts.ts'
import { runServe, type Serve } from '../support/pipe/daemons.ts'
import { statusOf, type Body } from '../support/pipe/messages.ts'
import { answerOf, startNfsd, type Nfsd } from '../support/pipe/nfsd.ts'
import { compilePipeEnd, startPipeEnd, type Options, type PipeEnd, type Waiter } from '../support/pipe/pipe-end.ts'
import { until } from '../support/until.ts'

const room = mkdtempSync(join(tmpdir(), 'serve-'))
let program = ''
let mounts = 0
before(() => {
  program = compilePipeEnd(room)
})
after(() => {
  removeSync(room)
})

export interface Site {
  readonly end: PipeEnd
  readonly machine: Machine
  /** Starts a `serve`, and waits until it is ready. */
  readonly serve: (more?: readonly string[], env?: Environment) => Promise<Serve>
  /** An upcall on the same state directory, as made by a kernel that calls a helper. */
  readonly upcall: (words: readonly string[], env?: Environment) => Promise<number | NodeJS.Signals>
}

/** A pipe that no other test has. */
export const newPipes = (options: Options = {}): Promise<PipeEnd> =>
  startPipeEnd(program, join(room, `pipes-${mounts++}`), options)

/** Does something at a pipe of its own. At the end it asserts that nothing was answered too early. */
export async function at(work: (site: Site) => Promise<void>, options?: Options): Promise<void> {
  const end = await newPipes(options)
  const machine = newMachine()
  const daemons: Serve[] = []
  try {
    await work({
      end,
      machine,
      serve: async (more = [], env = {}) => {
        const daemon = runServe(machine, end.path, more, env)
        daemons.push(daemon)
        assert.ok(await daemon.ready, `it is not ready: ${daemon.said()}`)
        return daemon
      },
      upcall: async (words, env = {}) => {
        const { status } = await inForeground(executable, [...settings(machine), ...words], env)
        return status
      },
    })
    assert.deepEqual(end.violations, [])
  } finally {
    for (const daemon of daemons) await daemon.kill()
    await end.scrap()
    scrap(machine)
  }
}

export const hex = (name: string): string => Buffer.from(name).toString('hex')
export const client = (name: string): Body => ({ owner: Buffer.from(name) })
export const named = (nfsd: Nfsd | undefined): string[] =>
  (nfsd?.list ?? []).map(({ owner }) => owner.toString('latin1')).sort()

export async function started(end: PipeEnd): Promise<Nfsd> {
  const nfsd = await startNfsd(end)
  assert.ok(nfsd, 'the server has a tracker')
  return nfsd
}

/** A server that starts, and to which clients of these names come. */
export async function startedWith(end: PipeEnd, ...names: readonly string[]): Promise<Nfsd> {
  const nfsd = await started(end)
  await allDone(nfsd.send('create', ...names.map(client)))
  return nfsd
}

/** The server stops and starts. @returns who may reclaim. */
export async function namedAfterRestart(end: PipeEnd, nfsd: Nfsd): Promise<string[]> {
  await nfsd.stop()
  const next = await started(end)
  const list = named(next)
  await next.stop()
  return list
}

export async function allDone(threads: readonly Waiter[]): Promise<void> {
  for (const thread of threads) assert.equal(statusOf(await answerOf(thread)), 0)
}

/** A state directory on a file system of its own in memory, which has few inodes and can be made read-only. */
export async function onSmallDisk(
  work: (
    site: Site,
    disk: {
      readonly fill: () => void
      readonly empty: () => void
      readonly readOnly: () => Promise<void>
      readonly writable: () => void
    },
  ) => Promise<void>,
): Promise<void> {
  await at(async (site) => {
    const { stateDir } = site.machine
    const filler = join(stateDir, 'filler')
    mkdirSync(stateDir, { mode: 0o700 })
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=700,nr_inodes=300', 'state', stateDir])
    try {
      await work(site, {
        fill: () => {
          assert.throws(
            () => {
              ensureDirSync(filler)
              for (let number = 0; number < 1000; number++) writeFileSync(join(filler, String(number)), '')
            },
            { code: 'ENOSPC' },
          )
        },
        empty: () => {
          removeSync(filler)
        },
        // As long as a file is open for writing, the kernel refuses.
        readOnly: async () => {
          await until('it can be made read-only', () => succeeds('mount', '-o', 'remount,ro', stateDir))
        },
        writable: () => {
          execFileSync('mount', ['-o', 'remount,rw', stateDir])
        },
      })
    } finally {
      execFileSync('umount', ['--lazy', stateDir])
    }
  })
}

export const eventually = (look: () => boolean): Promise<true> => until(String(look), look)

export const succeeds = (program: string, ...words: readonly string[]): boolean =>
  spawnSync(program, words, { stdio: 'ignore' }).status === 0
