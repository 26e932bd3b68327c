/**
 * The program that the kernel calls, as the commands for people see it: the executable, which passes words on to them
 * (lib/hand-on.ts) and names itself in argv[0]; otherwise Node's script.
 */
import { basename } from 'node:path'

export const name = 'nfsd-userland-helper'

/** Where `install` and the packages put it. */
export const helperPath = `/usr/sbin/${name}`

/** @returns the executable's path; undefined, if there is only Node's script */
export const executablePath = (): string | undefined =>
  process.argv0.startsWith('/') && basename(process.argv0) === name ? process.argv0 : undefined

/** The program to run, and the words that come before all others. */
export function programCommand(): readonly [string, ...string[]] {
  const executable = executablePath()
  return executable === undefined ? [process.execPath, ...process.argv.slice(1, 2)] : [executable]
}

/** The file whose path the kernel is to be given. */
export const programPath = (): string => executablePath() ?? process.argv[1] ?? process.execPath
