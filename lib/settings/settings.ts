/**
 * Where things are. The command line overrides the configuration, which overrides the defaults.
 *
 * The kernel passes no options, so the configuration is the only way to set anything for an upcall. A line that can't
 * be understood is logged. It is fatal only if it says where things are (see files.ts).
 */
import type { Calls } from '../syscalls/calls.ts'
import { quote } from '../text.ts'
import { dropInsOf, holds, readConfiguration, refused } from './files.ts'
import { booleanFrom, readNfsConf, type Assignment } from './nfs-conf.ts'
import { options, type OptionName } from './options.ts'
import { asUtf8, resolved } from './path.ts'

export interface Settings {
  readonly stateDirectory: string
  readonly nfsdDirectory: string
  /** For notes and marks that need not survive a reboot. */
  readonly runDirectory: string
  /** The configuration that named the state directory, unless the command line did. */
  readonly configuration: Configuration | undefined
  readonly foreground: boolean
  readonly debug: boolean
  /** A line for each thing in the configuration that could not be understood. */
  readonly complaints: readonly string[]
}

export interface Configuration {
  readonly file: string
  /** It and its drop-ins are empty, or do not exist. */
  readonly empty: boolean
}

/** Only the command line can set it, so it is known even if the configuration can't be read. */
export const runDirectoryFrom = (calls: Calls, given: ReadonlyMap<OptionName, string>): string =>
  resolved(calls, given.get('run-dir') ?? options['run-dir'].usual)

/** @throws Failed, if the configuration can't be read, or it does not become clear from it where things are. */
export function settingsFrom(calls: Calls, given: ReadonlyMap<OptionName, string>): Settings {
  const file = resolved(calls, given.get('config') ?? options.config.usual)
  const { values, empty, complaints } = readAll(calls, file, naming(given))
  const directory = (name: 'state-dir' | 'nfsd-dir'): string => {
    const named = given.get(name)
    if (named !== undefined) return resolved(calls, named)
    const set = values.get(name)
    return set === undefined ? options[name].usual : absolute(calls, name, set)
  }
  const debug = values.get('debug')
  return {
    stateDirectory: directory('state-dir'),
    nfsdDirectory: directory('nfsd-dir'),
    runDirectory: runDirectoryFrom(calls, given),
    configuration: given.has('state-dir') ? undefined : { file, empty },
    foreground: given.has('foreground'),
    debug: given.has('debug') || (debug !== undefined && booleanFrom(debug.value) === true),
    complaints,
  }
}

/**
 * Where rpc_pipefs is mounted: by the command line, else by our section, else by `[general] pipefs-directory`, which
 * nfsdcld reads. @returns undefined, if none of them says it. @throws Failed as {@link settingsFrom}.
 */
export function pipefsDirectoryFrom(
  calls: Calls,
  given: ReadonlyMap<OptionName, string>,
  named: string | undefined,
): string | undefined {
  if (named !== undefined) return resolved(calls, named)
  const file = resolved(calls, given.get('config') ?? options.config.usual)
  const { values } = readAll(calls, file, naming(given), 'and of all')
  const ours = values.get('pipefs-dir')
  if (ours !== undefined) return absolute(calls, 'pipefs-dir', ours)
  const general = values.get(generalPipefs)
  return general === undefined ? undefined : absolute(calls, generalPipefs, general)
}

/** The value of a key, and the file that sets it. */
interface Value {
  readonly value: string
  readonly file: string
}

interface Gathered {
  readonly calls: Calls
  /** The last value of each of our keys. */
  readonly values: Map<string, Value>
  readonly complaints: string[]
  empty: boolean
  included: number
  /** Whether keys of nfs-utils count too. */
  readonly which: Which
}

type Which = 'ours' | 'and of all'

type Naming = 'named' | 'usual'

const naming = (given: ReadonlyMap<OptionName, string>): Naming => (given.has('config') ? 'named' : 'usual')

function readAll(calls: Calls, file: string, naming: Naming, which: Which = 'ours'): Gathered {
  const gathered: Gathered = { calls, values: new Map(), complaints: [], empty: true, included: 0, which }
  const main = readConfiguration(calls, file)
  if (main === 'directory') throw refused(file, 'is a directory')
  if (main !== 'absent') gather(gathered, wholeFile(file, main.text))
  // Without a configuration the defaults hold. But a configuration that is named must be there.
  else if (naming === 'named') throw refused(file, 'does not exist')

  for (const dropIn of dropInsOf(calls, file)) {
    const read = readConfiguration(calls, dropIn)
    if (read === 'directory') continue
    if (read !== 'absent') gather(gathered, wholeFile(dropIn, read.text))
    // If it was removed meanwhile, all is well. If it is a link that leads nowhere, its settings are unknown.
    else if (dropInsOf(calls, file).includes(dropIn)) throw refused(dropIn, 'is a link to a file that does not exist')
  }
  return gathered
}

const ours = 'nfsd-userland-helper'
const include = 'include'
/** nfs.conf(5): the one key of another section that is read here. */
const general = 'general'
const generalPipefs = 'pipefs-directory'

/** How deep files may include each other. */
const deepest = 8
/** How many files may be included in all, so that it ends. */
const mostIncluded = 1000
/** Each complaint is a line in the kernel's log. */
const mostComplaints = 20

/** A text of the configuration. */
interface Text {
  readonly file: string
  readonly text: string
  /** The section in which it begins: for an included file, that of its `include`. */
  readonly section: string
  /** The length of the chain of files that include it. */
  readonly depth: number
}

const wholeFile = (file: string, text: string): Text => ({ file, text, section: '', depth: 0 })

function gather(gathered: Gathered, source: Text): void {
  const { file, text, section } = source
  if (text === '') return
  gathered.empty = false
  // Without a newline at its end, a file may be cut off, and with it the name of a directory.
  const unended = text.endsWith('\n') ? '' : text.slice(text.lastIndexOf('\n') + 1)
  if (/^[ \t]*\[[^\]]*$/.test(unended))
    throw refused(file, 'may be cut off: its last line, which begins a section, has no newline')
  const lowerCase = text.toLowerCase()
  // Most configurations say nothing about this program.
  const has = (word: string): boolean => holds(lowerCase, word)
  const isOthers = gathered.which === 'and of all' && has(generalPipefs)
  if (section !== ours && !has(ours) && !has(include) && !isOthers) return

  const complain = (what: string): void => {
    if (gathered.complaints.length < mostComplaints) gathered.complaints.push(`${quote(file)}: ${what}: ignored`)
    else gathered.complaints[mostComplaints] = 'more of the configuration is ignored'
  }
  const { assignments, last, odd } = readNfsConf(
    text,
    section,
    (where, key) => where === ours || key === include || (where === general && key === generalPipefs),
  )
  if (last?.section === ours && last.key.endsWith('-dir') && /^[^#;=]*=/.test(unended))
    throw refused(file, `may be cut off: its last line, which sets ${last.key}, has no newline`)
  const lastOdd = odd.at(-1)
  if (lastOdd?.section === ours && lastOdd.line === unended.trim())
    throw refused(file, `may be cut off: its last line, ${quote(lastOdd.line)}, has no newline`)
  for (const { line, section: where } of odd)
    if (where === '' || where === ours)
      complain(where === '' ? `in no section: ${quote(line)}` : `not an assignment: ${quote(line)}`)
  for (const assignment of assignments) {
    const { section: where, key, value } = assignment
    if (key === include) {
      includeFile(gathered, assignment, source)
    } else if (where === general) {
      gathered.values.set(key, { value, file })
    } else if (where === ours) {
      if (!configurationKeys.includes(key)) complain(`unknown key ${quote(key)}`)
      else if (key === 'debug' && booleanFrom(value) === undefined)
        complain(`debug is neither yes nor no: ${quote(value)}`)
      else gathered.values.set(key, { value, file })
    }
  }
}

/** Ours. nfsd-userland-helper(5) describes each. */
export const configurationKeys: readonly string[] = ['state-dir', 'nfsd-dir', 'pipefs-dir', 'debug']

/**
 * `include = FILE`, or `-FILE` for one that may be missing; a path that is not absolute begins where the including file
 * is.
 */
function includeFile(gathered: Gathered, { section, value }: Assignment, { file: from, depth }: Text): void {
  if (depth === deepest)
    throw refused(from, `is included too deep: at most ${deepest} files may include each other in a row`)
  if (gathered.included++ === mostIncluded)
    throw refused(from, `includes too much: at most ${mostIncluded} files may be included`)
  const mayBeMissing = value.startsWith('-')
  const path = asUtf8(mayBeMissing ? value.slice(1) : value)
  if (path === undefined || path === '') throw refused(from, `has an include that names no file: ${quote(value)}`)
  const file = path.startsWith('/') ? path : `${from.slice(0, from.lastIndexOf('/'))}/${path}`
  const read = readConfiguration(gathered.calls, file)
  if (read === 'directory') throw refused(file, `is a directory, and is included by ${quote(from)}`)
  if (read !== 'absent') gather(gathered, { file, text: read.text, section, depth: depth + 1 })
  else if (!mayBeMissing) throw refused(file, `does not exist, and is included by ${quote(from)}`)
}

function absolute(calls: Calls, name: string, { value, file }: Value): string {
  const path = asUtf8(value)
  if (path === undefined) throw refused(file, `has a ${name} that is not UTF-8: ${quote(value)}`)
  if (!path.startsWith('/')) throw refused(file, `has a ${name} that is not an absolute path: ${quote(value)}`)
  return resolved(calls, path)
}
