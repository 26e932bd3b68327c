/**
 * The part of a life in which the kernel asks at the pipe: an acted kernel's end, and `serve`, which comes and goes.
 * What is due is the oracle's to say, by the pipe's contract (docs/pipe.md):
 *
 * * the list at GraceStart is exactly who may reclaim, each once, but for names that mean something else to the kernel;
 * * a client of NFSv4.0 that only reclaims says nothing, so there is no act for it, and it is forgotten when grace
 *   ends;
 * * a Create says nothing of sessions; a principal that was told stays until another is told, or the client is gone;
 * * a list that is empty has the kernel say at once that grace is over;
 * * version 0 asks by Check, which is the client's record.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { helperParameter } from '../../lib/kernel/nfsd-module.ts'
import type { Machine } from '../support/artefacts.ts'
import { runServe, type Serve } from '../support/pipe/daemons.ts'
import {
  entryOf,
  getVersion,
  message,
  statusOf,
  versionOf,
  type Body,
  type Command,
  type Entry,
} from '../support/pipe/messages.ts'
import { answerOf } from '../support/pipe/nfsd.ts'
import type { PipeEnd, Waiter } from '../support/pipe/pipe-end.ts'
import { until } from '../support/until.ts'
import type { Act } from './life.ts'
import { judge, mayNotReclaim, namedAtStart, type Event, type Owner, type Verdict } from './oracle.ts'
import { readable } from './owners.ts'
import {
  broken,
  downcall,
  endGraceReads,
  hasSession,
  legacyOf,
  serverStarts,
  upcall,
  whom,
  type OtherFront,
  type World,
} from './play.ts'

const principals = ['nfs/ada@EXAMPLE', 'nfs/bob@EXAMPLE'].map((name) => createHash('sha256').update(name).digest())

/** What `serve` says of a server whose start it does not know to be recorded (lib/serve/instance.ts). */
const unknownStart = "the NFS server's start is not recorded: unless"

/** Longer than any answer takes on a busy machine. */
const patienceMs = 120_000

interface Running {
  readonly serve: Serve
  readonly maxVersion: 1 | 2
}

/** @param end the kernel's end, which nobody else uses meanwhile. */
export function atThePipe(end: PipeEnd, machine: Machine): OtherFront {
  /** The version of the instance that asks at the pipe; undefined, while none does. */
  let version: 0 | 1 | 2 | undefined
  /** Nothing has been asked at the pipe of version 0. */
  let isYetToBegin = false
  /** How often `serve` had noted that a server's start is not recorded, before that pipe. */
  let notedBefore = 0
  let running: Running | undefined
  let said = ''
  const violations = end.violations.length
  const threads = join(machine.nfsdDir, 'threads')
  const pipe = join(end.path, 'nfsd/cld')

  const runs = async (world: World, maxVersion = running?.maxVersion ?? 2): Promise<void> => {
    if (running !== undefined) return
    const serve = runServe(machine, end.path, ['--max-version', String(maxVersion)])
    running = { serve, maxVersion }
    if (!(await serve.ready)) broken(world, `serve ended: ${serve.said()}`)
  }
  const ends = async (how: 'SIGKILL' | 'SIGTERM'): Promise<number | NodeJS.Signals | undefined> => {
    if (running === undefined) return undefined
    const { serve } = running
    running = undefined
    const status = await (how === 'SIGKILL' ? serve.kill() : serve.stop())
    said += serve.said()
    return status
  }
  const notes = (): number => `${said}${running?.serve.said() ?? ''}`.split(unknownStart).length - 1
  const stops = async ({ memory, told }: World): Promise<void> => {
    const isUnknown = isYetToBegin && running !== undefined && !existsSync(helperParameter)
    version = undefined
    isYetToBegin = false
    if (existsSync(pipe)) end.remove()
    writeFileSync(threads, '0\n')
    if (!isUnknown) return
    await until('noted that nothing was asked', () => notes() > notedBefore)
    judge(memory, { event: 'failed start', bootTime: undefined })
    told.push('       it stops, and nothing was asked in version 0: serve can not know that its start is recorded')
  }
  const answer = async (world: World, thread: Waiter | undefined, what: string): Promise<Buffer> => {
    const late = pause(patienceMs, undefined, { ref: false }).then(() =>
      broken(world, `${what} has no answer: ${said}${running?.serve.said() ?? ''}`),
    )
    return Promise.race([answerOf(thread), late])
  }
  const ask = (command: Command, bodies: readonly Body[]): Waiter[] =>
    end.ask(...bodies.map((body) => message(version === 2 ? 2 : 1, command, body)))

  /** One message for each of these, all at one moment. @param meanwhile what happens while they are queued. */
  const together = async (
    world: World,
    events: readonly Event[],
    meanwhile: () => Promise<void> = () => Promise.resolve(),
  ): Promise<number> => {
    const before = endGraceReads(world)
    if (isYetToBegin) judge(world.memory, { event: 'start', bootTime: undefined })
    isYetToBegin = false
    const verdicts = events.map((event) => judge(world.memory, event, { graceOver: before === 'Y' }))
    const command = commandOf(events[0])
    const asked = ask(command, events.map(bodyOf))
    if (events.length > 1) world.told.push('       at the same moment:')
    await meanwhile()
    for (const [nth, event] of events.entries()) {
      const status = statusOf(await answer(world, asked[nth], command))
      tell(world, event, status)
      hold(world, verdicts[nth], status)
    }
    downcall(world, before, new Map(verdicts.slice(-1).map((verdict) => [world.memory, verdict])))
    return events.length
  }

  const starts = async (world: World, asked: 0 | 1 | 2, killed: number | undefined): Promise<number> => {
    const { memory, told } = world
    await stops(world)
    const maxVersion = asked === 1 ? 1 : 2
    if (running?.maxVersion !== maxVersion) await ends('SIGTERM')
    serverStarts(world)
    writeFileSync(threads, '8\n')
    end.make()
    await runs(world, maxVersion)
    const spoken = versionOf(await answer(world, end.ask(getVersion())[0], 'GetVersion'))
    if (spoken !== maxVersion) broken(world, `GetVersion was answered with ${spoken}`)
    version = spoken
    const [thread] = end.ask(message(version, 'graceStart'))
    if (killed !== undefined) {
      await pause(killed)
      await ends('SIGKILL')
      await runs(world, maxVersion)
    }
    const status = statusOf(await answer(world, thread, 'GraceStart'))
    judge(memory, { event: 'start', bootTime: undefined })
    const list = (thread?.entries ?? []).map(entryOf)
    told.push(
      `${String(status).padStart(5)}  GraceStart in version ${spoken}${killed === undefined ? '' : `, serve killed after ${killed} ms`}: ${list.map(({ owner }) => readable(owner.toString('hex'))).join(', ') || 'nobody'}`,
    )
    if (status !== 0) broken(world, 'a server may always start')
    heldAgainst(world, list, { tellsPrincipals: spoken === 2, mayBeTwice: killed !== undefined })
    if (asked === 0) {
      // As if the answer had been lost: an instance has begun, and begins once more with what is asked first.
      notedBefore = notes()
      end.remove()
      end.make()
      await end.until(({ readers }) => readers > 0)
      version = 0
      isYetToBegin = true
      told.push('       the kernel goes on in version 0')
    } else if (list.length === 0) await gracedone(world)
    return 2
  }

  const gracedone = async (world: World): Promise<number> => {
    const file = join(machine.nfsdDir, 'v4_end_grace')
    if (world.life.files.endGrace) writeFileSync(file, 'Y\n')
    return together(world, [{ event: 'grace done', bootTime: undefined }])
  }

  const perform: OtherFront['perform'] = async (world, act) => {
    const { memory, life, told } = world
    switch (act.act) {
      case 'start':
        await stops(world)
        return undefined
      case 'failed start':
        if (act.how === 'no place' && running !== undefined) return failedStart(world)
        await stops(world)
        return undefined
      case 'import':
        // While no server runs.
        await stops(world)
        return undefined
      case 'start at the pipe':
        return starts(world, act.version, act.killed)
      case 'start without serve': {
        await stops(world)
        await ends('SIGTERM')
        serverStarts(world)
        writeFileSync(threads, '8\n')
        end.make()
        end.remove()
        // A kernel without this file can't tell a helper's instance: nothing but a pipe is known of it.
        const isNoticed = act.noticed && !existsSync(helperParameter)
        told.push(`       the server starts, and nobody holds the pipe${isNoticed ? '; serve comes, and sees it' : ''}`)
        if (isNoticed) {
          judge(memory, { event: 'failed start', bootTime: undefined })
          await runs(world)
        } else writeFileSync(threads, '0\n')
        return 0
      }
      case 'serve ends': {
        if (running === undefined && version === undefined) return 0
        const ended = async (): Promise<void> => {
          await pause(act.after)
          const maxVersion = running?.maxVersion
          const status = await ends(act.how)
          if (act.how === 'SIGTERM' && status !== undefined && status !== 0)
            broken(world, `serve ended with ${status}: ${said}`)
          await runs(world, maxVersion)
        }
        told.push(`       serve ends (${act.how}), and another one comes`)
        const { during } = act
        if (during === undefined || version === undefined || memory.untracked !== undefined) {
          await ended()
          return 0
        }
        // A message of version 1 that such an owner fills is answered with an error then (docs/pipe.md).
        const isShort = version < 2
        const fills = (owner: Owner): boolean => isShort && owner.length === 2 * 1024
        const events = life.owners
          .filter((owner) => !fills(owner))
          .map((owner): Event =>
            during === 'create' ? { event: 'create', owner, session: undefined } : { event: during, owner },
          )
        return together(world, events, ended)
      }
      default:
    }
    if (version === undefined || memory.untracked !== undefined) return undefined
    switch (act.act) {
      case 'create': {
        const principal = version === 2 && act.principal !== undefined ? principals[act.principal] : undefined
        return together(world, [
          { event: 'create', owner: whom(life, act.who), session: undefined, principal: principal?.toString('hex') },
        ])
      }
      case 'remove':
        return together(world, [{ event: 'remove', owner: whom(life, act.who) }])
      case 'check':
        // Otherwise the kernel knows by its list.
        return version === 0 ? together(world, [{ event: 'check', owner: whom(life, act.who), session: undefined }]) : 0
      case 'everyone': {
        const { verb } = act
        if (verb === 'check' && version !== 0) return 0
        return together(
          world,
          life.owners.map((owner): Event =>
            verb === 'remove' ? { event: verb, owner } : { event: verb, owner, session: undefined },
          ),
        )
      }
      case 'grace done':
        return memory.full ? 0 : gracedone(world)
      case 'beside': {
        const owner = whom(life, act.who)
        const env = act.verb === 'remove' ? {} : hasSession(act.session)
        const more = act.verb === 'check' ? legacyOf(world, owner) : {}
        await upcall(
          world,
          [act.verb, owner],
          { ...env, ...more },
          act.verb === 'remove' ? { event: act.verb, owner } : { event: act.verb, owner, session: act.session },
        )
        return 1
      }
      default:
        return undefined
    }
  }

  /** A start that finds no place to write to. The kernel has a tracker, which lets nobody reclaim. */
  const failedStart = async (world: World): Promise<number> => {
    const { memory, told } = world
    await stops(world)
    const maxVersion = running?.maxVersion ?? 2
    serverStarts(world)
    const [place, away] = [join(machine.stateDir, 'v4clients'), join(machine.stateDir, 'v4clients.away')]
    mkdirSync(machine.stateDir, { recursive: true })
    if (existsSync(place)) renameSync(place, away)
    writeFileSync(place, '')
    end.make()
    const spoken = versionOf(await answer(world, end.ask(getVersion())[0], 'GetVersion'))
    const [thread] = end.ask(message(spoken as 1 | 2, 'graceStart'))
    const status = statusOf(await answer(world, thread, 'GraceStart'))
    judge(memory, { event: 'failed start', bootTime: undefined })
    told.push(`${String(status).padStart(5)}  GraceStart in version ${maxVersion}   (no place: nobody may reclaim)`)
    if (status !== 0) broken(world, 'an error sends the kernel to another tracker')
    if (thread?.entries.length !== 0) broken(world, 'a list has names that could not be recorded')
    rmSync(place)
    if (existsSync(away)) renameSync(away, place)
    await stops(world)
    return 2
  }

  return {
    perform,
    last: [{ act: 'start at the pipe', version: 2, killed: undefined }],
    end: async (world) => {
      await stops(world)
      await ends('SIGKILL')
      const more = end.violations.slice(violations)
      if (more[0] !== undefined) broken(world, more[0])
    },
  }
}

const commandOf = (event: Event | undefined): Command => {
  switch (event?.event) {
    case 'create':
    case 'remove':
    case 'check':
      return event.event
    default:
      return 'graceDone'
  }
}

function bodyOf(event: Event): Body {
  if (!('owner' in event)) return {}
  const owner = Buffer.from(event.owner, 'hex')
  return event.event === 'create' && event.principal !== undefined
    ? { owner, principal: Buffer.from(event.principal, 'hex') }
    : { owner }
}

/** An upcall's status as the pipe says it. */
const atPipe = (status: number): number => (status === mayNotReclaim ? -13 : status)

function hold(world: World, verdict: Verdict | undefined, status: number): void {
  if (verdict === undefined || verdict.statuses.map(atPipe).includes(status)) return
  broken(world, `status ${status}, but ${verdict.statuses.map(atPipe).join(' or ')} was due: ${verdict.because}`)
}

/** Nobody too many, nobody missing; nobody twice, unless it was begun twice. */
function heldAgainst(
  world: World,
  list: readonly Entry[],
  { tellsPrincipals, mayBeTwice }: { readonly tellsPrincipals: boolean; readonly mayBeTwice: boolean },
): void {
  const named = list.map(({ owner }) => owner.toString('hex'))
  const due = namedAtStart(world.memory)
  const names = (them: readonly Owner[]): string => them.map(readable).sort().join(', ') || 'nobody'
  const once = mayBeTwice ? [...new Set(named)] : named
  if ([...once].sort().join() !== [...due].sort().join())
    broken(world, `the list names ${names(named)}, but ${names(due)} may reclaim`)
  for (const { owner, principal } of list) {
    const told = principal?.toString('hex') ?? ''
    const known = tellsPrincipals ? (world.memory.principals.get(owner.toString('hex')) ?? '') : ''
    // 31 bytes of it are as good as all.
    if (told.length < known.length - 2 || !known.startsWith(told) || (known === '') !== (told === ''))
      broken(world, `the principal of ${readable(owner.toString('hex'))} is told as '${told}', and is '${known}'`)
  }
}

function tell({ told, memory }: World, event: Event, status: number): void {
  const whose = 'owner' in event ? ` ${readable(event.owner)}` : ''
  const principal =
    event.event === 'create' && event.principal !== undefined ? ` principal ${event.principal.slice(0, 8)}` : ''
  told.push(
    `${String(status).padStart(5)}  ${commandOf(event)} at the pipe${whose}${principal}   (then ${memory.full ? 'full' : 'partial'})`,
  )
}

export type { Act }
