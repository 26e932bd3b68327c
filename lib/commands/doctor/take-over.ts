/** How this program takes nfsdcld's place so that nfsdcld's clients keep their locks. */
import fs from 'node:fs'
import { nfsdcldDirectory } from '../install/nfsdcld.ts'
import type { Site } from './site.ts'

/**
 * Whether nfsdcld's records are those of the server's clients: nfsdcld answers at the pipe, or the kernel calls no
 * helper and no start is recorded here. Otherwise its database is old, and must not be imported.
 */
const hasTheClients = ({ tracker, survey }: Site): boolean =>
  fs.existsSync(`${nfsdcldDirectory}/main.sqlite`) &&
  (tracker.kind === 'pipe'
    ? tracker.serving === undefined
    : tracker.kind !== 'helper' && !('failed' in survey) && survey.instance.kind === 'none')

/** @param plainly what to do if nfsdcld has no clients that count */
export const replacingNfsdcld = (site: Site, plainly: string): string =>
  hasTheClients(site)
    ? 'systemctl stop nfs-server.service && nfsd-userland-helper install --import && systemctl start nfs-server.service'
    : plainly
