/** `list`: shows every record, and what it means now. */
import { quoteOwner } from '../upcall/owner.ts'
import { command, jsonOption } from './shared/command.ts'
import { legacyClients } from './shared/legacy.ts'
import { print, printJson, say } from './shared/print.ts'
import { mayReclaim, walk, type Client } from './shared/recorded-clients.ts'
import { isoTime, tableLines } from './shared/table.ts'
import { clientJson, each, instanceJson, needs, untracked, versionOf, wordFor } from './shared/view.ts'

export const listCommand = command(
  'list',
  'list the client records, and what each means now',
  (cli) =>
    cli
      .option('reclaimable', { type: 'boolean', describe: 'only those that may reclaim, now or after the next start' })
      .option('current', { type: 'boolean', describe: 'only those of the current server instance' })
      .option('waiting', { type: 'boolean', describe: 'only those that may reclaim, and have not yet' })
      .option('json', jsonOption)
      .conflicts({ reclaimable: ['current', 'waiting'], current: 'waiting' })
      .example('$0 list --waiting', 'which clients are missing, in grace')
      .example('$0 list --json', 'for programs: owners in hex too'),
  ({ reclaimable, current, waiting, json }, settings) => {
    const wanted = (client: Client): boolean =>
      reclaimable === true
        ? mayReclaim(client)
        : current === true
          ? client.standing === 'current'
          : waiting === true
            ? client.standing === 'waiting'
            : true
    const { surveyed, clients } = walk(settings, wanted)
    const { instance } = surveyed
    const legacy = current === true ? [] : legacyClients(surveyed)
    if (json) {
      printJson({
        instance: instanceJson(surveyed),
        ran_untracked: surveyed.untracked,
        clients: each(clients, (client) => clientJson(client, instance)),
        legacy_clients: legacy,
      })
      return 0
    }
    if (surveyed.untracked) say(untracked)
    let lines = 0
    const rows = each(clients, (client) => [
      wordFor(client, instance),
      String(client.in),
      isoTime(client.recorded),
      versionOf(client.session),
      `${quoteOwner(client.owner)}${client.principal === undefined ? '' : `  (${needs(client.principal)})`}`,
    ])
    for (const part of tableLines(['STANDING', 'INSTANCE', 'FIRST RECORDED', 'NFS', 'CLIENT'], rows)) {
      lines++
      if (!print(part)) break
    }
    if (legacy.length > 0)
      print(
        [
          ...(lines > 0 ? [''] : []),
          "Clients of the kernel's own tracker, which may reclaim; only the MD5 of their owner is known:",
          ...legacy,
          '',
        ].join('\n'),
      )
    if (lines === 0 && legacy.length === 0 && process.stdout.isTTY) print('no such record\n')
    return 0
  },
)
