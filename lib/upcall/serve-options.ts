/** The options of `serve`, which follow its name. Pure. */
import { Failed } from '../failure.ts'
import { readOptions } from '../words.ts'
import { latestVersion } from './message.ts'

/** For `serve` itself, and for help and completion. */
export const serveOptions = {
  'pipefs-dir': {
    takes: 'DIR',
    summary: 'where rpc_pipefs is mounted (default: nfs.conf, then /run/rpc_pipefs or /var/lib/nfs/rpc_pipefs)',
  },
  'until-gone': {
    takes: undefined,
    summary: 'end with status 0 when the pipe disappears: one process for each server instance',
  },
  'max-version': { takes: 'N', summary: `use no later version of the protocol (1 to ${latestVersion})` },
  'ready-fd': {
    takes: 'N',
    summary: 'write a newline to this descriptor, and close it, as soon as messages are answered',
  },
} as const satisfies Record<string, { takes: string | undefined; summary: string }>

type ServeOption = keyof typeof serveOptions

export interface ServeOptions {
  readonly pipefsDirectory: string | undefined
  readonly untilGone: boolean
  readonly maxVersion: number
  readonly readyDescriptor: number | undefined
}

const isServeOption = (name: string): name is ServeOption => Object.hasOwn(serveOptions, name)

/** @throws Failed bad-argument. */
export function serveOptionsFrom(words: readonly string[]): ServeOptions {
  const { given, rest } = readOptions(words, (word) => {
    const [, name = '', value] = /^--([a-z-]+)(?:=(.*))?$/s.exec(word) ?? []
    if (isServeOption(name)) return { name, takesValue: serveOptions[name].takes !== undefined, value }
    if (word.startsWith('-')) throw new Failed({ kind: 'bad-argument', why: 'unknown option of serve', word })
    return undefined
  })
  if (rest[0] !== undefined) throw new Failed({ kind: 'bad-argument', why: 'surplus argument of serve', word: rest[0] })
  const number = (name: ServeOption, least: number, most: number): number | undefined => {
    const word = given.get(name)
    if (word === undefined) return undefined
    if (!/^[0-9]{1,9}$/.test(word) || Number(word) < least || Number(word) > most)
      throw new Failed({ kind: 'bad-argument', why: `--${name} is no number from ${least} to ${most}`, word })
    return Number(word)
  }
  return {
    pipefsDirectory: given.get('pipefs-dir'),
    untilGone: given.has('until-gone'),
    maxVersion: number('max-version', 1, latestVersion) ?? latestVersion,
    // 0, 1 and 2 belong to the terminal.
    readyDescriptor: number('ready-fd', 3, 1_000_000),
  }
}
