/**
 * Finds the sources of QuickJS-ng: at QUICKJS_SOURCE, otherwise where Debian's package `qjs-src` puts them, otherwise
 * in that package from the archive of this machine's own distribution (debian-archive.ts), kept under .cache/.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { oneLine } from '../text.ts'
import { unpackInto } from './debian-archive.ts'

const packageName = 'qjs-src'
const placeInPackage = 'usr/src/quickjs-ng'
/** Older releases have no such package. It contains only sources, so it suits every release. */
const suite = 'sid'

/** This machine lacks something that the executable needs. Then there is only the Node bundle, which is no mistake. */
export class Missing extends Error {}

export interface Sources {
  readonly directory: string
  readonly version: string
}

/** @param progress called with a line before something that takes long @throws Missing */
export function engineSources(cache: string, progress: (line: string) => void): Sources {
  const named = process.env['QUICKJS_SOURCE']
  if (named !== undefined && named !== '') return sourcesIn(named)
  const kept = join(cache, packageName)
  for (const directory of [`/${placeInPackage}`, join(kept, placeInPackage)])
    if (existsSync(join(directory, 'quickjs.c'))) return sourcesIn(directory)
  progress(`fetching the engine's sources: Debian's package ${packageName}`)
  fetchPackage(kept)
  return sourcesIn(join(kept, placeInPackage))
}

function sourcesIn(directory: string): Sources {
  let header: string
  try {
    header = readFileSync(join(directory, 'quickjs.h'), 'utf8')
  } catch {
    throw new Missing(`no sources of QuickJS-ng in ${directory}`)
  }
  const part = (name: string): string => new RegExp(`#define QJS_VERSION_${name} "?([^\\s"]*)`).exec(header)?.[1] ?? ''
  return { directory, version: `${part('MAJOR')}.${part('MINOR')}.${part('PATCH')}${part('SUFFIX')}` }
}

function fetchPackage(into: string): void {
  try {
    unpackInto(into, { name: packageName, suite })
  } catch (thrown) {
    throw new Missing(
      oneLine`
        the engine's sources are missing: install Debian's package ${packageName}, or set QUICKJS_SOURCE=DIRECTORY
        (${(thrown as Error).message})
      `,
      { cause: thrown },
    )
  }
}
