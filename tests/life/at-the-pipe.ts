/**
 * The part of a life in which the kernel asks at the pipe: a fake kernel's end, and `serve`, which comes and goes. The
 * oracle says what must be answered, by the contract of the pipe (docs/pipe.md):
 *
 * * The list at GraceStart has exactly the clients that may reclaim, each once, except names that mean something else
 *   to the kernel.
 * * No message tells that a client of NFSv4.0 reclaims. So there is no act for that, and the client is forgotten when
 *   grace ends.
 * * A Create says nothing of sessions. A principal stays until another is told, or the client is gone.
 * * After an empty list, the kernel reports the end of grace at once.
 * * Version 0 asks by Check, which records the client.
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
import {
  judge,
  mayNotReclaim,
  namedAtStart,
  remember,
  type Event,
  type Owner,
  type Session,
  type Verdict,
} from './oracle.ts'
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

/** What `serve` logs about a server if it does not know that its start is recorded (lib/serve/instance.ts). */
const unknownStart = "the NFS server's start is not recorded: unless"

/** Longer than any answer takes on a busy machine. */
const patienceMs = 120_000

/** @param end the kernel's end. Nobody else uses it meanwhile. */
export const atThePipe = (end: PipeEnd, machine: Machine): OtherFront => new AtThePipe(end, machine)

/** `serve`, one process after another. */
class ServeInTurns {
  private running: { readonly serve: Serve; readonly maxVersion: 1 | 2 } | undefined
  private saidBefore = ''
  private readonly machine: Machine
  private readonly pipes: string

  constructor(machine: Machine, pipes: string) {
    this.machine = machine
    this.pipes = pipes
  }

  get runs(): boolean {
    return this.running !== undefined
  }

  get maxVersion(): 1 | 2 | undefined {
    return this.running?.maxVersion
  }

  /** By all processes so far. */
  get said(): string {
    return `${this.saidBefore}${this.running?.serve.said() ?? ''}`
  }

  /** How often a pipe was taken over. */
  get holds(): number {
    return this.said.split(' holds ').length - 1
  }

  /** How often it was logged that a server's start is not recorded. */
  get notes(): number {
    return this.said.split(unknownStart).length - 1
  }

  /** Starts a process, if none runs. */
  async comes(world: World, maxVersion: 1 | 2 = 2): Promise<void> {
    if (this.running !== undefined) return
    const serve = runServe(this.machine, this.pipes, ['--max-version', String(maxVersion)])
    this.running = { serve, maxVersion }
    if (!(await serve.ready)) broken(world, `serve ended: ${serve.said()}`)
  }

  /** @returns how it ended; undefined, if none ran. */
  async ends(how: 'SIGKILL' | 'SIGTERM'): Promise<number | NodeJS.Signals | undefined> {
    if (this.running === undefined) return undefined
    const { serve } = this.running
    this.running = undefined
    const status = await (how === 'SIGKILL' ? serve.kill() : serve.stop())
    this.saidBefore += serve.said()
    return status
  }
}

type ActOf<Name extends Act['act']> = Extract<Act, { readonly act: Name }>

class AtThePipe implements OtherFront {
  readonly last: readonly Act[] = [{ act: 'start at the pipe', version: 2, killed: undefined }]
  /** The version of the instance that asks at the pipe; undefined, if none does. */
  private version: 0 | 1 | 2 | undefined
  /** Whether nothing has been asked yet at the pipe of version 0. */
  private isYetToBegin = false
  /** How often `serve` had logged that a server's start is not recorded, before that pipe. */
  private notedBefore = 0
  private readonly serve: ServeInTurns
  private readonly pipe: PipeEnd
  private readonly machine: Machine
  private readonly violations: number

  constructor(pipe: PipeEnd, machine: Machine) {
    this.pipe = pipe
    this.machine = machine
    this.serve = new ServeInTurns(machine, pipe.path)
    this.violations = pipe.violations.length
  }

  async perform(world: World, act: Act): Promise<number | undefined> {
    switch (act.act) {
      case 'start':
      case 'import':
        // Imports come while no server runs.
        await this.serverStops(world)
        return undefined
      case 'failed start':
        if (act.how === 'no place' && this.serve.runs) return this.startFails(world)
        await this.serverStops(world)
        return undefined
      case 'start at the pipe':
        return this.serverStarts(world, act)
      case 'start without serve':
        return this.serverStartsAlone(world, act)
      case 'serve ends':
        return this.serveEnds(world, act)
      case 'allow':
        this.mayBeNoted(world)
        return undefined
      default:
        return this.version === undefined || world.memory.untracked !== undefined
          ? undefined
          : this.asks(world, act, this.version)
    }
  }

  async end(world: World): Promise<void> {
    await this.serverStops(world)
    await this.serve.ends('SIGKILL')
    const [violation] = this.pipe.violations.slice(this.violations)
    if (violation !== undefined) broken(world, violation)
  }

  /** An act of an instance that asks at the pipe. */
  private async asks(world: World, act: Act, version: 0 | 1 | 2): Promise<number | undefined> {
    const { life, memory } = world
    switch (act.act) {
      case 'create': {
        const principal = version === 2 && act.principal !== undefined ? principals[act.principal] : undefined
        return this.together(world, [
          { event: 'create', owner: whom(life, act.who), session: undefined, principal: principal?.toString('hex') },
        ])
      }
      case 'remove':
        return this.together(world, [{ event: 'remove', owner: whom(life, act.who) }])
      case 'check':
        // Otherwise the kernel knows it from its list.
        if (version !== 0) return 0
        return this.together(world, [{ event: 'check', owner: whom(life, act.who), session: undefined }])
      case 'everyone':
        if (act.verb === 'check' && version !== 0) return 0
        return this.together(
          world,
          life.owners.map((owner) => eventOf(act.verb, owner)),
        )
      case 'grace done':
        return memory.full ? 0 : this.graceEnds(world)
      case 'beside':
        return upcallBeside(world, act)
      default:
        return undefined
    }
  }

  private async serverStarts(world: World, act: ActOf<'start at the pipe'>): Promise<number> {
    await this.serverStops(world)
    const maxVersion = act.version === 1 ? 1 : 2
    if (this.serve.maxVersion !== maxVersion) await this.serve.ends('SIGTERM')
    this.serverIsUp(world)
    this.pipe.make()
    await this.serve.comes(world, maxVersion)
    await this.versionIsAsked(world, maxVersion)
    this.version = maxVersion
    const list = await this.graceStarts(world, maxVersion, act.killed)
    if (act.version === 0) await this.listIsRefused(world)
    else if (list.length === 0) await this.graceEnds(world)
    return 2
  }

  private async versionIsAsked(world: World, due: 1 | 2): Promise<void> {
    const told = versionOf(await this.answer(world, this.pipe.ask(getVersion())[0], 'GetVersion'))
    if (told !== due) broken(world, `GetVersion was answered with ${told}`)
  }

  /** @returns the list, which has been compared with the oracle's. */
  private async graceStarts(world: World, version: 1 | 2, killed: number | undefined): Promise<readonly Entry[]> {
    const [thread] = this.pipe.ask(message(version, 'graceStart'))
    if (killed !== undefined) {
      await pause(killed)
      await this.serve.ends('SIGKILL')
      await this.serve.comes(world, version)
    }
    const status = statusOf(await this.answer(world, thread, 'GraceStart'))
    judge(world.memory, { event: 'start', bootTime: undefined })
    const list = (thread?.entries ?? []).map(entryOf)
    const names = list.map(({ owner }) => readable(owner.toString('hex'))).join(', ') || 'nobody'
    const kill = killed === undefined ? '' : `, serve killed after ${killed} ms`
    world.told.push(`${String(status).padStart(5)}  GraceStart in version ${version}${kill}: ${names}`)
    if (status !== 0) broken(world, 'a server may always start')
    heldAgainst(world, list, { tellsPrincipals: version === 2, mayBeTwice: killed !== undefined })
    return list
  }

  /** As if the answer had been lost: an instance has begun, and the next message begins another one. */
  private async listIsRefused({ told }: World): Promise<void> {
    this.notedBefore = this.serve.notes
    const { holds } = this.serve
    this.pipe.remove()
    this.pipe.make()
    // Not only open: a pipe that goes away before it was looked at says nothing of its server.
    await until('serve holds the pipe', () => this.serve.holds > holds)
    this.version = 0
    this.isYetToBegin = true
    told.push('       the kernel goes on in version 0')
  }

  /** A start that finds no place to write to. The kernel has a tracker, but nobody may reclaim. */
  private async startFails(world: World): Promise<number> {
    const { machine } = this
    await this.serverStops(world)
    serverStarts(world)
    const [place, away] = [join(machine.stateDir, 'v4clients'), join(machine.stateDir, 'v4clients.away')]
    mkdirSync(machine.stateDir, { recursive: true })
    if (existsSync(place)) renameSync(place, away)
    writeFileSync(place, '')
    this.pipe.make()
    const version = this.serve.maxVersion ?? 2
    await this.versionIsAsked(world, version)
    const [thread] = this.pipe.ask(message(version, 'graceStart'))
    const status = statusOf(await this.answer(world, thread, 'GraceStart'))
    judge(world.memory, { event: 'failed start', bootTime: undefined })
    world.told.push(`${String(status).padStart(5)}  GraceStart in version ${version}   (no place: nobody may reclaim)`)
    if (status !== 0) broken(world, 'an error sends the kernel to another tracker')
    if (thread?.entries.length !== 0) broken(world, 'a list has names that could not be recorded')
    rmSync(place)
    if (existsSync(away)) renameSync(away, place)
    await this.serverStops(world)
    return 2
  }

  private async serverStartsAlone(world: World, act: ActOf<'start without serve'>): Promise<number> {
    await this.serverStops(world)
    await this.serve.ends('SIGTERM')
    this.serverIsUp(world)
    this.pipe.make()
    this.pipe.remove()
    // A kernel without this file can't tell the helper which instance it is. Only the pipe then shows that.
    const isNoticed = act.noticed && !existsSync(helperParameter)
    world.told.push(
      `       the server starts, and nobody holds the pipe${isNoticed ? '; serve comes, and sees it' : ''}`,
    )
    if (isNoticed) {
      judge(world.memory, { event: 'failed start', bootTime: undefined })
      await this.serve.comes(world)
    } else this.threads('0')
    return 0
  }

  private async serveEnds(world: World, { how, during, after }: ActOf<'serve ends'>): Promise<number> {
    if (!this.serve.runs && this.version === undefined) return 0
    const ended = async (): Promise<void> => {
      await pause(after)
      const { maxVersion } = this.serve
      const status = await this.serve.ends(how)
      if (how === 'SIGTERM' && status !== undefined && status !== 0)
        broken(world, `serve ended with ${status}: ${this.serve.said}`)
      await this.serve.comes(world, maxVersion)
    }
    world.told.push(`       serve ends (${how}), and another one comes`)
    if (during === undefined || this.version === undefined || world.memory.untracked !== undefined) {
      await ended()
      return 0
    }
    // If such an owner fills a message of version 1, the answer is an error (docs/pipe.md).
    const isShort = this.version < 2
    const owners = world.life.owners.filter((owner) => !(isShort && owner.length === 2 * 1024))
    return this.together(
      world,
      owners.map((owner) => eventOf(during, owner)),
      ended,
    )
  }

  private get isStartUnknown(): boolean {
    return this.isYetToBegin && this.serve.runs && !existsSync(helperParameter)
  }

  /**
   * After two seconds without a message `serve` notes that the start may not be recorded. A command for people may come
   * before that or after it.
   */
  private mayBeNoted(world: World): void {
    if (!this.isStartUnknown) return
    const noted = world.memories.map(remember)
    for (const memory of noted) judge(memory, { event: 'failed start', bootTime: undefined })
    world.memories = [...world.memories, ...noted]
  }

  private async serverStops({ memory, told }: World): Promise<void> {
    const isUnknown = this.isStartUnknown
    this.version = undefined
    this.isYetToBegin = false
    if (existsSync(join(this.pipe.path, 'nfsd/cld'))) this.pipe.remove()
    this.threads('0')
    if (!isUnknown) return
    await until(
      'noted that nothing was asked',
      () => this.serve.notes > this.notedBefore,
      () => this.serve.said,
    )
    judge(memory, { event: 'failed start', bootTime: undefined })
    told.push('       it stops, and nothing was asked in version 0: serve can not know that its start is recorded')
  }

  private async graceEnds(world: World): Promise<number> {
    if (world.life.files.endGrace) writeFileSync(join(this.machine.nfsdDir, 'v4_end_grace'), 'Y\n')
    return this.together(world, [{ event: 'grace done', bootTime: undefined }])
  }

  /** A message for each of these clients, all at one moment. @param meanwhile what happens while they are queued. */
  private async together(
    world: World,
    events: readonly Event[],
    meanwhile: () => Promise<void> = () => Promise.resolve(),
  ): Promise<number> {
    const before = endGraceReads(world)
    if (this.isYetToBegin) judge(world.memory, { event: 'start', bootTime: undefined })
    this.isYetToBegin = false
    const verdicts = events.map((event) => judge(world.memory, event, { graceOver: before === 'Y' }))
    const command = commandOf(events[0])
    const version = this.version === 2 ? 2 : 1
    const asked = this.pipe.ask(...events.map((event) => message(version, command, bodyOf(event))))
    if (events.length > 1) world.told.push('       at the same moment:')
    await meanwhile()
    for (const [nth, event] of events.entries()) {
      const status = statusOf(await this.answer(world, asked[nth], command))
      tell(world, event, status)
      hold(world, verdicts[nth], status)
    }
    downcall(world, before, new Map(verdicts.slice(-1).map((verdict) => [world.memory, verdict])))
    return events.length
  }

  private async answer(world: World, thread: Waiter | undefined, what: string): Promise<Buffer> {
    const late = pause(patienceMs, undefined, { ref: false }).then(() =>
      broken(world, `${what} has no answer: ${this.serve.said}`),
    )
    return Promise.race([answerOf(thread), late])
  }

  private serverIsUp(world: World): void {
    serverStarts(world)
    this.threads('8')
  }

  private threads(number: '0' | '8'): void {
    writeFileSync(join(this.machine.nfsdDir, 'threads'), `${number}\n`)
  }
}

/** An upcall, while the server asks at the pipe. */
async function upcallBeside(world: World, { verb, who, session }: ActOf<'beside'>): Promise<number> {
  const owner = whom(world.life, who)
  const env = verb === 'remove' ? {} : hasSession(session)
  const more = verb === 'check' ? legacyOf(world, owner) : {}
  await upcall(world, [verb, owner], { ...env, ...more }, eventOf(verb, owner, session))
  return 1
}

/** A message says nothing of sessions. */
const eventOf = (verb: 'create' | 'check' | 'remove', owner: Owner, session?: Session): Event =>
  verb === 'remove' ? { event: verb, owner } : { event: verb, owner, session }

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

/** The status of an upcall, as the pipe has it. */
const atPipe = (status: number): number => (status === mayNotReclaim ? -13 : status)

function hold(world: World, verdict: Verdict | undefined, status: number): void {
  if (verdict === undefined || verdict.statuses.map(atPipe).includes(status)) return
  broken(world, `status ${status}, but ${verdict.statuses.map(atPipe).join(' or ')} was due: ${verdict.because}`)
}

/** The list has nobody too many, nobody is missing, and nobody is in it twice, unless it was started twice. */
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
    // Its first 31 bytes are enough.
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
