/** The commands by which clients come from other trackers, and go to them. */
import type { Command } from '../shared/command.ts'
import { exportCommand } from './export.ts'
import { importCommand } from './import.ts'

export const moveCommands: readonly Command[] = [importCommand, exportCommand]
