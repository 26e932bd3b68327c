/** Loaded before a script, writes into the file PEAK_MEMORY how much memory its process took at its peak, in MB. */
const { writeFileSync } = process.getBuiltinModule('node:fs')
process.once('exit', () => {
  writeFileSync(process.env.PEAK_MEMORY, String(Math.round(process.resourceUsage().maxRSS / 1024)))
})
