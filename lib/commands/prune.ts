/**
 * `prune`: clients that many server instances have waited for in vain, and that make each grace period last its whole time.
 *
 * Only a server that restarts before its grace is over waits for a client more than once: the end of a grace period drops
 * whoever did not reclaim in it.
 */
import { counted, Failed } from '../failure.ts'
import { lookAt } from '../store/state-directory.ts'
import { endGraceEarly } from '../events/grace-end.ts'
import { escapeOwner, quoteOwner } from '../upcall/owner.ts'
import { command } from './shared/command.ts'
import { consent, withConsent } from './shared/consent.ts'
import { legacyClients } from './shared/legacy.ts'
import { print, printJson, remark, textOfPath } from './shared/print.ts'
import { progress } from './shared/progress.ts'
import { clientJson, instanceJson, ownerJson } from './shared/view.ts'
import { walk } from './shared/survey.ts'
import { isoTime, table } from './shared/table.ts'
import { worldOf } from './shared/world.ts'
import { forgetAll } from './shared/forget.ts'

export const pruneCommand = command(
  'prune',
  'drop clients that have not come back for several server instances',
  (cli) =>
    withConsent(cli)
      .option('unseen', {
        type: 'number',
        demandOption: true,
        requiresArg: true,
        describe: 'how many instances, the current one included, have waited in vain',
      })
      .option('json', { type: 'boolean', default: false, describe: 'print JSON, for programs' })
      .example('$0 prune --unseen 3 --dry-run', 'which clients missed the last three grace periods?')
      .example('$0 prune --unseen 3', 'drops them; grace may then end early'),
  async ({ unseen, 'dry-run': dryRun, yes, json }, settings) => {
    process.umask(0o077)
    if (!Number.isSafeInteger(unseen) || unseen < 1)
      throw new Failed({ kind: 'bad-argument', why: 'not a number of instances', word: String(unseen) })
    const { surveyed, clients } = walk(settings, (client) => client.standing === 'waiting' && client.unseen >= unseen)
    const missing = [...clients]
    const legacy = legacyClients(surveyed).length
    const list = table(
      ['UNSEEN', 'LAST IN', 'FIRST RECORDED', 'CLIENT'],
      missing.map((client) => [client.unseen, String(client.in), isoTime(client.recorded), quoteOwner(client.owner)]),
    )
    const cameBack = new Set<string>()
    if (!dryRun && missing.length > 0) {
      if (!yes) remark(list)
      await consent(`${counted(missing.length, 'client')} will no longer be able to reclaim. Go on?`, yes)
      const world = worldOf(settings)
      for (const owner of forgetAll(world, settings, missing, progress('pruning clients', missing.length)))
        cameBack.add(escapeOwner(owner))
      // As after the last client's return: perhaps nobody is left to wait for.
      const recorded = lookAt(world.state)
      if (recorded.instance.kind === 'partial') endGraceEarly(world, recorded, recorded.instance)
    }
    if (json) {
      printJson({
        state_directory: textOfPath(settings.stateDirectory),
        dry_run: dryRun,
        unseen,
        instance: instanceJson(surveyed),
        pruned: missing
          .filter(({ owner }) => !cameBack.has(escapeOwner(owner)))
          .map((client) => clientJson(client, surveyed.instance)),
        legacy_clients_left: legacy,
        came_back: missing.filter(({ owner }) => cameBack.has(escapeOwner(owner))).map(({ owner }) => ownerJson(owner)),
      })
      return 0
    }
    print(`${list}${counted(missing.length - cameBack.size, 'client')} ${dryRun ? 'would be pruned' : 'pruned'}\n`)
    if (legacy > 0)
      remark(
        `${counted(legacy, 'client')} of the kernel's own tracker kept, because it knows only the MD5 of their owners: they count until grace ends\n`,
      )
    for (const { owner } of missing)
      if (cameBack.has(escapeOwner(owner))) print(`not pruned ${quoteOwner(owner)}: it came back meanwhile\n`)
    return 0
  },
)
