/**
 * The first thing that a new user sees: the helper at work on a state directory of its own, called as the kernel calls
 * it.
 *
 *   npm start                the executable if it could be built, otherwise the Node bundle
 *   npm start -- --keep      keeps the state directory, and prints its path
 *   ARTEFACT=bundle npm start
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { ensureDirSync } from 'fs-extra/esm'
import {
  asKernel,
  bundle,
  clockAt,
  executable,
  newMachine,
  root,
  scrap,
  settings,
  type Artefact,
  type Ending,
  type Environment,
  type Machine,
} from '../support/artefacts.ts'
import { longerLife, type Upcall } from './life.ts'
import { bold, dim, padded, quoted, refused, right, wrong } from './paint.ts'
import { recording, type Recorded } from './recording.ts'
import { snapshot, tree, type Snapshot } from './tree.ts'

const say = (line = ''): void => {
  console.log(line)
}

interface Stage {
  readonly artefact: Artefact
  readonly machine: Machine
  readonly tally: { milliseconds: number[]; wrong: string[] }
  shown: Snapshot
}

async function main(): Promise<void> {
  const keep = process.argv.includes('--keep')
  const artefact = choose()
  const machine = newMachine()
  const tally = { milliseconds: [], wrong: [] }
  try {
    await tell({ artefact, machine, tally, shown: new Map() })
    if (keep) say(`The state directory is kept: ${machine.stateDir}`)
  } finally {
    if (!keep) scrap(machine)
  }
  conclude(tally)
  if (tally.wrong.length > 0) process.exitCode = 1
}

/**
 * A server runs the executable. If it could not be built, and the build has said why, the Node bundle is used, which
 * does the same.
 */
const choose = (): Artefact =>
  process.env['ARTEFACT'] === 'bundle' || !existsSync(executable.command[0] ?? '') ? bundle : executable

async function tell(stage: Stage): Promise<void> {
  const { artefact, machine, tally } = stage
  const file = artefact.command.at(-1) ?? ''
  say(`${bold('nfsd-userland-helper')}: which NFSv4 clients may reclaim their locks after the server restarts?`)
  say(
    dim(
      `Asked of ${relative(root, file)} as the kernel asks: no open descriptors, a bare environment, exit status 0 for yes.`,
    ),
  )
  say(dim('Under each upcall, the state directory after it: + new, - gone, ~ written anew.'))

  await chapter(stage, 'I. What a real Linux 6.1 server asked', async () => {
    say(
      dim(
        '  Recorded upcalls, replayed: three clients, one restart. Only /var/lib/nfs is not yours but a temporary one.',
      ),
    )
    for (const group of recording())
      await perform(
        stage,
        group.map((it) => replayed(it, machine)),
      )
  })

  await chapter(stage, 'II. A longer life: ada (NFSv4.0), bob (4.1) and eve (4.2)', async () => {
    for (const { says, upcalls } of longerLife(Math.floor(Date.now() / 1000))) {
      say(`\n  ${bold(says)}`)
      for (const it of upcalls) {
        if (it.ahead > 0)
          say(dim("  (A script loaded into this upcall alone turns its clock; the machine's own is left in peace.)"))
        await perform(stage, [it])
      }
    }
  })

  const sorted = tally.milliseconds.sort((a, b) => a - b)
  const median = sorted[Math.floor(sorted.length / 2)] ?? 0
  const shell = await launching(machine)
  say()
  say(
    dim(
      `An upcall took ${median.toFixed(1)} ms (median; the slowest ${(sorted.at(-1) ?? 0).toFixed(1)} ms),` +
        ` ${shell.toFixed(1)} ms of them in the shell that plays the kernel.`,
    ),
  )
}

/** The last line has the result. */
function conclude({ milliseconds, wrong: broken }: Stage['tally']): void {
  for (const it of broken) say(wrong(it))
  if (broken.length === 0) say(right(`All ${milliseconds.length} verdicts are right.`))
  else say(wrong(`${broken.length} of ${milliseconds.length} verdicts are WRONG.`))
}

/** Each chapter begins with an empty machine: no state, and a kernel in grace. */
async function chapter(stage: Stage, title: string, story: () => Promise<void>): Promise<void> {
  const rule = '─'.repeat(Math.max(4, 97 - title.length))
  say(`\n${bold(title)} ${dim(rule)}`)
  scrap(stage.machine)
  ensureDirSync(stage.machine.nfsdDir)
  stage.shown = new Map()
  await story()
}

/**
 * A recorded upcall, changed so that it does not touch this machine's /var/lib/nfs, where a `gracedone` would remove
 * directories.
 */
function replayed({ words, env, status }: Recorded, { dir }: Machine): Upcall {
  const moved = Object.fromEntries(
    Object.entries(env).map(([name, value]) => [name, value.replace(/^\/var\/lib\/nfs/, dir)]),
  )
  const meanings: Readonly<Record<string, string>> = {
    init: 'the server starts',
    create: 'recorded',
    check: 'may reclaim',
    gracedone: 'grace is over',
  }
  return { words, env: moved, due: status, meaning: meanings[words[0] ?? ''] ?? '', ahead: 0 }
}

/** Upcalls that the kernel makes at the same time, and what they left. */
async function perform(stage: Stage, upcalls: readonly Upcall[]): Promise<void> {
  const { machine, artefact } = stage
  const endGrace = join(machine.nfsdDir, 'v4_end_grace'),
    allowClient = join(machine.nfsdDir, 'allow_client')
  const verb = upcalls[0]?.words[0]
  if (verb === 'init' || verb === 'start') writeFileSync(endGrace, 'N\n')
  if (verb === 'start') writeFileSync(allowClient, '')
  const inGrace = readFileSync(endGrace, 'utf8').startsWith('N')

  const endings = await Promise.all(
    upcalls.map((it) =>
      asKernel(
        artefact,
        [...settings(machine), ...it.words],
        it.ahead === 0 ? it.env : { ...it.env, ...clockAt(Math.round(Date.now() / 1000) + it.ahead) },
      ),
    ),
  )
  if (upcalls.length > 1) say(dim('\n  at the same moment:'))
  else say()
  for (const [nth, it] of upcalls.entries()) {
    const ending = endings[nth]
    if (ending) say(line(stage, it, ending))
  }

  if (inGrace && readFileSync(endGrace, 'utf8').startsWith('Y'))
    say(
      `      ${right('tells the kernel')} ${dim('(v4_end_grace: Y)')} that nobody is left to wait for: grace may end now`,
    )
  const allows = upcalls[0]?.allows
  if (allows !== undefined) {
    const told = readFileSync(allowClient, 'latin1').trim().split('\n').join(', ')
    say(
      `      ${right('tells the kernel')} ${dim('(allow_client)')} who may reclaim: ${told === allows ? told : wrong(told)}`,
    )
    if (told !== allows)
      stage.tally.wrong.push(`start: allow_client was told ${told || 'nobody'}, but ${allows} was due`)
  }
  if (/^grace_?done$/.test(verb ?? '') && endings[0]?.status === 0) writeFileSync(endGrace, 'Y\n')

  const now = existsSync(machine.stateDir) ? snapshot(machine.stateDir) : new Map<string, string>()
  const differs = now.size !== stage.shown.size || [...now].some(([path, value]) => stage.shown.get(path) !== value)
  if (differs) for (const it of tree(stage.shown, now)) say(`    ${it}`)
  else say(dim('      (the state directory is as it was)'))
  stage.shown = now
}

/** One upcall on one line: what was asked, what was answered, and whether that was right. */
function line({ tally }: Stage, { words, env, due, meaning }: Upcall, { status, ms }: Ending): string {
  const [verb = '', argument] = words
  const owner =
    argument === undefined || verb === 'gracedone'
      ? argument
      : quoted(
          verb.endsWith('_client') ? argument.replace(/\\040/g, ' ') : Buffer.from(argument, 'hex').toString('latin1'),
        )
  const asked = [bold(verb), owner, dim(variables(verb, env))].filter((it) => it !== undefined && it !== '').join(' ')
  const ok = status === due
  const verdict = !ok
    ? wrong(`${status}, but ${due} was due`)
    : due === 0
      ? right(`0 ${meaning}`)
      : refused(`${due} ${meaning}`)
  tally.milliseconds.push(ms)
  if (!ok) tally.wrong.push(`${verb} ${owner ?? ''}: status ${status}, but ${due} was due (${meaning})`)
  return `  ${ok ? right('✓') : wrong('✗')} ${padded(asked, 56)} ${padded(verdict, 27)}${dim(`${ms.toFixed(1).padStart(7)} ms`)}`
}

/** The variable that matters to the reader: the boot time at a start, the session of a client. */
const variables = (verb: string, env: Environment): string =>
  Object.entries(env)
    .filter(([name]) => name.endsWith(verb === 'init' || verb === 'start' ? 'GRACE_START' : 'HAS_SESSION'))
    .map(([name, value]) => `${name.replace(/^NFSDCLTRACK_(CLIENT_)?/, '')}=${value}`)
    .join(' ')

/** The time of the shell that closes the descriptors. */
async function launching(machine: Machine): Promise<number> {
  const nothing: Artefact = { ...bundle, command: ['/bin/true'], withOtherClock: ['/bin/true'] }
  const times: number[] = []
  for (let n = 0; n < 5; n++) times.push((await asKernel(nothing, settings(machine), {})).ms)
  return times.sort((a, b) => a - b)[2] ?? 0
}

await main()
