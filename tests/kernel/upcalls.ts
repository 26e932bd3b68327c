// The upcalls as the kernel made them, from the probe on the function that runs the helper.
export interface Upcall {
  /** Seconds since the guest's boot. */
  readonly at: number
  readonly verb: string
  /** The client owner, with dots for unprintable bytes, or the boot time of a gracedone. */
  readonly owner: string
  readonly environment: readonly string[]
  /** The helper's exit status, or {@link killed} and more; undefined as long as it has not answered. */
  readonly status: number | undefined
}

/** A signal ended the helper. Its number is added. */
export const killed = 1000

const line = /^\s*.+-(\d+)\s+\[\d+\]\s+\S+\s+([\d.]+): (asked|answered): \([^)]*\) (.*)$/

export function upcallsIn(trace: string): Upcall[] {
  const upcalls: Upcall[] = []
  const open = new Map<string, number>()
  for (const text of trace.split('\n')) {
    const [, pid = '', at, event, rest = ''] = line.exec(text) ?? []
    if (event === 'asked') {
      const word = (name: string) => new RegExp(`${name}="([^"]*)"`).exec(rest)?.[1]
      open.set(pid, upcalls.length)
      const verb = word('verb') ?? '?'
      const argument = word('owner') ?? ''
      upcalls.push({
        at: Number(at),
        verb,
        status: undefined,
        owner:
          verb === 'gracedone'
            ? argument
            : Buffer.from(argument, 'hex')
                .toString('latin1')
                .replaceAll(/[^\x20-\x7e]/g, '.'),
        environment: [word('first'), word('second')].filter((value) => value !== undefined),
      })
    } else if (event === 'answered') {
      const asked = open.get(pid)
      const upcall = asked === undefined ? undefined : upcalls[asked]
      // A wait status: a signal is in its first byte, the exit status in its second. Negative is the kernel's own
      // failure to run anything.
      const status = Number(/status=(-?\d+)/.exec(rest)?.[1])
      const told = status < 0 ? status : (status & 127) === 0 ? status >> 8 : killed + (status & 127)
      if (asked !== undefined && upcall !== undefined) upcalls[asked] = { ...upcall, status: told }
    }
  }
  return upcalls
}

export const inWords = ({ verb, owner, status }: Upcall): string => `${verb} ${owner} -> ${status ?? 'no answer'}`
