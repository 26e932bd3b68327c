/** `list`: every record, and what it means now. */
import { escapeOwner } from '../../upcall/owner.ts'
import { command } from '../command.ts'
import { print, printJson } from '../print.ts'
import { mayReclaim, survey, type Client } from '../survey.ts'
import { isoTime, table } from '../table.ts'
import { clientJson, instanceJson, newestFirst, versionOf, wordFor } from './view.ts'

export const listCommand = command(
  'list',
  'every client record, and what it means now',
  (cli) =>
    cli
      .option('reclaimable', { type: 'boolean', describe: 'only those that may reclaim, now or after the next start' })
      .option('current', { type: 'boolean', describe: 'only those of the current server instance' })
      .option('waiting', { type: 'boolean', describe: 'only those that may reclaim, and have not' })
      .option('json', { type: 'boolean', default: false, describe: 'a result for programs' })
      .conflicts({ reclaimable: ['current', 'waiting'], current: 'waiting' })
      .example('$0 list --waiting', 'who is missing, while grace runs')
      .example('$0 list --json', 'for a program: owners in hex too'),
  ({ reclaimable, current, waiting, json }, { stateDirectory }) => {
    const surveyed = survey(stateDirectory)
    const wanted = (client: Client): boolean =>
      reclaimable === true ? mayReclaim(client) : current === true ? client.standing === 'current' : waiting === true ? client.standing === 'waiting' : true
    const clients = surveyed.clients.filter(wanted).sort(newestFirst)
    if (json) {
      printJson({ instance: instanceJson(surveyed), clients: clients.map((client) => clientJson(client, surveyed.instance)) })
      return 0
    }
    print(
      table(
        ['STANDING', 'INSTANCE', 'FIRST RECORDED', 'NFS', 'CLIENT'],
        clients.map((client) => [
          wordFor(client, surveyed.instance),
          String(client.in),
          isoTime(client.recorded),
          versionOf(client.session),
          escapeOwner(client.owner),
        ]),
      ),
    )
    if (clients.length === 0 && process.stdout.isTTY) print('no such record\n')
    return 0
  },
)
