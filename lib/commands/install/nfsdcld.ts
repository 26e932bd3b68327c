/**
 * If nfsdcld has recorded clients, it tracks them today. A program that takes its place without its records costs these
 * clients their locks at the next start of the server. So nfsdcld stays until its records are imported, or the admin
 * says that they need not be.
 */
import { failureFrom, report } from '../../failure.ts'
import type { Calls } from '../../syscalls/calls.ts'
import { counted, oneLine } from '../../text.ts'
import { readSource } from '../move/source.ts'
import { existsBelow } from '../shared/inside.ts'
import type { Target } from './target.ts'

export const nfsdcldDirectory = '/var/lib/nfs/nfsdcld'

/** @returns why nfsdcld stays; undefined, if it has nothing that could be lost */
export function whatIsLost({ root, live }: Target, calls: Calls): string | undefined {
  if (!existsBelow(root, `${nfsdcldDirectory}/main.sqlite`)) return undefined
  if (!live) return 'it may have recorded clients'
  try {
    const found = readSource(calls, nfsdcldDirectory, Math.floor(Date.now() / 1000))
    let count = 0
    for (const client of found.clients()) if (client.owner.length > 0) count++
    for (const hash of found.matchOnly()) if (hash !== '') count++
    return count === 0 ? undefined : `it has recorded ${counted(count, 'client')}`
  } catch (thrown) {
    return `what it has recorded can't be read (${report(failureFrom(thrown)).line})`
  }
}

/** The message to an admin if nfsdcld stays. */
export const howToTakeOver = (why: string): string =>
  oneLine`
    nfsdcld keeps its place: ${why}. To take them over: systemctl stop nfs-server && nfsd-userland-helper install
    --import && systemctl start nfs-server. To leave them behind: nfsd-userland-helper install --no-import
  `
