/**
 * `prune`: drops clients for which several server instances have waited in vain, and which make each grace period last
 * its whole time.
 *
 * A server waits more than once for a client only if it restarts before its grace is over: the end of a grace period
 * drops every client that did not reclaim in it.
 */
import { endGraceEarly } from '../events/grace-end.ts'
import type { World } from '../events/world.ts'
import { lookAt } from '../store/state-directory.ts'
import { counted, oneLine } from '../text.ts'
import { escapeOwner, quoteOwner, type ClientOwner } from '../upcall/owner.ts'
import { command, countIn, jsonOption } from './shared/command.ts'
import { consent, withConsent } from './shared/consent.ts'
import { forgetAll, type Asked } from './shared/forget.ts'
import { kept } from './shared/kept.ts'
import { legacyClients } from './shared/legacy.ts'
import { print, printJson, remark, textOfPath } from './shared/print.ts'
import { progress } from './shared/progress.ts'
import { walk, type Walk } from './shared/recorded-clients.ts'
import type { Where } from './shared/survey.ts'
import { isoTime, tableLines } from './shared/table.ts'
import { clientJson, each, instanceJson, ownerJson, type Told } from './shared/view.ts'
import { worldOf } from './shared/world.ts'

export const pruneCommand = command(
  'prune',
  'drop clients that have not come back for several server instances',
  (cli) =>
    withConsent(cli)
      .option('unseen', {
        type: 'string',
        demandOption: true,
        requiresArg: true,
        describe: 'how many instances, the current one included, have waited in vain',
      })
      .option('json', jsonOption)
      .example('$0 prune --unseen 3 --dry-run', 'which clients missed the last three grace periods?')
      .example('$0 prune --unseen 3', 'drops them; grace may then end early'),
  async ({ unseen: word, 'dry-run': dryRun, yes, json }, settings) => {
    process.umask(0o077)
    const unseen = countIn(word, 'instances')
    const { surveyed, clients } = missingSince(settings, unseen)
    const legacy = legacyClients(surveyed).length
    const cameBack = new Set<string>()
    const isBack = ({ owner }: Told): boolean => cameBack.size > 0 && cameBack.has(escapeOwner(owner))
    // Clients to be dropped are kept until the person answers. A dry run prints each one as it is read.
    let missing: Iterable<Told> = clients
    if (!dryRun) {
      const asked = kept(clients)
      missing = asked
      if (asked.count > 0) {
        if (!yes) for (const part of listOf(asked)) remark(part)
        await consent(`${counted(asked.count, 'client')} will no longer be able to reclaim. Go on?`, { yes })
        for (const owner of pruneAll(worldOf(settings), settings, asked, progress('pruning clients', asked.count)))
          cameBack.add(escapeOwner(owner))
      }
    }
    const notPruned = cameBack.size === 0 ? [] : [...only(missing, isBack)]
    if (json) {
      const pruned = only(missing, (client) => !isBack(client))
      printJson({
        state_directory: textOfPath(settings.stateDirectory),
        dry_run: dryRun,
        unseen,
        instance: instanceJson(surveyed),
        pruned: each(pruned, (client) => clientJson(client, surveyed.instance)),
        legacy_clients_left: legacy,
        came_back: notPruned.map(({ owner }) => ownerJson(owner)),
      })
      return 0
    }
    let count = 0
    const listed = each(missing, (client) => {
      count++
      return client
    })
    for (const part of listOf(listed)) if (!print(part)) break
    print(`${counted(count - notPruned.length, 'client')} ${dryRun ? 'would be pruned' : 'pruned'}\n`)
    if (legacy > 0)
      remark(
        `${oneLine`
          ${counted(legacy, 'client')} of the kernel's own tracker kept, because it knows only the MD5 of their owners:
          they count until grace ends
        `}\n`,
      )
    for (const { owner } of notPruned) print(`not pruned ${quoteOwner(owner)}: it came back meanwhile\n`)
    return 0
  },
)

/** Clients for which this many instances, the current one included, have waited in vain. */
export const missingSince = (where: Where, unseen: number): Walk =>
  walk(where, (client) => client.standing === 'waiting' && client.unseen >= unseen)

/** Drops clients that have not come back. @returns those that have meanwhile */
export function pruneAll(
  world: World,
  where: Where,
  clients: Iterable<Asked>,
  shown: (done: number) => void,
): readonly ClientOwner[] {
  const cameBack = forgetAll(world, where, clients, shown)
  // Perhaps no client is left to wait for, as after the last client has reclaimed.
  const recorded = lookAt(world.state)
  if (recorded.instance.kind === 'partial') endGraceEarly(world, recorded, recorded.instance, () => true)
  return cameBack
}

const listOf = (clients: Iterable<Told>): Generator<string> =>
  tableLines(
    ['UNSEEN', 'LAST IN', 'FIRST RECORDED', 'CLIENT'],
    each(clients, ({ unseen, in: start, recorded, owner }) => [
      unseen,
      String(start),
      isoTime(recorded),
      quoteOwner(owner),
    ]),
  )

function* only(clients: Iterable<Told>, wanted: (client: Told) => boolean): Generator<Told> {
  for (const client of clients) if (wanted(client)) yield client
}
