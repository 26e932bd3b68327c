/**
 * `doctor --expect-recovery`: before a planned restart, finds out whether each client of the server will be able to
 * reclaim. It is for scripts: they use the status, and there is a line for each client that will not.
 */
import { join } from 'node:path'
import * as files from '../../syscalls/files.ts'
import { counted, oneLine } from '../../text.ts'
import { escapeOwner, quoteOwner, type ClientOwner } from '../../upcall/owner.ts'
import type { Context } from '../shared/context.ts'
import { readEachInTime } from '../shared/in-time.ts'
import { askKernel, type Kernel } from '../shared/kernel.ts'
import { legacyRecordsOf } from '../shared/legacy.ts'
import type { LiveClient } from '../shared/live-clients.ts'
import { print, printJson } from '../shared/print.ts'
import { newestEntryOf } from '../shared/recorded-clients.ts'
import { survey, type Survey } from '../shared/survey.ts'
import { forgetsVersion40, sayTracker, strangersAt, trackerOf, type Tracker } from '../shared/tracker.ts'
import { ownerJson, untracked } from '../shared/view.ts'

interface Lost {
  readonly owner: ClientOwner
  readonly because: string
}

interface Expected {
  /** Why no client could reclaim, or why it can't be found out. */
  readonly nobody: string | undefined
  readonly will: number
  readonly willNot: readonly Lost[]
  /** Clients that may reclaim after the next restart, but not after the one that follows. */
  readonly onlyOnce: readonly ClientOwner[]
}

export async function expectRecovery(here: Context): Promise<Expected> {
  const kernel = await askKernel(here)
  const tracker = trackerOf(here, kernel)
  const surveyed = survey(here)
  const live = kernel.live === 'unknown' ? [] : kernel.live.clients
  // A client that has not confirmed itself holds nothing.
  const present = live.filter(({ status }) => status !== 'unconfirmed')
  const willNot: Lost[] = []
  const unrecorded: LiveClient[] = []
  for (const client of present) {
    const because = lostBecause(client, surveyed, tracker)
    if (because === 'not recorded') unrecorded.push(client)
    else if (because !== undefined) willNot.push({ owner: client.owner, because })
  }
  const holding = await thoseWithState(here, unrecorded)
  for (const { owner, minorVersion } of holding)
    willNot.push({
      owner,
      because:
        minorVersion === 0 && forgetsVersion40(tracker)
          ? 'it is not recorded: it uses NFSv4.0, and through the pipe the kernel does not report that it has reclaimed'
          : 'it is not recorded',
    })
  const lost = new Set(willNot.map(({ owner }) => escapeOwner(owner)))
  return {
    nobody: files.whyNotOursAt(here.runDirectory, files.anywhere(here.calls)) ?? whyNobody(kernel, surveyed, tracker),
    will: present.filter(({ owner }) => !lost.has(escapeOwner(owner))).length,
    willNot,
    onlyOnce: forgetsVersion40(tracker)
      ? present
          .filter(({ owner, minorVersion }) => minorVersion === 0 && !lost.has(escapeOwner(owner)))
          .map(({ owner }) => owner)
      : [],
  }
}

function whyNobody(kernel: Kernel, { untracked: ran, instance }: Survey, tracker: Tracker): string | undefined {
  if (ran) return untracked
  if (instance.kind === 'damaged') return `the state directory is damaged (${instance.file}): no client may reclaim`
  if (tracker.kind === 'no-server') return 'no server runs, so there are no clients to check'
  if (tracker.kind === 'none' || tracker.kind === 'own') return `the tracker is ${sayTracker(tracker)}`
  if (tracker.kind === 'pipe' && tracker.holders.length === 0)
    return 'no process holds the pipe: what the kernel sends has no answer after 30 s, and is not recorded'
  if (tracker.kind === 'pipe' && (tracker.serving === undefined || strangersAt(tracker).length > 0))
    return `the tracker is ${sayTracker(tracker)}`
  if (instance.kind === 'none') return 'no server instance is recorded'
  if (kernel.live === 'unknown') return 'the kernel does not list its clients (there is no clients directory)'
  if (kernel.live.silent > 0) return `the kernel did not describe ${counted(kernel.live.silent, 'client')} in time`
  return undefined
}

function lostBecause({ owner }: LiveClient, surveyed: Survey, { serving }: Tracker): string | undefined {
  if (surveyed.untracked) return 'no client may'
  const hex = Buffer.from(owner).toString('hex')
  if (serving?.notRecorded.includes(hex) === true) return 'its record could not be written'
  switch (newestEntryOf(surveyed, owner).kind) {
    case 'record':
      return undefined
    case 'damaged':
      return "its record can't be understood"
    case 'newer':
      return 'a newer program wrote its record'
    case 'nothing':
      return legacyRecordsOf(surveyed, owner).length > 0 ? undefined : 'not recorded'
  }
}

/**
 * The clients that have opens or locks, as far as the kernel tells. The others have nothing to reclaim, and need no
 * record.
 */
async function thoseWithState({ nfsdDirectory }: Context, clients: readonly LiveClient[]): Promise<LiveClient[]> {
  const states = await readEachInTime(
    clients.map(({ number }) => join(nfsdDirectory, 'clients', String(number), 'states')),
  )
  return clients.filter((_, at) => {
    const state = states[at]
    return typeof state !== 'object' || state.text.trim() !== ''
  })
}

/** @returns the status: 0, if every client will be able to reclaim */
export function tellExpected(
  { nobody, will, willNot, onlyOnce }: Expected,
  { json }: { readonly json: boolean },
): number {
  const all = nobody === undefined && willNot.length === 0
  if (json)
    printJson({
      recovery: all,
      nobody: nobody ?? null,
      will,
      will_not: willNot.map(({ owner, because }) => ({ ...ownerJson(owner), because })),
      only_once: onlyOnce.map(ownerJson),
    })
  else {
    const lines = [
      ...(nobody === undefined ? [] : [`No client can be expected to reclaim: ${nobody}.`]),
      ...willNot.map(({ owner, because }) => `${quoteOwner(owner)} will not reclaim: ${because}`),
      ...onlyOnce.map(
        (owner) =>
          oneLine`
            ${quoteOwner(owner)} will reclaim after the next restart, but not after the one that follows: it uses
            NFSv4.0
          `,
      ),
      ...(nobody === undefined
        ? [`${counted(will, 'client')} will be able to reclaim after a restart, ${willNot.length} will not.`]
        : []),
    ]
    print(`${lines.join('\n')}\n`)
  }
  return all ? 0 : 1
}
