/**
 * The C library musl: MUSL_DEV, else where Debian's package `musl-dev` puts it, else that package from the archive of
 * this machine's own release (debian-archive.ts), kept under .cache/.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { removeSync } from 'fs-extra/esm'
import { archiveOf, ownSuite } from './debian-archive.ts'

const packageName = 'musl-dev'

export interface Musl {
  /** What MUSL_DEV would be. */
  readonly root: string
  readonly headers: string
  readonly libraries: string
}

/**
 * @param architecture Debian's name of it.
 * @param triplet by which its compilers begin.
 * @returns a text that says why not, where it can't be had.
 */
export function muslFor(
  architecture: string,
  triplet: string,
  cache: string,
  progress: (line: string) => void,
): Musl | string {
  const named = process.env['MUSL_DEV']
  if (named === 'none') return 'MUSL_DEV says so'
  const place = triplet.replace('-gnu', '-musl').replace('i686', 'i386')
  const inside = (root: string): Musl => ({
    root,
    headers: join(root, 'usr/include', place),
    libraries: join(root, 'usr/lib', place),
  })
  const isThere = ({ headers, libraries }: Musl): boolean =>
    existsSync(join(headers, 'stdio.h')) && existsSync(join(libraries, 'libc.a'))
  const kept = join(cache, `${packageName}-${architecture}`)
  const roots = named === undefined || named === '' ? ['/', kept] : [named]
  const found = roots.map(inside).find(isThere)
  if (found !== undefined) return found
  if (!roots.includes(kept)) return `it is not in ${named ?? ''}`
  progress(`fetching the C library: Debian's package ${packageName}`)
  return fetchPackage(architecture, kept) ?? inside(kept)
}

/**
 * That of this machine's own release, whose compiler its objects were made by: a newer one may be of a kind that this
 * linker does not know. @returns why not.
 */
function fetchPackage(architecture: string, into: string): string | undefined {
  const apt = `${into}.${process.pid}`
  try {
    const [file] = archiveOf(ownSuite() ?? 'unknown', apt, architecture).download([packageName])
    if (file === undefined) return 'it is not in the archive'
    execFileSync('dpkg-deb', ['-x', file, join(apt, 'unpacked')], { stdio: ['ignore', 'ignore', 'pipe'] })
    removeSync(into)
    renameSync(join(apt, 'unpacked'), into)
    return undefined
  } catch (thrown) {
    const { stderr, message } = thrown as Error & { readonly stderr?: Buffer | string }
    return stderr?.toString().trim().split('\n').at(-1) ?? message
  } finally {
    removeSync(apt)
  }
}
