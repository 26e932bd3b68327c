/** Unique names of processes. They show whether what a process left belongs to one that is still alive. */
import * as files from '../syscalls/files.ts'
import type { Directory } from '../syscalls/files.ts'

/**
 * The name of this process: its id and start time, with the boot, the machine and the process-id namespace in which
 * they are unique. It is shorter than 60 bytes, so a link that contains it needs no block on the disk.
 * @param place 'this boot' leaves out the machine, for what no other boot will read: it costs three calls
 */
export function holderName(anywhere: Directory, place: 'this machine' | 'this boot' = 'this machine'): string {
  const us = anywhere.calls.processId()
  const space = files.readLink('/proc/self/ns/pid', anywhere)?.slice('pid:['.length, -1) ?? '0'
  const boot = firstDigits('/proc/sys/kernel/random/boot_id', anywhere)
  const machine = place === 'this boot' ? '' : firstDigits('/etc/machine-id', anywhere)
  return [us, startTimeOf(us, anywhere) ?? 0, boot, machine, space].join('.')
}

/** An id of this boot of the machine; '0' if there is none. */
export const bootId = (anywhere: Directory): string => firstDigits('/proc/sys/kernel/random/boot_id', anywhere)

const firstDigits = (path: string, anywhere: Directory): string =>
  (files.beginningOf(path, anywhere) ?? '').replaceAll('-', '').slice(0, 12).trim() || '0'

/** A process's start in clock ticks since boot (proc(5), stat, field 22); undefined if it is gone, or a zombie. */
function startTimeOf(processId: number, anywhere: Directory): number | undefined {
  const stat = files.beginningOf(`/proc/${processId}/stat`, anywhere)
  // The command's name may hold anything, so fields are counted from its closing parenthesis. The engine splits quickly
  // where it searches slowly, and what comes after the start is not wanted: a twentieth of a create.
  const fields = stat?.split(') ').at(-1)?.split(' ', 20) ?? ['Z']
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : Number(fields[19])
}

/**
 * Whether the process of that name lives. Of another machine's, or another namespace's, nothing can be said. Nor where
 * /proc hides processes from one without capabilities (proc(5), hidepid): then it hides the first one, too.
 */
export function lifeOf(holder: string, us: string, anywhere: Directory): 'alive' | 'dead' | 'unknown' {
  const [id, startTime, boot, machine, space] = holder.split('.')
  const [, , ourBoot, ourMachine, ourSpace] = us.split('.')
  if (machine === undefined || (machine !== '' && machine !== ourMachine)) return 'unknown'
  if (boot === '0' || ourBoot === '0') return 'unknown'
  // Without its machine, it may be of another one. Within a boot it is of ours: the ids of boots are unique.
  if (boot !== ourBoot) return machine === '' ? 'unknown' : 'dead'
  if (space !== ourSpace) return 'unknown'
  const found = startTimeOf(Number(id), anywhere)
  if (found === undefined && files.beginningOf('/proc/1/stat', anywhere) === undefined) return 'unknown'
  return found === Number(startTime) ? 'alive' : 'dead'
}
