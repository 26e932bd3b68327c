/**
 * `allow`: a person says that clients which were dropped by mistake may reclaim again.
 *
 * If grace is over, they are recorded in the current instance, as by `create`, and so may reclaim after the next start.
 * In grace they are recorded in the last full instance, with the clients that have not reclaimed: they may reclaim now,
 * or after the next start if it comes before grace is over. A record in the current instance would outlive an end of
 * grace in which they did not reclaim. In a first instance, which has none before it, they are recorded as active in
 * it.
 *
 * This program does not know whether another client has had what such a client holds, so it asks a person.
 */
import { graceEndOwed } from '../events/apply.ts'
import { recordClient, restoreDirectory } from '../events/create.ts'
import { completeCutShort } from '../events/cut-short.ts'
import type { Settlement, World } from '../events/world.ts'
import { errorCode, storageFailure, type Failed } from '../failure.ts'
import type { Instance, Start } from '../rules/instance.ts'
import type { Recorded } from '../store/layout.ts'
import { migrate } from '../store/migrate.ts'
import { directoryOf, pathOf } from '../store/open-directories.ts'
import { put } from '../store/records.ts'
import { lookAt, type StateDirectory } from '../store/state-directory.ts'
import { isStartCutShort } from '../store/untracked.ts'
import * as files from '../syscalls/files.ts'
import { oneLine, quote } from '../text.ts'
import { escapeOwner, quoteOwner, showOwner, type ClientOwner } from '../upcall/owner.ts'
import { command, jsonOption } from './shared/command.ts'
import { consent, withConsent } from './shared/consent.ts'
import { underLock } from './shared/lock.ts'
import { ownerSpelled, severalOwners, withHex } from './shared/owners.ts'
import { print, printJson, textOfPath } from './shared/print.ts'
import { mayReclaimLater, newestEntryOf, recordsOfOwner } from './shared/recorded-clients.ts'
import { survey, type Survey, type Where } from './shared/survey.ts'
import { instanceJson, ownerJson } from './shared/view.ts'
import { worldOf } from './shared/world.ts'

export const allowCommand = command(
  'allow <OWNER..>',
  'let clients that were dropped by mistake reclaim',
  (cli) =>
    withConsent(withHex(cli))
      .positional('OWNER', severalOwners('the whole owner, as list and the log print it'))
      .option('json', jsonOption)
      .example("$0 allow 'Linux NFSv4.1 ada'", 'asks first, and says when this is correct'),
  async ({ OWNER: words, hex, 'dry-run': dryRun, yes, json }, settings) => {
    process.umask(0o077)
    const owners = [
      ...new Map(words.map((word) => ownerSpelled(word, { hex })).map((owner) => [escapeOwner(owner), owner])).values(),
    ]
    const world = worldOf(settings)
    const planned = planFor(world, settings, owners)
    const { surveyed, known, dropped, when } = planned
    if (!dryRun) {
      if (dropped.length > 0) await consent(question(dropped, when), { yes })
      carryOut(world, settings, planned)
    }
    if (json) {
      printJson({
        state_directory: textOfPath(settings.stateDirectory),
        dry_run: dryRun,
        instance: instanceJson(surveyed),
        allowed: owners.filter((owner) => !known.has(escapeOwner(owner))).map(ownerJson),
        already_there: owners.filter((owner) => known.has(escapeOwner(owner))).map(ownerJson),
      })
      return 0
    }
    for (const owner of owners) {
      const may = known.has(escapeOwner(owner)) ? 'may reclaim already' : `${dryRun ? 'could' : 'may'} reclaim ${when}`
      print(`${quoteOwner(owner)} ${may}\n`)
    }
    return 0
  },
)

interface Plan {
  readonly surveyed: Survey
  readonly owners: readonly ClientOwner[]
  /** The escaped owners of the clients that may reclaim already. */
  readonly known: Set<string>
  /** The others. */
  readonly dropped: readonly ClientOwner[]
  readonly when: string
}

/** @throws Failed: nothing can be allowed, and why. */
export function planFor(world: World, where: Where, owners: readonly ClientOwner[]): Plan {
  const surveyed = survey(where, world.state)
  assertCanAllow(world, surveyed, owners)
  const known = new Set(owners.filter((owner) => countsIn(surveyed, owner) !== undefined).map(escapeOwner))
  const dropped = owners.filter((owner) => !known.has(escapeOwner(owner)))
  return { surveyed, owners, known, dropped, when: whenOf(surveyed.instance) }
}

/** When it returns, all these clients may reclaim, and a power cut does not change that. */
export function carryOut(world: World, where: Where, { owners, known, dropped, when }: Plan): void {
  if (dropped.length > 0) {
    migrate(world.state)
    // Otherwise the next start would complete it, and perhaps take out who is let in now.
    completeCutShort(world, lookAt(world.state), { about: dropped })
  }
  for (const owner of dropped) if (allow(world, where, owner, when) === 'there already') known.add(escapeOwner(owner))
  // An existing record may come from an upcall that was killed before its barrier.
  for (const owner of owners)
    if (known.has(escapeOwner(owner))) syncInstance(world, countsIn(survey(where, world.state), owner))
  // A `serve` may have made an intent log meanwhile, that could take out again who is let in.
  lookAt(world.state)
}

/** The newest instance in which a client may reclaim. */
const countsIn = (surveyed: Survey, owner: ClientOwner): Start | undefined =>
  recordsOfOwner(surveyed, owner).find(mayReclaimLater)?.in

function syncInstance({ state }: World, start: Start | undefined): void {
  const directory = start === undefined ? undefined : directoryOf(state, start)
  if (directory !== undefined) files.sync(directory)
}

const question = (owners: readonly ClientOwner[], when: string): string =>
  [
    `These clients may reclaim ${when}:`,
    ...owners.map((owner) => `  ${quoteOwner(owner)}`),
    'This is correct only if no other client has had their locks since, and none gets them before. Otherwise a',
    'client reclaims a lock that another one had meanwhile, and data can be corrupted. If in doubt, answer no: a',
    'client that may not reclaim learns that its locks are lost.',
    'Go on?',
  ].join('\n')

const whenOf = (instance: Instance): string =>
  instance.kind === 'partial' && instance.full !== undefined
    ? 'in this grace period, or after the next start if that comes before it is over'
    : 'after the next start'

/** @throws Failed: nothing can be allowed, and why. */
function assertCanAllow({ state, nfsd }: World, surveyed: Survey, owners: readonly ClientOwner[]): void {
  const refuse = (why: string): never => {
    throw storageFailure(`nothing changed: ${why}`)
  }
  const { instance, untracked } = surveyed
  if (instance.kind === 'none') refuse(`no server instance is recorded in ${quote(state.path)}; see import`)
  if (instance.kind === 'damaged')
    refuse(`${instance.file} can't be understood (${instance.why}), so nobody may reclaim until the next start`)
  if (untracked)
    refuse(
      oneLine`
        a server instance ran that could not be recorded, or only in part, so after the next start no client may reclaim
      `,
    )
  // A start may have read already what is noted of these clients, and then takes them out (lib/events/cut-short.ts).
  if (isStartCutShort(state)) refuse('a server is just starting; try again')
  if (lookAt(state).instance.kind !== 'partial') return
  if (instance.kind === 'full' || nfsd.grace() === 'over')
    refuse('grace is over in the kernel, but that is not recorded yet; try again after the next upcall')
  for (const owner of owners)
    if (['damaged', 'newer'].includes(newestEntryOf(surveyed, owner).kind))
      refuse(`a record of ${showOwner(owner)} can't be understood, and would decide; run verify --repair first`)
}

/**
 * Records one client as an upcall would: under the lock, then durably. Whether that is still possible is checked under
 * the lock, because the person may have taken a long time to answer.
 * @param when the time from which the client may reclaim, in the words that the person was shown
 */
function allow(world: World, where: Where, owner: ClientOwner, when: string): 'allowed' | 'there already' {
  const settlements = underLock(world.state, (): readonly Settlement[] | 'there already' => {
    const surveyed = survey(where, world.state)
    assertCanAllow(world, surveyed, [owner])
    if (whenOf(surveyed.instance) !== when)
      throw storageFailure(oneLine`
          ${showOwner(owner)} is not allowed: by now it could only reclaim ${whenOf(surveyed.instance)}; run the command
          again
        `)
    if (countsIn(surveyed, owner) !== undefined) return 'there already'
    const recorded = lookAt(world.state)
    return [graceEndOwed(world, recorded), record(world, recorded, owner)]
  })
  if (settlements === 'there already') return settlements
  for (const { sync } of settlements) for (const directory of sync) if (directory !== undefined) files.sync(directory)
  for (const { then } of settlements) then?.()
  return 'allowed'
}

function record(world: World, recorded: Recorded, owner: ClientOwner): Settlement {
  const { state } = world
  const { instance } = recorded
  if (instance.kind !== 'full' && instance.kind !== 'partial')
    throw storageFailure('the server instance is gone by now')
  if (instance.kind === 'full' || instance.full === undefined)
    return recordClient(world, recorded, {
      client: { owner, session: 'no session', principal: undefined },
      instance,
    })
  const { full } = instance
  const facts = { session: 'no session', recorded: Math.floor(world.calls.now() / 1000) } as const
  try {
    if (directoryOf(state, full) === undefined) restoreDirectory(state, full)
    put(state, { owner, facts }, full, [])
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT') throw wentMeanwhile(state, owner, full)
    throw thrown
  }
  return { sync: [directoryOf(state, full)] }
}

/** An upcall that could not get the lock goes on without it, and may have ended grace or started an instance. */
const wentMeanwhile = (state: StateDirectory, owner: ClientOwner, full: Start): Failed =>
  storageFailure(oneLine`
    ${showOwner(owner)} is not allowed: ${quote(pathOf(state, full))} was removed meanwhile, as at an end of grace; run
    the command again
  `)
