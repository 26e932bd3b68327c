/** Every command for people, in the order in which help shows them. */
import { allowCommand } from './allow.ts'
import { doctorCommand } from './doctor/doctor.ts'
import { expireCommand } from './expire.ts'
import { completionCommand } from './install/completion.ts'
import { installCommand } from './install/install.ts'
import { uninstallCommand } from './install/uninstall.ts'
import { listCommand } from './list.ts'
import { exportCommand } from './move/export.ts'
import { importCommand } from './move/import.ts'
import { pruneCommand } from './prune.ts'
import { selftestCommand } from './selftest.ts'
import { serveCommand } from './serve.ts'
import type { Command } from './shared/command.ts'
import { showCommand } from './show.ts'
import { statusCommand } from './status.ts'
import { verifyCommand } from './verify.ts'

const thatOnlyLook = [statusCommand, listCommand, showCommand, doctorCommand]
const thatChangeRecords = [expireCommand, pruneCommand, allowCommand, verifyCommand]
const thatMoveClients = [importCommand, exportCommand]
const thatChangeTheSystem = [installCommand, uninstallCommand, completionCommand]

export const commands: readonly Command[] = [
  ...thatOnlyLook,
  ...thatChangeRecords,
  ...thatMoveClients,
  selftestCommand,
  ...thatChangeTheSystem,
  serveCommand,
]
