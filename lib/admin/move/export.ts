/** `export`: who may reclaim at the next start, for another tracker, another machine, or a program. Changes nothing here. */
import { randomUUID } from 'node:crypto'
import { dirname, join, resolve } from 'node:path'
import { Failed, quote } from '../../failure.ts'
import fs from 'node:fs'
import * as disk from '../../stable/disk.ts'
import { legacyTopIn } from '../../stable/legacy.ts'
import { command } from '../command.ts'
import { reclaimableAtNextStart } from '../next-start.ts'
import { print, say } from '../print.ts'
import { progress } from '../progress.ts'
import { nfsdThreads } from '../service.ts'
import { survey } from '../survey.ts'
import { refused } from './database.ts'
import { writeExport } from './json.ts'
import { legacyName, type Movable } from './movable.ts'
import { writeNfsdcld } from './nfsdcld.ts'
import { writeNfsdcltrack } from './nfsdcltrack.ts'

const trackers = ['json', 'nfsdcltrack', 'nfsdcld'] as const

export const exportCommand = command(
  'export',
  'write down who may reclaim at the next start, for another tracker',
  (cli) =>
    cli
      .option('to', { choices: trackers, default: 'json' as const, describe: 'for whom' })
      .option('output', { alias: 'o', type: 'string', describe: 'a new file; without it, JSON goes to standard output' })
      .option('dry-run', { type: 'boolean', default: false, describe: 'say what would be written, and write nothing' })
      .example('$0 export > clients.json', 'for import on another machine')
      .example('$0 export --to nfsdcltrack -o /var/lib/nfs/nfsdcltrack/main.sqlite', 'back to nfsdcltrack')
      .example('$0 export --to nfsdcld -o /var/lib/nfs/nfsdcld/main.sqlite', 'on to nfsdcld'),
  async ({ to, output, 'dry-run': dryRun }, { stateDirectory, nfsdDirectory }) => {
    process.umask(0o077)
    const threads = nfsdThreads(nfsdDirectory)
    const { instance, clients: all, oddities, ...read } = survey(stateDirectory)
    if (instance.kind === 'damaged')
      throw refused(`${instance.file} in ${quote(stateDirectory)} can't be understood (${instance.why}), so nobody may reclaim`)
    if (output === undefined && to !== 'json') throw new Failed({ kind: 'bad-argument', why: `a database needs a file: say --output` })
    if (output !== undefined && fs.existsSync(output)) throw new Failed({ kind: 'bad-argument', why: 'there is such a file already', word: output })
    const clients: readonly Movable[] = reclaimableAtNextStart({ instance, clients: all, oddities, ...read }).map((client) => ({ ...client, session: client.session === true }))
    const matchOnly = disk.namesIn(legacyTopIn(stateDirectory)).filter((name) => legacyName.test(name))

    if (threads > 0 && to !== 'json') say('nfsd is running: what changes from now on is not in the export. Stop it first')
    const damaged = oddities.filter(({ kind }) => kind === 'damaged').length
    if (damaged > 0) say(`${damaged} entries that can't be understood allow nothing, and are left out`)
    if (matchOnly.length > 0 && to === 'nfsdcltrack')
      say(`${matchOnly.length} clients of the kernel's own tracker stay where they are: nfsdcltrack takes them over by itself`)
    if (dryRun) {
      print(`${clients.length} clients would be written for ${to === 'json' ? 'import' : to}\n`)
      return 0
    }
    const now = Math.floor(Date.now() / 1000)
    const bytes = await written()
    if (output === undefined) print(Buffer.from(bytes).toString())
    else {
      makeFile(resolve(output), bytes)
      print(`${clients.length} clients written to ${quote(resolve(output))}\n`)
    }
    return 0

    async function written(): Promise<Uint8Array> {
      const shown = progress('writing clients', clients.length)
      let count = 0
      const one = (): void => { shown(++count) }
      switch (to) {
        case 'json':
          return Buffer.from(writeExport(clients, matchOnly, now))
        case 'nfsdcltrack':
          return writeNfsdcltrack(clients, now, one)
        case 'nfsdcld':
          return writeNfsdcld(clients, matchOnly, one)
      }
    }
  },
)

/** A new file, whole and durable, or none. @throws the file system's error, also if the name has been taken meanwhile. */
function makeFile(path: string, bytes: Uint8Array): void {
  const staged = join(dirname(path), `.${randomUUID()}`)
  const descriptor = fs.openSync(staged, 'wx', 0o600)
  try {
    fs.writeFileSync(descriptor, bytes)
    fs.fsyncSync(descriptor)
    fs.linkSync(staged, path)
  } finally {
    fs.closeSync(descriptor)
    fs.unlinkSync(staged)
  }
  disk.syncDirectory(dirname(path))
}
