/**
 * Packages of any suite of Debian, from the archive of this machine's own sources, which stay as they are: apt is given
 * lists, a cache and sources of its own. It needs no root.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Archive {
  /** What a package depends on, by name, in the suite's newest version of it. */
  readonly depends: (name: string) => string[]
  /** Fetches the packages, and gives the files, which are in the archive's directory. */
  readonly download: (names: readonly string[]) => string[]
}

/** Asks for the suite's lists. @param directory is the archive's own. */
export function archiveOf(suite: string, directory: string): Archive {
  for (const part of ['sources', 'lists/partial', 'cache/archives/partial', 'packages'])
    mkdirSync(join(directory, part), { recursive: true })
  writeFileSync(join(directory, 'sources/debian.list'), sourcesFor(suite))
  const options = [
    'Dir::Etc::sourcelist=-',
    `Dir::Etc::sourceparts=${directory}/sources`,
    `Dir::State::lists=${directory}/lists`,
    `Dir::Cache=${directory}/cache`,
    'APT::Sandbox::User=',
    'Acquire::Languages=none',
    'Acquire::Retries=2',
  ].flatMap((option) => ['-o', option])
  const packages = join(directory, 'packages')
  const run = (command: string, ...words: string[]): string =>
    execFileSync(command, [...options, ...words], {
      cwd: packages,
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C' },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  run('apt-get', 'update', '-q')
  return {
    depends: (name) => {
      const [newest = ''] = run('apt-cache', 'show', name).split('\n\n')
      const list = /^Depends: (.*)$/m.exec(newest)?.[1] ?? ''
      return list.split(/[,|]/).map((one) => one.trim().replace(/ .*/, ''))
    },
    download: (names) => {
      run('apt-get', 'download', '-q', ...names)
      return readdirSync(packages).map((file) => join(packages, file))
    },
  }
}

/** In apt's one-line format: each of this machine's sources of Debian, with the other suite in its place. */
function sourcesFor(suite: string): string {
  const own = /^VERSION_CODENAME=(\S+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'sid'
  const lines = ownSources()
    .filter(({ suite: name }) => name === own || name === `${own}-security`)
    // Nothing goes into sid but by way of sid.
    .filter(({ suite: name }) => suite !== 'sid' || name === own)
    .map(({ uri, suite: name, options }) => `deb ${options} ${uri} ${name.replace(own, suite)} main\n`)
  if (lines.length === 0) throw new Error(`/etc/apt names no source of Debian ${own}`)
  return [...new Set(lines)].join('')
}

interface Source {
  readonly uri: string
  readonly suite: string
  readonly options: string
}

function ownSources(): Source[] {
  const read = (file: string): string => (existsSync(file) ? readFileSync(file, 'utf8').replaceAll(/^#.*\n/gm, '') : '')
  const parts = '/etc/apt/sources.list.d'
  const files = existsSync(parts) ? readdirSync(parts).map((name) => join(parts, name)) : []
  const stanzas = files.filter((file) => file.endsWith('.sources')).flatMap((file) => read(file).split(/\n\s*\n/))
  const lines = ['/etc/apt/sources.list', ...files.filter((file) => file.endsWith('.list'))].flatMap((file) =>
    read(file).split('\n'),
  )
  return [...stanzas.flatMap(inStanza), ...lines.flatMap(inLine)]
}

function inStanza(stanza: string): Source[] {
  const field = (name: string): string[] =>
    new RegExp(`^${name}:(.*)$`, 'm').exec(stanza)?.[1]?.trim().split(/\s+/) ?? []
  const [key] = field('Signed-By')
  const options = key?.startsWith('/') === true ? `[signed-by=${key}]` : ''
  if (!field('Types').includes('deb')) return []
  return field('URIs').flatMap((uri) => field('Suites').map((suite) => ({ uri, suite, options })))
}

function inLine(line: string): Source[] {
  const [, options = '', uri, suite] = /^deb\s+(\[.*\])?\s*(\S+)\s+(\S+)/.exec(line) ?? []
  return uri === undefined || suite === undefined ? [] : [{ uri, suite, options }]
}
