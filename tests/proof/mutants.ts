/**
 * The helper, broken on purpose: a check that never fails proves nothing. Each mutant is the built program with one text
 * replaced; that the text was there is asserted, so that no mutant silently is the original.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { artefacts, root, type Artefact } from '../artefacts.ts'

interface Mutation { readonly what: string; readonly change: readonly (readonly [RegExp, string])[] }

export const mutations = {
  'no directory fsync': {
    what: 'no directory is ever synced',
    change: [[/(function syncDirectory\(path\) \{\n(?:.*\n)*?.*?)\bsync\(descriptor, path\);/, '$1void descriptor;']],
  },
  'no file fsync': {
    what: 'boot time files are renamed into place unsynced',
    change: [[/(function writeSynced\(path, text\) \{\n(?:.*\n)*?.*?)\bsync\(descriptor, path\);/, '$1void descriptor;']],
  },
  'no barrier after an upcall': {
    what: 'an upcall ends without its last barrier',
    change: [[/(function settle\(.*\n)(?:.*syncDirectory.*\n)+/, '$1']],
  },
  'remove syncs one directory': {
    what: 'remove in grace syncs only the newest instance',
    change: [[/return \{ sync: mayComeBackIn\(state, recorded\) \};/, 'return { sync: [state.of(recorded.instance.start)] };']],
  },
  'start commits first': {
    what: 'new_boot_time is renamed before the instance it names is durable',
    change: [[/(for \(const mark of begins\).*\n\s*)syncDirectory\(state\.clients\);/, '$1']],
  },
  'grace done commits unsynced moves': {
    what: 'grace ends without syncing the records of those who reclaimed',
    change: [[/if \(request\.event === "grace-done"\) syncReclaimed\(world\);/, '']],
  },
  'grace done in two renames': {
    what: 'the draft of 2010: boot_time is renamed away first',
    change: [[/(function commitGraceEnd\(state, \{ start \}\) \{\n)/, '$1  tolerating(["ENOENT"], () => { require("node:fs").renameSync(state.bootTime("boot_time"), state.bootTime("old_boot_time")); }, undefined);\n']],
  },
  'sweep before the commit': {
    what: 'grace done removes the old records, then commits',
    change: [[/function endGrace\(world, instance, legacyTop\) \{\n/,
      '$&  for (const old of olderThan(instance, lookAt(world.state).starts)) for (const name of namesIn(world.state.of(old))) remove(`${world.state.of(old)}/${name}`);\n']],
  },
  'reclaim by copy, old one first': {
    what: 'a reclaiming record is removed from the old instance, then made in the new one',
    change: [[/var move = \(from, to\) =>.*/,
      'var move = (from, to) => { if (!from.includes("v4clients")) return (require("node:fs").renameSync(from, to), true); const line = readLink(from); return line !== void 0 && remove(from) && makeLink(line, to); };']],
  },
  'start in place': {
    what: 'boot time files are written where they stand',
    change: [[/replace\(state\.staged\("new_boot_time", start\), state\.bootTime\("new_boot_time"\)\);/, 'require("node:fs").writeFileSync(state.bootTime("new_boot_time"), String(start) + "\\n"); remove(state.staged("new_boot_time", start));']],
  },
  'failed barrier forgiven': {
    what: 'an error of fsync on a directory is ignored',
    change: [[/answered\(calls\.fsync\(descriptor\), "fsync", path\)/, 'calls.fsync(descriptor)']],
  },
  'starts are times': {
    what: 'a server instance is named by the wall clock, and by nothing else',
    change: [[/return seen\.reduce\(\(latest, start\) => Math\.max\(latest, start \+ 1\), now\d?\);/, 'return Math.max(0, Math.floor(nowMs / 1e3));'],
      [/while \(!makeDirectory\(state\.of\(start\)\)\) start = [^;]*;/, 'makeDirectory(state.of(start));'],
      [/if \(\[bootTime, newBootTime\]\.some\(\(seen\) => typeof seen === "number" && seen >= start\)\) \{/, 'if (false) {']],
  },
  'checksum not looked at': {
    what: "a record's checksum is not looked at",
    change: [[/ && recordLine\(owner, facts\) === line \?/, ' && line.includes(",check=") ?']],
  },
  'remove forgets nobody': {
    what: 'remove takes a client out of no instance',
    change: [[/(for \(const start of recorded\.starts)\)/, '$1.slice(0, 0))']],
  },
  'a store in one piece': {
    what: 'a remove writes back the whole directory as it has read it a moment ago, and there is no lock',
    change: [[/const release = take\(.*\);/, 'const release = void 0;'],
      [/function drop\(state, owner, start\) \{\n/,
        '$&  const read = namesIn(state.of(start)); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20); for (const name of namesIn(state.of(start))) if (!read.includes(name)) remove(`${state.of(start)}/${name}`);\n']],
  },
  'grace done commits what it finds': {
    what: 'the end of grace commits whatever new_boot_time says when it wakes up',
    change: [[/const named = tolerating\(cannotGrow, \(\) => makeHardLink\(newBootTime, own\), "no room"\);/, 'const named = "no room";']],
  },
} as const satisfies Record<string, Mutation>

export type Mutant = keyof typeof mutations

/** A mutant's text. @throws if there is nothing to replace. */
export function mutated(name: Mutant): string {
  let text = readFileSync(join(root, '.cache/engine/upcall.js'), 'utf8')
  for (const [pattern, replacement] of mutations[name].change) {
    const changed = text.replace(pattern, replacement)
    if (changed === text) throw new Error(`mutant '${name}': ${String(pattern)} is not in the built program any more`)
    text = changed
  }
  return text
}

/** Builds a mutant's executable into a scratch directory. */
export function mutant(name: Mutant, directory: string): Artefact {
  mkdirSync(directory, { recursive: true })
  const text = mutated(name)
  const built = join(directory, name.replaceAll(' ', '-'))
  const source = `${built}.js`
  writeFileSync(source, text)
  // As the program is built: a mutant may differ in nothing but its fault.
  execFileSync(process.execPath, ['--import', 'tsx', join(root, 'lib/build/main.ts'), `--script=${source}`, `--into=${built}`], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] })
  return { name: 'executable', command: [built], withOtherClock: [built] }
}

/** Builds a mutant, works with it, and removes it. */
export async function withMutant<T>(name: Mutant, work: (broken: Artefact) => Promise<T>): Promise<T> {
  const directory = mkdtempSync('/dev/shm/nfsd-userland-helper-')
  try {
    return await work(mutant(name, directory))
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** What a technique is tried on: what users run, or, to see it fail, the mutant that PROOF_MUTANT names. */
export function subjects(): readonly Artefact[] {
  const name = process.env['PROOF_MUTANT']
  if (name === undefined) return artefacts()
  if (!Object.hasOwn(mutations, name)) throw new Error(`PROOF_MUTANT=${name}: there is no such mutant`)
  const directory = mkdtempSync('/dev/shm/nfsd-userland-helper-')
  process.once('exit', () => { rmSync(directory, { recursive: true, force: true }) })
  return [mutant(name as Mutant, directory)]
}

/** What asks about the state that a subject left: the meaning of a state directory is one for both artefacts, and Node is slow to start. */
export const quickest = (subject: Artefact): Artefact =>
  subject.name === 'bundle' ? artefacts().find(({ name }) => name === 'executable') ?? subject : subject

export const executableSubject = (): Artefact | undefined => subjects().find(({ name }) => name === 'executable')
