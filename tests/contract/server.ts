/** A server for the contract tests: its upcalls in the protocol's terms, each with status and log. */
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe } from 'node:test'
import { outputFileSync, removeSync } from 'fs-extra/esm'
import {
  artefacts,
  inForeground,
  leftRealMachineAlone,
  newMachine,
  quickest,
  scrap,
  settings,
  type Artefact,
  type Environment,
  type Machine,
  type Said,
} from '../support/artefacts.ts'

export const done = 0
export const mayNotReclaim = 255
export const unusableAtStart = 243
export const badArgument = 234
export const unknownVerb = 218
export const ownerTooLong = 151
export const otherInstance = 140
export const storageFailed = 135

export interface Server {
  readonly artefact: Artefact
  readonly machine: Machine
  readonly stateDir: string
  readonly nfsdDir: string
  readonly runDir: string
  /** Any words, unchanged. */
  readonly call: (words: readonly string[], env?: Environment) => Promise<Said>
  readonly init: (told?: string) => Promise<Said>
  readonly create: (owner: Owner, version: Version, told?: string) => Promise<Said>
  readonly check: (owner: Owner, version: Version, legacyRecord?: string) => Promise<Said>
  readonly remove: (owner: Owner) => Promise<Said>
  readonly graceDone: (told?: string, legacyTop?: string) => Promise<Said>
  /** A completed grace period in which these clients of v4.1 are recorded, by the quickest artefact. */
  readonly fullInstanceWith: (...owners: readonly Owner[]) => Promise<void>
  readonly writeState: (name: string, text: string) => void
  readonly readState: (name: string) => string | undefined
  /** Changes the state directory to what 0.1.0 would have left: two files say which instance this is. */
  readonly asFormat1: () => void
  readonly kernelGrace: (text: 'Y\n' | 'N\n') => void
  readonly kernelWasAskedToEndGrace: () => boolean
  /** What must be done before the server's files can be removed. */
  readonly atEnd: (end: () => void) => void
  /** Every path below the state directory, with links' targets and files' contents, to compare before and after. */
  readonly snapshot: () => string
}

export type Owner = string | Uint8Array
export type Version = 'v4.0' | 'v4.1'

export const hex = (owner: Owner): string => Buffer.from(owner).toString('hex')

/** @param where its directories are; on the disk by default. */
export function server(artefact: Artefact, where?: string): Server {
  const machine = newMachine(where)
  const endings: (() => void)[] = []
  after(() => {
    for (const end of endings) end()
    scrap(machine)
  })
  const { stateDir, nfsdDir, runDir } = machine
  const callOf =
    (which: Artefact): Server['call'] =>
    (words, env = {}) =>
      inForeground(which, [...settings(machine), ...words], env)
  const call = callOf(artefact)
  const session = (version: Version): Environment => ({
    NFSDCLTRACK_CLIENT_HAS_SESSION: version === 'v4.1' ? 'Y' : 'N',
  })
  const graceStart = (told: string | undefined): Environment =>
    told === undefined ? {} : { NFSDCLTRACK_GRACE_START: told }
  const endGraceFile = join(nfsdDir, 'v4_end_grace')
  const made: Server = {
    artefact,
    machine,
    stateDir,
    nfsdDir,
    runDir,
    call,
    init: (told) => call(['init'], graceStart(told)),
    create: (owner, version, told) => call(['create', hex(owner)], { ...session(version), ...graceStart(told) }),
    check: (owner, version, legacyRecord) =>
      call(['check', hex(owner)], {
        ...session(version),
        ...(legacyRecord === undefined ? {} : { NFSDCLTRACK_LEGACY_RECDIR: legacyRecord }),
      }),
    remove: (owner) => call(['remove', hex(owner)]),
    graceDone: (told, legacyTop) =>
      call(
        told === undefined ? ['grace_done'] : ['gracedone', told],
        legacyTop === undefined ? {} : { NFSDCLTRACK_LEGACY_TOPDIR: legacyTop },
      ),
    fullInstanceWith: async (...owners) => {
      const prepare = callOf(quickest(artefact))
      await prepare(['init'])
      for (const owner of owners) await prepare(['create', hex(owner)], session('v4.1'))
      await prepare(['grace_done'])
    },
    writeState: (name, text) => {
      removeSync(join(stateDir, name))
      outputFileSync(join(stateDir, name), text)
    },
    readState: (name) => (existsSync(join(stateDir, name)) ? readFileSync(join(stateDir, name), 'latin1') : undefined),
    asFormat1: () => {
      const clients = join(stateDir, 'v4clients')
      for (const name of readdirSync(clients))
        if (name === 'format-2' || /\.(?:full|unconfirmed)$/.test(name)) removeSync(join(clients, name))
    },
    kernelGrace: (text) => {
      writeFileSync(endGraceFile, text)
    },
    kernelWasAskedToEndGrace: () => readFileSync(endGraceFile, 'latin1').startsWith('Y'),
    atEnd: (end) => {
      endings.push(end)
    },
    snapshot: () => tree(stateDir).join('\n'),
  }
  return made
}

/** Every path below a directory, with type, mode and content. */
export function tree(directory: string): string[] {
  if (!existsSync(directory)) return ['(missing)']
  if (!statSync(directory).isDirectory()) return [`(a file) ${readFileSync(directory, 'latin1')}`]
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .map((entry) => {
      const path = join(entry.parentPath, entry.name)
      const content = entry.isSymbolicLink()
        ? `-> ${readlinkSync(path)}`
        : entry.isFile()
          ? `${(statSync(path).mode & 0o7777).toString(8)} ${JSON.stringify(readFileSync(path, 'latin1'))}`
          : entry.isDirectory()
            ? (statSync(path).mode & 0o7777).toString(8)
            : '?'
      return `${path.slice(directory.length)} ${content}`
    })
    .sort()
}

const specifyFor = (artefact: Artefact, title: string, specify: (artefact: Artefact) => void): void => {
  void describe(`${title} (${artefact.name})`, { concurrency: 2 }, () => {
    after(leftRealMachineAlone)
    specify(artefact)
  })
}

/** The same specification for each artefact. */
export function eachArtefact(title: string, specify: (artefact: Artefact) => void): void {
  for (const artefact of artefacts()) specifyFor(artefact, title, specify)
}

/**
 * A specification of commands for people. They are one script for Node, people.cjs, to which both programs pass them on
 * (the executable by execve, the bundle by require). So they are tested through the executable, and through the bundle
 * only if there is no executable, or with ARTEFACT=bundle.
 */
export function forPeople(title: string, specify: (artefact: Artefact) => void): void {
  for (const artefact of artefacts().slice(0, 1)) specifyFor(artefact, title, specify)
}
