/** `expire`: clients that are gone for good, by a person's word. */
import { escaped } from '../text.ts'
import { escapeOwner, quoteOwner, type ClientOwner } from '../upcall/owner.ts'
import { command, jsonOption } from './shared/command.ts'
import { consent, withConsent } from './shared/consent.ts'
import { legacyRecordsOf } from './shared/legacy.ts'
import { knownTo, ownerNamed, severalOwners, withHex } from './shared/owners.ts'
import { print, printJson, textOfPath } from './shared/print.ts'
import { progress } from './shared/progress.ts'
import { liveClients } from './shared/live-clients.ts'
import { ownerJson } from './shared/view.ts'
import { survey } from './shared/survey.ts'
import { worldOf } from './shared/world.ts'
import { forgetAll, newestOf } from './shared/forget.ts'

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
    const named = words.map((word) => ownerNamed(word, hex, known, naming))
    const owners = [...new Map(named.map((owner) => [escapeOwner(owner), owner])).values()]
    const kernel = await liveClients(settings.nfsdDirectory)
    const alive = new Map(
      kernel === 'unknown' ? [] : kernel.clients.map(({ owner, number }) => [escapeOwner(owner), number]),
    )
    const isAlive = (owner: ClientOwner): boolean | null =>
      alive.has(escapeOwner(owner)) || (kernel === 'unknown' || kernel.silent > 0 ? null : false)

    const asked = owners.map((owner) => ({ owner, in: newestOf(surveyed, owner) }))
    const legacy = new Map(owners.map((owner) => [escapeOwner(owner), legacyRecordsOf(surveyed, owner)]))
    const cameBack = new Set<string>()
    if (!dryRun) {
      const listed = owners.map((owner) => `  ${quoteOwner(owner)}`)
      const question = 'These clients will no longer be able to reclaim, now or after the next start:'
      await consent([question, ...listed, 'Go on?'].join('\n'), yes)
      for (const owner of forgetAll(worldOf(settings), settings, asked, progress('expiring clients', owners.length)))
        cameBack.add(escapeOwner(owner))
    }
    if (json) {
      printJson({
        state_directory: textOfPath(settings.stateDirectory),
        dry_run: dryRun,
        expired: owners
          .filter((owner) => !cameBack.has(escapeOwner(owner)))
          .map((owner) => ({
            ...ownerJson(owner),
            live: isAlive(owner),
            legacy: (legacy.get(escapeOwner(owner)) ?? []).length > 0,
          })),
        came_back: owners.filter((owner) => cameBack.has(escapeOwner(owner))).map(ownerJson),
      })
      return cameBack.size === 0 ? 0 : 1
    }
    for (const owner of owners) {
      const name = escapeOwner(owner)
      if (cameBack.has(name)) {
        print(`not expired ${quoteOwner(owner)}: it came back meanwhile\n`)
        continue
      }
      print(`${dryRun ? 'would expire' : 'expired'} ${quoteOwner(owner)}\n`)
      const removed = dryRun ? 'Would also remove' : 'Also removed'
      for (const path of legacy.get(name) ?? [])
        print(`  ${removed} what the kernel's own tracker had of it: ${escaped(path)}\n`)
      const number = alive.get(name)
      if (number !== undefined)
        print(
          [
            '  The kernel still has this client, with its locks. To expire it there as well:',
            `  echo expire > ${settings.nfsdDirectory}/clients/${number}/ctl\n`,
          ].join('\n'),
        )
    }
    return cameBack.size === 0 ? 0 : 1
  },
)
