/** What `install` and `uninstall` report. */
import { join } from 'node:path'
import { printable } from '../../text.ts'
import { forPrograms, inWords, type Examined } from '../doctor/doctor.ts'
import { print, printJson } from '../shared/print.ts'
import type { Action } from './activation.ts'
import type { Outcome } from './place.ts'
import { inWords as choiceInWords, type Choice } from './tracker.ts'

/** What is reported, also by `--json` (docs/json.md). */
export interface Report {
  readonly root: string
  readonly dryRun: boolean
  /** Whether the distribution's package has put most files there, so that they were left alone. */
  readonly packaged: boolean
  /** Undefined, if nothing is chosen. */
  readonly tracker: Choice | undefined
  /** Why nfsdcld stays, and how to replace it. */
  readonly keptNfsdcld: string | undefined
  readonly files: readonly { readonly path: string; readonly outcome: Outcome }[]
  readonly actions: readonly Action[]
  /** What doctor found afterwards; undefined, if the target system does not run. */
  readonly examined: Examined | undefined
}

/** Paths in the list of installed files that we never install: they are reported, and not touched. */
export const leftAlone = (foreign: readonly string[]): Report['files'] =>
  foreign.map((path) => ({ path: printable(Buffer.from(path)), outcome: 'left alone: not ours' }))

/** 1: the files are in place, but the running system could not be told, or its kernel has no use for them. */
export const outcomeOf = (actions: readonly Action[], tracker?: Choice): number =>
  tracker?.takes === 'none' || actions.some(({ outcome }) => outcome.startsWith('failed')) ? 1 : 0

export function say(report: Report, { json }: { readonly json: boolean }): void {
  const { examined, dryRun, tracker, keptNfsdcld, ...rest } = report
  if (json)
    printJson({
      ...rest,
      tracker: tracker ?? null,
      nfsdcld_kept: keptNfsdcld ?? null,
      dry_run: dryRun,
      doctor: examined === undefined ? null : forPrograms(examined),
    })
  else
    print(
      [...lines(report), '', ...(examined === undefined ? [] : ['What doctor finds now:', '', inWords(examined)])].join(
        '\n',
      ),
    )
}

function lines({ root, dryRun, packaged, tracker, keptNfsdcld, files, actions }: Report): string[] {
  const width = Math.max(0, ...files.map(({ outcome }) => outcome.length))
  return [
    ...(dryRun ? ['Dry run: nothing was changed. Without --dry-run this would be the result:'] : []),
    ...files.map(
      ({ path, outcome }) =>
        `${outcome.padEnd(width)}  ${outcome === 'left alone: not ours' ? path : join(root, path)}`,
    ),
    ...(packaged ? ['The package manager keeps the files of the package.'] : []),
    ...actions.map(({ what, outcome }) => `${outcome}: ${what}`),
    ...(tracker === undefined ? [] : [choiceInWords(tracker)]),
    ...(keptNfsdcld === undefined ? [] : [keptNfsdcld]),
    ...(root === '/' || dryRun
      ? []
      : [`The running system was not told, and doctor was not run: ${root} is another system.`]),
  ]
}
