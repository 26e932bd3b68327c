/** `show`: shows everything known about one client, whether it is recorded or only present in the kernel. */
import { counted, escaped } from '../text.ts'
import { quoteOwner, type ClientOwner } from '../upcall/owner.ts'
import type { Session } from '../upcall/request.ts'
import { command, jsonOption } from './shared/command.ts'
import { legacyRecordsOf } from './shared/legacy.ts'
import { liveClients, type LiveClient } from './shared/live-clients.ts'
import { knownTo, ownerNamed, wholeOwner, withHex } from './shared/owners.ts'
import { print, printJson, textOfPath } from './shared/print.ts'
import { mayReclaim, newestEntryOf, recordsOfOwner, type Client } from './shared/recorded-clients.ts'
import { survey, type Survey } from './shared/survey.ts'
import { pairs } from './shared/table.ts'
import {
  clientJson,
  instanceJson,
  liveJson,
  meaningOf,
  needs,
  ownerJson,
  sayInstance,
  sayTime,
  untracked,
  versionOf,
  wordFor,
} from './shared/view.ts'

export const showCommand = command(
  'show <OWNER>',
  'show everything that is known about one client',
  (cli) =>
    withHex(cli)
      .positional('OWNER', {
        type: 'string',
        demandOption: true,
        describe: 'as list prints it, or its beginning',
      })
      .option('json', jsonOption)
      .example("$0 show 'Linux NFSv4.1 ada'", 'spaces need no escape')
      .example('$0 show --hex 4c696e7578', 'as the kernel spells it in an upcall'),
  async ({ OWNER, hex, json }, settings) => {
    const surveyed = survey(settings)
    const kernel = await liveClients(settings.nfsdDirectory)
    const live = kernel === 'unknown' ? [] : kernel.clients
    const whole = wholeOwner(OWNER, { hex })
    // The name of a record is enough to find it, even if its content can't be understood.
    const spelled = whole !== undefined && isDamaged(surveyed, whole) ? [{ owner: whole }] : []
    const owner = ownerNamed(OWNER, knownTo(surveyed, [...live, ...spelled]), { hex })
    const own = ({ owner: other }: { owner: Uint8Array }): boolean => Buffer.compare(owner, other) === 0
    // The newest record comes first. An upcall goes by the first one that counts.
    const records = recordsOfOwner(surveyed, owner)
    const present = live.filter(own)
    const legacy = legacyRecordsOf(surveyed, owner)
    const may = records.some(mayReclaim) || (legacy.length > 0 && !surveyed.allVoid)
    if (json) {
      printJson({
        ...ownerJson(owner),
        may_reclaim: may,
        instance: instanceJson(surveyed),
        ran_untracked: surveyed.untracked,
        records: records.map((record) => ({ ...clientJson(record, surveyed.instance), path: textOfPath(record.path) })),
        legacy: legacy.map(textOfPath),
        live: kernel === 'unknown' ? null : present.map(liveJson),
        live_silent: kernel === 'unknown' ? null : kernel.silent,
      })
      return 0
    }
    print(
      [
        pairs([
          ['client', quoteOwner(owner)],
          ['hex', Buffer.from(owner).toString('hex')],
          ['may reclaim', may ? 'yes' : `no${whyNot(surveyed, owner, records.length + legacy.length)}`],
          ['server instance', sayInstance(surveyed.instance)],
          ...(surveyed.untracked ? [['but', untracked] as const] : []),
        ]),
        ...legacy.map(
          (path) =>
            `\n${pairs([['recorded by the kernel', `its own tracker, until a grace period ends: ${escaped(path)}`]])}`,
        ),
        ...records.map((record) => `\n${sayRecord(record, surveyed)}`),
        ...present.map((client) => `\n${sayLive(client)}`),
        ...(present.length === 0 ? [`\n${sayAbsent(kernel)}\n`] : []),
      ].join(''),
    )
    return 0
  },
)

const isDamaged = (surveyed: Survey, owner: ClientOwner): boolean => newestEntryOf(surveyed, owner).kind === 'damaged'

function whyNot(surveyed: Survey, owner: ClientOwner, found: number): string {
  if (isDamaged(surveyed, owner)) return ": its record can't be understood; nfsd-userland-helper verify lists it"
  return found === 0 ? ': it is not recorded' : ''
}

const startedSince = (many: number): string => counted(many, 'instance has started', 'instances have started')

function sayRecord(record: Client, surveyed: Survey): string {
  const word = wordFor(record, surveyed.instance)
  return pairs([
    ['record', escaped(record.path)],
    ['standing', `${word}: ${meaningOf(word, surveyed)}`],
    ['instance', `${record.in}${record.unseen > 0 ? `; at least ${startedSince(record.unseen)} since` : ''}`],
    ['first recorded', sayTime(record.recorded, Date.now())],
    ['NFS version', `${versionOf(record.session)}: ${whenDone(record.session)}`],
    ...(record.principal === undefined ? [] : [['to reclaim', `it ${needs(record.principal)}`] as const]),
  ])
}

function whenDone(session: Session): string {
  if (session === 'unknown')
    return 'the kernel did not tell, so it is taken for one that never says when it has reclaimed everything'
  return session === 'has session'
    ? 'it says when it has reclaimed everything'
    : 'it never says that it has reclaimed everything'
}

function sayAbsent(kernel: Awaited<ReturnType<typeof liveClients>>): string {
  if (kernel === 'unknown')
    return 'Whether the kernel has this client can not be seen: its nfsd file system has no clients directory.'
  const perhaps = kernel.silent === 0 ? '' : `, or it is one of ${kernel.silent} that it does not describe`
  return `The kernel does not have this client at the moment${perhaps}.`
}

const sayLive = (client: LiveClient): string =>
  pairs([
    ['in the kernel', `client ${client.number}, ${client.status ?? 'status unknown'}`],
    ['address', client.address ?? 'unknown'],
    ['last renewal', client.secondsSinceRenewal === undefined ? 'unknown' : `${client.secondsSinceRenewal} s ago`],
    ['NFS version', client.minorVersion === undefined ? 'unknown' : `4.${client.minorVersion}`],
    ...(client.implementation === undefined ? [] : [['implementation', client.implementation] as const]),
  ])
