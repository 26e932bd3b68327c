/**
 * Fetches packages of any suite of Debian from the archive that this machine uses. The machine's own lists and sources
 * do not change, because apt gets lists, a cache and sources of its own. This needs no root. No host is named here.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { mkdirpSync, removeSync } from 'fs-extra/esm'

export interface Archive {
  /** The names of the packages on which a package depends, in the suite's newest version of it. */
  readonly depends: (name: string) => string[]
  /** Fetches the packages. @returns their files, which are in the archive's directory */
  readonly download: (names: readonly string[]) => string[]
}

/** Debian's names of architectures that Node names differently. */
const architectures: Readonly<Record<string, string>> = { x64: 'amd64', ia32: 'i386', arm: 'armhf', ppc64: 'ppc64el' }
export const debianArchitecture = (name: string): string => architectures[name] ?? name

/** Everything from the archive must be signed by one of these keys. */
const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'

/**
 * Fetches the suite's lists.
 * @param directory for this archive alone
 * @param architecture of the packages, by Debian's name, if it is not this machine's
 * @throws if this machine does not install from Debian
 */
export function archiveOf(suite: string, directory: string, architecture?: string): Archive {
  const lines = sourcesFor(suite, ownSources(), ownSuite())
  if (lines.length === 0 || !existsSync(keyring)) throw new Error('this machine installs nothing from Debian')
  for (const part of ['sources', 'lists/partial', 'cache/archives/partial', 'packages'])
    mkdirpSync(join(directory, part))
  writeFileSync(join(directory, 'sources/debian.list'), lines.join(''))
  const options = [
    'Dir::Etc::sourcelist=-',
    `Dir::Etc::sourceparts=${directory}/sources`,
    `Dir::State::lists=${directory}/lists`,
    `Dir::Cache=${directory}/cache`,
    'APT::Sandbox::User=',
    'Acquire::Languages=none',
    'Acquire::Retries=2',
    ...(architecture === undefined ? [] : [`APT::Architecture=${architecture}`, `APT::Architectures=${architecture}`]),
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

export interface DebianPackage {
  readonly name: string
  readonly suite: string
  /** By Debian's name, if it is not this machine's. */
  readonly architecture?: string
}

/**
 * Fetches a package and replaces a directory by its files.
 * @throws with a message of one line, if the package can't be fetched
 */
export function unpackInto(directory: string, { name, suite, architecture }: DebianPackage): void {
  const scratch = `${directory}.${process.pid}`
  const unpacked = join(scratch, 'unpacked')
  try {
    const [file] = archiveOf(suite, scratch, architecture).download([name])
    if (file === undefined) throw new Error('it is not in the archive')
    execFileSync('dpkg-deb', ['-x', file, unpacked], { stdio: ['ignore', 'ignore', 'pipe'] })
    removeSync(directory)
    renameSync(unpacked, directory)
  } catch (thrown) {
    const { stderr, message } = thrown as Error & { readonly stderr?: Buffer | string }
    throw new Error(stderr?.toString().trim().split('\n').at(-1) ?? message, { cause: thrown })
  } finally {
    removeSync(scratch)
  }
}

/** A file below /etc/apt. The end of its name tells which of the two formats of sources.list(5) it has. */
export interface SourcesFile {
  readonly format: 'sources' | 'list'
  readonly text: string
}

/** The sources in apt's one-line format: the archive of this machine's own suite, and its security archive. */
export function sourcesFor(suite: string, files: readonly SourcesFile[], codename: string | undefined): string[] {
  const debians = files
    .flatMap(({ format, text }) => {
      const said = text.replaceAll(/^#.*\n/gm, '')
      return format === 'sources' ? said.split(/\n\s*\n/).flatMap(inStanza) : said.split('\n').flatMap(inLine)
    })
    // A source with its own key may belong to anybody, who may give a suite any name.
    .filter(({ signedBy, suite: own }) =>
      signedBy === undefined ? own === codename || own === `${codename ?? ''}-security` : signedBy === keyring,
    )
    // sid has no such suites: everything enters it through sid itself.
    .filter(({ suite: own }) => !/-(?:updates|backports.*)$/.test(own) && !(suite === 'sid' && isSecurity(own)))
  return [
    ...new Set(
      debians.map(
        ({ uri, suite: own }) =>
          `deb [signed-by=${keyring}] ${uri} ${suite}${isSecurity(own) ? '-security' : ''} main\n`,
      ),
    ),
  ]
}

const isSecurity = (suite: string): boolean => suite.endsWith('-security')

/** This machine's release, os-release(5). */
export const ownSuite = (): string | undefined =>
  /^VERSION_CODENAME=(\S+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1]

function ownSources(): SourcesFile[] {
  const read = (path: string, format: SourcesFile['format']): SourcesFile[] =>
    existsSync(path) ? [{ format, text: readFileSync(path, 'utf8') }] : []
  const parts = '/etc/apt/sources.list.d'
  return [
    ...read('/etc/apt/sources.list', 'list'),
    ...(existsSync(parts) ? readdirSync(parts) : []).flatMap((name) => {
      const format = /\.(sources|list)$/.exec(name)?.[1] as SourcesFile['format'] | undefined
      return format === undefined ? [] : read(join(parts, name), format)
    }),
  ]
}

interface Source {
  readonly uri: string
  readonly suite: string
  readonly signedBy: string | undefined
}

function inStanza(stanza: string): Source[] {
  const field = (name: string): string[] =>
    new RegExp(`^${name}:(.*)$`, 'm').exec(stanza)?.[1]?.trim().split(/\s+/) ?? []
  const [signedBy] = field('Signed-By')
  if (!field('Types').includes('deb') || !field('Components').includes('main')) return []
  return field('URIs').flatMap((uri) => field('Suites').map((suite) => ({ uri, suite, signedBy })))
}

function inLine(line: string): Source[] {
  const [, options = '', uri, suite] = /^deb\s+(?:\[(.*)\]\s+)?(\S+)\s+(\S+)\s(?:.*\s)?main\b/.exec(line) ?? []
  const signedBy = /(?:^|\s)signed-by=(\S+)/.exec(options)?.[1]
  return uri === undefined || suite === undefined ? [] : [{ uri, suite, signedBy }]
}
