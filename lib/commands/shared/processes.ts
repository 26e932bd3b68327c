/** Other processes, by what /proc says of them (proc(5)). One that ends meanwhile says nothing. */
import fs from 'node:fs'
import { tolerating } from '../../syscalls/files.ts'
import { namesIn } from './listing.ts'

/** The ids of all that can be seen. */
export const processes = (): string[] => namesIn('/proc').filter((name) => /^[0-9]+$/.test(name))

/** A file of a process; '' where it has ended, or may not be looked at. */
export const fileOf = (id: string, name: 'comm' | 'stat'): string =>
  tolerating(['ENOENT', 'ESRCH', 'EACCES', 'EPERM'], () => fs.readFileSync(`/proc/${id}/${name}`, 'latin1'), '')

/** What a process calls itself: anybody may call itself anything. */
export const commandOf = (id: string): string => fileOf(id, 'comm').trim()

/** By their name: they are asked for before anything depends on the answer being right. */
export const nfsdcldProcesses = (): string[] => processes().filter((id) => commandOf(id) === 'nfsdcld')

export const nfsdcldRuns = (): boolean => nfsdcldProcesses().length > 0
