/**
 * The sources of QuickJS-ng: QUICKJS_SOURCE, else where Debian's package `qjs-src` puts them, else that package from the
 * archive of this machine's own distribution, kept under .cache/. No host is named here.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const packageName = 'qjs-src'
const placeInPackage = 'usr/src/quickjs-ng'
/** Older releases have no such package; it is sources alone, and so fits everywhere. */
const suite = 'sid'
/** What comes from the archive must be signed by one of these keys. */
const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'

/** What the executable needs is not on this machine: there is only the Node bundle, which is no mistake. */
export class Missing extends Error {}

export interface Sources {
  readonly directory: string
  readonly version: string
}

/** @param progress is told what takes long. @throws Missing. */
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

/**
 * By apt with lists and a cache of its own: the machine's sources stay as they are, and it needs no root. The archive is
 * the machine's own.
 */
function fetchPackage(into: string): void {
  const apt = join(into, 'apt')
  rmSync(into, { recursive: true, force: true })
  for (const directory of ['sources', 'lists/partial', 'cache/archives/partial'])
    mkdirSync(join(apt, directory), { recursive: true })
  try {
    writeFileSync(join(apt, 'sources/debian.sources'), archive())
    const options = [
      'Dir::Etc::sourcelist=-',
      `Dir::Etc::sourceparts=${apt}/sources`,
      `Dir::State::lists=${apt}/lists`,
      `Dir::Cache=${apt}/cache`,
      'APT::Sandbox::User=',
      'Acquire::Languages=none',
      'Acquire::Retries=2',
    ].flatMap((option) => ['-o', option])
    const run = (command: string, ...words: readonly string[]): void =>
      void execFileSync(command, words, {
        cwd: apt,
        stdio: ['ignore', 'ignore', 'pipe'],
        env: { ...process.env, LC_ALL: 'C' },
      })
    run('apt-get', ...options, 'update', '-q')
    run('apt-get', ...options, 'download', '-q', packageName)
    const [file] = readdirSync(apt).filter((name) => name.endsWith('.deb'))
    if (file === undefined) throw new Error('it is not in the archive')
    run('dpkg-deb', '-x', file, 'unpacked')
    renameSync(join(apt, 'unpacked/usr'), join(into, 'usr'))
  } catch (thrown) {
    const { stderr, message } = thrown as Error & { readonly stderr?: Buffer }
    const why = stderr?.toString().trim().split('\n').at(-1) ?? message
    throw new Missing(
      `the engine's sources are missing: install Debian's package ${packageName}, or set QUICKJS_SOURCE=DIRECTORY (${why})`,
      { cause: thrown },
    )
  } finally {
    rmSync(apt, { recursive: true, force: true })
  }
}

/** The machine's own archive, with the suite that has the package; a security or update suite of that name there is not. */
function archive(): string {
  const [directory, file] = ['/etc/apt/sources.list.d', '/etc/apt/sources.list']
  const stanzas = existsSync(directory)
    ? readdirSync(directory)
        .filter((name) => name.endsWith('.sources'))
        .flatMap((name) => readFileSync(join(directory, name), 'utf8').split(/\n\s*\n/))
    : []
  const stanza = stanzas.find(
    (text) => text.includes(keyring) && /^Suites:/m.test(text) && !/^Suites:.*-security/m.test(text),
  )
  const uri =
    /^URIs:\s*(\S+)/m.exec(stanza ?? '')?.[1] ??
    /^deb (?:\[.*\] )?(\S+) (?!\S*-security)\S+ main/m.exec(existsSync(file) ? readFileSync(file, 'utf8') : '')?.[1]
  if (uri === undefined || !existsSync(keyring)) throw new Error('this machine installs nothing from Debian')
  return `Types: deb\nURIs: ${uri}\nSuites: ${suite}\nComponents: main\nSigned-By: ${keyring}\n`
}
