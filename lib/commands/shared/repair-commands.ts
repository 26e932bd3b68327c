/** The commands that change what is recorded. */
import type { Command } from './command.ts'
import { allowCommand } from '../allow.ts'
import { expireCommand } from '../expire.ts'
import { pruneCommand } from '../prune.ts'
import { verifyCommand } from '../verify.ts'

export const repairCommands: readonly Command[] = [expireCommand, pruneCommand, allowCommand, verifyCommand]
