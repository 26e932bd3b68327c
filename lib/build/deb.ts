/**
 * The Debian package: tsx lib/build/deb.ts DIRECTORY [--arch=ARCHITECTURE | --bundle]
 *
 * The package with the executable is for this machine's architecture, or another one for which the executable was
 * built. It depends on nothing; it recommends Node, which the commands for people need. With --bundle, the package has
 * only Node's bundle, for all architectures.
 *
 * The same sources always make the same bytes. Every time in the package is SOURCE_DATE_EPOCH, otherwise that of the
 * last entry of debian/changelog, as in Debian's own packages.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { gzipSync } from 'node:zlib'
import { removeSync } from 'fs-extra/esm'
import packageJson from '../../package.json' with { type: 'json' }
import { filesOf, usualStateDirectory, type Item, type Program } from '../commands/install/files.ts'
import { place } from '../commands/install/place.ts'
import { openRoot } from '../commands/shared/inside.ts'
import { name } from '../commands/shared/program.ts'
import { debianArchitecture } from './debian-archive.ts'
import { from, textAt } from './repository.ts'

const run = (command: string, ...words: readonly string[]): string =>
  execFileSync(command, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })

const node = `nodejs (${packageJson.engines.node.replace('>=', '>= ')})`
process.umask(0o022)
const {
  values: { bundle, arch },
  positionals: [directory = '.'],
} = parseArgs({
  options: { bundle: { type: 'boolean', default: false }, arch: { type: 'string' } },
  allowPositionals: true,
})
const architecture = bundle ? 'all' : debianArchitecture(arch ?? process.arch)
const conffiles = [...(bundle ? [] : [`/etc/default/${name}`, `/etc/init.d/${name}`]), `/etc/modprobe.d/${name}.conf`]
const stage = mkdtempSync(join(tmpdir(), 'deb-'))
chmodSync(stage, 0o755)
const staged = openRoot(stage)
try {
  for (const item of [...items(), ...paperwork()]) place(staged, item)
  writeControl()
  setTimes()
  const made = join(resolve(directory), `${name}_${packageJson.version}_${architecture}.deb`)
  execFileSync('dpkg-deb', ['--build', '--root-owner-group', '-Zgzip', '-z6', stage, `${made}.new`], {
    env: { ...process.env, SOURCE_DATE_EPOCH: String(changed()) },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  renameSync(`${made}.new`, made)
  process.stdout.write(`${made}\n`)
} finally {
  removeSync(stage)
}

/** The files that `install` puts in place, with the pages compressed as in Debian. */
function items(): Item[] {
  const scripts = ['people.cjs', 'sqlite.cjs'].map((file) => from(`dist/${file}`))
  const program: Program = bundle
    ? { scripts: { upcalls: from(`dist/${name}.cjs`), beside: scripts }, node: '/usr/bin/node' }
    : { executable: from(arch === undefined ? `dist/${name}` : `dist/${arch}/${name}`), beside: scripts }
  return filesOf({
    program,
    stateDirectory: usualStateDirectory,
    texts: {
      udevRule: textAt(`udev/rules.d/60-${name}.rules`),
      modprobe: textAt('udev/modprobe.d/nfsd-userland-helper.conf'),
      tmpfiles: textAt('udev/tmpfiles.d/nfsd-userland-helper.conf'),
      dropIn: textAt('udev/systemd/nfs-server.conf'),
      lsb: textAt('udev/init.d/lsb-init.sh'),
      openrc: textAt('udev/init.d/openrc-init.sh'),
      service: textAt(`udev/systemd/${name}.service`),
      initSettings: textAt(`udev/init.d/${name}.conf`),
      page8: textAt(`dist/man/${name}.8`),
      page5: textAt(`dist/man/${name}.5`),
    },
    completion: (shell) => run(process.execPath, from(`dist/${name}.cjs`), 'completion', shell),
    init: 'systemd',
    zshDirectory: '/usr/share/zsh/vendor-completions',
    layout: 'package',
    tracker: 'auto',
    takesOver: false,
  }).map((item) =>
    item.path.startsWith('/usr/share/man/') && 'text' in item.content ? compressed(item.path, item.content.text) : item,
  )
}

function paperwork(): Item[] {
  const document = (path: string, content: string): Item => ({
    path,
    kind: 'documentation',
    mode: 0o644,
    content: { text: content },
  })
  const doc = `/usr/share/doc/${name}`
  return [
    document(`${doc}/copyright`, textAt('dist/copyright')),
    compressed(`${doc}/changelog`, textAt('lib/build/debian/changelog')),
    document(
      `/usr/share/lintian/overrides/${name}`,
      textAt(`lib/build/debian/lintian-overrides-${bundle ? 'bundle' : 'executable'}`),
    ),
  ]
}

/** A gzip file without a time in it. */
function compressed(path: string, content: string): Item {
  const file = join(stage, 'compressed')
  writeFileSync(file, gzipSync(content, { level: 9 }))
  const item: Item = { path: `${path}.gz`, kind: 'documentation', mode: 0o644, content: { copyOf: file } }
  place(staged, item)
  rmSync(file)
  return { ...item, content: { copyOf: join(stage, item.path) } }
}

function writeControl(): void {
  const control = join(stage, 'DEBIAN')
  mkdirSync(control)
  const files = filesBelow(stage).filter((path) => !path.startsWith('DEBIAN/'))
  const size = files.reduce((sum, path) => sum + Math.ceil(lstatSync(join(stage, path)).size / 1024), 0)
  writeFileSync(
    join(control, 'control'),
    textAt('lib/build/debian/control')
      .replace('@VERSION@', packageJson.version)
      .replace('@ARCHITECTURE@', architecture)
      .replace('@NEEDS@', `${bundle ? `Depends: ${node}\nRecommends:` : `Recommends: ${node},`} nfs-kernel-server`)
      .replace('@SIZE@', String(size)),
  )
  writeFileSync(join(control, 'conffiles'), conffiles.map((path) => `${path}\n`).join(''))
  writeFileSync(
    join(control, 'md5sums'),
    files
      .filter((path) => lstatSync(join(stage, path)).isFile() && !conffiles.includes(`/${path}`))
      .map(
        (path) =>
          `${createHash('md5')
            .update(readFileSync(join(stage, path)))
            .digest('hex')}  ${path}\n`,
      )
      .join(''),
  )
  for (const script of ['postinst', 'prerm', 'postrm']) {
    const lines = textAt(`lib/build/debian/${script}`)
    // Only the executable can serve the pipe, so only its package has an init script.
    writeFileSync(join(control, script), bundle ? lines.replaceAll(/^\t*update-rc\.d .*\n/gm, '') : lines)
    chmodSync(join(control, script), 0o755)
  }
}

function filesBelow(root: string): string[] {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .sort()
}

/** In seconds since 1970: what the environment says, otherwise the time of the newest entry in debian/changelog. */
function changed(): number {
  const said = process.env['SOURCE_DATE_EPOCH']
  if (said !== undefined) return Number(said)
  const date = /^ -- .*>  (.+)$/m.exec(textAt('lib/build/debian/changelog'))?.[1]
  return Date.parse(date ?? '') / 1000
}

function setTimes(): void {
  for (const path of filesBelow(stage))
    for (let at = path; at !== '.'; at = dirname(at)) lutimesSync(join(stage, at), changed(), changed())
  lutimesSync(stage, changed(), changed())
}
