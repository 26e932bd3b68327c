/** The commands of this room, in the order in which help shows them. */
import type { Command } from '../shared/command.ts'
import { completionCommand } from './completion.ts'
import { installCommand } from './install.ts'
import { uninstallCommand } from './uninstall.ts'

export const installCommands: readonly Command[] = [installCommand, uninstallCommand, completionCommand]
