/**
 * `boot_time`, `new_boot_time` and `old_boot_time`: files of the design of 2010, for people and for programs of format
 * 1. No decision depends on them. So they are written afterwards and without a barrier, and one that can't be written
 * stays as it was.
 */
import { errorCode } from '../failure.ts'
import { startFromText, startToText, type BootTimeFile, type Start } from '../rules/instance.ts'
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import type { StateDirectory } from './state-directory.ts'

/** @returns why it could not be written, or undefined. */
export const showStart = (state: StateDirectory, start: Start): string | undefined =>
  inRoot(state, (root) => {
    put(root, 'new_boot_time', start)
  })

/** @returns why it could not be written, or undefined. */
export const showGraceEnd = (state: StateDirectory, start: Start): string | undefined =>
  inRoot(state, (root) => {
    files.move('boot_time', 'old_boot_time', root)
    const shown = files.readSmallFile('new_boot_time', 32, root)
    // Most often this file has the right content already, and a rename needs no space.
    if (shown.kind === 'text' && startFromText(shown.text) === start) files.move('new_boot_time', 'boot_time', root)
    else put(root, 'boot_time', start)
  })

function inRoot(state: StateDirectory, work: (root: Directory) => void): string | undefined {
  const root = files.openDirectory(state.path, state.anywhere, 'follow')
  if (typeof root !== 'object') return 'no such directory'
  try {
    work(root)
    return undefined
  } catch (thrown) {
    return errorCode(thrown) ?? String(thrown)
  } finally {
    files.close(root)
  }
}

function put(root: Directory, file: BootTimeFile, start: Start): void {
  const staged = `${file}.${start}`
  files.remove(staged, root)
  if (files.writeNew(staged, startToText(start), root)) files.move(staged, file, root)
}
