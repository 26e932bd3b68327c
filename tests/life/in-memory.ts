/**
 * A machine in memory, on which lives run in process. Upcalls are carried out by the helper, commands by the functions
 * of theirs.
 */
import { carryOut, planFor } from '../../lib/commands/allow.ts'
import type { Movable } from '../../lib/commands/move/movable.ts'
import { confirmPlaced, destinationAt, placeAll } from '../../lib/commands/move/placement.ts'
import { missingSince, pruneAll } from '../../lib/commands/prune.ts'
import type { Context } from '../../lib/commands/shared/context.ts'
import { asRecorded, forgetAll } from '../../lib/commands/shared/forget.ts'
import { reclaimableAtNextStart } from '../../lib/commands/shared/next-start.ts'
import { everythingIn } from '../../lib/commands/shared/oddities.ts'
import { knownTo, ownerNamed } from '../../lib/commands/shared/owners.ts'
import { repairAll } from '../../lib/commands/shared/repair.ts'
import { survey } from '../../lib/commands/shared/survey.ts'
import { worldOf } from '../../lib/commands/shared/world.ts'
import { completeCutShort } from '../../lib/events/cut-short.ts'
import { failureFrom, report, storageFailure } from '../../lib/failure.ts'
import { lookAt } from '../../lib/store/state-directory.ts'
import type { Calls } from '../../lib/syscalls/calls.ts'
import * as files from '../../lib/syscalls/files.ts'
import { ownerFromHex } from '../../lib/upcall/owner.ts'
import { diskAt, type Disk } from '../proof/power-loss.ts'
import type { Tree } from '../proof/trees.ts'
import {
  machineWith,
  nfsd,
  runDirectory,
  stateDirectory,
  Stopped,
  type Ending,
  type Machine,
} from '../support/memory/machine.ts'
import { md5Of } from './on-this-machine.ts'
import type { Command, KernelFile, Place } from './play.ts'

/** What a power cut leaves of this directory is tested. The rest is lost, or belongs to the kernel. */
const onDisk = '/var/lib'
const directory: Tree = new Map([['', { kind: 'directory' }]])

export interface PlaceInMemory extends Place {
  readonly machine: Machine
  readonly command: Place['command'] & { readonly now: (command: Command) => Ending }
  /** The power is cut, and comes back. @param left which of the states that the disk may be in. */
  readonly cutPower: (left: number) => void
}

export function inMemory(): PlaceInMemory {
  const machine: Machine = machineWith(undefined, () => ({
    // A process that waits for the lock has waited long enough at once, and takes it over.
    sleep: (milliseconds) => {
      machine.files.process.monotonic += Math.max(milliseconds, 501)
    },
  }))
  const { files } = machine
  files.remove(`${nfsd}/allow_client`)
  const power = powerOf(machine)
  return {
    machine,
    ...upcallsOn(machine),
    command: commandsOn(machine),
    ...kernelOf(machine),
    legacyTop: `${stateDirectory}/v4recovery`,
    legacyRecord: (owner) => `${stateDirectory}/v4recovery/${md5Of(owner)}`,
    makeLegacyRecord: (path) => {
      files.plant(directory, path)
      power.becomes(files.tree(onDisk))
    },
    shown: (word) => word,
    scrap: () => undefined,
    cutPower: power.cut,
  }
}

function upcallsOn(machine: Machine): Pick<Place, 'upcall' | 'hindered'> {
  const { files } = machine
  const upcall = (words: readonly string[], env: Readonly<Record<string, string>>, clock: number) => {
    files.process.now = clock * 1000
    return { status: statusOf(machine.upcall(words, env)), ms: 0 }
  }
  return {
    upcall: (words, env, clock) => Promise.resolve(upcall(words, env, clock)),
    hindered: (how, words, env, clock) => {
      if (how === 'no place for records')
        return Promise.resolve(withoutPlace(files.calls, () => upcall(words, env, clock).status))
      files.hooks.before = ({ name }) => {
        if (how === 'killed in its first barrier' && name === 'fsync') throw new Stopped()
        return how === 'no rename works' && name === 'renameat' ? -EIO : undefined
      }
      const { status } = upcall(words, env, clock)
      files.hooks.before = () => undefined
      return Promise.resolve(status)
    },
  }
}

function commandsOn(machine: Machine): PlaceInMemory['command'] {
  const context = (calls: Calls): Context => ({
    calls,
    stateDirectory,
    runDirectory: `${runDirectory}/nfsd-userland-helper`,
    nfsdDirectory: nfsd,
    configuration: undefined,
    foreground: true,
    debug: false,
    complaints: [],
    pipefs: () => '/nowhere',
  })
  let said = { stdout: '', stderr: '' }
  const now = (command: Command): Ending => {
    said = { stdout: '', stderr: '' }
    return machine.program((calls) => {
      try {
        return carriedOut(command, context(calls), (text) => {
          said.stdout += text
        })
      } catch (thrown) {
        if (thrown instanceof Stopped) throw thrown
        const { status, line } = report(failureFrom(thrown))
        said.stderr = line
        return status
      }
    })
  }
  return Object.assign((command: Command) => Promise.resolve({ status: statusOf(now(command)), ms: 0, ...said }), {
    now,
  })
}

function kernelOf({ files, kernel }: Machine): Pick<Place, 'readKernel' | 'writeKernel'> {
  return {
    readKernel: (file) =>
      file === 'allow_client'
        ? kernel.allowed
        : kernel.grace === undefined
          ? undefined
          : kernel.grace === 'over'
            ? 'Y\n'
            : 'N\n',
    writeKernel: (file: KernelFile, text) => {
      if (file === 'v4_end_grace') {
        kernel.grace = text.startsWith('Y') ? 'over' : 'running'
        return
      }
      kernel.allowed = text
      files.device(
        `${nfsd}/allow_client`,
        () => '',
        (more) => {
          kernel.allowed += more
          return more.length
        },
      )
    },
  }
}

interface Power {
  readonly cut: PlaceInMemory['cutPower']
  /** From now on the disk durably has this tree. */
  readonly becomes: (tree: Tree) => void
}

/** Follows what the disk of a machine has, and cuts its power. */
function powerOf({ files, kernel }: Machine): Power {
  let boots = 1
  let disk: Disk = diskAt(onDisk)
  files.hooks.changed = (made) => {
    if (made.paths.some((path) => path.startsWith(`${onDisk}/`) || path === onDisk)) disk.apply(made)
  }
  const becomes = (tree: Tree): void => {
    files.replace(onDisk, tree)
    disk = diskWith(onDisk, tree)
  }
  return {
    becomes,
    cut: (left) => {
      const states: Tree[] = []
      for (const tree of disk.afterCut(() => undefined)) if (states.push(tree) > left) break
      const state = states[left % states.length]
      if (state !== undefined) becomes(state)
      files.replace(runDirectory, directory)
      files.plant(
        new Map([['', { kind: 'file', bytes: `${String(++boots).padStart(8, '0')}-2222-3333-4444-555555555555\n` }]]),
        '/proc/sys/kernel/random/boot_id',
      )
      if (kernel.grace !== undefined) kernel.grace = 'running'
    },
  }
}

/** A disk that durably has this tree. */
export function diskWith(top: string, tree: Tree): Disk {
  const disk = diskAt(top)
  for (const [path, node] of tree) {
    const whole = `${top}/${path}`
    if (path === '') continue
    if (node.kind === 'directory') disk.apply({ name: 'mkdirat', text: '', paths: [whole] })
    else if (node.kind === 'link') disk.apply({ name: 'symlinkat', text: quoted(node.target), paths: [whole] })
    else {
      disk.apply({ name: 'openat', text: '', paths: [whole] })
      disk.apply({ name: 'write', text: `3, ${quoted(node.bytes)}`, paths: [whole] })
      disk.apply({ name: 'fsync', text: '', paths: [whole] })
    }
  }
  for (const [path, node] of [['', { kind: 'directory' }] as const, ...tree])
    if (node.kind === 'directory')
      disk.apply({ name: 'fsync', text: '', paths: [path === '' ? top : `${top}/${path}`] })
  return disk
}

const EIO = 5

const statusOf = (status: Ending): number | 'SIGKILL' => (status === 'stopped' ? 'SIGKILL' : status)

const quoted = (text: string): string =>
  `"${text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')}"`

/** Does some work while a file stands in place of the state directory. */
function withoutPlace<T>(calls: Calls, work: () => T): T {
  const place = `${stateDirectory}/v4clients`
  const nowhere = -100
  const sync = (): void => {
    const descriptor = calls.openat(nowhere, stateDirectory, calls.flags.O_RDONLY, 0)
    calls.fsync(descriptor)
    calls.close(descriptor)
  }
  calls.mkdirat(nowhere, stateDirectory, 0o755)
  const isThere = calls.renameat(nowhere, place, nowhere, `${place}.away`) >= 0
  calls.close(calls.openat(nowhere, place, calls.flags.O_CREAT, 0o600))
  sync()
  const done = work()
  calls.unlinkat(nowhere, place, 0)
  if (isThere) calls.renameat(nowhere, `${place}.away`, nowhere, place)
  sync()
  return done
}

/** The part of a command after its question. @returns its status. */
function carriedOut(command: Command, context: Context, print: (text: string) => void): number {
  const quietly = (): void => undefined
  switch (command.verb) {
    case 'expire': {
      const surveyed = survey(context)
      const owner = ownerNamed(command.owner, knownTo(surveyed), { hex: true, naming: 'whole' })
      return forgetAll(worldOf(context), context, [asRecorded(surveyed, owner)], quietly).length === 0 ? 0 : 1
    }
    case 'allow': {
      const world = worldOf(context)
      carryOut(world, context, planFor(world, context, [ownerFromHex(command.owner)]))
      return 0
    }
    case 'import': {
      // A command looks in this machine's files whether nfsd runs, so none of these are given.
      const destination = destinationAt({ ...context, nfsdDirectory: '/nowhere' })
      const client: Movable = {
        owner: ownerFromHex(command.owner),
        session: 'no session',
        recorded: 0,
        principal: undefined,
      }
      if (files.kindAt(stateDirectory, files.anywhere(context.calls)) === 'directory')
        completeCutShort(worldOf(context), lookAt(destination.state))
      const standing = destination.standing(client)
      if (standing === 'blocked') throw storageFailure('a newer record decides')
      if (standing === 'there') confirmPlaced(destination.state)
      else placeAll(destination, [client])
      return 0
    }
    case 'prune': {
      pruneAll(worldOf(context), context, missingSince(context, 1).clients, quietly)
      return 0
    }
    case 'verify': {
      for (const repaired of repairAll(context)) print(`${repaired.path}: ${repaired.why}\n`)
      for (const { kind } of everythingIn(survey(context)))
        if (!['record', 'leftover', 'set-aside', 'newer'].includes(kind)) return 1
      return 0
    }
    case 'export': {
      const clients = [...reclaimableAtNextStart(context).clients]
      print(
        JSON.stringify({ clients: clients.map(({ owner }) => ({ owner_hex: Buffer.from(owner).toString('hex') })) }),
      )
      return 0
    }
  }
}
