/** Whether systemd runs this machine. */
import fs from 'node:fs'

/** It exists as long as systemd runs (sd_booted(3)). */
export const systemdRuns = '/run/systemd/system'

export const bootedBySystemd = (): boolean => fs.existsSync(systemdRuns)
