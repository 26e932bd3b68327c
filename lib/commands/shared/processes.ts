/** Other processes, as /proc shows them (proc(5)). Nothing is known of one that ends meanwhile. */
import fs from 'node:fs'
import { tolerating } from '../../syscalls/files.ts'
import { namesIn } from './listing.ts'

/** The ids of all processes that can be seen. */
export const processes = (): string[] => namesIn('/proc').filter((name) => /^[0-9]+$/.test(name))

/** A file of a process; '' if the process has ended, or may not be looked at. */
export const fileOf = (id: string, name: 'comm' | 'stat'): string =>
  tolerating(['ENOENT', 'ESRCH', 'EACCES', 'EPERM'], () => fs.readFileSync(`/proc/${id}/${name}`, 'latin1'), '')

/** The name that a process gives itself. It may be any name. */
export const commandOf = (id: string): string => fileOf(id, 'comm').trim()

/** The processes that call themselves nfsdcld. */
export const nfsdcldProcesses = (): string[] => processes().filter((id) => commandOf(id) === 'nfsdcld')

export const nfsdcldRuns = (): boolean => nfsdcldProcesses().length > 0
