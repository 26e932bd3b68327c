/**
 * Where things are: the command line over the configuration over what is usual.
 * The kernel passes no options, so the configuration file is the only way to set anything for an upcall; nothing in it is
 * ever fatal there.
 */
import { quote } from '../failure.ts'
import { calls } from '../system/kernel.ts'
import { errno, errorName } from '../system/errno.ts'
import { openFlags } from '../system/open-flags.ts'
import { textOf } from '../system/text.ts'
import { assignmentsIn, booleanFrom } from './nfs-conf.ts'
import type { OptionName } from './options.ts'

export interface Settings {
  readonly stateDirectory: string
  readonly nfsdDirectory: string
  readonly foreground: boolean
  readonly debug: boolean
  /** What in the configuration could not be understood, one line each. */
  readonly complaints: readonly string[]
}

const section = 'nfsd-userland-helper'

export function settingsFrom(given: ReadonlyMap<OptionName, string>): Settings {
  const complaints: string[] = []
  const configured = new Map<string, string>()
  const complain = (file: string, what: string): void => void complaints.push(`${quote(file)}: ${what}`)

  for (const file of configurationFiles(given.get('config') ?? '/etc/nfs.conf', complain)) {
    const bytes = readConfiguration(file, complain)
    if (!mentions(bytes, section)) continue
    for (const { key, value } of assignmentsIn(textOf(bytes), section)) {
      const understood = understand(key, value)
      if (understood === true) configured.set(key, value)
      else complain(file, `${understood}: ignored`)
    }
  }
  const directory = (name: 'state-dir' | 'nfsd-dir', usual: string): string => {
    const named = given.get(name) ?? configured.get(name)
    return named === undefined ? usual : isPlain(named) ? named : process.getBuiltinModule('node:path').resolve(named)
  }
  return {
    stateDirectory: directory('state-dir', '/var/lib/nfs'),
    nfsdDirectory: directory('nfsd-dir', '/proc/fs/nfsd'),
    foreground: given.has('foreground'),
    debug: given.has('debug') || (configured.has('debug') && booleanFrom(configured.get('debug') ?? '') === true),
    complaints,
  }
}

function understand(key: string, value: string): true | string {
  switch (key) {
    case 'state-dir':
    case 'nfsd-dir':
      return value.startsWith('/') || `${key} is not an absolute path: ${quote(value)}`
    case 'debug':
      return booleanFrom(value) !== undefined || `debug is neither yes nor no: ${quote(value)}`
    default:
      return `unknown key ${quote(key)}`
  }
}

/** Absolute, and spelled as it would be if it were resolved: `node:path` is not worth its loading then. */
const isPlain = (path: string): boolean => path.startsWith('/') && !path.endsWith('/') && !path.includes('//') && !path.includes('/.')

/** The file and its drop-ins, in the order in which nfs-utils reads them. */
function configurationFiles(file: string, complain: (file: string, what: string) => void): string[] {
  const dropIns = `${file}.d`
  const files = [file]
  const entries = calls.entries(dropIns)
  if (typeof entries === 'number') {
    if (entries !== -errno.ENOENT) complain(dropIns, errorName(entries))
    return files
  }
  for (const { name } of entries) if (name.endsWith('.conf') && !name.startsWith('.')) files.push(`${dropIns}/${name}`)
  return files.length > 2 ? [file, ...files.slice(1).sort()] : files
}

/** A device or a pipe in its place shall not be read for ever. */
const mostPages = 256
const pageSize = 4096
const nothing = new Uint8Array(0)

/** Most configurations have no word for us, and these need not be decoded. A word that lies across two pages is found as well. */
function mentions(bytes: Uint8Array, word: string): boolean {
  for (let at = 0; at < bytes.length; at += pageSize) {
    const codes = bytes.subarray(at, at + pageSize + word.length)
    if (String.fromCharCode.apply(null, codes as unknown as number[]).toLowerCase().includes(word)) return true
  }
  return false
}

function readConfiguration(file: string, complain: (file: string, what: string) => void): Uint8Array {
  // Not to wait for the other end of a pipe.
  const descriptor = calls.open(file, openFlags.O_RDONLY | openFlags.O_NONBLOCK, 0)
  if (descriptor < 0) {
    if (descriptor !== -errno.ENOENT) complain(file, `can't be read: ${errorName(descriptor)}`)
    return nothing
  }
  let bytes = nothing
  let length = -1
  for (let pages = 0; length !== 0 && pages < mostPages; pages++) {
    const page = new Uint8Array(pageSize)
    length = calls.read(descriptor, page)
    if (length < 0) break
    bytes = bytes.length === 0 ? page.subarray(0, length) : joined(bytes, page.subarray(0, length))
  }
  calls.close(descriptor)
  if (length >= 0) return bytes
  complain(file, `can't be read: ${errorName(length)}`)
  return nothing
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(first.length + second.length)
  both.set(first)
  both.set(second, first.length)
  return both
}
