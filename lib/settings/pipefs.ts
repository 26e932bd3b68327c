/** Where the kernel's pipes are: rpc_pipefs. */
import type { Calls } from '../syscalls/calls.ts'
import * as files from '../syscalls/files.ts'
import type { OptionName } from './options.ts'
import { pipefsDirectoryFrom } from './settings.ts'

/** Where distributions mount rpc_pipefs. */
const usual = ['/run/rpc_pipefs', '/var/lib/nfs/rpc_pipefs']

/** Every rpc_pipefs has this directory, and a mount point without a mount has not. */
export const isMounted = (calls: Calls, path: string): boolean =>
  files.kindAt(`${path}/nfsd`, files.anywhere(calls)) === 'directory'

/**
 * The directory that the options or the configuration name, else one of the usual two: where rpc_pipefs is mounted, or
 * the first. @throws Failed, if the configuration can't be read.
 */
export function pipefsAt(calls: Calls, given: ReadonlyMap<OptionName, string>, named: string | undefined): string {
  const [first = '', second = ''] = usual
  const directory = (path: string): boolean => files.kindAt(path, files.anywhere(calls)) === 'directory'
  return (
    pipefsDirectoryFrom(calls, given, named) ??
    usual.find((path) => isMounted(calls, path)) ??
    (!directory(first) && directory(second) ? second : first)
  )
}

/** The pipe of the NFS server. */
export const pipeIn = (pipefs: string): string => `${pipefs}/nfsd/cld`
