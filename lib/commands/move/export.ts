/**
 * `export` writes which clients may reclaim at the next start, for another tracker, another machine, or a program. It
 * changes nothing here.
 */
import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { textOf } from '../../bytes.ts'
import { Failed, storageFailure } from '../../failure.ts'
import { legacyTopIn } from '../../store/v4recovery.ts'
import * as files from '../../syscalls/files.ts'
import { counted, oneLine, quote } from '../../text.ts'
import { meansAnother } from '../../upcall/message.ts'
import { command } from '../shared/command.ts'
import { reclaimableAtNextStart } from '../shared/next-start.ts'
import { print, say } from '../shared/print.ts'
import { nfsdThreads } from '../shared/service.ts'
import { writeExport } from './json.ts'
import { hashesIn } from './legacy-top.ts'
import type { Movable } from './movable.ts'
import { writeNfsdcld } from './nfsdcld.ts'
import { writeNfsdcltrack } from './nfsdcltrack.ts'

const trackers = ['json', 'nfsdcltrack', 'nfsdcld'] as const

export const exportCommand = command(
  'export',
  'write the clients that may reclaim at the next start, for another tracker',
  (cli) =>
    cli
      .option('to', { choices: trackers, default: 'json' as const, requiresArg: true, describe: 'the format' })
      .option('output', {
        alias: 'o',
        type: 'string',
        describe: 'a new file (default for JSON: standard output)',
      })
      .option('dry-run', { type: 'boolean', default: false, describe: 'only print what would be written' })
      .example('$0 export > clients.json', 'for import on another machine')
      .example('$0 export --to nfsdcltrack -o /var/lib/nfs/nfsdcltrack/main.sqlite', 'back to nfsdcltrack')
      .example('$0 export --to nfsdcld -o /var/lib/nfs/nfsdcld/main.sqlite', 'on to nfsdcld'),
  ({ to, output, 'dry-run': dryRun }, settings) => {
    process.umask(0o077)
    const { stateDirectory, nfsdDirectory } = settings
    const threads = nfsdThreads(nfsdDirectory)
    const { surveyed, clients: known, damaged } = reclaimableAtNextStart(settings)
    const { instance, untracked } = surveyed
    if (instance.kind === 'damaged')
      throw storageFailure(
        `${instance.file} in ${quote(stateDirectory)} can't be understood (${instance.why}), so no client may reclaim`,
      )
    if (output === undefined && to !== 'json')
      throw new Failed({ kind: 'bad-argument', why: `a database needs a file: use --output` })
    if (output !== undefined && fs.existsSync(output))
      throw new Failed({ kind: 'bad-argument', why: 'this file exists already', word: output })
    const path = output === undefined ? undefined : resolve(output)
    if (path !== undefined && !dryRun) prepareDirectoryOf(path, to)
    const matchOnly = hashesIn(legacyTopIn(stateDirectory), files.anywhere(settings.calls))

    if (threads > 0 && to !== 'json') say('nfsd is running: later changes will not be in the export. Stop it first')
    if (untracked)
      say(
        oneLine`
          a server instance ran that could not be recorded, or only in part, so after the next start no client may
          reclaim: the export is empty
        `,
      )
    if (to === 'nfsdcltrack') {
      const stay = [...matchOnly()].length
      if (stay > 0)
        say(`${counted(stay, 'client')} of the kernel's own tracker left out: nfsdcltrack takes them over by itself`)
    }
    const count: Count = { written: 0, principals: 0, leftOut: 0 }
    const clients = fitFor(to, known, count)
    if (dryRun) {
      while (clients.next().done !== true);
      print(`${counted(count.written, 'client')} would be written for ${to === 'json' ? 'import' : to}\n`)
    } else if (path === undefined) {
      for (const part of inParts(writeExport(clients, matchOnly(), now()))) if (!print(part)) break
    } else {
      makeFile(path, (descriptor) => {
        if (to === 'nfsdcltrack') writeNfsdcltrack(descriptor, clients, now())
        else if (to === 'nfsdcld') writeNfsdcld(descriptor, clients, matchOnly())
        else for (const part of inParts(writeExport(clients, matchOnly(), now()))) fs.writeFileSync(descriptor, part)
      })
      print(`${counted(count.written, 'client')} written to ${quote(path)}\n`)
    }
    sayLoss(to, count, damaged())
    return 0
  },
)

type Tracker = (typeof trackers)[number]

interface Count {
  written: number
  /** How many of the exported clients need a principal. */
  principals: number
  leftOut: number
}

/** The clients that the other tracker can have without harm. @param count is complete at the end */
function* fitFor(to: Tracker, clients: Iterable<Movable>, count: Count): Generator<Movable> {
  for (const { owner, session, recorded, principal } of clients) {
    if (to === 'nfsdcld' && meansAnother(textOf(owner))) {
      count.leftOut++
      continue
    }
    count.written++
    if (principal !== undefined) count.principals++
    yield { owner, session, recorded, principal }
  }
}

/** Reports what of the records is not in the export. */
function sayLoss(to: Tracker, { leftOut, principals }: Count, damaged: number): void {
  if (leftOut > 0)
    say(
      oneLine`
        ${counted(leftOut, 'client')} left out: an owner that begins with hash: would let another client reclaim there
      `,
    )
  if (to === 'nfsdcltrack' && principals > 0)
    say(`${counted(principals, 'client')} written without the Kerberos principal, which nfsdcltrack can't keep`)
  if (damaged > 0)
    say(`${counted(damaged, 'entry', 'entries')} that can't be understood, left out: they let no client reclaim`)
}

const now = (): number => Math.floor(Date.now() / 1000)

/** This much is written at a time. */
const partSize = 1 << 16

/** Joins many small texts to larger ones. */
function* inParts(texts: Iterable<string>): Generator<string> {
  let part = ''
  for (const text of texts) {
    part += text
    if (part.length < partSize) continue
    yield part
    part = ''
  }
  yield part
}

/**
 * A tracker makes the directory of its database when it first runs. If it never has, the directory is made here.
 * @throws Failed bad-argument, if there is nowhere to put the file
 */
function prepareDirectoryOf(path: string, to: Tracker): void {
  const directory = dirname(path)
  if (fs.existsSync(directory)) return
  if (to === 'json' || !fs.existsSync(dirname(directory)))
    throw new Failed({ kind: 'bad-argument', why: 'this directory does not exist', word: directory })
  fs.mkdirSync(directory, { mode: 0o700 })
  syncDirectory(dirname(directory))
}

function syncDirectory(path: string): void {
  const directory = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY)
  fs.fsyncSync(directory)
  fs.closeSync(directory)
}

/**
 * Makes a new file, complete and durable, or none.
 * @throws the file system's error, also if the name exists by then
 */
function makeFile(path: string, fill: (descriptor: number) => void): void {
  const staged = join(dirname(path), `.${randomUUID()}`)
  const descriptor = fs.openSync(staged, 'wx+', 0o600)
  try {
    fill(descriptor)
    fs.fsyncSync(descriptor)
    fs.linkSync(staged, path)
  } finally {
    fs.closeSync(descriptor)
    fs.unlinkSync(staged)
  }
  syncDirectory(dirname(path))
}
