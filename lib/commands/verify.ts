/**
 * `verify`: checks whether everything in the state directory is as this program leaves it. `--repair` repairs what is
 * not (shared/repair.ts).
 */
import { Failed, report } from '../failure.ts'
import { counted, escaped, oneLine } from '../text.ts'
import { command, jsonOption } from './shared/command.ts'
import { consent, withConsent, type Answered } from './shared/consent.ts'
import { everythingIn } from './shared/oddities.ts'
import { print, printJson, remark, textOfPath } from './shared/print.ts'
import type { Oddity } from './shared/recorded-clients.ts'
import { repairAll } from './shared/repair.ts'
import { survey, type Survey, type Where } from './shared/survey.ts'
import { toned } from './shared/table.ts'
import { each, instanceJson } from './shared/view.ts'

interface Finding extends Pick<Oddity, 'path' | 'why'> {
  /** unusable: nothing in the state directory may be believed. */
  readonly kind: Oddity['kind'] | 'unusable'
}

/**
 * What a kill or a power cut may leave, what is already kept as evidence, and what a newer program wrote: none of it
 * needs a repair.
 */
const harmless: readonly Finding['kind'][] = ['leftover', 'set-aside', 'newer']
const isWrong = ({ kind }: Finding): boolean => !harmless.includes(kind)

export const verifyCommand = command(
  'verify',
  'check everything in the state directory: records, names, times, ownership',
  (cli) =>
    withConsent(cli)
      .option('repair', {
        type: 'boolean',
        default: false,
        describe: 'move what is damaged into v4clients/damaged; nothing is deleted',
      })
      .option('json', jsonOption)
      .example('$0 verify', 'exit status 1 if anything is wrong')
      .example('$0 verify --repair --dry-run', 'what would be moved'),
  async ({ repair, 'dry-run': dryRun, yes, json }, settings) => {
    process.umask(0o077)
    const mends = repair && !dryRun && (await mayMend(settings, { yes }))
    const count = { records: 0, wrong: 0 }
    if (json) {
      printJson({
        state_directory: textOfPath(settings.stateDirectory),
        dry_run: dryRun,
        repaired: mends ? each(repairAll(settings), shownFinding) : [],
        instance: () => {
          const read = readable(settings)
          return 'unusable' in read ? null : instanceJson(read)
        },
        findings: () =>
          each(findingsIn(settings, count), (finding) => ({ ...shownFinding(finding), wrong: isWrong(finding) })),
        records: () => ('unusable' in readable(settings) ? null : count.records),
      })
      return count.wrong === 0 ? 0 : 1
    }
    const tone = toned()
    if (mends) for (const finding of repairAll(settings)) print(line(tone('good', 'repaired'), finding))
    const verb = repair && dryRun ? 'would repair' : 'wrong'
    for (const finding of findingsIn(settings, count))
      print(
        line(
          isWrong(finding) ? tone('bad', finding.kind === 'unusable' ? 'wrong' : verb) : tone('faint', 'note'),
          finding,
        ),
      )
    const wrong = count.wrong === 0 ? 'nothing is wrong' : `${counted(count.wrong, 'thing is', 'things are')} wrong`
    const read = readable(settings)
    if (!('unusable' in read)) {
      // Any directory of ours passes, so a wrong path would look right.
      const isUnused = read.instance.kind === 'none' ? ', but no server has started with this directory yet' : ''
      print(`${counted(count.records, 'record')} can be understood; ${wrong}${isUnused}\n`)
    }
    return count.wrong === 0 ? 0 : 1
  },
)

/** Whether something needs a repair, and a person agrees to it. */
async function mayMend(settings: Where & { readonly stateDirectory: string }, answered: Answered): Promise<boolean> {
  let mendable = 0
  for (const finding of findingsIn(settings, { records: 0, wrong: 0 })) {
    if (!isWrong(finding) || finding.kind === 'unusable') continue
    mendable++
    if (!answered.yes) remark(line('would repair', finding))
  }
  if (mendable === 0) return false
  await consent(
    oneLine`
      ${counted(mendable, 'thing')} will be repaired; damaged entries are kept in
      ${escaped(settings.stateDirectory)}/v4clients/damaged. Go on?
    `,
    answered,
  )
  return true
}

const shownFinding = ({ kind, path, why }: Finding): Record<string, string> => ({ kind, path: escaped(path), why })

const line = (what: string, { kind, path, why }: Finding): string => `${what}: ${kind} ${escaped(path)}: ${why}\n`

function readable(where: Where): Survey | { readonly unusable: string } {
  try {
    return survey(where)
  } catch (thrown) {
    if (!(thrown instanceof Failed)) throw thrown
    return { unusable: report(thrown.failure).line }
  }
}

/** Finds everything that is wrong or worth a note. */
function* findingsIn(where: Where, count: { records: number; wrong: number }): Generator<Finding> {
  const read = readable(where)
  if ('unusable' in read) {
    count.wrong++
    const why = `${read.unusable} (nfsd-userland-helper doctor says what to do)`
    yield { kind: 'unusable', path: where.stateDirectory, why }
    return
  }
  for (const seen of everythingIn(read)) {
    if (seen.kind === 'record') {
      count.records++
      continue
    }
    if (isWrong(seen)) count.wrong++
    yield seen
  }
}
