/**
 * Completes, or takes back, what upcalls have begun that were killed (lib/store/begun.ts). Durable when it returns.
 *
 * A start does this before its instance begins, and a command that lets clients in before it looks at them. So nobody
 * has reclaimed in the new instance yet. Until then nothing depends on it: in grace no new lock is granted, and out of
 * grace nobody may reclaim. Each step may be repeated, and a note is removed last.
 *
 * No upcall runs beside a start. One may run beside a command, and promise what the command, which has read the note
 * before, then takes out. So beside a server a command completes only what is noted of the clients that it lets in.
 *
 * A `remove` is completed: the kernel has gone on as if it were done. A record that was put into its place is moved
 * back to the older instance where it was, or removed, because the kernel will not say when its client is gone. If its
 * upcall still runs, it is left alone: the upcall may yet succeed, or take it back itself.
 */
import { notesOf, removeNote, type BegunAbout } from '../store/begun.ts'
import type { Recorded } from '../store/layout.ts'
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'
import { quote } from '../text.ts'
import { hexOf } from '../upcall/hex.ts'
import { showOwner, type ClientOwner } from '../upcall/owner.ts'
import { forgetClient } from './remove.ts'
import { undo } from './take-back.ts'
import type { Settlement, World } from './world.ts'

/** How many clients are named of which something was cut short. */
const mostLines = 100

/** The notes that are wanted. */
interface Wanted {
  /** The mark of a start, if the caller knows its name. */
  readonly mark?: string | undefined
  /** Undefined: of all clients. */
  readonly about?: readonly ClientOwner[]
}

/** @returns false, if there is a note that can't be understood: then nobody knows who may reclaim. */
export function completeCutShort(world: World, recorded: Recorded, { mark, about }: Wanted = {}): boolean {
  const { state, log, deadline } = world
  const { notes, unknown } = notesOf(state, mark)
  // Most often there is none: this saves a start 30 000 instructions.
  if (notes.length === 0 && unknown.length === 0) return true
  // One barrier for all: a disk that hung for hours has cut many upcalls short.
  const changed = new Set<Directory>()
  const due = notes.filter(
    ({ begun, goesOn }) => (begun.kind === 'remove' || !goesOn) && (about?.some(isSame(begun.owner)) ?? true),
  )
  const later = due.map(({ begun }) => {
    deadline.assertTimeLeft('completing what upcalls have begun')
    return complete(world, recorded, begun, changed)
  })
  for (const directory of changed) files.sync(directory)
  for (const then of later) then?.()
  for (const [number, { path, begun }] of due.entries()) {
    // The kernel waits for the start, and a console may take a tenth of a second for a line.
    if (number < mostLines || due.length === mostLines + 1)
      log.notice(
        begun.kind === 'remove'
          ? `${showOwner(begun.owner)} is removed: an upcall that should have done it was cut short`
          : `the record of ${showOwner(begun.owner)} is taken back: the upcall that made it was cut short`,
      )
    else if (number === mostLines) log.notice(`so it is with ${due.length - number} more clients`)
    removeNote(path, state)
  }
  for (const path of unknown)
    log.error(`${quote(path)} tells what an upcall has begun, and can't be understood: nobody may reclaim`)
  return unknown.length === 0
}

const isSame =
  (one: ClientOwner) =>
  (other: ClientOwner): boolean =>
    hexOf(one) === hexOf(other)

/** @returns what must follow the barrier */
function complete(world: World, recorded: Recorded, begun: BegunAbout, changed: Set<Directory>): Settlement['then'] {
  if (begun.kind === 'remove') {
    const { sync, then } = forgetClient(world, recorded, begun.owner)
    for (const directory of sync) if (directory !== undefined) changed.add(directory)
    return then
  }
  undo(world.state, begun, (directory) => changed.add(directory))
  return undefined
}
