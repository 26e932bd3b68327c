/**
 * The C library musl: MUSL_DEV, else where Debian's package `musl-dev` puts it, else that package from the archive of
 * this machine's own release (debian-archive.ts), kept under .cache/.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { ownSuite, unpackInto } from './debian-archive.ts'

const packageName = 'musl-dev'

export interface Musl {
  /** What MUSL_DEV would be. */
  readonly root: string
  readonly headers: string
  readonly libraries: string
}

interface Wanted {
  /** Debian's name of it. */
  readonly architecture: string
  /** By which its compilers' names begin. */
  readonly triplet: string
  readonly cache: string
  /** Is told what takes long. */
  readonly progress: (line: string) => void
}

/** @returns a text that says why not, where it can't be had. */
export function muslFor({ architecture, triplet, cache, progress }: Wanted): Musl | string {
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
  try {
    unpackInto(into, { name: packageName, suite: ownSuite() ?? 'unknown', architecture })
    return undefined
  } catch (thrown) {
    return (thrown as Error).message
  }
}
