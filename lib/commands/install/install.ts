/**
 * Puts the program and what a system needs beside it in place, and says of each file what became of it. May be repeated:
 * after an upgrade, and after a change of the state directory in nfs.conf.
 */
import { resolve } from 'node:path'
import { command } from '../shared/command.ts'
import { textOfPath } from '../shared/print.ts'
import { examine } from '../doctor/doctor.ts'
import { activate, type Action } from './activation.ts'
import { completionFor } from './completion.ts'
import { filesOf, usualStateDirectory, type Item } from './files.ts'
import { readInstalled, writeInstalled } from './installed.ts'
import { place, takeAway, type Identity } from './place.ts'
import { placeRecords } from './records.ts'
import { leftAlone, outcomeOf, say } from './report.ts'
import { runningProgram, targetAt, type Target } from './target.ts'
import { embedded } from './texts.ts'

export const installCommand = command(
  'install',
  'install the program, and what makes the kernel run it',
  (cli) =>
    cli
      .option('root', { type: 'string', default: '/', describe: 'install into the system that lies here' })
      .option('dry-run', { type: 'boolean', default: false, describe: 'say what would be done, do nothing' })
      .option('json', { type: 'boolean', default: false, describe: 'a result for programs' })
      .example('$0 install', 'on this machine')
      .example('$0 install --root /mnt --dry-run', 'what would come into another system'),
  async ({ root, 'dry-run': dryRun, json }, settings, door) => {
    const { nfsdDirectory } = settings
    const stateDirectory = textOfPath(settings.stateDirectory)
    // Directories that are made on the way are for all to read, whatever umask the caller has.
    process.umask(0o022)
    const target = targetAt(resolve(root))
    const { files: before, foreign } = readInstalled(target.root)
    const items = filesOf({
      ...target,
      program: runningProgram(target.live),
      stateDirectory,
      texts: embedded,
      completion: (shell) => completionFor(shell, door.vocabulary()),
      layout: 'admin',
    }).filter((item) => isOurs(item, target, stateDirectory, before))

    // A package leaves the usual one to the first start of the server.
    const files =
      target.packaged && stateDirectory === usualStateDirectory
        ? []
        : [placeRecords(target.root, settings.stateDirectory, dryRun)]
    const installed = new Map<string, Identity>()
    for (const item of items) {
      const { outcome, identity } = place(target.root, item, before.get(item.path), dryRun)
      installed.set(item.path, identity)
      files.push({ path: item.path, outcome })
    }
    for (const [path, identity] of [...before].reverse())
      if (!installed.has(path)) files.push({ path, outcome: takeAway(target.root, path, identity, dryRun) })
    files.push(...leftAlone(foreign))
    if (!dryRun) writeInstalled(target.root, installed)

    const actions: Action[] = dryRun || !target.live ? [] : activate(target.init, nfsdDirectory)
    const examined = dryRun || !target.live ? undefined : await examine(settings)
    say({ root: target.root.path, dryRun, packaged: target.packaged, files, actions, examined }, json)
    return outcomeOf(actions)
  },
)

/** Beside a package only what this machine alone knows: a state directory that is not the usual one. */
const isOurs = (
  item: Item,
  { packaged }: Target,
  stateDirectory: string,
  before: ReadonlyMap<string, Identity>,
): boolean =>
  !packaged || before.has(item.path) || (item.ofThisMachine === true && stateDirectory !== usualStateDirectory)
