/** Marks beside an instance's directory (layout.ts has their names). One call makes, reads or removes each. */
import type { Start } from '../rules/instance.ts'
import * as files from '../syscalls/files.ts'
import { markOf, type Mark } from './layout.ts'
import { clientsOf, setAside, type StateDirectory } from './state-directory.ts'

/** Makes a mark, unless it exists already. */
export const mark = (state: StateDirectory, start: Start, name: Mark, text = '-'): void =>
  void files.makeLink(text, markOf(start, name), clientsOf(state))

/** Removes a mark. A directory in its place is moved aside, or it would stop every later start. */
export function unmark(state: StateDirectory, start: Start, name: Mark): void {
  const [mark, clients] = [markOf(start, name), clientsOf(state)]
  if (files.tolerating(['EISDIR'], () => files.remove(mark, clients), 'directory') === 'directory')
    setAside(state, mark, clients, mark)
}

/** The text of a mark; undefined, if it does not exist. */
export const readMark = (state: StateDirectory, start: Start, name: Mark): string | undefined =>
  files.readLink(markOf(start, name), clientsOf(state))
