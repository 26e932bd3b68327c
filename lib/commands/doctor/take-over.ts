/** How this program takes the place of nfsdcld, without costing nfsdcld's clients their locks. */
import fs from 'node:fs'
import { nfsdcldDirectory } from '../install/nfsdcld.ts'
import type { Site } from './site.ts'

/**
 * The clients that nfsdcld has recorded are the server's: nfsdcld answers at the pipe, or this program has never been
 * asked. Otherwise its database is old, and must not be imported.
 */
const hasTheClients = ({ tracker, survey }: Site): boolean =>
  fs.existsSync(`${nfsdcldDirectory}/main.sqlite`) &&
  (tracker.kind === 'pipe'
    ? tracker.serving === undefined
    : tracker.kind !== 'helper' && !('failed' in survey) && survey.instance.kind === 'none')

/** @param plainly what to do where nfsdcld has no clients that count. */
export const replacingNfsdcld = (site: Site, plainly: string): string =>
  hasTheClients(site)
    ? 'systemctl stop nfs-server.service && nfsd-userland-helper install --import && systemctl start nfs-server.service'
    : plainly
