/** A `serve` with an intent log, on a machine in memory whose disk is followed: the power may be cut at any call. */
import assert from 'node:assert/strict'
import { answerQueued } from '../../../lib/serve/round.ts'
import type { Calls } from '../../../lib/syscalls/calls.ts'
import type { Event, Owner } from '../../life/oracle.ts'
import { diskAt } from '../../proof/power-loss.ts'
import { check, create, remove } from '../../proof/scenarios.ts'
import type { Tree } from '../../proof/trees.ts'
import type { Made } from '../../support/memory/files.ts'
import { machineWith, runDirectory, stateDirectory, type Machine } from '../../support/memory/machine.ts'
import { kernelEnd, type AskedMessage } from '../../support/memory/pipe.ts'
import { live, pipePath } from '../../support/memory/serving.ts'
import { message, statusOf, type Command } from '../../support/pipe/messages.ts'

export type Asked = readonly [Command, Owner?]

/**
 * What happens to a `serve`. Messages that are queued at once; 'rest': no message comes for a while, so it makes its
 * log, or empties it; 'stop': the server stops, and with it the pipe goes.
 */
export type Step = readonly Asked[] | 'rest' | 'stop'

/** The event that a message stands for. The pipe tells nothing about sessions. */
export function eventOf([command, owner = '']: Asked): Event | undefined {
  switch (command) {
    case 'getVersion':
      return undefined
    case 'graceStart':
      return { event: 'start', bootTime: undefined }
    case 'graceDone':
      return { event: 'grace done', bootTime: undefined }
    case 'create':
      return create(owner, 'N')
    case 'check':
      return check(owner, 'N')
    case 'remove':
      return remove(owner)
  }
}

/** Whether a call is about an intent log. */
export const isOfLog = ({ paths }: Pick<Made, 'paths'>): boolean =>
  paths.some((path) => /\/(?:intent-log\.[0-9]|unfinished-intents)/.test(path))

/** Whether a call changes something on the disk with the state directory, or syncs it. */
export const changesDisk = ({ changes, paths }: Made): boolean => changes && paths.some(isOnDisk)

const disk = '/var/lib'
const isOnDisk = (path: string): boolean => `${path}/`.startsWith(`${disk}/`)

export interface Serving {
  readonly machine: Machine
  /** nfsd asks. Nothing is answered yet. */
  readonly ask: (...asked: readonly Asked[]) => readonly AskedMessage[]
  /** `serve` answers what is queued, or does what else there is to do in such a step. */
  readonly act: (step: Step) => void
  readonly step: (step: Step) => readonly AskedMessage[]
  /** The process is gone, and what it had open is closed. */
  readonly die: () => void
  /** Every content of the state directory that a power cut may leave now. The first has the least. */
  readonly left: () => Generator<Tree>
  /** Whether it wakes up of itself for its log. */
  readonly isDue: () => boolean
  /** The names of the intent logs that are there, also of one that is being made. */
  readonly logs: () => readonly string[]
}

const below = (tree: Tree): Tree =>
  new Map(
    [...tree]
      .filter(([path]) => `${path}/`.startsWith('nfs/'))
      .map(([path, node]) => [path.slice('nfs/'.length), node]),
  )

/** The process id of a `serve` in memory (tests/support/memory/serving.ts). */
const id = 5_000_000

/** @param blocks of the log */
export function serving(blocks = 4, change: (calls: Calls) => Partial<Calls> = () => ({})): Serving {
  const machine = machineWith(undefined, () => ({ sleep: passBy }))
  const { files } = machine
  function passBy(): void {
    files.process.monotonic += 501
  }
  const kernel = kernelEnd(files.calls, pipePath)
  const inServe = files.another()
  const model = diskAt(disk)
  files.hooks.changed = (made) => {
    if (made.paths.some(isOnDisk)) model.apply(made)
  }
  const graceIs = (grace: 'running' | 'over'): void => {
    machine.kernel.grace = grace
    machine.meanwhile.program(() => 0)
  }
  graceIs('running')
  const stat = `/proc/${id}/stat`
  files.plant(new Map([['', { kind: 'file', bytes: `${id} (serve) R ${'1 '.repeat(18)}${id} 1 1\n` }]]), stat)
  files.plant(new Map([['', { kind: 'directory' }]]), `${runDirectory}/nfsd-userland-helper`)
  const ask = (...asked: readonly Asked[]): readonly AskedMessage[] =>
    asked.map(([command, owner]) => {
      if (command === 'graceStart') graceIs('running')
      if (command === 'graceDone') graceIs('over')
      return kernel.ask(
        message(
          command === 'getVersion' ? 1 : 2,
          command,
          owner === undefined ? {} : { owner: Buffer.from(owner, 'hex') },
        ),
      )
    })
  let answerIt = (): void => undefined
  let restIt = (): void => undefined
  let stopIt = (): void => undefined
  let isDue = (): boolean => false
  ask(['getVersion'])
  inServe(() => {
    const begun = live(
      { kernel, files, lives: 0 },
      (calls) => ({ ...change(calls), sleep: passBy }),
      `${runDirectory}/nfsd-userland-helper`,
    )
    const { server, held } = begun
    assert.ok(held !== 'gone')
    server.intents.blocks = blocks
    answerIt = () => {
      answerQueued(server, held.pipe, held.journal)
    }
    restIt = () => {
      server.intents.answered(0)
      server.settleIntents(Infinity)
    }
    isDue = () => server.intents.dueAt(0) !== undefined
    stopIt = () => {
      kernel.remove()
      server.pipeGone()
    }
  })
  const act = (step: Step): void => {
    inServe(step === 'rest' ? restIt : step === 'stop' ? stopIt : answerIt)
  }
  return {
    machine,
    ask,
    act,
    step: (step) => {
      const messages = typeof step === 'string' ? [] : ask(...step)
      act(step)
      return messages
    },
    die: () => {
      inServe(() => {
        files.end()
      })
      files.remove(stat)
    },
    left: function* () {
      for (const tree of model.afterCut(() => undefined)) yield below(tree)
    },
    isDue: () => isDue(),
    logs: () => [...files.tree(stateDirectory).keys()].filter((path) => isOfLog({ paths: [`/${path}`] })),
  }
}

export const statusesOf = (messages: readonly AskedMessage[]): readonly (number | undefined)[] =>
  messages.map(({ answer }) => (answer === undefined ? undefined : statusOf(answer)))

export const creates = (...owners: readonly Owner[]): readonly Asked[] => owners.map((owner) => ['create', owner])
