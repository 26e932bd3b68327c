/**
 * Where things are: the command line over the configuration over what is usual.
 * The kernel passes no options, so the configuration file is the only way to set anything for an upcall; nothing in it is
 * ever fatal there.
 */
import { fs } from '../fs.ts'
import { join, resolve } from 'node:path'
import { errorCode, quote } from '../failure.ts'
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
    const text = readConfiguration(file, complain)
    if (!text.toLowerCase().includes(section)) continue
    for (const { key, value } of assignmentsIn(text, section)) {
      const understood = understand(key, value)
      if (understood === true) configured.set(key, value)
      else complain(file, `${understood}: ignored`)
    }
  }
  const directory = (name: 'state-dir' | 'nfsd-dir', usual: string): string => {
    const named = given.get(name) ?? configured.get(name)
    return named === undefined ? usual : resolve(named)
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

/** The file and its drop-ins, in the order in which nfs-utils reads them. */
function configurationFiles(file: string, complain: (file: string, what: string) => void): string[] {
  const dropIns = `${file}.d`
  try {
    const names = fs.readdirSync(dropIns).filter((name) => name.endsWith('.conf') && !name.startsWith('.'))
    return [file, ...names.sort().map((name) => join(dropIns, name))]
  } catch (thrown) {
    if (errorCode(thrown) !== 'ENOENT') complain(dropIns, errorCode(thrown) ?? String(thrown))
    return [file]
  }
}

/** A device or a pipe in its place shall not be read for ever. */
const mostPages = 256

function readConfiguration(file: string, complain: (file: string, what: string) => void): string {
  try {
    // Not to wait for the other end of a pipe.
    const descriptor = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK)
    try {
      // Not by readFileSync, which takes a buffer of 256 KB.
      const read: Buffer[] = []
      for (let length = -1; length !== 0 && read.length < mostPages; ) {
        const page = Buffer.allocUnsafe(4096)
        length = fs.readSync(descriptor, page, 0, page.length, null)
        if (length > 0) read.push(page.subarray(0, length))
      }
      return (read.length === 1 ? read[0] : Buffer.concat(read))?.toString() ?? ''
    } finally {
      fs.closeSync(descriptor)
    }
  } catch (thrown) {
    if (errorCode(thrown) !== 'ENOENT') complain(file, `can't be read: ${errorCode(thrown) ?? String(thrown)}`)
    return ''
  }
}
