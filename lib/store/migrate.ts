/**
 * Converts format 1 to format 2: marks then say what the two files said, and the files are only for people.
 *
 * The marks are made and synced before the mark of the format, which makes them count. After a kill in between, the
 * files still decide, and the next upcall does the same again. If it runs twice, or beside another, it makes the same
 * names.
 */
import * as files from '../syscalls/files.ts'
import { markOf } from './layout.ts'
import { clientsOf, lookAt, markFormat, setAside, type StateDirectory } from './state-directory.ts'

/**
 * Durable when it returns. It does nothing if the format is 2 already, or if the files can't be understood.
 * @param seen what the caller has found
 */
export function migrate(state: StateDirectory, seen = lookAt(state)): void {
  const { format, instance, starts, traces, marks } = seen
  if (format !== 1 || instance.kind === 'damaged') return
  const clients = clientsOf(state)
  const current = instance.kind === 'none' ? undefined : instance.start
  // In format 1, a start that was killed before its rename left this mark. Its instance never started.
  for (const start of traces)
    if (current === undefined || start > current) files.remove(markOf(start, 'partial'), clients)
  const isFirst = instance.kind === 'partial' && instance.full === instance.start
  // These records had no effect in format 1. In format 2, where no instance before this one is full, they would.
  if (isFirst || current === undefined)
    for (const start of starts) if (start !== current) setAside(state, String(start), clients, String(start))
  if (instance.kind !== 'none') {
    const lastFull = instance.kind === 'full' ? instance.start : isFirst ? undefined : instance.full
    if (lastFull !== undefined) files.makeLink('-', markOf(lastFull, 'full'), clients)
    if (instance.kind === 'partial') files.makeLink('-', markOf(instance.start, 'partial'), clients)
    // What follows the end of its grace is then done as for any other instance.
    if (instance.kind === 'partial' || marks(instance.start, 'unconfirmed'))
      files.makeLink('-', markOf(instance.start, 'unconfirmed'), clients)
    files.sync(clients)
  }
  markFormat(clients)
  files.sync(clients)
}
