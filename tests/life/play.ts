/** Lives a life with a real helper, and holds every upcall's status and every downcall against the oracle's verdict. */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  asKernel,
  clockAt,
  inForeground,
  newMachine,
  scrap,
  settings,
  type Artefact,
  type Ending,
  type Environment,
  type Machine,
  type Said,
} from '../support/artefacts.ts'
import type { Act, Life } from './life.ts'
import {
  blank,
  judge,
  reclaimableAtNextStart,
  remember,
  storageFailed,
  type Event,
  type Memory,
  type Owner,
  type Session,
  type Verdict,
} from './oracle.ts'
import { escaped, readable, unescaped, type Spelling } from './owners.ts'

/** A verdict that the helper broke, with the life up to it, for a person to read. */
export class Broken extends Error {}

/** Another way in which the kernel asks: see at-the-pipe.ts. */
export interface OtherFront {
  /** @returns how many messages it took; undefined, if this act is none of its own. */
  readonly perform: (world: World, act: Act) => Promise<number | undefined>
  /** What an oracle can't know: what has been said, for a person to read. */
  readonly end: (world: World) => Promise<void>
}

export interface World {
  readonly other: OtherFront | undefined
  readonly artefact: Artefact
  readonly machine: Machine
  readonly memory: Memory
  readonly life: Life
  readonly told: string[]
  wallClock: number
  /** The kernel's boot time of the instance before this one. */
  lastBootTime: string
  bootTime: string
}

/** How many upcalls the life took. Throws Broken at the first verdict that the helper breaks. */
export async function play(
  artefact: Artefact,
  life: Life,
  otherOn?: (machine: Machine) => OtherFront,
): Promise<number> {
  const machine = newMachine()
  const world: World = {
    other: otherOn?.(machine),
    artefact,
    machine,
    life,
    memory: blank(),
    told: [],
    wallClock: 1795328616,
    lastBootTime: '7',
    bootTime: '7',
  }
  let upcalls = 0
  try {
    for (const who of life.legacy) {
      mkdirSync(legacyRecord(machine, whom(life, who)), { recursive: true, mode: 0o700 })
      judge(world.memory, { event: 'legacy', owner: whom(life, who) })
      world.told.push(`       the kernel's own tracker has recorded ${readable(whom(life, who))}`)
    }
    // However a life ends: who is known at its end, and who may reclaim after one more start?
    const everyone: Act = { act: 'everyone', verb: 'check', session: 'Y' }
    const atPipe: Act = { act: 'start at the pipe', version: 2, killed: undefined }
    const last: Act = { act: 'start', word: 'start', bootTime: true }
    for (const act of [...life.acts, everyone, ...(otherOn === undefined ? [] : [atPipe]), last, everyone])
      upcalls += await perform(world, act)
  } finally {
    await world.other?.end(world)
    scrap(machine)
  }
  return upcalls
}

async function perform(world: World, act: Act): Promise<number> {
  const { memory, machine, life, told } = world
  const endGrace = join(machine.nfsdDir, 'v4_end_grace')
  const atThePipe = await world.other?.perform(world, act)
  if (atThePipe !== undefined) return atThePipe
  // A kernel that goes on without a tracker asks it nothing until the next start.
  if (
    memory.untracked !== undefined &&
    !['start', 'failed start', 'expire', 'allow', 'import', 'set the clock', 'step the clock'].includes(act.act)
  )
    return 0
  switch (act.act) {
    case 'set the clock':
    case 'step the clock': {
      const to = act.act === 'set the clock' ? act.to : world.wallClock + act.by
      world.wallClock = Math.min(Math.max(to, 0), 2 ** 32 - 1)
      told.push(`       the wall clock now reads ${new Date(world.wallClock * 1000).toISOString()}`)
      return 0
    }
    case 'grace ends unheard':
      if (!life.files.endGrace) return 0
      writeFileSync(endGrace, 'Y\n')
      told.push('       the kernel ends grace; its gracedone never runs')
      return 0
    case 'start': {
      const { allowClient } = life.files
      const allow = join(machine.nfsdDir, 'allow_client')
      if (allowClient) writeFileSync(allow, '')
      serverStarts(world)
      const bootTime = act.bootTime ? world.bootTime : undefined
      await upcall(world, [act.word], graceStart(bootTime), { event: 'start', bootTime })
      if (allowClient && act.word === 'start') heldAgainst(world, readFileSync(allow, 'latin1'))
      return 1
    }
    case 'failed start': {
      serverStarts(world)
      const bootTime = act.bootTime ? world.bootTime : undefined
      await failedStart(world, act.how, bootTime)
      return 1
    }
    case 'create': {
      const it = whom(life, act.who)
      const [word, name] = spelled('create', it, act.spelling)
      const env = { ...hasSession(act.session), ...graceStart(memory.bootTime) }
      await upcall(world, [word, name], env, { event: 'create', owner: it, session: act.session })
      return 1
    }
    case 'check': {
      const it = whom(life, act.who)
      await upcall(
        world,
        ['check', it],
        { ...hasSession(act.session), ...legacyOf(world, it) },
        { event: 'check', owner: it, session: act.session },
      )
      return 1
    }
    case 'everyone':
      return together(world, act.verb, act.session)
    case 'remove': {
      const it = whom(life, act.who)
      await upcall(world, spelled('remove', it, act.spelling), {}, { event: 'remove', owner: it })
      return 1
    }
    case 'grace done': {
      const bootTime =
        act.word === 'grace_done'
          ? undefined
          : { this: world.bootTime, 'the last': world.lastBootTime, another: String(Number(world.bootTime) + 1) }[
              act.of
            ]
      const words = bootTime === undefined ? [act.word] : [act.word, bootTime]
      const env: Environment =
        life.legacy.length > 0 && bootTime !== undefined ? { NFSDCLTRACK_LEGACY_TOPDIR: legacyTop(machine) } : {}
      await upcall(world, words, env, { event: 'grace done', bootTime })
      return 1
    }
    case 'not done':
      await notDone(world, act.verb, whom(life, act.who))
      return 1
    case 'end not recorded':
      if (endGraceReads(world) !== 'Y' || !memory.started || memory.full) return 0
      await endNotRecorded(world, act.verb, whom(life, act.who))
      return 1
    case 'expire':
    case 'allow': {
      const it = whom(life, act.who)
      await byHand(world, [act.act, '--yes', escaped(it, 'hex')], { event: act.act, owner: it })
      return 0
    }
    case 'import': {
      const it = whom(life, act.who)
      const source = join(machine.dir, 'clients.json')
      const clients = [{ owner_hex: it, session: false, recorded: 0 }]
      writeFileSync(
        source,
        JSON.stringify({ format: 'nfsd-userland-helper clients', version: 1, clients, match_only: [] }),
      )
      await byHand(world, ['import', '--yes', source], { event: 'import', owner: it })
      return 0
    }
    case 'prune':
      if (!memory.started) return 0
      await byHand(world, ['prune', '--yes', '--unseen', '1'], { event: 'prune' })
      return 0
    case 'verify':
    case 'export':
      if (memory.started) await look(world, act.act)
      return 0
    case 'start at the pipe':
    case 'serve ends':
    case 'start without serve':
    case 'beside':
      return 0
    default:
      return act satisfies never
  }
}

/** The kernel begins a new instance of its server. */
export function serverStarts(world: World): void {
  if (world.life.files.endGrace) writeFileSync(join(world.machine.nfsdDir, 'v4_end_grace'), 'N\n')
  world.lastBootTime = world.bootTime
  world.bootTime = String(world.wallClock)
}

const legacyTop = ({ stateDir }: Machine): string => join(stateDir, 'v4recovery')
const legacyRecord = (machine: Machine, owner: Owner): string =>
  join(legacyTop(machine), createHash('md5').update(Buffer.from(owner, 'hex')).digest('hex'))

/** The kernel names the directory that a client would have, whether or not it is there. */
export const legacyOf = ({ life, machine }: World, owner: Owner): Environment =>
  life.legacy.length > 0 ? { NFSDCLTRACK_LEGACY_RECDIR: legacyRecord(machine, owner) } : {}

/** A start that can't succeed: killed when it first waits for the disk, or a file stands where the records are. */
async function failedStart(world: World, how: 'killed' | 'no place', bootTime: string | undefined): Promise<void> {
  const { machine, memory, told, artefact } = world
  const event: Event = { event: 'failed start', bootTime }
  judge(memory, event)
  let status: Ending['status']
  if (how === 'killed')
    status = await killedInItsFirstBarrier(artefact, [...settings(machine), 'init'], {
      ...graceStart(bootTime),
      ...clockAt(world.wallClock),
    })
  else status = await withoutPlace(world, ['init'], graceStart(bootTime))
  told.push(
    `${String(status).padStart(5)}  init${bootTime === undefined ? '' : ` GRACE_START=${bootTime}`}   (${how}: the server runs without a tracker)`,
  )
  if (status === 0) broken(world, 'a start that could not be recorded was acknowledged')
}

/** An upcall, while a file stands where the records are. @returns its status. */
async function withoutPlace(
  world: World,
  words: readonly string[],
  env: Environment,
): Promise<number | NodeJS.Signals> {
  const { stateDir } = world.machine
  const [place, away] = [join(stateDir, 'v4clients'), join(stateDir, 'v4clients.away')]
  mkdirSync(stateDir, { recursive: true })
  if (existsSync(place)) renameSync(place, away)
  writeFileSync(place, '')
  const { status } = await run(world, words, env)
  rmSync(place)
  if (existsSync(away)) renameSync(away, place)
  return status
}

/** What the kernel goes on after as if it were done. */
async function notDone(world: World, verb: 'remove' | 'gracedone', owner: Owner): Promise<void> {
  const { machine, memory, life, told } = world
  if (verb === 'gracedone' && life.files.endGrace) writeFileSync(join(machine.nfsdDir, 'v4_end_grace'), 'Y\n')
  judge(memory, { event: 'not done' })
  const words = verb === 'remove' ? ['remove', owner] : ['gracedone', world.bootTime]
  const status = await withoutPlace(world, words, {})
  told.push(`${String(status).padStart(5)}  ${words.join(' ')}   (no place: the server goes on as if it were done)`)
  if (status === 0) broken(world, 'what could not be done was acknowledged')
}

/** A check is answered as if it had been recorded; a create fails. */
async function endNotRecorded(world: World, verb: 'create' | 'check', owner: Owner): Promise<void> {
  const { artefact, machine, memory, told } = world
  const asIf = remember(memory)
  const checked = judge(asIf, { event: 'check', owner, session: 'Y' }, { graceOver: true })
  judge(memory, { event: 'end not recorded' }, { graceOver: true })
  const status = await interfered(
    artefact,
    ['-e', 'trace=rename,renameat,renameat2', '-e', 'inject=rename,renameat,renameat2:error=EIO'],
    [...settings(machine), verb, owner],
    { ...hasSession('Y'), ...clockAt(world.wallClock) },
  )
  told.push(`${String(status).padStart(5)}  ${verb} ${short(owner)}   (grace is over, and no rename works)`)
  const due = verb === 'check' ? checked.statuses : [storageFailed]
  if (typeof status !== 'number' || !due.includes(status)) broken(world, `status ${due.join(' or ')} was due`)
}

/** Killed in the first fsync(2): nothing that it has done is known to be durable. */
const killedInItsFirstBarrier = (
  artefact: Artefact,
  words: readonly string[],
  env: Environment,
): Promise<number | NodeJS.Signals> =>
  interfered(artefact, ['-e', 'trace=fsync', '-e', 'inject=fsync:signal=SIGKILL:when=1'], words, env)

/** @param how strace(1)'s words. */
function interfered(
  { withOtherClock }: Artefact,
  how: readonly string[],
  words: readonly string[],
  env: Environment,
): Promise<number | NodeJS.Signals> {
  return new Promise((resolve, reject) => {
    const child = spawn('strace', ['-f', '-o', '/dev/null', ...how, ...withOtherClock, ...words], {
      cwd: '/',
      env: { ...env },
      stdio: 'ignore',
    })
    child.once('error', () => {
      reject(new Error("strace is missing: install the package 'strace'"))
    })
    child.once('exit', (code, signal) => {
      resolve(code ?? signal ?? 'SIGKILL')
    })
  })
}

const say = ({ artefact, machine }: World, words: readonly string[]): Promise<Said> =>
  inForeground(artefact, [...settings(machine), ...words], { PATH: process.env['PATH'] ?? '' })

/** A command that a person gives. */
async function byHand(world: World, words: readonly string[], event: Event): Promise<void> {
  const before = endGraceReads(world)
  const verdict = judge(world.memory, event, { graceOver: before === 'Y' })
  const said = await say(world, words)
  tell(world, event, { words, env: {}, status: said.status })
  if (said.status !== 0 && said.stderr !== '') world.told.push(`       ${said.stderr.trim()}`)
  hold(world, verdict, said)
  downcall(world, before, verdict.endGrace)
}

/** Commands that change nothing: what they find is held too. */
async function look(world: World, what: 'verify' | 'export'): Promise<void> {
  const { status, stdout, stderr } = await say(world, what === 'verify' ? ['verify', '--repair', '--yes'] : ['export'])
  world.told.push(`${String(status).padStart(5)}  ${what}`)
  if (what === 'verify') return
  if (status !== 0) broken(world, `export ended with ${status}: ${stderr}`)
  const { clients } = JSON.parse(stdout) as { clients: readonly { owner_hex: Owner }[] }
  const [named, due] = [clients.map(({ owner_hex }) => owner_hex), reclaimableAtNextStart(world.memory)]
  const list = (them: readonly Owner[]): string => them.map(readable).sort().join(', ') || 'nobody'
  if (list(named) !== list(due))
    broken(world, `export names ${list(named)}, but at the next start ${list(due)} may reclaim`)
}

export const whom = ({ owners }: Life, who: number): Owner => owners[who % owners.length] ?? ''

const spelled = (verb: 'create' | 'remove', it: Owner, spelling: Spelling | 'kernel'): readonly [string, string] =>
  spelling === 'kernel' ? [verb, it] : [verb === 'create' ? 'create_client' : 'expire_client', escaped(it, spelling)]

export const hasSession = (session: Session): Environment =>
  session === undefined ? {} : { NFSDCLTRACK_CLIENT_HAS_SESSION: session }

const graceStart = (bootTime: string | undefined): Environment =>
  bootTime === undefined ? {} : { NFSDCLTRACK_GRACE_START: bootTime }

const run = (world: World, words: readonly string[], env: Environment): Promise<Ending> =>
  asKernel(world.artefact, [...settings(world.machine), ...words], { ...env, ...clockAt(world.wallClock) })

/**
 * One upcall. What the kernel's file read before decides whether a missed grace end heals; what it reads after is held
 * too.
 */
export async function upcall(world: World, words: readonly string[], env: Environment, event: Event): Promise<void> {
  const before = endGraceReads(world)
  const verdict = judge(world.memory, event, { graceOver: before === 'Y' })
  const ending = await run(world, words, env)
  tell(world, event, { words, env, status: ending.status })
  hold(world, verdict, ending)
  downcall(world, before, verdict.endGrace)
}

/**
 * The same verb for every client at the same moment. Their statuses don't depend on each other, so the oracle asks in
 * any order; whether grace may end early, it knows when the last one is done.
 */
async function together(world: World, verb: 'create' | 'check' | 'remove', session: Session): Promise<number> {
  const { owners } = world.life
  const before = endGraceReads(world)
  const env = (owner: Owner): Environment => ({
    ...(verb === 'remove' ? {} : hasSession(session)),
    ...(verb === 'create' ? graceStart(world.memory.bootTime) : {}),
    ...(verb === 'check' ? legacyOf(world, owner) : {}),
  })
  const events = owners.map((owner): Event =>
    verb === 'remove' ? { event: verb, owner } : { event: verb, owner, session },
  )
  const verdicts = events.map((event) => judge(world.memory, event, { graceOver: before === 'Y' }))
  if (owners.length > 1) world.told.push('       at the same moment:')
  const endings = await Promise.all(owners.map((owner) => run(world, [verb, owner], env(owner))))
  for (const [nth, event] of events.entries()) {
    const ending = endings[nth],
      verdict = verdicts[nth]
    if (!ending || !verdict) continue
    tell(world, event, { words: [verb, owners[nth] ?? ''], env: env(owners[nth] ?? ''), status: ending.status })
    hold(world, verdict, ending)
  }
  if (!downcall(world, before, verdicts.at(-1)?.endGrace ?? 'must not')) return owners.length
  // Who came after the downcall already found grace over, and perhaps nobody did. One more upcall settles which it was.
  await perform(world, { act: 'check', who: 0, session: 'Y' })
  return owners.length + 1
}

/** Holds the write to `v4_end_grace` against the verdict, and says whether there was one. */
export function downcall(world: World, before: string | undefined, due: Verdict['endGrace']): boolean {
  const after = endGraceReads(world)
  if (after === before) {
    if (due === 'must' && before === 'N')
      broken(world, 'nobody is left to wait for, and the kernel was not told (no Y in v4_end_grace)')
    return false
  }
  if (before !== 'N' || after !== 'Y')
    broken(world, `v4_end_grace read ${before ?? 'nothing'} before it and ${after ?? 'nothing'} after it`)
  if (due === 'must not')
    broken(
      world,
      'it told the kernel that grace may end, which only a create of a client with a session may, in grace, ' +
        `when nobody else is left; still to reclaim: ${[...world.memory.reclaimable].map(readable).join(', ') || 'nobody'}`,
    )
  world.told.push('       it told the kernel that grace may end')
  return true
}

export function endGraceReads({ machine, life }: World): string | undefined {
  const file = join(machine.nfsdDir, 'v4_end_grace')
  if (existsSync(file) !== life.files.endGrace) return 'nothing: it came or went'
  return life.files.endGrace ? readFileSync(file, 'utf8').trim() : undefined
}

function hold(world: World, { statuses, because }: Verdict, { status }: Ending): void {
  if (typeof status === 'number' && statuses.includes(status)) return
  broken(world, `status ${status}, but ${statuses.join(' or ')} was due: ${because}`)
}

/** The thread's downcall tells the whole reclaimable set at once: nobody too many, nobody missing, nobody twice. */
function heldAgainst(world: World, text: string): void {
  const lines = text.split('\n')
  if (lines.at(-1) === '') lines.pop()
  const named = lines.map(
    (line) => unescaped(line) ?? broken(world, `allow_client got a line that is no escaped owner: ${line}`),
  )
  const due = [...world.memory.reclaimable]
  const list = (them: readonly Owner[]): string => them.map(readable).sort().join(', ') || 'nobody'
  if ([...named].sort().join() !== [...due].sort().join())
    broken(world, `allow_client was told ${list(named)}, but ${list(due)} was due`)
}

/** One line of the transcript, in the words that the kernel used. */
function tell(
  { told, memory, machine }: World,
  event: Event,
  { words, env, status }: { readonly words: readonly string[]; readonly env: Environment } & Pick<Ending, 'status'>,
): void {
  const variables = Object.entries(env).map(
    ([name, value]) => `${name.replace(/^NFSDCLTRACK_(CLIENT_)?/, '')}=${value.replace(machine.dir, '')}`,
  )
  const said = 'owner' in event ? [words[0] ?? '', short(words.at(-1) ?? '')] : words
  const whose = 'owner' in event && words.at(-1) !== readable(event.owner) ? `   ${readable(event.owner)}` : ''
  const grace = memory.full ? 'full' : 'partial'
  told.push(`${String(status).padStart(5)}  ${[...said, ...variables].join(' ')}${whose}   (then ${grace})`)
}

const short = (word: string): string =>
  word === '' ? "''" : word.length <= 48 ? word : `${word.slice(0, 24)}...${word.slice(-8)}`

export function broken({ told }: World, how: string): never {
  throw new Broken(['status', ...told, `       ^ ${how}`].join('\n'))
}
