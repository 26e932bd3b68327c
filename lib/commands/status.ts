/** `status`: shows the server instance, which clients have reclaimed, and what keeps grace open. */
import fs from 'node:fs'
import type { Instance } from '../rules/instance.ts'
import { markOf } from '../store/layout.ts'
import * as files from '../syscalls/files.ts'
import { counted, escaped, oneLine } from '../text.ts'
import { longList } from '../upcall/message.ts'
import { quoteOwner } from '../upcall/owner.ts'
import { command, jsonOption } from './shared/command.ts'
import { graceNow, holdersAmong, type Grace, type GraceHolder } from './shared/grace.ts'
import { kept } from './shared/kept.ts'
import { askKernel, type Kernel, type Seconds } from './shared/kernel.ts'
import { legacyClients } from './shared/legacy.ts'
import type { LiveClient } from './shared/live-clients.ts'
import { print, printJson, textOfPath } from './shared/print.ts'
import { mayReclaim, recordsOfOwner, walk, type Walk } from './shared/recorded-clients.ts'
import type { Survey } from './shared/survey.ts'
import { isoTime, pairs, table, toned } from './shared/table.ts'
import { forgetsVersion40, sayTracker, trackerJson, trackerOf, type Tracker } from './shared/tracker.ts'
import {
  cutShortJson,
  sayCutShort,
  clientJson,
  each,
  instanceJson,
  liveJson,
  sayDuration,
  sayInstance,
  untracked,
  wordFor,
  type Told,
  type Word,
} from './shared/view.ts'

export const statusCommand = command(
  'status',
  'show the server instance, which clients have reclaimed, and what keeps grace open',
  (cli) =>
    cli
      .option('json', { ...jsonOption, describe: 'print JSON, for programs: every client' })
      .option('all', { type: 'boolean', default: false, describe: 'every client, not only the first of each kind' })
      .example('$0 status', 'why clients wait, and how long still')
      .example('watch $0 status', 'while clients come back'),
  async ({ json, all }, settings) => {
    const kernel = await askKernel(settings)
    const walked = walk(settings)
    const { surveyed } = walked
    const status: Status = {
      walked,
      surveyed,
      tracker: trackerOf(settings, kernel),
      legacy: legacyClients(surveyed),
      kernel,
      grace: graceNow(surveyed, kernel, Date.now(), graceEnded(surveyed)),
    }
    if (json) printJson(statusJson(status))
    else describe(status, { all })
    return 0
  },
)

interface Status {
  readonly walked: Walk
  readonly surveyed: Survey
  readonly tracker: Tracker
  /** The MD5 names of clients that may reclaim only because the kernel's own tracker has recorded them. */
  readonly legacy: readonly string[]
  readonly kernel: Kernel
  readonly grace: Grace
}

/** When the mark was made that an instance is full, or, in a directory of format 1, when boot_time was written. */
function graceEnded({ state, instance, format }: Survey): number | undefined {
  if (instance.kind !== 'full') return undefined
  const path = format === 1 ? `${state.path}/boot_time` : `${state.clientsPath}/${markOf(instance.start, 'full')}`
  const changed = files.tolerating(
    ['ENOENT', 'ENOTDIR'],
    () => fs.lstatSync(Buffer.from(path, 'latin1')).ctimeMs,
    undefined,
  )
  return changed === undefined ? undefined : Math.floor(changed / 1000)
}

function statusJson({ walked, surveyed, tracker, legacy, kernel, grace }: Status) {
  const { instance } = surveyed
  const seconds = (value: Seconds): number | null => (typeof value === 'number' ? value : null)
  const count = noCounts()
  // In grace both lists go through the clients. Reading each record twice took twice the time.
  const clients: Iterable<Told> = grace.runs ? kept(walked.clients) : walked.clients
  return {
    state_directory: textOfPath(surveyed.state.path),
    instance: instanceJson(surveyed),
    ran_untracked: surveyed.untracked,
    cut_short: surveyed.cutShort.map(cutShortJson),
    tracker: trackerJson(tracker),
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
      held_by: grace.runs
        ? each(holdersAmong(clients, surveyed), ({ because, client }) => ({
            because,
            ...(client === undefined ? {} : { client: clientJson(client, instance) }),
          }))
        : [],
    },
    clients: each(clients, (client) => {
      count[wordFor(client, instance)]++
      return clientJson(client, instance)
    }),
    counts: () => ({ ...count, legacy: legacy.length, damaged: walked.damaged() }),
    live:
      kernel.live === 'unknown'
        ? null
        : each(kernel.live.clients, (live) => ({ ...liveJson(live), recorded: recordedAs(surveyed, live) ?? null })),
    live_silent: kernel.live === 'unknown' ? null : kernel.live.silent,
  }
}

const noCounts = (): Record<Word, number> => ({ recorded: 0, reclaimed: 0, new: 0, waiting: 0, void: 0 })

/**
 * How one of the kernel's clients is recorded. Owners are compared byte by byte, and a record that counts goes first.
 */
function recordedAs(surveyed: Survey, { owner }: LiveClient): Word | undefined {
  const records = recordsOfOwner(surveyed, owner)
  const record = records.find(mayReclaim) ?? records[0]
  return record === undefined ? undefined : wordFor(record, surveyed.instance)
}

/** This many of each kind are shown, unless all are wanted. */
const most = 10

function describe(status: Status, { all }: { readonly all: boolean }): void {
  const { walked, surveyed, kernel } = status
  const { instance } = surveyed
  const count = noCounts()
  const counted = each(walked.clients, (client) => {
    count[wordFor(client, instance)]++
    return client
  })
  // Clients that have not reclaimed come before those that never report, whatever the order of the records.
  const waiting: string[] = []
  const silent: string[] = []
  let holders = 0
  for (const holder of holdersAmong(counted, surveyed)) {
    holders++
    const lines = holder.because.startsWith('waiting') ? waiting : silent
    if (lines.length < most) lines.push(sayHolder(holder))
  }
  print(
    pairs([
      ['state directory', escaped(surveyed.state.path)],
      ['server instance', sayInstance(instance)],
      ['since', saySince(status)],
      ['grace', sayGrace(status)],
      ['tracker', sayTracker(status.tracker)],
      ...sayServing(status.tracker, count),
      ['clients', sayCounts(instance, count, walked.damaged(), status.legacy.length)],
    ]),
  )
  if (surveyed.untracked) print(`\n${toned()('bad', `${untracked[0]?.toUpperCase() ?? ''}${untracked.slice(1)}.`)}\n`)
  if (surveyed.cutShort.length > 0) print(`\n${toned()('bad', sayCutShort(surveyed.cutShort))}\n`)
  if (status.grace.runs) {
    print(toned()('strong', '\nWhat keeps grace open\n'))
    const lines = [...waiting, ...silent].slice(0, most)
    if (holders === 0)
      print('No client. Grace ends when the next NFSv4.1 client is recorded, or when its time is over.\n')
    else if (all) for (const holder of holdersAmong(walked.clients, surveyed)) print(`${sayHolder(holder)}\n`)
    else print(capped(lines, holders - lines.length, 'list --waiting'))
  }
  print(sayForgotten(status, { all }))
  print(live(kernel.live, surveyed, all ? Number.POSITIVE_INFINITY : most))
}

/** What `serve` has done at the pipe since the server's last start. */
function sayServing({ kind, serving }: Tracker, count: Readonly<Record<Word, number>>): [string, string][] {
  if (serving === undefined || kind !== 'pipe' || serving.graceStarted === undefined) return []
  const { graceStarted, graceOver, named, protocol } = serving
  const told =
    protocol === 0 ? 'the kernel asks for each client' : `the kernel was told ${counted(named ?? 0, 'client')}`
  const back =
    graceOver === undefined ? `, of which ${count.waiting} have not come back` : `; grace over ${isoTime(graceOver)}`
  const lines: [string, string][] = [
    ['its start', `${isoTime(graceStarted)}; ${told}${protocol === 0 && graceOver === undefined ? '' : back}`],
  ]
  if ((named ?? 0) > longList)
    lines.push([
      '',
      toned()('doubtful', `a list of more than ${longList} names can take newer kernels minutes to read`),
    ])
  if (serving.notRecorded.length > 0)
    lines.push([
      'not recorded',
      toned()(
        'bad',
        `${counted(serving.notRecorded.length, 'client')} whose record can't be written: serve keeps trying`,
      ),
    ])
  return lines
}

/** Names the NFSv4.0 clients that the pipe will forget. */
function sayForgotten({ tracker, kernel }: Status, { all }: { readonly all: boolean }): string {
  if (!forgetsVersion40(tracker) || kernel.live === 'unknown') return ''
  const old = kernel.live.clients.filter(({ minorVersion }) => minorVersion === 0)
  if (old.length === 0) return ''
  const lines = old.slice(0, all ? old.length : most).map(({ owner }) => quoteOwner(owner))
  return [
    toned()('strong', '\nLose their locks at the second restart from now\n'),
    'NFSv4.0 clients that reclaim: through the pipe the kernel does not report it. Mount with NFSv4.1 or later.\n',
    capped(lines, old.length - lines.length, 'status --all'),
  ].join('')
}

function saySince({ surveyed: { instance }, grace: { since, age, clockWasSet, ended } }: Status): string {
  if (since === undefined || !('start' in instance)) return 'nothing is recorded'
  const running =
    age === undefined
      ? ''
      : `, ${sayDuration(age.seconds)} ago by ${age.by === 'nfsd' ? "the age of nfsd's threads" : 'the wall clock'}`
  const set = clockWasSet ? '; the clocks disagree: one was set since, or nfsd was restarted without an upcall' : ''
  const over = ended === undefined ? '' : `; grace ended ${isoTime(ended)}`
  return `${isoTime(since)}${running}${set}${over}`
}

function sayGrace({ surveyed: { instance }, kernel, grace: { left } }: Status): string {
  const length = typeof kernel.graceSeconds === 'number' ? ` of ${kernel.graceSeconds} s` : ''
  const busy = kernel.graceSeconds === 'busy' ? '; its length can not be read while nfsd starts or stops' : ''
  const inGrace = instance.kind === 'partial'
  switch (kernel.grace) {
    case 'unknown':
      return `the kernel does not show it (no v4_end_grace)${inGrace ? '; no upcall has ended it' : ''}`
    case 'over':
      return inGrace
        ? toned()('bad', 'over in the kernel, but no upcall has said so: the next upcall ends it here too')
        : 'over, in the kernel too'
    case 'running':
      if (!inGrace)
        return instance.kind === 'full' ? 'over by the last upcall, but running in the kernel' : 'running in the kernel'
      if (left === undefined) return `running${busy}`
      return left > 0
        ? `running; about ${Math.ceil(left)} s${length} left, longer if clients are still reclaiming then`
        : oneLine`
          running, though its time${length} was over ${Math.floor(-left)} s ago: the kernel extends it while clients
          reclaim
        `
  }
}

function sayCounts(instance: Instance, count: Readonly<Record<Word, number>>, damaged: number, legacy: number): string {
  const parts =
    instance.kind === 'partial'
      ? [
          oneLine`
            ${count.reclaimed + count.new + count.waiting} may reclaim: ${count.reclaimed} reclaimed, ${count.waiting}
            waiting, ${count.new} new
          `,
        ]
      : // Clients that were imported before the first start wait for it.
        [`${count.recorded + count.waiting} may reclaim after the next start`]
  if (legacy > 0) parts.push(`${counted(legacy, 'client')} more recorded by the kernel's own tracker (list)`)
  if (count.void > 0) parts.push(`${counted(count.void, 'record')} without effect`)
  if (damaged > 0) parts.push(toned()('bad', `${damaged} that can't be understood (verify)`))
  return parts.join('; ')
}

const whyHeld = {
  waiting: 'has not reclaimed',
  'waiting-without-session': 'has not reclaimed; as an NFSv4.0 client it never reports that it is done',
  'without-session': 'is an NFSv4.0 client, which never reports that it is done',
} as const

/** What grace waits for. */
function sayHolder({ because, client }: GraceHolder): string {
  if (because === 'whole-time' || client === undefined)
    return "an NFSv4.0 client that has left again, or clients of the kernel's own tracker: grace lasts its full time"
  const unseen = client.unseen > 1 ? `; not seen for ${client.unseen} instances` : ''
  return `${quoteOwner(client.owner)} ${whyHeld[because]}${unseen}`
}

function live(kernel: Kernel['live'], surveyed: Survey, most: number): string {
  if (kernel === 'unknown') return ''
  const { clients, silent } = kernel
  const title = toned()('strong', "\nThe kernel's clients\n")
  const more = silent === 0 ? '' : `${silent} more that the kernel does not describe at the moment.\n`
  if (clients.length === 0) return `${title}${silent === 0 ? 'None at the moment.\n' : more}`
  const rows = clients.map((client) => [
    recordedAs(surveyed, client) ?? 'no',
    client.status ?? '?',
    client.secondsSinceRenewal === undefined ? '?' : `${client.secondsSinceRenewal} s`,
    client.minorVersion === undefined ? '?' : `4.${client.minorVersion}`,
    client.address ?? '?',
    quoteOwner(client.owner),
  ])
  const [header = '', ...lines] = table(['RECORDED', 'STATUS', 'RENEWED', 'NFS', 'ADDRESS', 'CLIENT'], rows)
    .trimEnd()
    .split('\n')
  return `${title}${header}\n${capped(lines.slice(0, most), Math.max(0, lines.length - most), 'status --all')}${more}`
}

const capped = (lines: readonly string[], more: number, whole: string): string =>
  [...lines, ...(more > 0 ? [`... and ${more} more: ${whole}`] : [])].map((line) => `${line}\n`).join('')
