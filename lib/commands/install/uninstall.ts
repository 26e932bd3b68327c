/**
 * `uninstall` removes what `install` has put in place, except what an admin has changed. Records stay: which clients
 * may reclaim is not forgotten because a program is removed.
 */
import { resolve } from 'node:path'
import { Failed } from '../../failure.ts'
import { command, dryRunOption, jsonOption } from '../shared/command.ts'
import { deactivate, deregister } from './activation.ts'
import { forgetInstalled, readInstalled } from './installed.ts'
import { takeAway } from './place.ts'
import { leftAlone, outcomeOf, say } from './report.ts'
import { targetAt } from './target.ts'

export const uninstallCommand = command(
  'uninstall',
  'remove what install has installed; the records stay',
  (cli) =>
    cli
      .option('root', { type: 'string', default: '/', describe: 'uninstall from the system in this directory' })
      .option('dry-run', dryRunOption)
      .option('json', jsonOption)
      .example('$0 uninstall', 'on this machine'),
  ({ root, 'dry-run': dryRun, json }, { nfsdDirectory }) => {
    const target = targetAt(resolve(root))
    const { files: installed, foreign } = readInstalled(target.root)
    if (installed.size === 0)
      throw new Failed({
        kind: 'bad-argument',
        why: target.packaged
          ? 'the package manager has installed this program, and removes it (apt purge nfsd-userland-helper)'
          : 'nothing is recorded as installed below',
        word: target.root.path,
      })
    const acts = target.live && !dryRun
    const actions = acts ? deregister(target.init, nfsdDirectory) : []
    const files = [
      ...[...installed]
        .reverse()
        .map(([path, identity]) => ({ path, outcome: takeAway(target.root, path, identity, { dryRun }) })),
      ...leftAlone(foreign),
    ]
    if (!dryRun) forgetInstalled(target.root)
    if (acts) actions.push(...deactivate(target.init, nfsdDirectory))
    say(
      {
        root: target.root.path,
        dryRun,
        packaged: target.packaged,
        tracker: undefined,
        keptNfsdcld: undefined,
        files,
        actions,
        examined: undefined,
      },
      { json },
    )
    return outcomeOf(actions)
  },
)
