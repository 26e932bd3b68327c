/** Directories of the system's, by Node's own way. */
import fs from 'node:fs'
import { tolerating } from '../../syscalls/files.ts'

/** The names in a directory, links followed; none if it is not there. */
export const namesIn = (path: string | Buffer): string[] =>
  tolerating(['ENOENT', 'ENOTDIR', 'ELOOP'], () => fs.readdirSync(path), [])
