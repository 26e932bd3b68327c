/**
 * A server instance that could not be recorded: its `init` failed, was killed, or hung, and the kernel goes on without
 * a tracker (nfs4recover.c, nfsd4_client_tracking_init). When its grace is over, which may be at once (`v4_end_grace`),
 * it grants locks that our records do not have. If a later start used these records, a client could reclaim a lock that
 * another client has had meanwhile.
 *
 * So a start makes a mark before it does anything else, and removes it last. If a later start finds a mark, an instance
 * ran untracked, and no client may reclaim. There are two exceptions. The first is a mark of the same start of the
 * server: kernels 6.8 to 6.13 call `init` twice for one, with the same boot time. The second is a mark whose process is
 * alive: the kernel waits for it, so no server has started yet. A mark of an earlier boot counts like any other,
 * because nothing has been recorded after it.
 *
 * A `remove` or an end of grace that the storage refuses leaves a mark too ({@link distrust}): the kernel ignores its
 * status, and grants locks to others while the old holder's record is still there. The upcall makes this mark when it
 * has failed, also by its own deadline. Only a start removes it: the kernel repeats neither upcall, and no other upcall
 * knows what the mark stands for. (`serve` repeats both, and removes its own mark.) What an upcall has begun that is
 * killed, begun.ts notes; the end of grace is noted here.
 *
 * An end of grace makes a mark with its instance's start ({@link noteGraceEnd}) before its first change, and removes it
 * when that is durable. So does a create or a check that finds the kernel out of grace, and can't record that. If such
 * an upcall is killed or fails, nothing else tells the next start that grace was over for those who had not reclaimed
 * (edge condition 2). That start ends the grace first. If the instance is full by then, the mark means nothing.
 *
 * The state directory may be what fails, so marks are in the run directory, and last as long as the machine is up
 * (docs/durability.md). A failure to make or remove a mark is logged, and does not fail the upcall: a start that is on
 * the disk has succeeded.
 */
import { errorCode, failureFrom, report } from '../failure.ts'
import { startFromName, type Start } from '../rules/instance.ts'
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import type { KernelBootTime } from '../upcall/request.ts'
import { markOf as markOfInstance } from './layout.ts'
import { holderName, lifeOf } from './process.ts'
import { makeRunDirectory, startMark } from './run-directory.ts'

/** Where marks are, and of which state directory they are: undefined, if the configuration could not be read. */
export interface Marked {
  /** For absolute paths. */
  readonly anywhere: Directory
  readonly runDirectory: string
  readonly path: string | undefined
  /** The name of this process; undefined, if it is not known yet. */
  us?: string | undefined
  /** The path of the mark of a start, if it is known: {@link withNames}. */
  readonly mark?: string
}

/**
 * The same, with the names of its marks: each is found out by as many calls as the state directory's path has parts.
 */
const withNames = (marked: Marked): Marked => ({
  anywhere: marked.anywhere,
  runDirectory: marked.runDirectory,
  path: marked.path,
  us: marked.us,
  mark: markOf(marked),
})

export interface Noted {
  /** Whether an instance ran that was not recorded. */
  readonly ranUntracked: boolean
  /** The end of a grace period that is not recorded. */
  readonly graceEnd: GraceEnd | undefined
  /** Why the mark could not be made, if it could not. */
  readonly unmarked: string | undefined
  /** What the same start forgets ({@link forgetUntracked}): by these names it has made its marks. */
  readonly marks: Marked
}

/** The kernel has ended an instance's grace. */
export interface GraceEnd {
  /** Undefined, if the mark can't be understood. */
  readonly start: Start | undefined
  /** The directory of the kernel's own tracker, if it was told. */
  readonly legacyTop: string | undefined
}

/** Notes that a start of the server has begun. It is the first thing that a start does. */
export function noteStart(marked: Marked, kernelBootTime: KernelBootTime | undefined): Noted {
  const { anywhere, runDirectory } = marked
  const us = ourName(marked)
  const marks = withNames(marked)
  const ran = isMarked(marks, kernelBootTime)
  const graceEnd = unrecordedGraceEnd(marks)
  const unmarked = whyNot(() => {
    makeRunDirectory(runDirectory, anywhere)
    const mark = markOf(marks)
    const text = `${us}/${kernelBootTime ?? ''}`
    // An untracked instance is remembered until a start is durable, whatever the boot time of that start. An end of
    // grace that is not recorded has a mark of its own, and may turn out to be recorded when the disk can be read
    // again.
    if (ran) files.makeLink('-', ranOf(marks), anywhere)
    if (!files.makeLink(text, mark, anywhere) && files.readLink(mark, anywhere) !== text) replace(mark, text, anywhere)
  })
  return { ranUntracked: ran, graceEnd, unmarked, marks }
}

/** Nobody's: a mark of that name counts, and to whoever has it every other mark does. */
const unknownHolder = '0.0.0.0.0'

/** A start fails where /proc can't be read, and must leave its mark all the same. */
function ourName(marked: Marked): string {
  try {
    return (marked.us ??= holderName(marked.anywhere))
  } catch {
    return unknownHolder
  }
}

/** Runs `work`. @returns the error, if there is one. */
function whyNot(work: () => void): string | undefined {
  try {
    work()
    return undefined
  } catch (thrown) {
    return errorCode(thrown) ?? report(failureFrom(thrown)).line
  }
}

/** Two starts at once may use the same temporary name. Then one of the two marks remains. */
const replace = (mark: string, text: string, anywhere: Directory): void => {
  files.replaceLink(text, mark, `${mark}.new`, anywhere)
}

/**
 * Whether the recorded grace period is that of the running server, according to the marks. The mark of an upcall that
 * failed does not contradict that: until grace ends, clients reclaim as if it did not exist.
 */
export const graceGoesOn = (marked: Marked): boolean =>
  !isMarkedByStart(marked, undefined) && unrecordedGraceEnd(marked) === undefined

/** Whether a start with that boot time must assume that an instance ran which was not recorded. */
export const isMarked = (marked: Marked, kernelBootTime?: KernelBootTime): boolean =>
  bothOf(marked).some((one) => markAt(ranOf(one), marked.anywhere) !== 'absent') ||
  isMarkedByStart(marked, kernelBootTime)

function isMarkedByStart(marked: Marked, kernelBootTime: KernelBootTime | undefined): boolean {
  const { anywhere } = marked
  return bothOf(marked).some((one) => {
    const link = markAt(markOf(one), anywhere)
    if (link === 'absent') return false
    if (link === 'no link' || isForeign(marked)) return true
    const [holder = '', bootTimeThen = ''] = link.text.split('/')
    const sameStart = kernelBootTime !== undefined && kernelBootTime === bootTimeThen
    return !sameStart && lifeOf(holder, ourName(marked), anywhere) !== 'alive'
  })
}

/** What stands in a mark's place. One that can't be read counts: a start goes on, and lets nobody reclaim. */
function markAt(mark: string, anywhere: Directory): ReturnType<typeof files.linkAt> {
  try {
    return files.linkAt(mark, anywhere)
  } catch {
    return 'no link'
  }
}

/**
 * Whether somebody else could have made a mark: then it counts, whatever it says. That none is missing can't be
 * checked. A start reports why it makes no mark there.
 */
const isForeign = ({ anywhere, runDirectory }: Marked): boolean =>
  files.whyNotOursAt(runDirectory, anywhere) !== undefined

/** This directory's marks, and those of starts that could not find out their directory. */
const bothOf = (marked: Marked): readonly Marked[] => [marked, ofUnknown(marked)]

const ofUnknown = ({ anywhere, runDirectory }: Marked): Marked => ({ anywhere, runDirectory, path: undefined })

/** The end of grace that the kernel has told, or an upcall has seen, and that is still not recorded. */
export function unrecordedGraceEnd(marked: Marked): GraceEnd | undefined {
  const { anywhere, path } = marked
  const link = markAt(endOf(marked), anywhere)
  if (link === 'absent') return undefined
  const noted = graceEndIn(link)
  if (path === undefined || noted.start === undefined || isForeign(marked)) return { ...noted, start: undefined }
  try {
    const full = `${path}/v4clients/${markOfInstance(noted.start, 'full')}`
    if (files.lookAtName(full, anywhere) !== undefined) return undefined
  } catch {
    // Then it can't be known, and the start that asks will find out.
  }
  return noted
}

function graceEndIn(link: ReturnType<typeof markAt>): GraceEnd {
  const [, name = '', legacyTop] = /^([0-9]+)(\/.*)?$/s.exec(typeof link === 'object' ? link.text : '') ?? []
  return { start: startFromName(name), legacyTop }
}

/**
 * To be called when a start is durable and complete. What failed before it no longer matters.
 * @returns why a mark stays, if it does.
 */
export const forgetUntracked = (marked: Marked): string | undefined =>
  whyNot(() => {
    // This directory's own marks go last: while one is there, the next start lets nobody reclaim.
    const unknown = ofUnknown(marked)
    const marks = withNames(marked)
    for (const mark of [ranOf(unknown), markOf(unknown), endOf(marks), ranOf(marks), markOf(marks)])
      removeMark(mark, marked.anywhere)
  })

/** A read-only file system refuses to remove even what is not there. */
function removeMark(mark: string, anywhere: Directory): void {
  try {
    files.remove(mark, anywhere)
  } catch (thrown) {
    if (markAt(mark, anywhere) !== 'absent') throw thrown
  }
}

/**
 * Makes the next start let nobody reclaim. With 'serve', {@link trustAgain} can take that back; with 'start', nothing
 * can.
 * @returns why it can't be noted, if it can't.
 */
export function distrust(marked: Marked, why: 'start' | 'serve'): string | undefined {
  const { anywhere } = marked
  const ran = ranOf(marked)
  return whyNot(() => {
    makeRunDirectory(marked.runDirectory, anywhere)
    if (!files.makeLink(why === 'serve' ? why : '-', ran, anywhere) && why === 'start') replace(ran, '-', anywhere)
  })
}

/**
 * Notes that the kernel has ended this instance's grace.
 * @param legacyTop the directory of the kernel's own tracker, if the kernel has told it
 * @returns why it can't be noted, if it can't.
 */
export function noteGraceEnd(marked: Marked, start: Start, legacyTop = ''): string | undefined {
  const { anywhere } = marked
  const mark = endOf(marked)
  const text = `${start}${legacyTop}`
  return whyNot(() => {
    makeRunDirectory(marked.runDirectory, anywhere)
    // An existing mark is of an earlier instance, whose end was recorded after all.
    if (!files.makeLink(text, mark, anywhere)) replace(mark, text, anywhere)
  })
}

/** That end is recorded, or it was that of another instance. @returns why the mark stays, if it does. */
export const forgetGraceEnd = (marked: Marked, start: Start): string | undefined =>
  whyNot(() => {
    const mark = endOf(marked)
    if (graceEndIn(markAt(mark, marked.anywhere)).start === start) removeMark(mark, marked.anywhere)
  })

/**
 * What `serve` could not do is done now, so its own mark is taken back, and no other.
 * @returns why it stays, if it does.
 */
export const trustAgain = (marked: Marked): string | undefined =>
  whyNot(() => {
    const ran = ranOf(marked)
    if (files.readLink(ran, marked.anywhere) === 'serve') files.remove(ran, marked.anywhere)
  })

/**
 * Makes the mark of an earlier `serve` permanent until a start, because nobody knows whether what it could not do was
 * done.
 */
export function distrustForGood(marked: Marked): void {
  try {
    if (files.readLink(ranOf(marked), marked.anywhere) !== 'serve') return
  } catch {
    // A mark that can't be read may be such a one, and the server's messages must be answered.
  }
  distrust(marked, 'start')
}

/**
 * Notes a running server whose start we were not asked to record. If it only asks later, a start by that name is the
 * same one. The mark of a start that did not end means the same, so it stays.
 * @returns why it can't be noted, if it can't.
 */
export const noteUnseen = (marked: Marked, name: string): string | undefined =>
  whyNot(() => {
    makeRunDirectory(marked.runDirectory, marked.anywhere)
    files.makeLink(`-/${name}`, markOf(marked), marked.anywhere)
  })

/** That start is recorded after all. @returns why its mark stays, if it does. */
export const forgetUnseen = (marked: Marked, name: string): string | undefined =>
  whyNot(() => {
    if (files.readLink(markOf(marked), marked.anywhere) === `-/${name}`) files.remove(markOf(marked), marked.anywhere)
  })

/** Whether the last start did not end. It may have begun its instance without making it durable. */
export function isStartCutShort(marked: Marked): boolean {
  const mark = markOf(marked)
  if (!isForeign(marked)) {
    const link = files.linkAt(mark, marked.anywhere)
    return typeof link === 'object' && !link.text.startsWith('-/')
  }
  const link = markAt(mark, marked.anywhere)
  return typeof link === 'object' ? !link.text.startsWith('-/') : link === 'no link'
}

/** The name of the start that has left a mark; undefined, if none has. */
export function nameOfStart(marked: Marked): string | undefined {
  const link = markAt(markOf(marked), marked.anywhere)
  return typeof link === 'object' ? link.text.split('/')[1] : undefined
}

const markOf = ({ anywhere, runDirectory, path, mark }: Marked): string =>
  mark ?? startMark(runDirectory, path, anywhere)

/**
 * The mark that a start makes when it has found an untracked instance: if this start fails, the next one must find it
 * too.
 */
const ranOf = (marked: Marked): string => `${markOf(marked)}.ran`

/** The mark of an instance whose grace the kernel has ended, which could not be recorded. */
const endOf = (marked: Marked): string => `${markOf(marked)}.end`
