// The three ways in which a server's clients are tracked here, and how the kernel is watched while it asks: an upcall
// is a program that it runs, a message goes through the pipe of rpc_pipefs to a process that holds it open.
import type { Upcall } from './upcalls.ts'

/**
 * `helper`: the kernel runs a program. `serve`: ours holds the pipe. `nfsdcld`: nfs-utils' daemon does, as a control.
 */
export const trackers = ['helper', 'serve', 'nfsdcld'] as const
export type Tracker = (typeof trackers)[number]

/** A program that keeps the records. It is copied into the guest's memory: the host may rebuild it meanwhile. */
export interface Helper {
  readonly name: string
  readonly program: string
  readonly tracker: Tracker
}

export const pipefs = '/run/rpc_pipefs'

/** The kernel log's name for the tracker that it has chosen. */
export const inKernelsWords = { helper: 'UMH upcall', serve: 'nfsdcld', nfsdcld: 'nfsdcld' } as const

/** The words that start the process at the pipe. */
export const daemonOf = {
  serve: (program: string, stateDirectory: string, mount = pipefs) =>
    `${program} -f -s ${stateDirectory} serve --pipefs-dir ${mount}`,
  nfsdcld: (program: string, stateDirectory: string, mount = pipefs) =>
    `${program} -F -p ${mount} -s ${stateDirectory}/nfsdcld`,
}

/** A hundred, because the probe misses the returns of more calls at once than it was made for. */
const upcallProbes = `
  echo 'p:asked nfsd:nfsd4_umh_cltrack_upcall verb=+0(%di):string owner=+0(%si):string first=+0(%dx):string second=+0(%cx):string' > kprobe_events
  echo 'r100:answered nfsd:nfsd4_umh_cltrack_upcall status=$retval:s32' >> kprobe_events`

/**
 * struct rpc_pipe_msg (linux/sunrpc/rpc_pipe_fs.h): data at 16, len at 24; struct cld_msg (uapi linux/nfsd/cld.h):
 * version, command, status, xid, then the owner's length and bytes. A reply is still the process's memory.
 */
const messageProbes = `
  echo 'p:asked sunrpc:rpc_queue_upcall size=+24(%si):u64 command=+1(+16(%si)):u8 xid=+4(+16(%si)):u32 owner=+10(+16(%si)):string' > kprobe_events
  echo 'p:answered nfsd:cld_pipe_downcall size=%dx:u64 command=+u1(%si):u8 status=+u2(%si):s16 xid=+u4(%si):u32 owner=+u10(%si):ustring' >> kprobe_events
  echo 'r100:taken nfsd:cld_pipe_downcall result=$retval:s64' >> kprobe_events
  echo 'size == 1034 || size == 1067' > events/kprobes/asked/filter`

/** Run in /sys/kernel/tracing. */
export const probesFor = (tracker: Tracker): string => (tracker === 'helper' ? upcallProbes : messageProbes)

/** Commands of the pipe (enum cld_command), by the upcalls' names. */
const commands = ['create', 'remove', 'check', 'gracedone', 'init', 'version']
const inProgress = -115

/** A field without an owner is not always quoted. */
const line = /: (asked|answered): \([^)]*\) size=\d+ command=(\d+)(?: status=(-?\d+))? xid=(\d+) owner=(?:"([^"]*)")?/
const at = /\s([\d.]+): (?:asked|answered):/

/** What the kernel says to what was written to the pipe, and to whom: a process writes one thing at a time. */
const result = /-(\d+)\s+\[\d+\].*: taken: \([^)]*\) result=(-?\d+)/
const writer = /-(\d+)\s+\[\d+\]/

/**
 * The messages as upcalls: a start's is an `init`, and each name that it is told is a `named`. A message that the
 * kernel queues again, because whoever had it died, is one. What the kernel refuses was not said: newer ones take
 * nothing before a message is read whole.
 */
export function messagesIn(trace: string): Upcall[] {
  const messages: (Upcall | undefined)[] = []
  const open = new Map<string, number>()
  /** What each process has written, and what was so before. */
  const written = new Map<string, { readonly at: number; readonly before: Upcall | undefined }>()
  for (const text of trace.split('\n')) {
    const [, whose = '', said] = result.exec(text) ?? []
    if (said !== undefined) {
      const last = written.get(whose)
      if (last !== undefined && Number(said) < 0) messages[last.at] = last.before
      written.delete(whose)
      continue
    }
    const [, event, command = '', status, xid = '', owner = ''] = line.exec(text) ?? []
    if (event === undefined) continue
    const seconds = Number(at.exec(text)?.[1])
    const verb = commands[Number(command)] ?? '?'
    const asked = open.get(xid)
    const message = asked === undefined ? undefined : messages[asked]
    if (event === 'asked') {
      if (message?.verb === verb && message.owner === owner && message.status === undefined) continue
      open.set(xid, messages.length)
      messages.push({ at: seconds, verb, owner, environment: [], status: undefined })
      continue
    }
    const by = writer.exec(text)?.[1] ?? ''
    if (Number(status) === inProgress) {
      written.set(by, { at: messages.length, before: undefined })
      messages.push({ at: seconds, verb: 'named', owner, environment: [], status: 0 })
    } else if (asked !== undefined && message !== undefined) {
      written.set(by, { at: asked, before: message })
      messages[asked] = { ...message, status: Number(status) }
    }
  }
  return messages.filter((message) => message !== undefined)
}
