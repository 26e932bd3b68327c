/**
 * `install` puts the program, and what a system needs with it, in place, and reports the outcome for each file. It may
 * be repeated: after an upgrade, and after a change of the state directory in nfs.conf.
 */
import fs from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { Failed } from '../../failure.ts'
import { examine } from '../doctor/doctor.ts'
import { describe, importFrom } from '../move/import.ts'
import { command, dryRunOption, jsonOption, type CommandLine } from '../shared/command.ts'
import type { Context } from '../shared/context.ts'
import { helperSupport } from '../shared/helper-support.ts'
import { inDirectory } from '../shared/inside.ts'
import { say as tell, textOfPath } from '../shared/print.ts'
import { activate } from './activation.ts'
import { completionFor } from './completion.ts'
import {
  canServe,
  filesOf,
  trackers,
  switches,
  usualStateDirectory,
  type Item,
  type Program,
  type Tracker,
} from './files.ts'
import { readInstalled, writeInstalled } from './installed.ts'
import { howToTakeOver, nfsdcldDirectory, whatIsLost } from './nfsdcld.ts'
import { identityOfContent, place, takeAway, type Identity } from './place.ts'
import { placeRecords } from './records.ts'
import { leftAlone, outcomeOf, say, type Report } from './report.ts'
import { runningProgram, targetAt, type Target } from './target.ts'
import { embedded } from './texts.ts'
import { choose } from './tracker.ts'

export const installCommand = command(
  'install',
  'install the program, and make the kernel use it',
  (cli) =>
    cli
      .option('tracker', {
        choices: trackers,
        default: 'auto' as const,
        requiresArg: true,
        describe: 'how the kernel asks: auto (detected at each boot), or always helper or serve',
      })
      .option('import', {
        type: 'boolean',
        describe: "take nfsdcld's clients over; --no-import leaves them behind",
      })
      .option('root', { type: 'string', default: '/', describe: 'install into the system in this directory' })
      .option('dry-run', dryRunOption)
      .option('json', jsonOption)
      .example('$0 install', 'on this machine')
      .example('$0 install --root /mnt --dry-run', 'what it would install into another system'),
  async ({ tracker, import: imports, root, 'dry-run': dryRun, json }, settings, commandLine) => {
    // All users may read the directories that are made here, whatever umask the caller has.
    process.umask(0o022)
    const target = targetAt(resolve(root))
    const { files: before, foreign } = readInstalled(target.root)
    const program = runningProgram(target)
    if (tracker === 'serve') assertCanServe(program)
    if (imports === true) {
      assertRuns(target)
      // While a server runs, this is refused, and nothing is changed.
      tell(describe(await importFrom(nfsdcldDirectory, { dryRun, yes: true }, settings)).trimEnd())
    }
    const lost =
      imports === undefined && !before.has(switches.nfsdcld) && !hasSwitch(target)
        ? whatIsLost(target, settings.calls)
        : undefined
    const takesOver = lost === undefined
    const items = itemsFor({ target, program, tracker, takesOver, before }, settings, commandLine)

    const records = recordsFor(target, settings, { dryRun })
    const { placed, installed } = placeAll(target, items, { before, dryRun })
    if (!dryRun) writeInstalled(target.root, installed)

    const tellsSystem = target.live && !dryRun
    const serves = tracker !== 'helper' && canServe(program)
    const actions = tellsSystem ? activate({ init: target.init, takesOver, serves }, settings.nfsdDirectory) : []
    const examined = tellsSystem ? await examine(settings) : undefined
    const choice = choose(tracker, program, target.live ? helperSupport() : undefined)
    say(
      {
        root: target.root.path,
        tracker: choice,
        keptNfsdcld: lost === undefined ? undefined : howToTakeOver(lost),
        dryRun,
        packaged: target.packaged,
        files: [...records, ...placed, ...leftAlone(foreign)],
        actions,
        examined,
      },
      { json },
    )
    return outcomeOf(actions, choice)
  },
)

function assertCanServe(program: Program): void {
  if (!canServe(program))
    throw new Failed({
      kind: 'bad-argument',
      why: 'only the executable can serve the pipe, not the Node script',
      word: '--tracker=serve',
    })
}

function assertRuns({ live }: Target): void {
  if (!live)
    throw new Failed({
      kind: 'bad-argument',
      why: 'clients can be imported only into the running system',
      word: '--import',
    })
}

const isUsual = (settings: Context): boolean => textOfPath(settings.stateDirectory) === usualStateDirectory

interface Plan {
  readonly target: Target
  readonly program: Program
  readonly tracker: Tracker
  readonly takesOver: boolean
  /** The files that were installed the last time. */
  readonly before: ReadonlyMap<string, Identity>
}

function itemsFor({ target, program, tracker, takesOver, before }: Plan, settings: Context, commandLine: CommandLine) {
  const usual = isUsual(settings) && tracker === 'auto'
  return filesOf({
    ...target,
    tracker,
    takesOver,
    program,
    stateDirectory: textOfPath(settings.stateDirectory),
    texts: embedded,
    completion: (shell) => completionFor(shell, commandLine.vocabulary()),
    layout: 'admin',
  }).filter((item) => isOurs(item, { target, before, usual }))
}

/** A package does not make the usual state directory: the first start of the server does. */
const recordsFor = (
  { packaged, root }: Target,
  settings: Context,
  { dryRun }: { readonly dryRun: boolean },
): Report['files'] => (packaged && isUsual(settings) ? [] : [placeRecords(root, settings.stateDirectory, { dryRun })])

/** Puts every item in place, and removes what an earlier `install` put there and is no longer in the list. */
function placeAll(
  { root, packaged }: Target,
  items: readonly Item[],
  { before, dryRun }: { readonly before: ReadonlyMap<string, Identity>; readonly dryRun: boolean },
): { readonly placed: Report['files']; readonly installed: ReadonlyMap<string, Identity> } {
  const placed: Report['files'][number][] = []
  const installed = new Map<string, Identity>()
  for (const item of items) {
    const packages = packaged && item.asPackaged !== undefined ? identityOfContent(item.asPackaged) : undefined
    const { outcome, identity } = place(root, item, { before: before.get(item.path) ?? packages, dryRun })
    // A switch that was already as it should be is not ours, and `uninstall` leaves it.
    if (item.kind !== 'switch' || outcome !== 'unchanged' || before.has(item.path)) installed.set(item.path, identity)
    placed.push({ path: item.path, outcome })
  }
  for (const [path, identity] of [...before].reverse())
    if (!installed.has(path)) placed.push({ path, outcome: takeAway(root, path, identity, { dryRun }) })
  return { placed, installed }
}

interface Ours {
  readonly target: Target
  readonly before: ReadonlyMap<string, Identity>
  /** Whether the state directory and the tracker are those for which the package was made. */
  readonly usual: boolean
}

/**
 * If a package is installed, `install` only adds files that depend on this machine's settings, if these are unusual,
 * and switches.
 */
const isOurs = (item: Item, { target, before, usual }: Ours): boolean =>
  !target.packaged || before.has(item.path) || item.kind === 'switch' || (item.ofThisMachine === true && !usual)

/** Whether somebody has already decided which program tracks the clients. */
const hasSwitch = ({ root }: Target): boolean =>
  [switches.ours, switches.nfsdcld].some(
    (path) =>
      inDirectory(root, dirname(path), 'leave', ({ entry }) => fs.readdirSync(entry('.')).includes(basename(path))) ===
      true,
  )
