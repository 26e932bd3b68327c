/** Is nfsdcld there? By its name: it is asked before anything depends on the answer being right. */
import fs from 'node:fs'

export const nfsdcldRuns = (): boolean =>
  fs.readdirSync('/proc').some((name) => /^[0-9]+$/.test(name) && commandOf(name) === 'nfsdcld\n')

function commandOf(process: string): string | undefined {
  try {
    return fs.readFileSync(`/proc/${process}/comm`, 'latin1')
  } catch {
    // It has ended meanwhile.
    return undefined
  }
}
