/**
 * What `serve` is doing, for `status`, `doctor` and scripts: a file in the run directory that is complete at every
 * moment. Nothing is decided by it. So it is written when something changes that people want to see, not with each
 * message, and a failure to write it is ignored.
 */
import type { Pipe } from '../kernel/pipe.ts'
import { atFlags, type Calls } from '../syscalls/calls.ts'
import * as files from '../syscalls/files.ts'

export type Counted = 'create' | 'remove' | 'check' | 'grace_start' | 'grace_done'

export interface Doing {
  pipe: Pick<Pipe, 'path' | 'status'> | undefined
  /** The protocol's version: 0, if the kernel asks for each client. */
  protocol: number | undefined
  /** In seconds of the wall clock. */
  graceStarted: number | undefined
  graceOver: number | undefined
  /** How many clients were named to the kernel. */
  named: number | undefined
  readonly messages: Record<Counted, { answered: number; failed: number }>
  /** Owners, as hex. */
  notRecorded: readonly string[]
}

export const nothingDone = (): Doing => {
  const none = (): { answered: number; failed: number } => ({ answered: 0, failed: 0 })
  return {
    pipe: undefined,
    protocol: undefined,
    graceStarted: undefined,
    graceOver: undefined,
    named: undefined,
    messages: { create: none(), remove: none(), check: none(), grace_start: none(), grace_done: none() },
    notRecorded: [],
  }
}

export interface StatusFile {
  readonly write: (doing: Doing) => void
  readonly remove: () => void
}

/** @param path undefined, if there is no place for it */
export function statusFileAt(
  calls: Calls,
  path: string | undefined,
  holder: string,
  stateDirectory: string,
): StatusFile {
  if (path === undefined) return { write: () => undefined, remove: () => undefined }
  const staged = `${path}.new`
  const root = files.anywhere(calls)
  const process = `{"id":${calls.processId()},"holder":${json(holder)}}`
  const directory = json(stateDirectory)
  return {
    write: ({ pipe, protocol, graceStarted, graceOver, named, messages, notRecorded }) => {
      const mode = pipe === undefined ? 'waiting' : 'serving'
      const at =
        pipe === undefined
          ? 'null'
          : `{"path":${json(pipe.path)},"device":${pipe.status.device},"inode":${pipe.status.inode}}`
      // Hex digits, of perhaps thousands of clients: they need no escapes, and looking for some takes a second.
      const owners = notRecorded.map((owner) => `"${owner}"`).join(',')
      try {
        files.remove(staged, root)
        files.writeNew(
          staged,
          `{"format":1,"process":${process},"state_directory":${directory},"mode":"${mode}","pipe":${at},` +
            `"protocol":${protocol ?? 'null'},"grace_started":${graceStarted ?? 'null'},` +
            `"grace_over":${graceOver ?? 'null'},"named":${named ?? 'null'},` +
            `"messages":{${counts(messages)}},"not_recorded":[${owners}]}\n`,
          root,
        )
        files.move(staged, path, root)
      } catch {
        // The file is for people only, and they also have the log.
      }
    },
    remove: () => {
      calls.unlinkat(atFlags.AT_FDCWD, path, 0)
    },
  }
}

const counts = (messages: Doing['messages']): string =>
  Object.entries(messages)
    .map(([what, { answered, failed }]) => `"${what}":{"answered":${answered},"failed":${failed}}`)
    .join(',')

/**
 * A word from outside: each of its bytes becomes a character. The executable's engine comes without its JSON, because
 * no upcall uses it. To look for what must be escaped takes 20 000 instructions, so it is done for few words.
 */
function json(word: string): string {
  const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  return `"${word.replace(/[^ !#-[\]-~]/g, escaped)}"`
}
