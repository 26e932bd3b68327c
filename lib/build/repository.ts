/** Where the files of this repository are. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { refuseOldNode } from './node-version.ts'

refuseOldNode()

export const root = join(import.meta.dirname, '../..')
export const from = (path: string): string => join(root, path)
export const textAt = (path: string): string => readFileSync(from(path), 'utf8')
