/**
 * The helper, broken on purpose: a check that never fails proves nothing. Each mutant is the built program with one
 * text replaced. It is asserted that the text was there, so that no mutant is the original.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensureDirSync, removeSync } from 'fs-extra/esm'
import { artefacts, root, type Artefact } from '../support/artefacts.ts'

interface Mutation {
  readonly what: string
  readonly change: readonly (readonly [RegExp, string])[]
}

export const mutations = {
  'no directory fsync': {
    what: 'no directory is ever synced',
    change: [[/(var sync = \(directory\) => \{\n\s*)syncDescriptor\(directory\);/, '$1void directory;']],
  },
  'no barrier after an upcall': {
    what: 'an upcall ends without its last barrier',
    change: [[/failureOf\(sync, directory\)/, 'void 0']],
  },
  'start without a barrier': {
    what: 'a start is answered before its barrier',
    change: [[/(return lookAt\(state\);\n\s*\}\);\n\s*)sync\(clientsOf\(state\)\);/, '$1']],
  },
  'remove syncs one directory': {
    what: 'remove in grace syncs only the newest instance',
    change: [[/sync: mayComeBackIn\(state, recorded\)/, 'sync: [directoryOf(state, recorded.instance.start)]']],
  },
  'grace done commits unsynced moves': {
    what: 'grace ends without syncing the records of those who reclaimed',
    change: [[/(noteGraceEnd\(state, noted\d*, request\.legacyTop\);[^]*?)syncReclaimed\(world\);/, '$1']],
  },
  'grace done in two calls': {
    what: 'grace done takes one fact away and makes the other, as the draft of 2010 did with its two renames',
    change: [[/!move\(partial, full, clients\)/, '!(remove(partial, clients) && makeLink("-", full, clients))']],
  },
  'sweep before the commit': {
    what: 'grace done removes the old records, then commits',
    change: [
      [
        /function endGrace\(world, \{ start \}, legacyTop\) \{\n/,
        '$&    for (const old of lookAt(world.state).starts) if (old < start) for (const { name: name2 } of entriesOf(directoryOf(world.state, old))) remove(name2, directoryOf(world.state, old));\n',
      ],
    ],
  },
  'reclaim by copy, old one first': {
    what: 'a reclaiming record is removed from the old instance, then made in the new one',
    change: [
      [
        /var move = \(from, to, within, into = within\) =>/,
        '$& within.path !== into.path && !into.path.endsWith("damaged") ? ((line) => line !== void 0 && remove(from, within) && makeLink(line, to, into))(readLink(from, within)) :',
      ],
    ],
  },
  'failed barrier forgiven': {
    what: 'an error of fsync on a directory is ignored',
    change: [
      [/(calls\.fsync\(descriptor\);\n\s*)if \(answer\d* < 0\) throw systemError\(answer\d*, "fsync", path\);/, '$1'],
    ],
  },
  'starts are times': {
    what: 'a server instance is named by the wall clock, and by nothing else',
    change: [
      [
        /const start = seen\.reduce\(\(latest, start2\) => Math\.max\(latest, start2 \+ 1\), earliest\);/,
        'const start = Math.max(0, now);',
      ],
      [
        /if \(makeDirectory\(String\(start\), clients\)\) return start;/,
        'makeDirectory(String(start), clients);\n      return start;',
      ],
      [/\"start\" in after\.instance && after\.instance\.start <= prepared\.start/, 'true'],
    ],
  },
  'checksum not looked at': {
    what: "a record's checksum is not looked at",
    change: [[/line\.slice\(sum\) === decoder\.checksum\(owner \+ core\) \+ rest \?/, 'end >= 0 ?']],
  },
  'remove forgets nobody': {
    what: 'remove takes a client out of no instance',
    change: [[/(for \(const start of those)\)/, '$1.slice(0, 0))']],
  },
  'what another has removed stays': {
    what: "an end of grace takes what another has just removed from the kernel's own tracker for what does not go",
    change: [[/found !== "absent" && \((typeof found !== "object" \|\| !removeIfEmpty\(.*\))\)/, '($1)']],
  },
  'a store in one piece': {
    what: 'a remove writes back the whole directory as it has read it a moment ago, and there is no lock',
    change: [
      [/const release = clients === void 0 \? void 0 : held\(.*\);/, 'const release = void 0;'],
      [
        /function dropNamed\(state, \w+, start\) \{\n.*\n.*return "nothing";\n/,
        '$&    const names = () => [...entriesOf(directory)].map((entry) => entry.name), read = names();\n    state.anywhere.calls.sleep(20);\n    for (const each of names()) if (!read.includes(each)) remove(each, directory);\n',
      ],
    ],
  },
  'grace done completes what it finds': {
    what: 'the end of grace completes whatever instance is the current one when it wakes up',
    change: [
      [
        /function endGrace\(world, \{ start \}, legacyTop\) \{\n/,
        '$&    start = lookAt(world.state).instance.start;\n',
      ],
    ],
  },
  'first grace forgotten': {
    what: 'what was recorded in a first grace period that never ended is forgotten',
    change: [[/full === void 0 \|\| start >= full/, 'full !== void 0 && start >= full']],
  },
  'no mark of a start': {
    what: 'a start makes no mark before anything else',
    change: [
      [
        /(function noteStart\(marked, kernelBootTime\) \{\n)/,
        '$1    return { ranUntracked: isMarked(marked, kernelBootTime), unmarked: void 0, marks: marked };\n',
      ],
    ],
  },
  'a check with a session is a record': {
    what: 'a check with a session takes a legacy client over',
    change: [
      [
        /session === "has session" \? allowUnchanged : \{ kind: "take-over"/,
        'false ? allowUnchanged : { kind: "take-over"',
      ],
    ],
  },
  'legacy clients stay': {
    what: "the end of grace leaves the directories of the kernel's own tracker",
    change: [[/(function clearLegacy\(\{ state, log \}, tops\) \{\n)/, '$1    return 0;\n']],
  },
  'a remove makes no note': {
    what: 'a remove notes nothing before its first change',
    change: [[/begins\(world, \{ kind: "remove", owner: request\.owner \}\)/, 'void 0']],
  },
  'a cut-short remove stays': {
    what: 'a start does not complete a remove that was cut short',
    change: [[/(function complete\([^]*?)forgetClient\(world, recorded, begun\.owner\)/, '$1{ sync: [] }']],
  },
  'a cut-short create stays': {
    what: 'a start does not take back the record of a create that was cut short',
    change: [[/undo\(world\.state, begun, [^;]*;/, '']],
  },
  'gracedone makes no note': {
    what: 'an end of grace notes nothing before its first change',
    change: [[/noteGraceEnd\(state, noted\d*, request\.legacyTop\)/, 'void 0']],
  },
} as const satisfies Record<string, Mutation>

export type Mutant = keyof typeof mutations

/** A mutant's text. @param text the program's, as one script. @throws if there is nothing to replace. */
export function mutated(name: Mutant, text = readFileSync(join(root, '.cache/engine/upcall.js'), 'utf8')): string {
  for (const [pattern, replacement] of mutations[name].change) {
    const changed = text.replace(pattern, replacement)
    if (changed === text) throw new Error(`mutant '${name}': ${String(pattern)} is not in the built program any more`)
    text = changed
  }
  return text
}

/** Builds a mutant's executable in a scratch directory. */
export function mutant(name: Mutant, directory: string): Artefact {
  ensureDirSync(directory)
  const text = mutated(name)
  const built = join(directory, name.replaceAll(' ', '-'))
  const source = `${built}.js`
  writeFileSync(source, text)
  // As the program is built, so that a mutant differs only in its fault.
  const build = (into: string, ...more: readonly string[]): void => {
    execFileSync(
      process.execPath,
      ['--import', 'tsx', join(root, 'lib/build/main.ts'), `--script=${source}`, `--into=${into}`, ...more],
      { cwd: root, stdio: ['ignore', 'ignore', 'pipe'] },
    )
  }
  build(built)
  const withOtherClock = name === 'starts are times' ? `${built}-other-clock` : built
  if (withOtherClock !== built)
    build(withOtherClock, `--link=${join(root, 'tests/support/wall-clock.c')}`, '--link=-Wl,--wrap=clock_gettime')
  return { name: 'executable', command: [built], withOtherClock: [withOtherClock] }
}

/** Builds a mutant, runs some work with it, and removes it. */
export async function withMutant<T>(name: Mutant, work: (broken: Artefact) => Promise<T>): Promise<T> {
  const directory = mkdtempSync('/dev/shm/nfsd-userland-helper-')
  try {
    return await work(mutant(name, directory))
  } finally {
    removeSync(directory)
  }
}

/** What a technique is tried on: what users run, or the mutant that PROOF_MUTANT names, with which it must fail. */
export function subjects(): readonly Artefact[] {
  const name = process.env['PROOF_MUTANT']
  if (name === undefined) return artefacts()
  if (!Object.hasOwn(mutations, name)) throw new Error(`PROOF_MUTANT=${name}: there is no such mutant`)
  const directory = mkdtempSync('/dev/shm/nfsd-userland-helper-')
  process.once('exit', () => {
    removeSync(directory)
  })
  return [mutant(name as Mutant, directory)]
}

export const executableSubject = (): Artefact | undefined => subjects().find(({ name }) => name === 'executable')
