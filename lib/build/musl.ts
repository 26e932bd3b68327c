/**
 * Finds the C library musl: at MUSL_DEV, otherwise where Debian's package `musl-dev` puts it, otherwise in that package
 * from the archive of this machine's own release (debian-archive.ts), kept under .cache/.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { ownSuite, unpackInto } from './debian-archive.ts'

const packageName = 'musl-dev'

export interface Musl {
  /** The directory that MUSL_DEV would name. */
  readonly root: string
  readonly headers: string
  readonly libraries: string
}

interface Wanted {
  /** Debian's name of the architecture. */
  readonly architecture: string
  /** The beginning of its compilers' names. */
  readonly triplet: string
  readonly cache: string
  /** Called with a line before something that takes long. */
  readonly progress: (line: string) => void
}

/** @returns a text with the reason, if it can't be found or fetched */
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
 * Fetches the package of this machine's own release, because that release's compiler has made its objects. Those of a
 * newer one may be of a kind that this linker does not know. @returns the reason, if it can't be fetched
 */
function fetchPackage(architecture: string, into: string): string | undefined {
  try {
    unpackInto(into, { name: packageName, suite: ownSuite() ?? 'unknown', architecture })
    return undefined
  } catch (thrown) {
    return (thrown as Error).message
  }
}
