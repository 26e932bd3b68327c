/** Lists the system's directories with Node's own functions. */
import fs from 'node:fs'
import { tolerating } from '../../syscalls/files.ts'

/** The names in a directory, with links followed; none, if it does not exist. */
export const namesIn = (path: string | Buffer): string[] =>
  tolerating(['ENOENT', 'ENOTDIR', 'ELOOP'], () => fs.readdirSync(path), [])
