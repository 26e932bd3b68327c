/** `expire`: a person says that clients are gone for good. */
import { escaped } from '../text.ts'
import { escapeOwner, quoteOwner, type ClientOwner } from '../upcall/owner.ts'
import { command, jsonOption } from './shared/command.ts'
import { consent, withConsent } from './shared/consent.ts'
import { asRecorded, forgetAll } from './shared/forget.ts'
import { legacyRecordsOf } from './shared/legacy.ts'
import { liveClients, type Live } from './shared/live-clients.ts'
import { knownTo, ownerNamed, severalOwners, withHex } from './shared/owners.ts'
import { print, printJson, textOfPath } from './shared/print.ts'
import { progress } from './shared/progress.ts'
import { survey } from './shared/survey.ts'
import { ownerJson } from './shared/view.ts'
import { worldOf } from './shared/world.ts'

export const expireCommand = command(
  'expire <OWNER..>',
  'drop clients: they may no longer reclaim',
  (cli) =>
    withConsent(withHex(cli))
      .positional('OWNER', severalOwners('as list prints it, or its beginning; with --yes the whole owner'))
      .option('prefix', {
        type: 'boolean',
        default: false,
        describe: 'with --yes, accept the beginning of an owner',
      })
      .option('json', jsonOption)
      .example("$0 expire 'Linux NFSv4.1 ada'", 'asks first; spaces need no escape')
      .example('$0 expire --yes --hex 4c696e7578', 'in a script, as the kernel spells it in an upcall'),
  async ({ OWNER: words, hex, prefix, 'dry-run': dryRun, yes, json }, settings) => {
    process.umask(0o077)
    const surveyed = survey(settings)
    const known = knownTo(surveyed)
    // If a script runs twice, the beginning of an owner could mean another client the second time. A person sees whom
    // it means.
    const naming = yes && !prefix ? 'whole' : 'whole or beginning'
    const named = words.map((word) => ownerNamed(word, known, { hex, naming }))
    const owners = [...new Map(named.map((owner) => [escapeOwner(owner), owner])).values()]
    const kernel = await liveClients(settings.nfsdDirectory)
    const asked = owners.map((owner) => asRecorded(surveyed, owner))
    const legacy = new Map(owners.map((owner) => [escapeOwner(owner), legacyRecordsOf(surveyed, owner)]))
    const cameBack = new Set<string>()
    if (!dryRun) {
      const listed = owners.map((owner) => `  ${quoteOwner(owner)}`)
      const question = 'These clients will no longer be able to reclaim, now or after the next start:'
      await consent([question, ...listed, 'Go on?'].join('\n'), { yes })
      for (const owner of forgetAll(worldOf(settings), settings, asked, progress('expiring clients', owners.length)))
        cameBack.add(escapeOwner(owner))
    }
    const outcome: Outcome = { owners, cameBack, legacy, ...inKernel(kernel), dryRun }
    if (json) printJson({ state_directory: textOfPath(settings.stateDirectory), ...documentOf(outcome) })
    else for (const owner of owners) print(describe(owner, outcome, settings.nfsdDirectory))
    return cameBack.size === 0 ? 0 : 1
  },
)

interface Outcome {
  readonly owners: readonly ClientOwner[]
  /** The escaped owners of clients that were recorded again before they could be removed. */
  readonly cameBack: ReadonlySet<string>
  /** What the kernel's own tracker had recorded of each client. */
  readonly legacy: ReadonlyMap<string, readonly string[]>
  /** The kernel's numbers of the clients that it has. */
  readonly numbers: ReadonlyMap<string, number>
  /** Whether the kernel has none of the others, or does not tell. */
  readonly others: 'absent' | 'unknown'
  readonly dryRun: boolean
}

const inKernel = (kernel: Live | 'unknown'): Pick<Outcome, 'numbers' | 'others'> =>
  kernel === 'unknown'
    ? { numbers: new Map(), others: 'unknown' }
    : {
        numbers: new Map(kernel.clients.map(({ owner, number }) => [escapeOwner(owner), number])),
        others: kernel.silent > 0 ? 'unknown' : 'absent',
      }

/** The result for programs (docs/json.md). */
function documentOf({ owners, cameBack, legacy, numbers, others, dryRun }: Outcome): object {
  const [back, gone] = [true, false].map((is) => owners.filter((owner) => cameBack.has(escapeOwner(owner)) === is))
  const isLive = (name: string): boolean | null => numbers.has(name) || (others === 'unknown' ? null : false)
  return {
    dry_run: dryRun,
    expired: gone?.map((owner) => ({
      ...ownerJson(owner),
      live: isLive(escapeOwner(owner)),
      legacy: (legacy.get(escapeOwner(owner)) ?? []).length > 0,
    })),
    came_back: back?.map(ownerJson),
  }
}

/** What became of one client, for people. */
function describe(owner: ClientOwner, outcome: Outcome, nfsdDirectory: string): string {
  const { cameBack, legacy, numbers, dryRun } = outcome
  const name = escapeOwner(owner)
  if (cameBack.has(name)) return `not expired ${quoteOwner(owner)}: it came back meanwhile\n`
  const removed = dryRun ? 'Would also remove' : 'Also removed'
  const number = numbers.get(name)
  return [
    `${dryRun ? 'would expire' : 'expired'} ${quoteOwner(owner)}`,
    ...(legacy.get(name) ?? []).map((path) => `  ${removed} what the kernel's own tracker had of it: ${escaped(path)}`),
    ...(number === undefined
      ? []
      : [
          '  The kernel still has this client, with its locks. To expire it there as well:',
          `  echo expire > ${nfsdDirectory}/clients/${number}/ctl`,
        ]),
    '',
  ].join('\n')
}
