/**
 * Hostile input: random words, environments, configurations, and files of the state directory, from a seed.
 *
 * Whatever they are: no crash, no hang, only documented statuses, no stranger may reclaim, nothing outside the state
 * directory is touched, and no unprintable byte reaches a terminal.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import { removeSync } from 'fs-extra/esm'
import { inForeground, settingsBy, type Artefact, type Machine, type Said } from '../support/artefacts.ts'
import { inPart, random, report, seconds, seed } from './figures.ts'
import { executableSubject } from './mutants.ts'
import { ann, bob, cal, check, create, graceDone, start } from './scenarios.ts'
import { fingerprint, plant, readTree, type Tree } from './trees.ts'
import { call, live, machineAt, scratch, scrapTree, stranger } from './verdicts.ts'

const executable = executableSubject()
/** lib/failure.ts: no other status may come. */
const documented: readonly number[] = [0, 255, 140, 234, 218, 151, 135, 243, 146]

type Dice = () => number
const pick = <T>(dice: Dice, list: readonly T[]): T => list[Math.floor(dice() * list.length)] as T
const bytes = (dice: Dice, length: number): Buffer =>
  Buffer.from(Array.from({ length }, () => Math.floor(dice() * 256)))

/** What is wrong with one ending. */
function complaints(said: Said): string[] {
  const wrong: string[] = []
  if (typeof said.status === 'string' || !documented.includes(said.status)) wrong.push(`it ended with ${said.status}`)
  if (said.ms > 20_000) wrong.push(`it took ${Math.round(said.ms)} ms`)
  if (/[^\x20-\x7e\n]/.test(said.stdout + said.stderr)) wrong.push('an unescaped byte came out')
  if (/ a bug: |\bat .*\.[cm]?js:\d+/.test(said.stderr)) wrong.push(`it crashed: ${said.stderr}`)
  return wrong
}

/** Everything around the state directory, which must not change. Starts are noted in the run directory. */
const outside = ({ dir }: Machine): string =>
  readdirSync(dir)
    .filter((name) => name !== 'state' && name !== 'run')
    .map((name) => `${name}:\n${fingerprint(readTree(join(dir, name)))}`)
    .join('\n')

/** What was wrong in one case, and what was done to it. */
interface Judged {
  readonly done: string
  readonly wrong: readonly string[]
}

/** Cases from a seed, each on a fresh copy of one server's state. Nothing around the state directory may change. */
async function byLot(
  technique: string,
  cases: number,
  hostile: (dice: Dice, machine: Machine, tree: Tree, end: (said: Said) => void) => () => Promise<Judged>,
): Promise<void> {
  assert.ok(executable)
  const from = seed(technique)
  const dice = random(from)
  const began = performance.now()
  const wrong: string[] = []
  const statuses = new Map<number | string, number>()
  const { machine, tree } = await known(executable)
  try {
    for (let number = 0; number < cases; number++) {
      plant(tree, machine.stateDir)
      const run = hostile(dice, machine, tree, ({ status }) => {
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
      })
      const before = outside(machine)
      const { done, wrong: found } = await run()
      const all = outside(machine) === before ? found : [...found, 'something outside the state directory was touched']
      wrong.push(...all.map((what) => `case ${number}, ${done}: ${what}`))
    }
  } finally {
    scrapTree(machine)
  }
  const upcalls = [...statuses.values()].reduce((a, b) => a + b, 0)
  report({
    technique,
    rows: [
      {
        cases,
        upcalls,
        statuses: [...statuses.keys()].sort().join(' '),
        violations: wrong.length,
        seed: from,
        seconds: seconds(began),
      },
    ],
  })
  assert.deepEqual(wrong, [])
}

describe('random words, environment and configuration', { skip: executable === undefined }, () => {
  it('never crash it, hang it, let a stranger in, or reach a terminal unescaped', () =>
    byLot('hostile-words', inPart ? 100 : 1000, (dice, machine, _, end) => {
      assert.ok(executable)
      const subject = executable
      const words = hostileWords(dice)
      const env = hostileEnvironment(dice)
      const configuration = join(machine.dir, 'nfs.conf')
      writeFileSync(configuration, hostileConfiguration(dice))
      return async () => {
        const said = await inForeground(
          subject,
          ['-s', machine.stateDir, ...settingsBy(configuration, machine), ...words],
          env,
        )
        end(said)
        const isHelp = words.some((word) => /^(--help|-h|--version|-V|help)$/.test(word))
        const wrong = complaints(said).filter((what) => !(isHelp && what.startsWith('an unescaped')))
        const { status } = await call(subject, machine, check(stranger, 'Y'))
        if (status === 0 && !words.some((word) => word.toLowerCase() === stranger)) wrong.push('a stranger may reclaim')
        return { done: `${JSON.stringify(words).slice(0, 200)} ${JSON.stringify(env).slice(0, 200)}`, wrong }
      }
    }))
})

describe('a state directory with random damage', { skip: executable === undefined }, () => {
  const life = [
    check(stranger, 'Y'),
    check(stranger, 'N'),
    check(ann, 'Y'),
    create(bob, 'Y'),
    graceDone('2000'),
    start('3000'),
    check(stranger, 'Y'),
    create(ann, 'Y'),
    graceDone('3000'),
    start('4000'),
    check(stranger, 'N'),
  ]
  it('never crashes it, hangs it, lets a stranger in, or makes it write elsewhere; and a start always mends it', () =>
    byLot('hostile-state', inPart ? 30 : 300, (dice, machine, tree, end) => {
      assert.ok(executable)
      const subject = executable
      const target = join(machine.dir, 'elsewhere')
      removeSync(target)
      mkdirSync(target)
      writeFileSync(join(target, 'file'), '1700000000\n')
      const done = Array.from({ length: pick(dice, [1, 1, 2, 3]) }, () => damage(dice, machine.stateDir, tree, target))
      const isOthers = done.includes(writableByAll)
      return async () => {
        const wrong: string[] = []
        let last: Said | undefined
        for (const event of life) {
          const said = await call(subject, machine, event, '3000')
          end(said)
          wrong.push(...complaints(said).map((what) => `${event.event}: ${what}`))
          if (event.event === 'check' && event.owner === stranger && said.status === 0)
            wrong.push('a stranger may reclaim')
          if (event.event === 'start') last = said
        }
        // If others could have written to it, or a newer program has marked it, or there is no directory to write to,
        // then it is refused until somebody repairs it.
        const isNewer = done.some((what) => what.startsWith('v4clients/format-3 '))
        const isUsable =
          !isOthers &&
          !isNewer &&
          lstatSync(join(machine.stateDir, 'v4clients'), { throwIfNoEntry: false })?.isDirectory() === true
        if (isUsable && last?.status !== 0)
          wrong.push(`the last start ended with ${String(last?.status)}: ${last?.stderr ?? ''}`)
        return { done: done.join(', '), wrong }
      }
    }))
})

async function known(artefact: Artefact): Promise<{ machine: Machine; tree: Tree }> {
  const machine = machineAt(scratch())
  await live(artefact, machine, [
    start('1000'),
    create(ann, 'Y'),
    create(bob, 'N'),
    create(cal, 'Y'),
    graceDone('1000'),
    start('2000'),
    create(ann, 'Y'),
  ])
  return { machine, tree: readTree(machine.stateDir) }
}

// No NUL: execve(2) can't pass one.
const noise = (dice: Dice): string =>
  bytes(dice, 1 + Math.floor(dice() * 40))
    .toString(pick(dice, ['latin1', 'utf8', 'hex'] as const))
    .replaceAll('\0', '.')
const numbers = [
  '0',
  '-1',
  '1',
  '2000',
  '9223372036854775807',
  '9223372036854775808',
  '-9223372036854775808',
  '0xffffffff',
  '017777777777',
  '+9',
  '1e12',
  '1.5',
  '12abc',
  ' 5',
  '',
  '99999999999999999999999',
]
const verbWords = [
  'start',
  'init',
  'create',
  'create_client',
  'remove',
  'expire_client',
  'check',
  'gracedone',
  'grace_done',
  'frobnicate',
  '',
  '--',
  '-',
  'INIT',
  'help',
]

function hostileWords(dice: Dice): string[] {
  const argument = (): string =>
    pick<() => string>(dice, [
      () => noise(dice),
      () => pick(dice, numbers),
      () => bytes(dice, Math.floor(dice() * 1100)).toString('hex'),
      () => ann,
      () => 'a'.repeat(Math.floor(dice() * 5000)),
      () => `\\x${bytes(dice, 20).toString('hex')}`,
      () => '\\056\\056\\057',
      () =>
        Buffer.from(
          pick(dice, [
            '..',
            '.',
            '/etc/passwd',
            '../../boot_time',
            'a/b',
            '\n\x1b[31m',
            '%',
            '%new-1-1',
            '%sha256-0',
            'damaged',
          ]),
        ).toString('hex'),
      () => pick(dice, ['-rf', '--help', '-s', '--state-dir=', '-fd', '--config', '-V', '--nfsd-dir=/nowhere']),
      () => '\x1b]0;title\x07',
    ])()
  const words = [pick(dice, verbWords), ...Array.from({ length: pick(dice, [0, 1, 1, 1, 1, 2, 5]) }, argument)]
  // A second state directory would be outside the first by right.
  return words.map((word) => (/^(-s|--state-dir|--storagedir)/.test(word) ? '-f' : word))
}

function hostileEnvironment(dice: Dice): Record<string, string> {
  const value = (): string =>
    pick<() => string>(dice, [
      () => noise(dice),
      () => pick(dice, numbers),
      () => 'Y',
      () => 'N',
      () => '/',
      () => '/etc',
      () => `/x/${'0'.repeat(32)}`,
      () => '/../../etc',
      () => 'x'.repeat(9000),
    ])()
  // Not LANG: of one that is no language Node dies by itself, before a line of ours, in any program.
  const names = [
    'NFSDCLTRACK_GRACE_START',
    'NFSDCLTRACK_CLIENT_HAS_SESSION',
    'NFSDCLTRACK_LEGACY_RECDIR',
    'NFSDCLTRACK_LEGACY_TOPDIR',
    'HOME',
    'PATH',
    'TZ',
    'NODE_PATH',
  ]
  return Object.fromEntries(names.filter(() => dice() < 0.4).map((name) => [name, value()]))
}

function hostileConfiguration(dice: Dice): Buffer {
  const line = (): string =>
    pick(dice, [
      '[nfsd-userland-helper]',
      '[nfsd]',
      'debug=yes',
      'debug=maybe',
      'state-dir=relative',
      'state-dir',
      '=',
      '[',
      ']',
      '[[[',
      'key = "un\'closed',
      '# note',
      'x'.repeat(20_000),
      noise(dice),
    ])
  return Buffer.from(Array.from({ length: Math.floor(dice() * 12) }, line).join('\n'), 'latin1')
}

const writableByAll = 'v4clients writable by all'

/** What may be put in an entry's place. @property make at a path where nothing is. */
const replacements: readonly {
  readonly what: string
  readonly make: (path: string, dice: Dice, elsewhere: string) => void
}[] = [
  { what: 'gone', make: () => undefined },
  {
    what: 'empty',
    make: (path) => {
      writeFileSync(path, '')
    },
  },
  {
    what: 'garbage',
    make: (path, dice) => {
      writeFileSync(path, bytes(dice, 50))
    },
  },
  {
    what: 'huge',
    make: (path) => {
      writeFileSync(path, '')
      truncateSync(path, 2 ** 32)
    },
  },
  {
    what: 'a directory',
    make: (path) => {
      mkdirSync(path)
    },
  },
  {
    what: 'a full directory',
    make: (path) => {
      mkdirSync(path)
      writeFileSync(join(path, 'x'), 'x')
    },
  },
  {
    what: 'a link to a file elsewhere',
    make: (path, _, elsewhere) => {
      symlinkSync(join(elsewhere, 'file'), path)
    },
  },
  {
    what: 'a link to a directory elsewhere',
    make: (path, _, elsewhere) => {
      symlinkSync(elsewhere, path)
    },
  },
  {
    what: 'a link to nothing',
    make: (path) => {
      symlinkSync('/nowhere/at/all', path)
    },
  },
  {
    what: 'a link to itself',
    make: (path) => {
      symlinkSync(path, path)
    },
  },
  {
    what: 'a link of 4000 bytes',
    make: (path) => {
      symlinkSync('x'.repeat(4000), path)
    },
  },
  {
    what: 'a pipe',
    make: (path) => {
      execFileSync('mkfifo', [path], { stdio: 'ignore' })
    },
  },
  {
    what: 'another number',
    make: (path, dice) => {
      writeFileSync(path, `${pick(dice, numbers)}\n`)
    },
  },
]

/** Damages one entry. @param elsewhere a directory that must not be touched. @returns what was done, for the report. */
function damage(dice: Dice, stateDir: string, tree: Tree, elsewhere: string): string {
  const entry = entryOf(dice, tree)
  return pick<() => string>(dice, [
    ...replacements.map(
      ({ what, make }) =>
        () =>
          replaced(stateDir, entry, what, (path) => {
            make(path, dice, elsewhere)
          }),
    ),
    () => openedToAll(stateDir),
    () => strewn(dice, stateDir),
    () => forged(stateDir),
  ])()
}

/** An existing entry, or a possible one. */
const entryOf = (dice: Dice, tree: Tree): string =>
  pick(
    dice,
    [...tree.keys()]
      .filter((each) => each !== '')
      .concat(
        'boot_time',
        'new_boot_time',
        'old_boot_time',
        ...(dice() < 0.3 ? ['v4clients/lock'] : []),
        'v4clients/format-3',
        'v4clients/rebuilt',
        'v4clients/damaged',
      ),
  )

function replaced(stateDir: string, entry: string, what: string, make: (path: string) => void): string {
  const path = join(stateDir, entry)
  // Its directory may have been harmed before it, or lead elsewhere, where nothing is to be touched.
  try {
    if (realpathSync(dirname(path)) !== dirname(path)) return `${entry} ${what} in vain`
    removeSync(path)
    make(path)
  } catch {
    return `${entry} ${what} in vain`
  }
  return `${entry} ${what}`
}

function openedToAll(stateDir: string): string {
  try {
    chmodSync(join(stateDir, 'v4clients'), 0o777)
  } catch {
    /* gone already */
  }
  return writableByAll
}

const instancesIn = (clients: string): string[] => readdirSync(clients).filter((name) => /^\d+$/.test(name))

function strewn(dice: Dice, stateDir: string): string {
  let made = 0
  try {
    const clients = join(stateDir, 'v4clients')
    const instance = pick(dice, instancesIn(clients))
    for (; made < 2000; made++) writeFileSync(join(clients, pick(dice, ['', instance]), `stray-${made}`), 'x')
  } catch {
    // No such directory any more.
  }
  return `${made} stray entries`
}

function forged(stateDir: string): string {
  try {
    const clients = join(stateDir, 'v4clients')
    for (const instance of instancesIn(clients))
      symlinkSync(
        'session=Y,recorded=1,check=00000000',
        join(clients, instance, Buffer.from(stranger, 'hex').toString()),
      )
  } catch {
    // No such directory any more.
  }
  return "a stranger's record that is forged badly"
}
