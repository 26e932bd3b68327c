/** Commands that change nothing. */
import type { Command } from './command.ts'
import { doctorCommand } from '../doctor/doctor.ts'
import { listCommand } from '../list.ts'
import { showCommand } from '../show.ts'
import { statusCommand } from '../status.ts'

export const seeCommands: readonly Command[] = [statusCommand, listCommand, showCommand, doctorCommand]
