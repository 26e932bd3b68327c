/**
 * The program that the kernel calls, seen from the commands for people: the executable, which hands its words on to
 * them (lib/hand-on.ts) and names itself as argv[0]; else Node's script.
 */
import { basename } from 'node:path'

export const name = 'nfsd-userland-helper'

/** Where `install` and the packages put it. */
export const helperPath = `/usr/sbin/${name}`

/** @returns the executable's path, or undefined where there is only Node's script. */
export const executablePath = (): string | undefined =>
  process.argv0.startsWith('/') && basename(process.argv0) === name ? process.argv0 : undefined

/** What is run, with which words before all others. */
export function programCommand(): readonly [string, ...string[]] {
  const executable = executablePath()
  return executable === undefined ? [process.execPath, ...process.argv.slice(1, 2)] : [executable]
}

/** The file that the kernel is to be told. */
export const programPath = (): string => executablePath() ?? process.argv[1] ?? process.execPath
