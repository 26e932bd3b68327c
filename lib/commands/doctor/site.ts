/** What the checks look at, gathered once. If something could not be read, its place says so. */
import fs from 'node:fs'
import { failureFrom, report } from '../../failure.ts'
import { helperParameter, nfsdModule } from '../../kernel/nfsd-module.ts'
import type { Context } from '../shared/context.ts'
import { kernelConfig, type KernelConfig } from '../shared/kernel-config.ts'
import { kernelLines } from '../shared/kernel-log.ts'
import { askKernel, type Kernel } from '../shared/kernel.ts'
import { tallyOf, type Tally } from '../shared/oddities.ts'
import { textOfPath } from '../shared/print.ts'
import { helperPath, programPath } from '../shared/program.ts'
import { survey, type Survey } from '../shared/survey.ts'
import { trackerOf, type Tracker } from '../shared/tracker.ts'

export interface Site {
  readonly settings: Context
  readonly survey: (Survey & Tally) | { readonly failed: string }
  readonly kernel: Kernel
  readonly tracker: Tracker
  readonly config: KernelConfig | undefined
  readonly log: ReturnType<typeof kernelLines>
  /** nfsd's parameter that names the helper, as the kernel prints it. */
  readonly parameter: { readonly text: string } | 'absent' | 'unreadable'
  /** Whether nfsd is loaded, or built in. */
  readonly moduleLoaded: boolean
  /** The path by which the kernel should call this program. */
  readonly program: string
}

export async function siteFor(settings: Context): Promise<Site> {
  const kernel = await askKernel(settings)
  return {
    settings,
    survey: surveyed(settings),
    kernel,
    tracker: trackerOf(settings, kernel),
    config: kernelConfig(),
    log: kernelLines(),
    parameter: readParameter(),
    moduleLoaded: fs.existsSync(nfsdModule),
    program: fs.existsSync(helperPath) ? helperPath : ownPath(),
  }
}

function surveyed(settings: Context): Site['survey'] {
  try {
    const read = survey(settings)
    return { ...read, ...tallyOf(read) }
  } catch (thrown) {
    return { failed: report(failureFrom(thrown)).line }
  }
}

function readParameter(): Site['parameter'] {
  try {
    return { text: fs.readFileSync(helperParameter, 'latin1') }
  } catch {
    return fs.existsSync(helperParameter) ? 'unreadable' : 'absent'
  }
}

function ownPath(): string {
  const path = programPath()
  try {
    return fs.realpathSync(path)
  } catch {
    return path
  }
}

/** A word for a shell, quoted if necessary. Bytes that are UTF-8 are shown as such. */
export function shellWord(word: string): string {
  const text = textOfPath(word)
  const shown = text.includes('\ufffd') ? word : text
  return /^[A-Za-z0-9_./:=@%+-]+$/.test(shown) ? shown : `'${shown.replaceAll("'", "'\\''")}'`
}
