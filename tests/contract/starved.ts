/** Upcalls of an executable that gets no more memory from some allocation on (tests/support/failing-malloc.c). */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before } from 'node:test'
import { copySync, removeSync } from 'fs-extra/esm'
import {
  executable,
  inForeground,
  root,
  settings,
  type Artefact,
  type Environment,
  type Said,
} from '../support/artefacts.ts'
import { done, hex, mayNotReclaim, tree, type Server } from './server.ts'

/** 256 - ENOMEM. */
const noMemory = 244

/** In grace: ada, of v4.1, and old, of v4.0, have yet to reclaim; bob has. */
export async function inGrace(s: Server): Promise<void> {
  await s.init()
  for (const [owner, version] of [
    ['ada', 'v4.1'],
    ['bob', 'v4.1'],
    ['old', 'v4.0'],
  ] as const)
    await s.create(owner, version)
  await s.graceDone()
  await s.init()
  await s.create('bob', 'v4.1')
}

interface StarvedUpcall {
  readonly title: string
  readonly words: readonly string[]
  readonly session: 'Y' | 'N'
  readonly status: number
  /** Who may reclaim once the upcall has been carried out. */
  readonly afterwards: string
}

export const starvedUpcalls: readonly StarvedUpcall[] = [
  {
    title: 'a check of a stranger',
    words: ['check', hex('eve')],
    session: 'Y',
    status: mayNotReclaim,
    afterwards: 'ada bob',
  },
  { title: 'a check', words: ['check', hex('ada')], session: 'Y', status: done, afterwards: 'ada bob' },
  {
    title: 'a check that is a record',
    words: ['check', hex('old')],
    session: 'N',
    status: done,
    afterwards: 'ada bob',
  },
  { title: 'a create', words: ['create', hex('new')], session: 'Y', status: done, afterwards: 'ada bob new' },
  { title: 'a create that reclaims', words: ['create', hex('ada')], session: 'Y', status: done, afterwards: 'ada bob' },
  { title: 'a remove', words: ['remove', hex('ada')], session: 'Y', status: done, afterwards: 'bob' },
  { title: 'an end of grace', words: ['grace_done'], session: 'Y', status: done, afterwards: 'bob' },
  { title: 'a start', words: ['init'], session: 'Y', status: done, afterwards: 'ada bob' },
]

const program = (directory: string): string => join(directory, 'nfsd-userland-helper')

/** A directory that has the program for {@link starve}, as long as the tests of this suite run. */
export function starvedProgram(): string {
  const directory = mkdtempSync(join(tmpdir(), 'failing-malloc-'))
  before(() => {
    buildStarved(directory)
  })
  after(() => {
    removeSync(directory)
  })
  return directory
}

function buildStarved(directory: string): void {
  const link = [join(root, 'tests/support/failing-malloc.c'), '-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc'].map(
    (word) => `--link=${word}`,
  )
  const words = [
    '--import',
    'tsx',
    join(root, 'lib/build/main.ts'),
    `--script=${join(root, 'bin/upcall.ts')}`,
    `--into=${program(directory)}`,
    ...link,
  ]
  execFileSync(process.execPath, words, { cwd: root, stdio: 'pipe' })
}

/**
 * Runs an upcall of the server again and again, without memory from allocation 1, 1 + `step` and so on. @returns how
 * often.
 */
export async function starve(
  s: Server,
  directory: string,
  { words, session, status: whole, afterwards }: StarvedUpcall,
  step: number,
): Promise<number> {
  const { dir } = s.machine
  const kept = mkdtempSync(join(directory, 'kept-'))
  const state = ['state', 'run']
  for (const name of state) copySync(join(dir, name), join(kept, name))
  const untouched = tree(join(kept, 'state')).join('\n')
  const run = (artefact: Artefact, env: Environment = {}): Promise<Said> =>
    inForeground(artefact, [...settings(s.machine), ...words], { NFSDCLTRACK_CLIENT_HAS_SESSION: session, ...env })
  for (let allocation = 1, times = 0; ; allocation += step, times++) {
    const said = await run({ ...executable, command: [program(directory)] }, { FAIL_ALLOCATION: String(allocation) })
    const at = `allocation ${allocation}: ${said.stderr}`
    const isAtEnd = said.status === whole
    const isMarked = existsSync(s.runDir) && readdirSync(s.runDir).some((name) => !/^begun-|\.end$/.test(name))
    if (!isAtEnd) {
      assert.equal(said.status, noMemory, at)
      assert.match(said.stderr, /^nfsd-userland-helper: (?:out of memory|no memory for the engine)$/m, at)
      // Usually it has changed nothing yet.
      if (s.snapshot() === untouched && !isMarked) continue
    }
    assert.equal(isMarked, words[0] === 'init' && !isAtEnd, `${at}: a start that has touched anything is marked`)
    if (!isAtEnd) assert.equal((await run(executable)).status, whole, at)
    const allowed = []
    for (const owner of ['ada', 'bob', 'new', 'eve'])
      if ((await s.check(owner, 'v4.1')).status === done) allowed.push(owner)
    assert.equal(allowed.join(' '), isMarked ? '' : afterwards, at)
    if (isAtEnd) return times
    for (const name of state) {
      removeSync(join(dir, name))
      copySync(join(kept, name), join(dir, name))
    }
  }
}
