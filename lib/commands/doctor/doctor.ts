/** `doctor`: checks everything that recovery depends on, and explains each fault with a command that repairs it. */
import { failureFrom, report } from '../../failure.ts'
import { counted, oneLine } from '../../text.ts'
import { assertRoot, command, jsonOption } from '../shared/command.ts'
import type { Context } from '../shared/context.ts'
import { print, printJson } from '../shared/print.ts'
import { toned, width, wrapped, type Tone } from '../shared/table.ts'
import { expectRecovery, tellExpected } from './expect-recovery.ts'
import type { Finding, Said, Verdict } from './finding.ts'
import * as kernel from './kernel-checks.ts'
import { mountOrder } from './order-check.ts'
import { parentsAreOurs, runDirectoryIsOurs } from './parents-check.ts'
import * as pipe from './pipe-checks.ts'
import * as program from './program-checks.ts'
import { service } from './service-check.ts'
import { siteFor, type Site } from './site.ts'
import * as state from './state-checks.ts'
import * as time from './time-checks.ts'

/** The checks, in the order in which a start depends on them. Programs use the names, so they stay. */
const checks: Readonly<Record<string, (site: Site) => Said | Promise<Said>>> = {
  'kernel-support': kernel.support,
  'static-helper': kernel.staticHelper,
  nfsdcld: kernel.daemon,
  'cltrack-prog': program.parameterNames,
  executable: program.programRuns,
  remembered: program.namedAfterReboot,
  tracker: kernel.tracker,
  pipe: pipe.pipe,
  'pipe-clients': pipe.pipeClients,
  'nfsd-files': kernel.nfsdFiles,
  configuration: state.configuration,
  'state-directory': state.stateDirectoryIsOurs,
  'state-way': parentsAreOurs,
  'run-directory': runDirectoryIsOurs,
  storage: state.storage,
  'mount-order': mountOrder,
  service,
  room: state.freeSpace,
  records: state.records,
  instance: state.instance,
  v4recovery: state.leftovers,
  'grace-time': time.graceTime,
  clock: time.clock,
}

/** The names of the checks, in order. */
export const checkNames: readonly string[] = Object.keys(checks)

/** The status of "something is wrong", for monitoring. */
const somethingIsWrong = 1

export const doctorCommand = command(
  'doctor',
  'check everything that recovery depends on, and print a command for each fault',
  (cli) =>
    cli
      .option('json', jsonOption)
      .option('expect-recovery', {
        type: 'boolean',
        default: false,
        describe: 'before a restart: will every client of the server be able to reclaim?',
      })
      .example('$0 doctor --expect-recovery && systemctl restart nfs-server', 'restart only if no client loses locks')
      .example('$0 doctor', 'why clients lose their locks')
      .example('$0 doctor --json', 'for monitoring: exit status 1 if anything is wrong')
      .epilogue(
        oneLine`
          Exit status: 0 if nothing is wrong, else 1. With --expect-recovery: 0 if every client will be able to reclaim,
          else 1.
        `,
      ),
  async ({ json, 'expect-recovery': expecting }, settings) => {
    assertRoot('doctor')
    if (expecting) return tellExpected(await expectRecovery(settings), { json })
    const examined = await examine(settings)
    if (json) printJson(forPrograms(examined))
    else print(inWords(examined))
    return examined.wrong > 0 ? somethingIsWrong : 0
  },
)

export interface Examined {
  readonly findings: readonly Finding[]
  /** How many findings are wrong. */
  readonly wrong: number
}

/** Checks everything, and changes nothing. */
export async function examine(settings: Context): Promise<Examined> {
  const site = await siteFor(settings)
  const findings: Finding[] = []
  for (const [check, look] of Object.entries(checks)) findings.push({ check, ...(await lookedAt(look, site)) })
  return { findings, wrong: findings.filter(({ verdict }) => verdict === 'wrong').length }
}

/** The result for `--json`, in a form that stays (docs/json.md). */
export const forPrograms = ({ findings, wrong }: Examined): object => ({
  wrong,
  findings: findings.map(({ check, verdict, what, why, mend }) => ({
    check,
    verdict,
    what,
    why: why ?? null,
    mend: mend ?? null,
  })),
})

async function lookedAt(look: (site: Site) => Said | Promise<Said>, site: Site): Promise<Said> {
  try {
    return await look(site)
  } catch (thrown) {
    // If the disk prevents a check, that is a fault as well.
    return { verdict: 'wrong', what: report(failureFrom(thrown)).line, why: 'This could not be checked.' }
  }
}

const marks: Readonly<Record<Verdict, readonly [Tone, string]>> = {
  good: ['good', 'good '],
  wrong: ['bad', 'WRONG'],
  doubtful: ['doubtful', 'look '],
  unknown: ['faint', '?    '],
}

export function inWords({ findings, wrong }: Examined): string {
  const tone = toned()
  const lines = findings.flatMap(({ verdict, what, why, mend }) => {
    const [colour, mark] = marks[verdict]
    const indented = (text: string): string[] => wrapped(text, width - indent.length).map((line) => indent + line)
    const [first = '', ...rest] = indented(what)
    return [
      `${tone(colour, mark)} ${first.slice(indent.length)}`,
      ...rest,
      ...(why === undefined ? [] : indented(why).map((line) => tone('faint', line))),
      // This line is never wrapped, so that it can be copied.
      ...(mend === undefined ? [] : [`${indent}${tone('strong', `> ${mend}`)}`]),
    ]
  })
  const unseen = findings.filter(({ verdict }) => verdict === 'unknown').length
  const verdict = wrong === 0 ? 'Nothing is wrong' : `${counted(wrong, 'thing is', 'things are')} wrong`
  return `${[...lines, '', `${verdict}${unseen > 0 ? `; ${unseen} could not be checked` : ''}.`].join('\n')}\n`
}

const indent = '      '
