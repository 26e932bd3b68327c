/**
 * `verify`: is everything in the state directory as this program leaves it? `--repair` moves what is not out of the way, into
 * v4clients/damaged, and deletes nothing.
 *
 * A repair lets nobody reclaim who could not before. Under a name the newest entry decides, be it damaged: so older entries
 * of that name go with it, first. A damaged new_boot_time may hide an end of grace, so boot_time goes with it, first, as it
 * would at the next start (lib/stable/instances.ts, commitStart). Killed in between, the rest still says that nobody may.
 */
import { basename, dirname, join } from 'node:path'
import { escaped, Failed, report } from '../../failure.ts'
import fs from 'node:fs'
import { startFromName, type Start } from '../../recovery/instance.ts'
import * as disk from '../../stable/disk.ts'
import { restoreDirectory } from '../../stable/instances.ts'
import { clientsOf, setAside, stateDirectory as stateAt, type StateDirectory } from '../../stable/state-directory.ts'
import { command } from '../command.ts'
import { consent, withConsent } from '../consent.ts'
import { holding } from '../hold.ts'
import { print, printJson, remark, textOfPath } from '../print.ts'
import { instanceJson } from '../see/view.ts'
import { survey, type Oddity, type Survey } from '../survey.ts'
import { toned } from '../table.ts'

interface Finding {
  readonly kind: Oddity['kind'] | 'open' | 'unusable'
  readonly path: string
  readonly why: string
}

/** What a kill or a power cut may leave, and what is already kept as evidence: nothing to mend. */
const harmless: readonly Finding['kind'][] = ['leftover', 'set-aside', 'newer']
const isWrong = ({ kind }: Finding): boolean => !harmless.includes(kind)

export const verifyCommand = command(
  'verify',
  'check everything in the state directory: records, names, times, ownership',
  (cli) =>
    withConsent(cli)
      .option('repair', { type: 'boolean', default: false, describe: 'move what is damaged into v4clients/damaged; nothing is deleted' })
      .option('json', { type: 'boolean', default: false, describe: 'a result for programs' })
      .example('$0 verify', 'exit status 1 if anything is wrong')
      .example('$0 verify --repair --dry-run', 'what would be moved'),
  async ({ repair, 'dry-run': dryRun, yes, json }, { stateDirectory }) => {
    process.umask(0o077)
    let { read, findings } = look(stateDirectory)
    const wrong = findings.filter(isWrong)
    const mendable = wrong.filter(({ kind }) => kind !== 'unusable')
    let mended: readonly Finding[] = []
    if (repair && !dryRun && read !== undefined && mendable.length > 0) {
      if (!yes) for (const finding of mendable) remark(line('would mend', finding))
      await consent(`${mendable.length} things are mended; what is damaged is kept in ${join(stateDirectory, 'v4clients/damaged')}. Go on?`, yes)
      mended = mendAll(stateDirectory)
      ;({ read, findings } = look(stateDirectory))
    }
    const left = findings.filter(isWrong)
    if (json)
      printJson({
        state_directory: textOfPath(stateDirectory),
        dry_run: dryRun,
        instance: read === undefined ? null : instanceJson(read),
        records: read === undefined ? null : read.clients.length,
        findings: findings.map((finding) => ({ ...shownFinding(finding), wrong: isWrong(finding) })),
        repaired: mended.map(shownFinding),
      })
    else {
      const tone = toned()
      for (const finding of mended) print(line(tone('good', 'mended'), finding))
      const verb = repair && dryRun ? 'would mend' : 'wrong'
      for (const finding of findings) print(line(isWrong(finding) ? tone('bad', finding.kind === 'unusable' ? 'wrong' : verb) : tone('faint', 'note'), finding))
      if (read !== undefined) print(`${read.clients.length} records can be understood; ${left.length === 0 ? 'nothing is wrong' : `${left.length} things are wrong`}\n`)
    }
    return left.length === 0 ? 0 : 1
  },
)

const shownFinding = ({ kind, path, why }: Finding): Record<string, string> => ({ kind, path: escaped(path), why })

const line = (what: string, { kind, path, why }: Finding): string => `${what}: ${kind} ${escaped(path)}: ${why}\n`

interface Looked {
  /** Undefined, if nothing in it may be believed. */
  readonly read: Survey | undefined
  readonly findings: readonly Finding[]
}

function look(stateDirectory: string): Looked {
  try {
    const read = survey(stateDirectory)
    return { read, findings: [...read.oddities, ...contradiction(read), ...open(read), ...falseMarks(read)] }
  } catch (thrown) {
    if (!(thrown instanceof Failed)) throw thrown
    const why = `${report(thrown.failure).line}: whatever is in it is not believed; see that nobody else can write there, and look at the records`
    return { read: undefined, findings: [{ kind: 'unusable', path: stateDirectory, why }] }
  }
}

/** Two times that can be read, and can't both be true. */
function* contradiction({ state, instance, bootTimes }: Survey): Generator<Finding> {
  if (instance.kind === 'damaged' && typeof bootTimes[instance.file] !== 'object')
    yield { kind: 'damaged', path: join(state.path, instance.file), why: instance.why }
}

/** Whoever may write into an instance decides who may reclaim. */
function* open({ state, starts }: Survey): Generator<Finding> {
  for (const path of [...starts.map(state.pathOf), join(state.clientsPath, 'damaged')]) {
    const found = disk.directoryAt(path)
    if (typeof found !== 'object') continue
    if (found.uid !== process.geteuid?.()) yield { kind: 'open', path, why: `it belongs to another user (${found.uid}): look at what is in it` }
    else if ((found.mode & 0o022) !== 0) yield { kind: 'open', path, why: 'it is writable by others: look at what is in it' }
  }
}

/** Marks are links, made by one call. */
function* falseMarks({ state }: Survey): Generator<Finding> {
  for (const name of disk.namesIn(state.clientsPath)) {
    const path = join(state.clientsPath, name)
    const isMark = /^[0-9]+\.(?:grace_start|partial|full|unconfirmed|may_end_early|unasked|legacy)$/.test(name)
    if (isMark && disk.tolerating(['EINVAL'], () => disk.readLink(path) ?? '', undefined) === undefined)
      yield { kind: 'stray', path, why: 'it has the name of a mark, and is no link' }
  }
}

/** Mends what can be, under the lock, as it is found then. Durable when it returns. */
function mendAll(stateDirectory: string): readonly Finding[] {
  return holding(stateAt(stateDirectory), () => {
    const { read, findings } = look(stateDirectory)
    if (read === undefined) return []
    const wrong = findings.filter(isWrong)
    for (const finding of wrong) mend(read, finding)
    for (const start of read.starts) disk.syncDirectory(read.state.pathOf(start))
    disk.syncDirectory(join(read.state.clientsPath, 'damaged'))
    disk.syncDirectory(read.state.clientsPath)
    disk.syncDirectory(read.state.path)
    return wrong
  })
}

function mend({ state, starts, instance }: Survey, { kind, path }: Finding): void {
  const name = basename(path)
  switch (kind) {
    case 'damaged': {
      const start = startFromName(basename(dirname(path)))
      if (dirname(path) === state.path) {
        const root = disk.openDirectory(state.path, disk.anywhere, 'follow')
        if (typeof root !== 'object') return
        if (name === 'new_boot_time' || instance.kind === 'damaged') setAside(state, 'boot_time', root, 'boot_time')
        setAside(state, name, root, name)
        disk.close(root)
        return
      }
      for (const older of starts) if (start !== undefined && older < start) move(state, older, name)
      if (start !== undefined) move(state, start, name)
      return
    }
    case 'newer':
      return
    case 'stray':
      setAside(state, name, clientsOf(state), name)
      return
    case 'missing':
      if ('start' in instance) restoreDirectory(state, instance.start)
      return
    case 'open':
      fs.chownSync(path, process.geteuid?.() ?? 0, process.getegid?.() ?? 0)
      fs.chmodSync(path, 0o700)
      return
    case 'leftover':
    case 'set-aside':
    case 'unusable':
      return
  }
}

function move(state: StateDirectory, start: Start, name: string): void {
  const directory = state.of(start)
  if (directory !== undefined) setAside(state, name, directory, `${start}-${name}`)
}
