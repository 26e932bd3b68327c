/**
 * `allow`: clients that were dropped by mistake may reclaim again, by a person's word.
 *
 * Where grace is over they are recorded in the current instance, as `create` would, and so may reclaim after the next
 * start. In grace they go where those are that have not reclaimed, into the last full instance: they may reclaim now, or
 * after the next start if that comes before grace is over; a record of the current instance would outlive an end of grace
 * in which they did not. In a first instance, which has nothing before it, they are recorded as active in it.
 *
 * Whether somebody else has had what such a client holds is known to nobody here: so a person is asked.
 */
import { Failed, quote } from '../../failure.ts'
import type { Instance, Start } from '../../recovery/instance.ts'
import { recordName } from '../../recovery/record.ts'
import * as disk from '../../stable/disk.ts'
import { restoreDirectory } from '../../stable/instances.ts'
import { place } from '../../stable/records.ts'
import { lookAt, type Recorded } from '../../stable/state-directory.ts'
import { ranUntracked } from '../../stable/untracked.ts'
import { recordClient } from '../../transitions/client.ts'
import { unconfirmedGraceEnd } from '../../transitions/grace-end.ts'
import type { Settlement, World } from '../../transitions/world.ts'
import { escapeOwner, showOwner, type ClientOwner } from '../../upcall/owner.ts'
import { command } from '../command.ts'
import { consent, withConsent } from '../consent.ts'
import { holding } from '../hold.ts'
import { ownerSpelled, withHex } from '../owners.ts'
import { print, printJson, textOfPath } from '../print.ts'
import { instanceJson, ownerJson } from '../see/view.ts'
import { mayReclaim, survey, type Survey } from '../survey.ts'
import { worldOf } from '../world.ts'

export const allowCommand = command(
  'allow <OWNER..>',
  'let clients reclaim that were dropped by mistake',
  (cli) =>
    withConsent(withHex(cli))
      .positional('OWNER', { type: 'string', array: true, demandOption: true, describe: 'the whole owner, as list and the log print it; a leading - is \\055' })
      .option('json', { type: 'boolean', default: false, describe: 'a result for programs' })
      .example("$0 allow 'Linux NFSv4.1 ada'", 'asks first, and says when that is right'),
  async ({ OWNER: words, hex, 'dry-run': dryRun, yes, json }, settings) => {
    process.umask(0o077)
    const owners = [...new Map(words.map((word) => ownerSpelled(word, hex)).map((owner) => [escapeOwner(owner), owner])).values()]
    const world = worldOf(settings)
    const surveyed = survey(settings.stateDirectory)
    assertCanAllow(world, surveyed, owners)
    const known = new Set(surveyed.clients.filter(mayReclaim).map(({ owner }) => escapeOwner(owner)))
    const dropped = owners.filter((owner) => !known.has(escapeOwner(owner)))
    const when = whenOf(surveyed.instance)

    if (!dryRun && dropped.length > 0) {
      await consent(question(dropped, when), yes)
      for (const owner of dropped) allow(world, owner)
    }
    // Who is there may be so by a call that was killed before its barrier.
    if (!dryRun) for (const { owner, in: start } of surveyed.clients) if (known.has(escapeOwner(owner)) && isOneOf(owners, owner)) syncInstance(world, start)
    if (json) {
      printJson({
        state_directory: textOfPath(settings.stateDirectory),
        dry_run: dryRun,
        instance: instanceJson(surveyed),
        allowed: dropped.map(ownerJson),
        already_there: owners.filter((owner) => known.has(escapeOwner(owner))).map(ownerJson),
      })
      return 0
    }
    for (const owner of owners) {
      const may = known.has(escapeOwner(owner)) ? 'may reclaim already' : `${dryRun ? 'could' : 'may'} reclaim ${when}`
      print(`${escapeOwner(owner)} ${may}\n`)
    }
    return 0
  },
)

function syncInstance({ state }: World, start: Start): void {
  const directory = state.of(start)
  if (directory !== undefined) disk.sync(directory)
}

const isOneOf = (owners: readonly ClientOwner[], owner: ClientOwner): boolean => owners.some((other) => Buffer.compare(other, owner) === 0)

const question = (owners: readonly ClientOwner[], when: string): string =>
  [
    `These clients may reclaim ${when}:`,
    ...owners.map((owner) => `  ${showOwner(owner)}`),
    'That is right only if nobody else has had, or gets before that, what they hold: else two clients hold one lock in turn,',
    'and the first believes that nothing has changed. If in doubt, say no: a client that may not reclaim is told that its',
    'locks are lost.',
    'Go on?',
  ].join('\n')

const whenOf = (instance: Instance): string =>
  instance.kind === 'partial' && instance.full !== undefined
    ? 'in this grace period, or after the next start if that comes before it is over'
    : 'after the next start'

/** @throws Failed: nothing can be allowed, and why. */
function assertCanAllow({ state, nfsd }: World, { instance, oddities }: Survey, owners: readonly ClientOwner[]): void {
  const refuse = (why: string): never => {
    throw new Failed({ kind: 'storage', atStart: false, what: `nothing changed: ${why}` })
  }
  if (instance.kind === 'none') refuse(`no server instance is recorded in ${quote(state.path)}; see import`)
  if (instance.kind === 'damaged') refuse(`${instance.file} can't be understood (${instance.why}), so nobody may reclaim until the next start`)
  if (ranUntracked(state)) refuse('a server instance ran that could not be recorded, so after the next start nobody may reclaim')
  if (instance.kind !== 'partial') return
  if (nfsd.grace() === 'over') refuse('the kernel is out of grace, which is not recorded yet; try again when a client has come or gone')
  const damaged = oddities.filter(({ kind }) => kind === 'damaged').map(({ path }) => path)
  for (const owner of owners)
    if (damaged.some((path) => path.endsWith(`/${recordName(owner)}`)))
      refuse(`a record of ${showOwner(owner)} can't be understood, and decides; verify --repair first`)
}

/** One client, as an upcall would record it: under the lock, then durable. */
function allow(world: World, owner: ClientOwner): void {
  const settlements = holding(world.state, (): readonly Settlement[] => {
    const recorded = lookAt(world.state)
    return [unconfirmedGraceEnd(world, recorded), record(world, recorded, owner)]
  })
  for (const { sync } of settlements) for (const directory of sync) if (directory !== undefined) disk.sync(directory)
  for (const { then } of settlements) then?.()
}

function record(world: World, recorded: Recorded, owner: ClientOwner): Settlement {
  const { state } = world
  const { instance } = recorded
  if (instance.kind !== 'full' && instance.kind !== 'partial')
    throw new Failed({ kind: 'storage', atStart: false, what: 'the server instance is gone meanwhile' })
  if (instance.kind === 'full' || instance.full === undefined) return recordClient(world, recorded, instance, owner, false)
  if (state.of(instance.full) === undefined) restoreDirectory(state, instance.full)
  place(state, owner, { session: false, recorded: Math.floor(world.now() / 1000) }, instance.full, [])
  return { sync: [state.of(instance.full)] }
}
