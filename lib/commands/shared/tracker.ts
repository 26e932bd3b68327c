/**
 * Which tracker the kernel's server uses at this moment: the helper, or the process that holds its pipe
 * (docs/kernels.md).
 *
 * The pipe exists as long as a server uses it. It is only looked at, never opened, because a process that opens it
 * takes messages. The nfsd threads show whether a server runs. Files of the nfsd file system can't be used for that:
 * reading them waits for a start, which may itself wait for an answer at the pipe.
 */
import fs from 'node:fs'
import { errorCode } from '../../failure.ts'
import { helperParameter } from '../../kernel/nfsd-module.ts'
import { isMounted, pipeIn } from '../../settings/pipefs.ts'
import { holderName, lifeOf } from '../../store/process.ts'
import { serveFiles } from '../../store/run-directory.ts'
import * as files from '../../syscalls/files.ts'
import { escaped, oneLine } from '../../text.ts'
import { bytesFromHex } from '../../upcall/hex.ts'
import { longestOwner } from '../../upcall/owner.ts'
import type { Context } from './context.ts'
import { kernelLines, saidOfTracker } from './kernel-log.ts'
import type { Kernel } from './kernel.ts'
import { namesIn } from './listing.ts'
import { nodePath } from './print.ts'
import { commandOf, processes } from './processes.ts'

export interface PipeHolder {
  readonly process: number
  /** The name that the process gives itself. */
  readonly name: string
}

/** What a running `serve` reports (lib/serve/status-file.ts). */
export interface Serving {
  readonly process: number
  /** 1 and 2: the kernel uses a list. 0: it asks for each client. Undefined: it has not asked yet. */
  readonly protocol: number | undefined
  /** In seconds of the wall clock. */
  readonly graceStarted: number | undefined
  readonly graceOver: number | undefined
  /** How many clients were named to the kernel. */
  readonly named: number | undefined
  /** The owners, as hex, whose records could not be written: `serve` keeps trying. */
  readonly notRecorded: readonly string[]
}

export interface Tracker {
  /**
   * pipe: the process that holds the pipe answers. helper: the kernel calls the program in cltrack_prog. own: the
   * kernel itself tracks, in v4recovery. none: a server runs without a tracker. no-server: no server runs. unknown:
   * there is no evidence.
   */
  readonly kind: 'pipe' | 'helper' | 'own' | 'none' | 'no-server' | 'unknown'
  /** Whether this kernel can call a helper. */
  readonly offersHelper: boolean
  readonly pipefs: { readonly path: string; readonly mounted: boolean }
  readonly pipe: string | undefined
  readonly holders: readonly PipeHolder[]
  readonly serving: Serving | undefined
}

export function trackerOf(context: Context, kernel: Pick<Kernel, 'runningSeconds'>): Tracker {
  const path = context.pipefs()
  const offersHelper = fs.existsSync(helperParameter)
  const mounted = isMounted(context.calls, path)
  const pipe = pipeIn(path)
  const found = fs.lstatSync(Buffer.from(pipe, 'latin1'), { throwIfNoEntry: false })
  return {
    kind: kindOf({ hasPipe: found !== undefined, mounted, offersHelper, running: kernel.runningSeconds !== undefined }),
    offersHelper,
    pipefs: { path, mounted },
    pipe: found === undefined ? undefined : pipe,
    holders: found === undefined ? [] : holdersOf(found),
    serving: servingAt(context),
  }
}

interface Signs {
  readonly hasPipe: boolean
  readonly mounted: boolean
  readonly offersHelper: boolean
  readonly running: boolean
}

function kindOf({ hasPipe, mounted, offersHelper, running }: Signs): Tracker['kind'] {
  if (hasPipe) return 'pipe'
  if (!running) return 'no-server'
  const log = kernelLines()
  const said = log === 'unreadable' ? undefined : saidOfTracker(log)
  if (said?.includes('Using UMH') === true) return offersHelper ? 'helper' : 'unknown'
  if (said?.includes('Using legacy') === true) return 'own'
  if (said?.includes('Unable') === true) return 'none'
  return mounted && !offersHelper ? 'none' : 'unknown'
}

/** Every process that holds the pipe, as far as this user may see. One that ends meanwhile is left out. */
function holdersOf(pipe: fs.Stats): PipeHolder[] {
  const holders: PipeHolder[] = []
  for (const id of processes()) {
    const holds = seen(() => namesIn(`/proc/${id}/fd`), []).some((name) =>
      seen(() => {
        const at = `/proc/${id}/fd/${name}`
        // Only files of that name are examined: another may be on a server that does not answer.
        if (!fs.readlinkSync(at).includes('/nfsd/cld')) return false
        const { ino, dev } = fs.statSync(at)
        return ino === pipe.ino && dev === pipe.dev
      }, false),
    )
    if (holds) holders.push({ process: Number(id), name: commandOf(id) })
  }
  return holders
}

function seen<T>(look: () => T, otherwise: T): T {
  try {
    return look()
  } catch (thrown) {
    if (errorCode(thrown) === undefined) throw thrown
    return otherwise
  }
}

/** A status file is never longer, unless the storage has failed for a long time. */
const longest = 1 << 24

function servingAt({ calls, stateDirectory, runDirectory }: Context): Serving | undefined {
  const anywhere = files.anywhere(calls)
  if (files.whyNotOursAt(runDirectory, anywhere) !== undefined) return undefined
  const path = nodePath(serveFiles(runDirectory, stateDirectory, anywhere).status)
  const text = seen(() => (fs.lstatSync(path).size > longest ? '' : fs.readFileSync(path, 'latin1')), '')
  let told: unknown
  try {
    told = JSON.parse(text)
  } catch {
    return undefined
  }
  const status = objectOf(told)
  const { id, holder } = objectOf(status['process'])
  if (typeof id !== 'number' || typeof holder !== 'string') return undefined
  // `serve` removes this file when it ends, unless it is killed.
  if (lifeOf(holder, holderName(anywhere), anywhere) === 'dead') return undefined
  const number = (name: string): number | undefined => {
    const value = status[name]
    return typeof value === 'number' && Number.isSafeInteger(value) ? value : undefined
  }
  const owners = status['not_recorded']
  return {
    process: id,
    protocol: number('protocol'),
    graceStarted: number('grace_started'),
    graceOver: number('grace_over'),
    named: number('named'),
    notRecorded: Array.isArray(owners) ? owners.filter(isOwner) : [],
  }
}

const objectOf = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {}

const isOwner = (hex: unknown): hex is string =>
  typeof hex === 'string' && (bytesFromHex(hex)?.length ?? Infinity) <= longestOwner

/** The processes that answer at the pipe and are not our own `serve`. */
export const strangersAt = ({ holders, serving }: Tracker): readonly PipeHolder[] =>
  holders.filter(({ process }) => process !== serving?.process)

/**
 * Without a RECLAIM_COMPLETE, the kernel does not report at the pipe that a client of NFSv4.0 has reclaimed
 * (docs/protocol.md).
 */
export const forgetsVersion40 = ({ kind, serving }: Tracker): boolean => kind === 'pipe' && serving?.protocol !== 0

export const sayHolders = (holders: readonly PipeHolder[]): string =>
  holders.map(({ process, name }) => `${escaped(name)} (process ${process})`).join(', ')

/** Describes the tracker in one line. */
export function sayTracker(tracker: Tracker): string {
  const { kind, holders, serving, pipefs } = tracker
  switch (kind) {
    case 'pipe': {
      if (holders.length === 0)
        return `the pipe ${tracker.pipe ?? ''}, but no visible process holds it: the server waits for an answer`
      const strangers = strangersAt(tracker)
      if (strangers.length > 0)
        return oneLine`
          the pipe, held by ${sayHolders(holders)}:
          ${strangers.length < holders.length ? 'they split its messages' : 'it does not use these records'}
        `
      const protocol = serving?.protocol === undefined ? '' : `, protocol ${serving.protocol}`
      return `the pipe, answered by serve (process ${serving?.process ?? '?'})${protocol}`
    }
    case 'helper':
      return 'the helper: the kernel calls it'
    case 'own':
      return "the kernel's own (v4recovery): the kernel does not ask this program"
    case 'none':
      return 'none: the server runs, but no client may reclaim after its next start'
    case 'no-server':
      return serving === undefined
        ? 'no server runs'
        : `no server runs; serve (process ${serving.process}) waits for one`
    case 'unknown':
      return pipefs.mounted || tracker.offersHelper
        ? "probably the helper: there is no pipe, and the kernel's log does not say"
        : `not known: no rpc_pipefs is mounted at ${pipefs.path}`
    default:
      return kind satisfies never
  }
}

/** The tracker as JSON, in a form that stays (docs/json.md). */
export const trackerJson = ({ kind, pipe, holders, serving }: Tracker) => ({
  kind,
  pipe: pipe ?? null,
  holders: holders.map(({ process, name }) => ({ process, name })),
  serve:
    serving === undefined
      ? null
      : {
          process: serving.process,
          protocol: serving.protocol ?? null,
          grace_started: serving.graceStarted ?? null,
          grace_over: serving.graceOver ?? null,
          named: serving.named ?? null,
          not_recorded: serving.notRecorded,
        },
})
