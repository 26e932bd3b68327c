/** `status`: the server instance, who may reclaim, who has, and what holds grace open. */
import fs from 'node:fs'
import { join } from 'node:path'
import { escaped } from '../../failure.ts'
import * as disk from '../../stable/disk.ts'
import { ranUntracked } from '../../stable/untracked.ts'
import { escapeOwner } from '../../upcall/owner.ts'
import { command } from '../command.ts'
import { print, printJson, textOfPath } from '../print.ts'
import { mayReclaim, survey, type Survey } from '../survey.ts'
import { isoTime, pairs, table, toned } from '../table.ts'
import { graceNow, type Grace } from './grace.ts'
import { askKernel, type Kernel, type Seconds } from './kernel.ts'
import type { LiveClient } from './live-clients.ts'
import { clientJson, instanceJson, liveJson, newestFirst, sayDuration, sayInstance, wordFor, type Word } from './view.ts'

export const statusCommand = command(
  'status',
  'the server instance, who may reclaim, who has, and what holds grace open',
  (cli) =>
    cli
      .option('json', { type: 'boolean', default: false, describe: 'a result for programs: every client' })
      .option('all', { type: 'boolean', default: false, describe: 'every client, not only the first of each kind' })
      .example('$0 status', 'why clients wait, and for how long')
      .example('watch $0 status', 'while they come back'),
  async ({ json, all }, { stateDirectory, nfsdDirectory }) => {
    const kernel = await askKernel(nfsdDirectory)
    const unsorted = survey(stateDirectory)
    const surveyed = { ...unsorted, clients: unsorted.clients.toSorted(newestFirst) }
    const status: Status = { surveyed, kernel, grace: graceNow(surveyed, kernel, Date.now(), graceEnded(surveyed)), untracked: ranUntracked(surveyed.state) }
    if (json) printJson(statusJson(status))
    else print(describe(status, all ? Number.POSITIVE_INFINITY : 10))
    return 0
  },
)

interface Status {
  readonly surveyed: Survey
  readonly kernel: Kernel
  readonly grace: Grace
  /** A server instance ran that could not be recorded. */
  readonly untracked: boolean
}

/** boot_time's last change: the rename that ended grace, unless somebody has touched the file since. */
const graceEnded = ({ state }: Survey): number | undefined => {
  const changed = disk.tolerating(['ENOENT', 'ENOTDIR'], () => fs.statSync(join(state.path, 'boot_time')).ctimeMs, undefined)
  return changed === undefined ? undefined : Math.floor(changed / 1000)
}

function statusJson({ surveyed, kernel, grace, untracked }: Status) {
  const { instance, clients, oddities } = surveyed
  const seconds = (value: Seconds): number | null => (typeof value === 'number' ? value : null)
  const recorded = recordedAs(surveyed)
  return {
    state_directory: textOfPath(surveyed.state.path),
    instance: instanceJson(surveyed),
    ran_untracked: untracked,
    since: {
      wall_clock: grace.since ?? null,
      seconds: grace.age === undefined ? null : Math.floor(grace.age.seconds),
      counted_by: grace.age?.by ?? null,
      clock_was_set: grace.clockWasSet,
      grace_ended: grace.ended ?? null,
    },
    grace: {
      kernel: kernel.grace,
      grace_seconds: seconds(kernel.graceSeconds),
      lease_seconds: seconds(kernel.leaseSeconds),
      seconds_left: grace.left === undefined ? null : Math.ceil(grace.left),
      held_by: grace.heldBy.map(({ because, client }) => ({ because, ...(client === undefined ? {} : { client: clientJson(client, instance) }) })),
    },
    counts: { ...counts(surveyed), damaged: oddities.filter(({ kind }) => kind === 'damaged').length },
    clients: clients.map((client) => clientJson(client, instance)),
    live: kernel.live === 'unknown' ? null : kernel.live.clients.map((live) => ({ ...liveJson(live), recorded: recorded(live) ?? null })),
    live_silent: kernel.live === 'unknown' ? null : kernel.live.silent,
  }
}

function counts({ clients, instance }: Survey): Readonly<Record<Word, number>> {
  const count: Record<Word, number> = { recorded: 0, reclaimed: 0, new: 0, waiting: 0, void: 0 }
  for (const client of clients) count[wordFor(client, instance)]++
  return count
}

/** How the kernel's clients are recorded, owners compared byte by byte. */
function recordedAs({ clients, instance }: Survey): (live: LiveClient) => Word | undefined {
  const words = new Map<string, Word>()
  const key = (owner: Uint8Array): string => Buffer.from(owner).toString('latin1')
  // What counts goes last, and stays.
  const [counting, rest] = [clients.filter(mayReclaim), clients.filter((client) => !mayReclaim(client))]
  for (const client of [...rest, ...counting]) words.set(key(client.owner), wordFor(client, instance))
  return ({ owner }) => words.get(key(owner))
}

function describe(status: Status, most: number): string {
  const { surveyed, kernel } = status
  return [
    pairs([
      ['state directory', escaped(surveyed.state.path)],
      ['server instance', sayInstance(surveyed.instance)],
      ['since', saySince(status)],
      ['grace', sayGrace(status)],
      ['clients', sayCounts(surveyed)],
    ]),
    status.untracked
      ? toned()('bad', '\nA server instance has been running that could not be recorded: after the next start nobody may reclaim.\n')
      : '',
    holders(status, most),
    live(kernel.live, surveyed, most),
  ].join('')
}

function saySince({ surveyed: { instance }, grace: { since, age, clockWasSet, ended } }: Status): string {
  if (since === undefined || !('start' in instance)) return 'nothing is recorded'
  const running = age === undefined ? '' : `, ${sayDuration(age.seconds)} ago by ${age.by === 'nfsd' ? "the age of nfsd's threads" : 'the wall clock'}`
  const set = clockWasSet ? '; the clocks disagree: one was set since, or nfsd has started anew and nobody told us' : ''
  const over = ended === undefined ? '' : `; grace ended ${isoTime(ended)}`
  return `${isoTime(since)}${running}${set}${over}`
}

function sayGrace({ surveyed: { instance }, kernel, grace: { left } }: Status): string {
  const length = typeof kernel.graceSeconds === 'number' ? ` of ${kernel.graceSeconds} s` : ''
  const busy = kernel.graceSeconds === 'busy' ? '; its length can not be read while nfsd starts or stops' : ''
  const inGrace = instance.kind === 'partial'
  switch (kernel.grace) {
    case 'unknown':
      return `the kernel does not say (no v4_end_grace)${inGrace ? '; not over, as far as it has told us' : ''}`
    case 'over':
      return inGrace ? toned()('bad', 'over in the kernel, and nobody has told us: the next upcall will end it here too') : 'over, in the kernel too'
    case 'running':
      if (!inGrace) return instance.kind === 'full' ? 'over, as far as we were told; the kernel says that it is running' : 'running in the kernel'
      if (left === undefined) return `running${busy}`
      return left > 0
        ? `running; about ${Math.ceil(left)} s${length} left, more if clients are still reclaiming then`
        : `running, though its time${length} was over ${Math.floor(-left)} s ago: the kernel extends it while clients reclaim`
  }
}

function sayCounts(surveyed: Survey): string {
  const count = counts(surveyed)
  const damaged = surveyed.oddities.filter(({ kind }) => kind === 'damaged').length
  const parts =
    surveyed.instance.kind === 'partial'
      ? [`${count.reclaimed + count.new + count.waiting} may reclaim: ${count.reclaimed} reclaimed, ${count.waiting} waiting, ${count.new} new`]
      : [`${count.recorded} may reclaim after the next start`]
  if (count.void > 0) parts.push(`${count.void} records that nothing looks at any more`)
  if (damaged > 0) parts.push(toned()('bad', `${damaged} that can't be understood`))
  return parts.join('; ')
}

const sayHolder = {
  waiting: 'has not reclaimed',
  'waiting-without-session': 'has not reclaimed; as an NFSv4.0 client it will never say that it is done',
  'without-session': 'is an NFSv4.0 client, and never says that it is done',
} as const

/** What grace waits for. */
function holders({ surveyed: { instance }, kernel, grace: { heldBy } }: Status, most: number): string {
  if (instance.kind !== 'partial' || kernel.grace === 'over') return ''
  const title = toned()('strong', '\nWhat holds grace open\n')
  if (heldBy.length === 0) return `${title}Nobody: it ends with the next NFSv4.1 client that is recorded, or when its time is over.\n`
  const lines = heldBy.map(({ because, client }) => {
    if (because === 'whole-time' || client === undefined)
      return "an NFSv4.0 client that is gone again, or clients of the kernel's own tracker: it runs for its whole time"
    const unseen = client.unseen > 1 ? `; not seen for ${client.unseen} instances` : ''
    return `${escapeOwner(client.owner)} ${sayHolder[because]}${unseen}`
  })
  return `${title}${capped(lines, most, 'list --waiting')}`
}

function live(kernel: Kernel['live'], surveyed: Survey, most: number): string {
  if (kernel === 'unknown') return ''
  const { clients, silent } = kernel
  const title = toned()('strong', "\nThe kernel's clients\n")
  const more = silent === 0 ? '' : `${silent} of which the kernel does not tell at the moment.\n`
  if (clients.length === 0) return `${title}${silent === 0 ? 'None at the moment.\n' : more}`
  const recorded = recordedAs(surveyed)
  const rows = clients.map((client) => [
    recorded(client) ?? 'no',
    client.status ?? '?',
    client.secondsSinceRenewal === undefined ? '?' : `${client.secondsSinceRenewal} s`,
    client.minorVersion === undefined ? '?' : `4.${client.minorVersion}`,
    client.address ?? '?',
    escapeOwner(client.owner),
  ])
  const [header = '', ...lines] = table(['RECORDED', 'STATUS', 'RENEWED', 'NFS', 'ADDRESS', 'CLIENT'], rows).trimEnd().split('\n')
  return `${title}${header}\n${capped(lines, most, 'status --all')}${more}`
}

const capped = (lines: readonly string[], most: number, whole: string): string =>
  [...lines.slice(0, most), ...(lines.length > most ? [`... and ${lines.length - most} more: ${whole}`] : [])].map((line) => `${line}\n`).join('')

